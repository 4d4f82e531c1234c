"""What the options of VR are worth: each rule that calls a cell reused, beside VR as published at its calibrated tau.

Every rule has the threshold that ``calibrate`` gives it on the choosing half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from iconicity.scorer.measure.intervals import DRAWS
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.validate.evaluate import BASE, GROUPS, CellSums, Half, Rule, cell_sums, paired, ratio


def improvement_table(
    rules: Mapping[str, Rule], choosing: Half, reporting: Half, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Each rule in both halves: false-positive rate of all cells, and per group recall and |VR - k/16|, with the gain over
    :data:`BASE` paired over concepts (recall up, error down: both positive). ``r3_gain`` is the mean gain in error over
    R3's offsets, where these were made.

    ``wins``: the choosing half prefers it, and in the reporting half the interval of its gain (R3's where it was made, else
    R2's) lies above 0 while that of R2's recall does not lie below.
    """
    order = [BASE, *(r for r in rules if r != BASE)]
    base: dict[tuple[str, str, str], Float64] = {}
    rows = []
    for rule in order:
        every = rules[rule].hit
        row: dict[str, Any] = {"variant": rule, "tau": rules[rule].tau}
        for which, part in (("choosing", choosing), ("reporting", reporting)):
            hit = every[part.rows]
            plain = cell_sums(hit, part, (part.truth.rung != "B").to_numpy())
            row |= ratio(f"fpr_{which}", plain.false, plain.unused, draws, seed)
            each = {}
            for group in (g for g in GROUPS if part.group(g).any()):
                recall, error = _per_concept(cell_sums(hit, part, part.group(group)))
                each[group, "recall"], each[group, "error"] = recall, error
                row[f"recall_{group}_{which}"], row[f"error_{group}_{which}"] = _plain(recall), _plain(error)
            if rule == BASE:
                base |= {(which, *k): x for k, x in each.items()}
            moved = [
                base[which, g, "error"] - each[g, "error"] for g in GROUPS if g[:2] == "R3" and (g, "error") in each
            ]
            if moved:
                row |= paired(f"r3_gain_{which}", np.mean(moved, axis=0), draws, seed)
            row |= paired(f"r2_recall_gain_{which}", each["R2", "recall"] - base[which, "R2", "recall"], draws, seed)
            row |= paired(f"r2_gain_{which}", base[which, "R2", "error"] - each["R2", "error"], draws, seed)
        row.pop("concepts", None)
        gain = "r3_gain" if "r3_gain_choosing" in row else "r2_gain"
        row["wins"] = bool(
            rule != BASE
            and row[f"{gain}_choosing"] > 0
            and row[f"{gain}_reporting_low"] > 0
            and row["r2_recall_gain_reporting_high"] >= 0
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _per_concept(sums: CellSums) -> tuple[Float64, Float64]:
    """Recall and |VR - k/16| of each concept (C,), nan where it has no such cell or image."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums.found / sums.reused, sums.error / sums.images


def _plain(each: Float64) -> float:
    return float(np.nanmean(each)) if not np.isnan(each).all() else float("nan")
