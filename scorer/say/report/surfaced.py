"""The part of the report that lists references which surfaced in images whose prompts name something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.flags import bare
from iconicity.indexer.store.index import Index
from iconicity.scorer.measure.attribute import attribute
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.study import Study
from iconicity.scorer.say.report.data import ImageParts, number
from iconicity.scorer.say.report.options import ReportOptions


def attribution(study: Study, index: Index, calibration: Calibration | None, options: ReportOptions) -> Finding | None:
    """What :func:`.attribute.attribute` finds; None where images were compared with their own concepts alone."""
    if any(source.settings["scope"] != "all" for source in study.sources):
        return None
    return attribute(study, index, calibration, draws=options.draws, seed=options.seed)


def surfaced_part(finding: Finding, study: Study, parts: ImageParts, called: Callable[[str], str]) -> dict[str, Any]:
    """Each reference that surfaced, the most frequent first, with its models and its images, the most similar first.

    ``called``: what people call a concept.
    """
    table, images = finding.table("references"), finding.table("images")
    rows = np.flatnonzero(images.unprompted.to_numpy(bool))
    similarity = images.other_sim.to_numpy(np.float64)
    shown = pd.DataFrame({"row": rows, "reference": images.other_ref_id.to_numpy()[rows], "sim": similarity[rows]})
    shown = shown.sort_values(["sim", "row"], ascending=[False, True])
    total = table.groupby("reference").agg(n=("surfaced", "sum"), best=("highest_sim", "max")).reset_index()
    total = total.sort_values(["n", "best", "reference"], ascending=[False, False, True])
    return {
        "notes": [bare(note) for note in finding.notes if note.startswith("by chance")],
        "references": [
            parts.reference(name) | {
                "called": called(name.split("/", 1)[0]),
                "models": [
                    {"model": r["model"], "images": r["images"], "surfaced": r["surfaced"],
                     **{key: number(r[key]) for key in ("share", "share_low", "share_high", "highest_sim", "threshold")}}
                    for r in table[table.reference == name].to_dict("records")
                ],
                "images": [
                    parts.place(i) | {"model": int(study.model[i]), "file": images.gen_relpath[i], "surfaced": number(sim)}
                    for i, sim in shown.loc[shown.reference == name, ["row", "sim"]].itertuples(index=False)
                ],
            }
            for name in total.reference
        ],
    }  # fmt: skip
