"""Weights from strangers: nothing that comes with them is run, what does not fit is listed, no token is told."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from local_hub import local_hub
from run import models, run
from safetensors.torch import load_file, save_file
from toys import ROOT, TINY_VIT, fill_weights, make_gen, make_refs, tiny_clip, tiny_vit

from iconicity.indexer.encode import clip as encoder_clip
from iconicity.indexer.encode import hub
from iconicity.indexer.encode import timm as encoder_timm
from iconicity.indexer.encode.encoder import reproduce
from iconicity.indexer.errors import InputError, ModelUnavailableError

TOKEN = "hf_MARKEDmarkedMARKED"


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


class Payload:
    """Pickled, it leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_beside_a_config_runs_nothing(tmp_path: Path, clip_dir: Path) -> None:
    folder = shutil.copytree(clip_dir, tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    plain = encoder_clip.load(str(folder))  # tensors alone are read
    assert plain.spec.weights_sha256 == encoder_clip.load(str(clip_dir)).spec.weights_sha256
    torch.save(state | {"x": Payload(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        encoder_clip.load(str(folder))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        encoder_clip.load(str(folder))
    assert not (tmp_path / "mark").exists()


def test_code_named_by_a_config_is_not_run(tmp_path: Path, clip_dir: Path) -> None:
    folder = shutil.copytree(clip_dir, tmp_path / "clip")
    code = f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\nclass Evil: pass\n"
    (folder / "modeling_evil.py").write_text(code)
    for name in ("config.json", "preprocessor_config.json"):
        config = json.loads((folder / name).read_text())
        config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoImageProcessor"), "modeling_evil.Evil")
        config["attn_implementation"] = config["_attn_implementation"] = "someone/kernel"
        for part in ("vision_config", "text_config"):
            if part in config:
                config[part]["attn_implementation"] = config[part]["_attn_implementation"] = "someone/kernel"
        (folder / name).write_text(json.dumps(config))
    assert encoder_clip.load(str(folder)).spec.fingerprint == encoder_clip.load(str(clip_dir)).spec.fingerprint
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "os.system"}, {"hidden_size": 1 << 40}, {"num_hidden_layers": -1}, {"hidden_size": "x"},
        {"image_size": 0}, {"patch_size": 0}, {"num_attention_heads": 0},
    ],
)  # fmt: skip
def test_a_config_that_lies_is_an_error(tmp_path: Path, clip_dir: Path, change: dict[str, Any]) -> None:
    folder = shutil.copytree(clip_dir, tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailableError):
        encoder_clip.load(str(folder))


def test_tensors_that_are_missing_unknown_or_of_another_shape_are_listed(tmp_path: Path, clip_dir: Path) -> None:
    folder = shutil.copytree(clip_dir, tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    del state["logit_scale"]
    state["strange"] = torch.ones(2)
    state["visual_projection.weight"] = torch.ones(3, 3)
    state["text_model.embeddings.position_ids"] = torch.arange(8)  # older versions stored it
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelUnavailableError,
        match=r"missing: logit_scale; 1 tensor unknown: strange; 1 tensor of another shape: visual_projection\.weight;",
    ):
        encoder_clip.load(str(folder))
    vit = load_file(tiny_vit(tmp_path / "w.safetensors"))
    vit["norm.weight"] = torch.ones(5)
    save_file(vit, tmp_path / "w.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"of another shape: norm\.weight \(5,\), not \(64,\)"):
        encoder_timm.load(TINY_VIT, weights=str(tmp_path / "w.safetensors"))


def test_pickles_and_torchscript_are_refused_by_name(tmp_path: Path) -> None:
    state = load_file(tiny_vit(tmp_path / "w.safetensors"))
    torch.save(state, tmp_path / "w.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "w.pt"))
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    for name, what in (("w.pth", "archive"), ("w.pt", "TorchScript archive"), ("w.pkl", "a pickle")):
        with pytest.raises(ModelUnavailableError, match=f"{what}.*can run code"):
            encoder_timm.load(TINY_VIT, weights=str(tmp_path / name))
    with pytest.raises(ModelUnavailableError, match=r"gone\.safetensors: not a readable"):
        encoder_timm.load(TINY_VIT, weights=str(tmp_path / "gone.safetensors"))
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's local cache, without a hub: two commits of two repositories, the second one the newest."""
    root = tmp_path / "hub"
    timm_repo = "timm/test_vit.r160_in1k"
    for repo in ("someone/clip", timm_repo):
        folder = root / f"models--{repo.replace('/', '--')}"
        for i, commit in enumerate(("a" * 40, "b" * 40)):
            snapshot = folder / "snapshots" / commit
            if repo == timm_repo:
                import timm

                model = timm.create_model(TINY_VIT, pretrained=False)
                fill_weights(model, 10 + i)
                snapshot.mkdir(parents=True)
                save_file({k: v.contiguous() for k, v in model.state_dict().items()}, snapshot / "model.safetensors")
            else:
                tiny_clip(snapshot, seed=10 + i)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("b" * 40)
    for name, value in (("HF_HUB_CACHE", str(root)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True)
    return root


def test_revisions_are_recorded_and_pinned(cache: Path) -> None:
    newest = encoder_clip.load("someone/clip").spec
    first = encoder_clip.load("someone/clip", revision="a" * 40).spec
    assert newest.source["revision"] == "b" * 40 and first.source["revision"] == "a" * 40
    assert newest.weights_sha256 != first.weights_sha256
    vit_newest = encoder_timm.load(TINY_VIT).spec
    vit_first = encoder_timm.load(TINY_VIT, revision="a" * 40).spec
    assert vit_newest.source["revision"] == "b" * 40 and vit_first.source["revision"] == "a" * 40
    assert vit_newest.weights_sha256 != vit_first.weights_sha256
    # what an index was made with is what it is scored with, whatever is the newest by then
    again = reproduce(first, vit_first)
    assert (again.clip.spec, again.dino.spec) == (first, vit_first)
    with pytest.raises(ModelUnavailableError, match="someone/clip at revision v9"):
        encoder_clip.load("someone/clip", revision="v9")


def test_revisions_of_files_are_refused(tmp_path: Path, clip_dir: Path) -> None:
    with pytest.raises(InputError, match="revision main"):
        encoder_clip.load(str(clip_dir), revision="main")
    with pytest.raises(InputError, match="revision main"):
        encoder_timm.load(TINY_VIT, weights=str(tiny_vit(tmp_path / "w.safetensors")), revision="main")


@pytest.fixture
def telltale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A hub that answers with the token it was given; yields the tokens it saw."""
    seen: list[str] = []

    def refuse(request: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(request.headers.get("Authorization", ""))
        request.send_response(403, f"no {seen[-1]}")
        request.send_header("X-Error-Message", f"refused {seen[-1]} and {TOKEN} at https://me:{TOKEN}@x/?sig={TOKEN}")
        request.end_headers()

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with local_hub(monkeypatch, tmp_path / "hub", refuse):
        yield seen


def test_a_token_is_never_told(
    telltale: list[str], tmp_path: Path, clip_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refs, gen = make_refs(tmp_path / "refs", ["alpha"], each=1), make_gen(tmp_path / "gen", ["alpha"], each=1)
    shutil.copytree(clip_dir, tmp_path / "clip")
    tiny_vit(tmp_path / "vit.safetensors")
    build = ["index", "build", "--refs", refs, "--index", tmp_path / "i"]
    said = [
        run(*build, "--global-encoder", "clip:someone/clip", code=1),
        run(*build, "--global-encoder", f"clip:{tmp_path / 'clip'}", code=1),
        run(*build, *models(tmp_path)),
        run("score", "--index", tmp_path / "i", "--gen", f"m={gen}", "--out", tmp_path / "o"),
    ]
    assert any(TOKEN in s for s in telltale)  # it was used, where it belongs
    assert not any(TOKEN in d.stdout + d.stderr for d in said) and TOKEN not in caplog.text
    files = [p for folder in ("i", "o") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    assert len(files) > 5 and not any(TOKEN.encode() in p.read_bytes() for p in files)


def test_causes_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-of-another-kind")
    text = hub.cause_of(
        ValueError(f"401 for https://u:p@h/x?X-Amz-Signature=abc\n{TOKEN} Bearer xyz secret-of-another-kind done"), 500
    )
    assert text == "401 for https://***@h/x?*** hf_*** Bearer *** *** done"


# Messages to processes and actors that the program started itself, and back, as multiprocessing and Ray send them.
TO_OWN_PROCESSES = {"pool.py", "prepare.py", "devices.py", "ray.py"}


def test_no_source_unpickles_or_trusts_remote_code() -> None:
    """What a grep can see. ``torch.load`` reads tensors alone."""
    for path in [*sorted(p for d in ("indexer", "scorer", "data") for p in (ROOT / d).rglob("*.py")), ROOT / "cli.py"]:
        text = path.read_text(encoding="utf-8")
        if path == ROOT / "scorer" / "validate" / "methods.py":  # behind --allow-torchscript
            text = text.replace("torch.jit.load", "", 1)
        if path.parent == ROOT / "indexer" / "encode" and path.name in TO_OWN_PROCESSES:
            text = text.replace("import pickle", "", 1)
        for banned in (
            r"import (c?[pP]ickle|dill|joblib|cloudpickle|marshal|shelve)\b",
            r"read_pickle|allow_pickle=True",
            r"torch\.jit\.load",
            r"trust_remote_code[\"']?\s*[:=]\s*True",
            r"(?<![\w.])(eval|exec)\(",
            r"os\.system|shell=True",
            r"yaml\.(unsafe_)?load\(",
        ):
            assert not re.search(banned, text), (path, banned)
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, path
        for call in re.findall(r"np\.load\([^)]*\)", text):
            assert "allow_pickle" not in call, path  # numpy's default is False
