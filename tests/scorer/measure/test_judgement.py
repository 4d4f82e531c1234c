"""No verdict at a threshold that means nothing for the encoders that ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rows import SETTINGS, make_results, row

from iconicity.indexer.encode.encoder import PAPER_CLIP, PAPER_DINO
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.store.index import Index
from iconicity.scorer.measure.calibrate.calibration import NULL_EDGES, Calibration
from iconicity.scorer.measure.finding import as_latex, as_text
from iconicity.scorer.measure.judgement import (
    ANOTHER,
    UNPROVEN,
    Evidence,
    chance_at,
    departures,
    judge,
)
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise

CLIP = EncoderSpec(
    "clip",
    'transformers CLIPModel {"hidden_act":"quick_gelu","image_size":224,"layer_norm_eps":1e-05,"num_attention_heads":12}',
    "a" * 64,
    {},
    "projection",
    512,
    source={"model": PAPER_CLIP},
)
DINO = EncoderSpec(
    "timm",
    "timm vit_base_patch16_dinov3",
    "b" * 64,
    {"input_size": [3, 256, 256]},
    "all",
    768,
    source={"model": PAPER_DINO, "weights": None},
)


def _index(clip: EncoderSpec = CLIP, dino: EncoderSpec = DINO, overlapping: bool = False, **settings: Any) -> Index:
    held = {"patch_mode": "crop", "grid": [4, 4]} | settings
    found = SimpleNamespace(specs=(clip, dino), settings=held, grid=tuple(held["grid"]), overlapping=overlapping)
    return cast(Index, found)


def test_the_published_thresholds_belong_to_the_papers_encoders_and_settings() -> None:
    assert departures(_index()) == {"cra": "", "vr": ""}
    folder = replace(CLIP, source={"model": "/models/clip-vit-base-patch16"})
    random = replace(folder, name=CLIP.name.replace("12", "4"), dim=128)
    other = replace(CLIP, source={"model": "openai/clip-vit-base-patch32"})  # the same architecture by name
    assert [departures(_index(c))["cra"] for c in (folder, random, other)] == [UNPROVEN, ANOTHER, ANOTHER]
    file = replace(DINO, source={"model": PAPER_DINO, "weights": "/models/dinov3.safetensors"})
    small = replace(DINO, name="timm vit_small_patch14_dinov2")
    satellite = replace(DINO, source={"model": "vit_base_patch16_dinov3.sat493m", "weights": None})
    assert [departures(_index(CLIP, d))["vr"] for d in (file, small, satellite)] == [UNPROVEN, ANOTHER, ANOTHER]


@pytest.mark.parametrize(
    ("dino", "settings", "named"),
    [
        ({"pool": "patch"}, {}, "pool patch"),
        ({"layer": 9}, {}, "layer 9"),
        ({"pool": "token"}, {"patch_mode": "token"}, "token mode"),
        ({}, {"grid": [3, 3]}, "a grid of 3 x 3"),
        ({}, {"overlapping": True}, "overlapping reference cells"),
        ({"preprocess": {"input_size": [3, 224, 224]}}, {}, "an image size of 224"),
        ({"preprocess": {"input_size": [3, 256, 256], "fit": "squash"}}, {}, "squashed cells"),
    ],
)
def test_other_settings_than_the_published_ones_are_named(
    dino: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    assert departures(_index(CLIP, replace(DINO, **dino), **settings))["vr"] == named


def test_what_a_threshold_means() -> None:
    def held(tau: float, differs: str = "", **evidence: Any) -> tuple[str, bool]:
        found = judge("cra", tau, SETTINGS | {"published": {"cra": differs, "vr": ""}}, Evidence(**evidence))
        return found.origin, found.holds

    assert held(0.75) == ("published", True)
    assert held(0.75, chance=0.06) == ("published", False)
    assert held(0.75, ANOTHER) == held(0.75, ANOTHER, chance=0.0) == ("published", False)
    assert held(0.75, "pool patch") == held(0.75, UNPROVEN) == ("published", False)
    assert held(0.75, UNPROVEN, chance=0.05) == ("published", True)
    assert held(0.5, ANOTHER) == ("given", True)  # the user's own decision, said to be the user's
    assert held(0.5, ANOTHER, chance=0.051) == held(0.5, ANOTHER, elsewhere=0.3) == ("given", False)
    assert held(0.5, ANOTHER, saturated="all 30 images") == ("given", False)
    assert held(0.5, ANOTHER, saturated="all 30 images", chance=0.01) == ("given", True)
    assert held(0.5, ANOTHER, chance=0.01, calibrated=True) == ("calibrated", True)


def test_the_sentence_names_encoder_rate_and_way_on() -> None:
    settings = SETTINGS | {"encoders": {"clip": "CLIP, weights a7ca1579", "dino": "vit"}, "published": {"cra": ANOTHER}}
    said = judge("cra", 0.75, settings, Evidence(chance=0.975, source="calibration.json")).sentence
    assert said == (
        "CRA threshold 0.75 was published for openai/clip-vit-base-patch16, and CLIP, weights a7ca1579 ran; "
        "97.5 % of comparisons with unrelated concepts reach it (calibration.json); "
        "a decision at it is no verdict: use the calibrated thresholds"
    )
    assert "given by the user" in judge("cra", 0.5, settings, Evidence()).sentence


def test_every_table_says_it_and_the_facts_are_in_the_meta(tmp_path: Path) -> None:
    rows = [row(f"c{i}", 0.9, 4, other_sim=0.8) for i in range(5)]
    foreign = {"published": {"cra": ANOTHER, "vr": ANOTHER}}
    study = open_study(make_results(tmp_path / "r", *rows, settings=foreign))
    assert not study.decides
    found = summarise(study, concepts=False)
    for text in (as_text(found), as_latex(found), as_text(found, "concepts")):
        assert "CRA threshold 0.75 was published for" in text and "all 5 images reach it" in text
        assert "all 20 patches reach it" in text
    assert (found.facts["tau_cra_holds"], found.facts["tau_cra_origin"]) == (False, "published")
    assert open_study(make_results(tmp_path / "right", *rows)).decides
    # scope all knows what reaches the threshold with other concepts, without a calibration
    everywhere = make_results(tmp_path / "all", *rows, settings=foreign | {"scope": "all"}, tau={"cra": 0.7, "vr": 0.6})
    judged = open_study(everywhere).judged["cra"]
    assert "100 % of the images reach it with some other concept" in judged.sentence and not judged.holds


def test_the_rate_of_unrelated_concepts_is_measured_or_read_between_the_steps_of_the_null() -> None:
    reached = np.clip(1.0 - (NULL_EDGES + 1.0) / 2.0, 0.0, 1.0)  # falls from 1 to 0
    nulls = [{"metric": "cra", "references": j, "reached": (reached * (j / 2)).tolist()} for j in (1, 2)]
    rows = [{"null": "unrelated", "metric": "cra", "references": 2, "tau_given": 0.75, "rate_given": 0.4}]
    held = Calibration(0.01, 0, "x", {}, [], {}, [], rows, nulls, [])
    assert chance_at(held, "cra", 0.75, [2]) == 0.4
    assert chance_at(held, "cra", 0.71, [2]) == pytest.approx(0.145)
    assert chance_at(held, "cra", 0.71, [1, 2, 2]) == pytest.approx((0.0725 + 0.145 + 0.145) / 3)
    assert chance_at(held, "cra", 0.71, [9]) is None and chance_at(held, "vr", 0.6) is None
