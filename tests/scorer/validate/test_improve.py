"""What a rule is worth beside another: a better one wins, a worse one does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from iconicity.scorer.validate.evaluate import BASE, Half, Rule
from iconicity.scorer.validate.improve import improvement_table
from iconicity.scorer.validate.ladder import CELL_COLUMNS


def make_half(rng: np.random.Generator, start: int) -> Half:
    """Twelve concepts, each with a box moved by 1/8 whose two cells are reused, and an R2 image of four."""
    rows = []
    for c in range(12):
        for rung, offset, k in (("R2", 0.0, 4), ("R3", 1 / 8, 2), ("R3", 1 / 4, 2), ("R3", 1 / 2, 2)):
            covered = np.zeros(16)
            covered[rng.choice(16, k, replace=False)] = 1.0
            rows.append({"rung": rung, "offset": offset, "k": k, "label": "partial", "concept": f"c{c}",
                         **dict(zip(CELL_COLUMNS, covered, strict=True))})  # fmt: skip
    truth = pd.DataFrame(rows)
    concept = np.repeat(np.arange(12), 4)
    return Half(
        truth, np.arange(start, start + 48), concept, [f"c{c}" for c in range(12)], truth[CELL_COLUMNS].to_numpy(float)
    )


def test_a_better_rule_wins_and_a_worse_one_does_not() -> None:
    rng = np.random.default_rng(0)
    choosing, reporting = make_half(rng, 0), make_half(rng, 48)
    truth = np.concatenate([choosing.coverage, reporting.coverage]) == 1
    moved = np.r_[choosing.truth.rung == "R3", reporting.truth.rung == "R3"][:, None]
    luck = rng.random(truth.shape)
    rules = {
        "worse": Rule(0.9, truth & (luck < 0.2)),
        BASE: Rule(0.5, truth & (~moved | (luck < 0.3))),  # blind to most of the moved cells
        "better": Rule(0.5, truth & (~moved | (luck < 0.95))),
    }
    table: Any = improvement_table(rules, choosing, reporting, draws=500).set_index("variant")
    assert list(table.index) == [BASE, "worse", "better"]
    assert table.wins.to_dict() == {BASE: False, "better": True, "worse": False}
    assert (table.fpr_choosing == 0).all()
    assert table.loc["better", "r3_gain_reporting"] > 0 > table.loc["worse", "r3_gain_reporting"]
    assert table.loc[BASE, "r3_gain_reporting"] == 0
    some = {BASE: Rule(0.5, truth & (luck < 0.5)), "all": Rule(0.5, truth)}
    found: Any = improvement_table(some, changed(choosing), changed(reporting), draws=500).set_index("variant")
    assert "r3_gain_reporting" not in found and found.wins.to_dict() == {BASE: False, "all": True}


def changed(part: Half) -> Half:
    """Only the images with changed cells: without moved ones these decide."""
    keep = (part.truth.rung == "R2").to_numpy()
    return Half(
        part.truth[keep].reset_index(drop=True), part.rows[keep], part.concept[keep], part.concepts, part.coverage[keep]
    )
