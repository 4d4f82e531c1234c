"""Results for other programs: a long table, a row an image and value, and flat scalars."""

from __future__ import annotations

import numpy as np
import pandas as pd

from iconicity.scorer.findings.finding import Finding
from iconicity.scorer.findings.specific import image_null
from iconicity.scorer.findings.study import Study, arranged, image_values
from iconicity.scorer.metrics import Float64, patch_statistics

COLUMNS = ("seed", "prompt", "gen_path", "p_ref_cell")  # of the scores, that a study needs here


def image_measures(study: Study) -> dict[str, Float64]:
    """Measure -> (n,) value of each image, nan where undefined; ``vr_specific`` and ``excess`` where there is a
    null, ``vr_arranged`` where ``study`` was read with ``p_ref_cell``."""
    recognised, has_cra, vr, _ = image_values(study, study.tau["cra"], study.tau["vr"])
    with np.errstate(invalid="ignore"):
        top, mean, p90 = patch_statistics(study.p)
    values: dict[str, Float64] = {
        "cra_sim": study.similarity.astype(np.float64), "cra_pass": np.where(has_cra, recognised, np.nan), "vr": vr,
        "vi": 1.0 - vr, "vr_max": top, "vr_mean": mean, "vr_p90": p90,
    }  # fmt: skip
    kept = arranged(study, study.tau["vr"])
    if kept is not None:
        values["vr_arranged"] = kept
    null = image_null(study)
    if null is not None:
        values |= null.measures(study.p, study.tau["vr"])
    return values


def export(study: Study, summary: Finding) -> Finding:
    """Table ``long``: model, variant, concept, file, seed, prompt, metric, value; undefined values have no row.

    The scalars are those of ``summary``. ``study`` needs :data:`COLUMNS`.
    """
    values = image_measures(study)
    labels = np.array(study.models, object)[study.model]
    keys = pd.DataFrame(
        {
            "model": labels, "variant": study.table.column("variant").to_pylist(),
            "concept": np.array(study.concepts, object)[study.concept], "gen_relpath": study.relpaths,
            **{name: study.table.column(name).to_pylist() for name in COLUMNS if name != "p_ref_cell"},
        }
    )  # fmt: skip
    keys["seed"] = keys.seed.astype("Int64")
    parts = []
    for name, column in values.items():
        defined = study.ok & ~np.isnan(column)
        parts.append(keys[defined].assign(metric=name, value=column[defined]))
    long = pd.concat(parts, ignore_index=True)
    return Finding({"long": long}, summary.notes, summary.facts, summary.scalars)
