"""Results for other programs: a long table, a row an image and value, and flat scalars."""

from __future__ import annotations

import numpy as np
import pandas as pd

from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.values import CELL_COLUMN, image_values

COLUMNS = ("seed", "prompt", "gen_path", CELL_COLUMN)  # of the scores, that a study needs here


def export(study: Study, summary: Finding, calibration: Calibration | None = None) -> Finding:
    """Table ``long``: model, variant, concept, file, seed, prompt, metric, value; undefined values have no row.

    The scalars are those of ``summary``, made with the same ``calibration``. ``study`` needs :data:`COLUMNS`.
    """
    values = image_values(study, calibration)
    labels = np.array(study.models, object)[study.model]
    keys = pd.DataFrame(
        {
            "model": labels, "variant": study.table.column("variant").to_pylist(),
            "concept": np.array(study.concepts, object)[study.concept], "gen_relpath": study.relpaths,
            **{name: study.table.column(name).to_pylist() for name in COLUMNS if name != CELL_COLUMN},
        }
    )  # fmt: skip
    keys["seed"] = keys.seed.astype("Int64")
    parts = []
    for name, column in values.items():
        defined = study.ok & ~np.isnan(column)
        parts.append(keys[defined].assign(metric=name, value=column[defined]))
    long = pd.concat(parts, ignore_index=True)
    return Finding({"long": long}, summary.notes, summary.facts, summary.scalars)
