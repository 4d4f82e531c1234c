"""Reused patches one by one: what each matches, and how many unrelated concepts match it as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.image_null import require_null
from iconicity.scorer.measure.metrics import GENERIC_SHARE
from iconicity.scorer.measure.study import Study

COLUMNS = ("p_ref_id", "p_ref_cell")  # of the scores, that a study needs here
FEW_DRAWS = 20  # below it a share of 0.05 cannot be told from 0


def reused_patches(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """A row for each reused patch, and notes.

    ``reached`` is the share of ``draws`` from unrelated concepts that are as similar, ``other_*`` the best of them.
    ``verdict``: specific (at most :data:`GENERIC_SHARE` of the draws reach the patch), generic (more do, as with sky,
    borders and paper), or unknown (fewer than :data:`FEW_DRAWS` draws). ``study`` needs :data:`COLUMNS`. Raises
    :class:`InputError` without a VR threshold, or before ``iconicity calibrate``.
    """
    null = require_null(study)
    reused = decide(study).reused
    if np.isnan(reused).all():
        raise InputError(f"{study.sources[0].path}: has no VR threshold; name one with `tau_vr`")
    at, patch = np.nonzero(reused == 1.0)
    own = {c: study.table.column(c) for c in ("p_ref_id", "p_ref_cell")}
    other = {c: null.table.column(c) for c in ("p_best", "p_best_ref_id", "p_best_ref_cell")}

    def pick(column: Any) -> list[Any]:
        lists = column.take(pa.array(at)).to_pylist()
        return [None if values is None else values[k] for values, k in zip(lists, patch, strict=True)]

    reached = null.p_reached[at, patch]
    known = null.draws[at] >= FEW_DRAWS
    verdict = np.where(known, np.where(reached <= np.float32(GENERIC_SHARE), "specific", "generic"), "unknown")
    frame = pd.DataFrame(
        {
            "model": np.array(study.models, object)[study.model[at]], "gen_relpath": np.array(study.relpaths, object)[at],
            "patch": patch, "p": study.p[at, patch], "verdict": verdict, "ref_id": pick(own["p_ref_id"]),
            "ref_cell": pick(own["p_ref_cell"]), "reached": reached, "draws": null.draws[at], "other_p": pick(other["p_best"]),
            "other_ref_id": pick(other["p_best_ref_id"]), "other_ref_cell": pick(other["p_best_ref_cell"]),
        }
    )  # fmt: skip
    counts = ", ".join(f"{n} {v}" for v, n in frame.verdict.value_counts().items())
    notes = [
        f"a reused patch is generic when more than {GENERIC_SHARE:.0%} of the draws from other concepts reach it: {counts or 'none'}"
    ]
    scored = study.ok & ~np.isnan(study.p).any(axis=1)
    if without := int((scored & (null.draws == 0)).sum()):
        notes.append(
            f"{counted(without, 'image has', 'images have')} no null: scored since 'iconicity calibrate', or no other concept has "
            "as many references"
        )
    return frame, notes
