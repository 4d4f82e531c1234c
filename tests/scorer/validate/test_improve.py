"""Variants: where further cells lie, and scores against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from toys import ToyEncoder, draw, toy_encoders

from iconicity.indexer.encoders import encode
from iconicity.scorer.validate.evaluate import Half
from iconicity.scorer.validate.improve import BASE, Variant, csls, embed_crops, improvement_table, overlapping
from iconicity.scorer.validate.ladder import CELL_COLUMNS


def unit(rng: np.random.Generator, *shape: int) -> Any:
    v = rng.standard_normal(shape)
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32)


def test_further_cells_lie_within_the_image() -> None:
    for size in ((64, 48), (70, 51)):
        assert len(overlapping(size)) == 33 and len(set(overlapping(size))) == 33
        for x0, y0, x1, y1 in overlapping(size):
            assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
    assert (8, 6, 24, 18) in overlapping((64, 48))  # half a cell to the right and down


def test_crops_are_embedded_as_cells_are() -> None:
    encoders = toy_encoders()
    crops = [draw(1), draw(2), draw(3)]
    assert isinstance(encoders.dino, ToyEncoder)
    assert np.array_equal(embed_crops(crops, encoders), encode(encoders.dino, crops))


def test_csls_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    own = {c: unit(rng, 16, 8) for c in "abc"}
    names, patches = np.array(["a", "c", "a"], object), unit(rng, 3, 16, 8)
    found = csls(names, patches, own)

    def near(v: Any, mine: str) -> float:
        products = [float(v @ w) for c in "abc" if c != mine for w in own[c].astype(np.float64)]
        return float(np.mean(sorted(products)[-10:]))

    for i, k in ((0, 0), (1, 7), (2, 15)):
        x, c = patches[i, k].astype(np.float64), str(names[i])
        best = max(2 * float(x @ y) - near(x, c) - near(y, c) for y in own[c].astype(np.float64))
        assert found[i, k] == pytest.approx(best / 4, abs=1e-6)


def make_half(rng: np.random.Generator, start: int) -> Half:
    """Six concepts, each with a box moved by 1/8 whose two cells are reused, and an R2 image of four."""
    rows = []
    for c in range(6):
        for rung, offset, k in (("R2", 0.0, 4), ("R3", 1 / 8, 2), ("R3", 1 / 4, 2), ("R3", 1 / 2, 2)):
            covered = np.zeros(16)
            covered[rng.choice(16, k, replace=False)] = 1.0
            rows.append({"rung": rung, "offset": offset, "k": k, "label": "partial", "concept": f"c{c}",
                         **dict(zip(CELL_COLUMNS, covered, strict=True))})  # fmt: skip
    truth = pd.DataFrame(rows)
    concept = np.repeat(np.arange(6), 4)
    return Half(
        truth, np.arange(start, start + 24), concept, [f"c{c}" for c in range(6)], truth[CELL_COLUMNS].to_numpy(float)
    )


def test_a_better_variant_wins_and_a_worse_one_does_not() -> None:
    rng = np.random.default_rng(0)
    choosing, reporting = make_half(rng, 0), make_half(rng, 24)
    truth = np.concatenate([choosing.coverage, reporting.coverage])
    noise = rng.normal(0, 0.1, truth.shape)
    moved = np.r_[choosing.truth.rung == "R3", reporting.truth.rung == "R3"][:, None]
    base = np.where(moved, 0.15, 0.9) * truth + noise  # blind to most of the moved cells
    every = [Variant(BASE, base.astype(np.float32)), Variant("better", (0.9 * truth + noise).astype(np.float32)),
             Variant("worse", (noise + 0.05 * truth).astype(np.float32))]  # fmt: skip
    found = improvement_table([Variant(v.name, np.clip(v.score, -1, 1)) for v in every], choosing, reporting, draws=500)
    table: Any = found.set_index("variant")
    assert table.wins.to_dict() == {BASE: False, "better": True, "worse": False}
    assert (table.fpr_choosing <= 0.01).all()
    assert table.loc["better", "r3_gain_reporting"] > 0 > table.loc["worse", "r3_gain_reporting"]
    assert table.loc[BASE, "r3_gain_reporting"] == 0
