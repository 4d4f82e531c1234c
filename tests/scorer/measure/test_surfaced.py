"""The ledger of what surfaced: its numbers are those of plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from iconicity.scorer.measure.intervals import LEAST_EXACT, interval
from iconicity.scorer.measure.surfaced import COLUMNS, surfaced_notes, surfaced_references

SAME = {("alpha", "twin")}


def drawn(seed: int, n: int = 60) -> tuple[pd.DataFrame, list[str | None], np.ndarray]:
    """Images of two models, of which some could not be used, some are their own concept's, some name a twin."""
    rng = np.random.default_rng(seed)
    concepts = ["alpha", "beta", "twin", "neutral"]
    own = rng.choice(concepts, n)
    other = np.array([rng.choice([c for c in concepts[:3] if c != o]) for o in own])
    kind = rng.choice(["", "own", "other", "other", "other"], n)
    kind[[tuple(sorted(p)) in SAME for p in zip(own, other, strict=True)]] = "same_work"
    sim = rng.choice([0.5, 0.6, 0.7], n).astype(np.float32)
    tau = np.where(other == "beta", 0.65, 0.55)
    frame = pd.DataFrame(
        {
            "model": rng.choice(["m", "n"], n), "concept": own, "attribution": kind,
            "other_ref_id": [f"{c}/{rng.integers(2)}.png" for c in other], "other_sim": sim,
            "unprompted": (kind == "other") & (sim >= tau),
        }
    )  # fmt: skip
    prompts = [None if i % 5 == 0 else f"prompt {i % 7}" for i in range(n)]
    return frame, prompts, tau


def by_hand(images: pd.DataFrame, prompts: list[str | None], tau: np.ndarray) -> list[dict[str, Any]]:
    out = []
    rows = list(zip(images.to_dict("records"), prompts, tau, strict=True))
    for model in sorted({r["model"] for r, _, _ in rows}):
        for ref in sorted({r["other_ref_id"] for r, _, _ in rows}):
            concept = ref.split("/")[0]
            count = of = 0
            best, threshold = -1.0, None
            units: dict[Any, list[int]] = {}
            for i, (r, prompt, t) in enumerate(rows):
                named = r["concept"] == concept or tuple(sorted((r["concept"], concept))) in SAME
                if r["model"] != model or r["attribution"] == "" or named:
                    continue
                hit = r["unprompted"] and r["other_ref_id"] == ref
                unit = units.setdefault(i if prompt is None else prompt, [0, 0])
                unit[0] += hit
                unit[1] += 1
                of += 1
                count += hit
                if hit:
                    best, threshold = max(best, r["other_sim"]), t
            if count:
                hits, images_of = np.array(list(units.values()), np.float64).T
                ends = interval(hits[:, None], images_of[:, None], draws=200)
                out.append(
                    {"reference": ref, "concept": concept, "model": model, "images": of, "surfaced": count, "share": count / of,
                     "highest_sim": best, "threshold": threshold, "n": int(ends.n[0])}
                )  # fmt: skip
    return sorted(out, key=lambda r: (-r["surfaced"], -r["highest_sim"], r["reference"], r["model"]))


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_loops(seed: int) -> None:
    images, prompts, tau = drawn(seed)
    found = surfaced_references(images, prompts, tau, SAME, draws=200)
    assert list(found) == list(COLUMNS)
    expected = by_hand(images, prompts, tau)
    assert len(expected) > 4
    for row, true in zip(found.to_dict("records"), expected, strict=True):
        for name in ("reference", "concept", "model", "images", "surfaced", "threshold"):
            assert row[name] == true[name], name
        assert row["share"] == pytest.approx(true["share"]) and row["highest_sim"] == pytest.approx(true["highest_sim"])
        if row["share_exact"] and true["n"] < LEAST_EXACT:  # says little but the range
            assert np.isnan(row["share_low"]) and np.isnan(row["share_high"])
        else:
            assert 0 <= row["share_low"] <= row["share"] <= row["share_high"] <= 1


def test_images_of_one_prompt_are_one_unit() -> None:
    """Ten images of two prompts know less than ten prompts."""
    frame = pd.DataFrame(
        {"model": "m", "concept": "neutral", "attribution": "other", "other_ref_id": "alpha/0.png", "other_sim": 0.9,
         "unprompted": [True, False] * 20}
    )  # fmt: skip
    tau = np.full(40, 0.5)

    def width(prompts: list[str | None]) -> float:
        row = surfaced_references(frame, prompts, tau, set()).iloc[0]
        assert (row.images, row.surfaced, row.share) == (40, 20, 0.5)
        return float(row.share_high - row.share_low)

    alone = width([None] * 40)
    assert width([str(i) for i in range(40)]) == alone
    assert width([str(i % 8) for i in range(40)]) > alone  # every prompt all or nothing


def test_nothing_surfaces() -> None:
    images, prompts, tau = drawn(0)
    images["unprompted"] = False
    found = surfaced_references(images, prompts, tau, SAME)
    assert list(found) == list(COLUMNS) and not len(found) and surfaced_notes(found, 0, 0.01, 3) == []


def test_notes() -> None:
    images, prompts, tau = drawn(1)
    found = surfaced_references(images, prompts, tau, SAME, draws=50)
    first, chance, lacking = surfaced_notes(found, 2, 0.01, 3)
    top = found.iloc[0]
    assert (
        f"in {images.unprompted.sum()} images, most often {top.reference} ({top.surfaced} of {top.images} images of {top.model})"
        in first
    )
    assert chance == "by chance a reference surfaces in up to 1 % of the images, and any of 3 concepts in up to 3 %"
    assert lacking.startswith("2 images are nearest to a concept whose number of references has no threshold")
    assert len(surfaced_notes(found, 0, 0.0, 3)) == 1
