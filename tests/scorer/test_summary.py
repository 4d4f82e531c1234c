"""Summaries, against hand-made rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iconicity.scorer.results import SCHEMA, Results, require_results, writing_scores
from iconicity.scorer.summary import flat_json, summarise
from iconicity.scorer.text import concept_table, summary_table


def row(concept: str, s: float | None, reused: int | None, status: str = "ok") -> dict[str, Any]:
    p = None if reused is None else [0.9] * reused + [0.1] * (4 - reused)
    return {**dict.fromkeys(SCHEMA.names), "model": "m", "concept": concept, "cra_sim": s, "p": p, "status": status}


Make = Callable[..., Results]


@pytest.fixture
def results(tmp_path: Path) -> Make:
    """Rows written to a results directory of their own."""

    def make(*rows: dict[str, Any]) -> Results:
        settings = {"index_id": "x", "scope": "concept", "encoders": {"clip": "CLIP", "dino": "vit"}}
        (tmp_path / "r").mkdir(exist_ok=True)
        with writing_scores(tmp_path / "r", "dynamic", settings, {"cra": 0.75, "vr": 0.6}) as writer:
            for r in rows:
                writer.write(r)
        return require_results(tmp_path / "r")

    return make


MIXED = (
    row("a", 0.8, 1),  # recognised, VI 0.75
    row("a", 0.7, 4),  # not recognised, VI 0
    row("a", 0.9, 3),  # recognised, VI 0.25
    row("a", None, None, "skipped"),
    row("b", 0.1, 2),  # nothing recognised
)


def test_macro_means_by_hand(results: Make) -> None:
    (m,), (a, b) = summarise(results(*MIXED))
    assert (a.images, a.skipped, a.recognised) == (3, 1, 2)
    assert a.cra == pytest.approx(2 / 3) and a.vi_recognised == pytest.approx(0.5)
    assert a.crt == pytest.approx(2 / 3 * 0.5)
    assert b.cra == 0 and math.isnan(b.vi_recognised) and b.crt == 0 and b.vi_all == 0.5
    assert m.cra == pytest.approx(1 / 3) and m.crt == pytest.approx(a.crt / 2)
    assert m.vi_recognised == pytest.approx(0.5) and m.vi_n == 1
    assert m.vi_all == pytest.approx(((0.75 + 0 + 0.25) / 3 + 0.5) / 2)
    assert m.undefined == ""


def test_vi_scope_all(results: Make) -> None:
    (_,), (a, _) = summarise(results(*MIXED), "all")
    assert a.crt == pytest.approx(2 / 3 * (1 / 3))
    with pytest.raises(ValueError, match="recognised or all"):
        summarise(results(*MIXED), "some")


def test_undefined_values_are_named(results: Make) -> None:
    (m,), _ = summarise(results(row("a", 0.1, 2), row("b", 0.2, 1)))
    assert m.undefined == "none_recognised" and m.crt == 0 and math.isnan(m.vi_recognised)
    assert flat_json([m], results())["m/vi_recognised"] is None
    assert "no image reaches tau_cra 0.75 (the highest cra_sim is 0.200)" in summary_table([m], results())
    (m,), _ = summarise(results(row("a", 0.9, None)))
    assert m.undefined == "vr_not_scored" and math.isnan(m.crt) and m.cra == 1
    (m,), _ = summarise(results(row("a", None, 2)))
    assert m.undefined == "cra_not_scored" and m.vr_all == 0.5 and math.isnan(m.crt)


def test_text_says_how_many(results: Make) -> None:
    models, concepts = summarise(results(*MIXED))
    text = summary_table(models, results())
    assert "1 images could not be used" in text and "over 1 of 2 concepts" in text
    assert "m a" in concept_table(concepts)
