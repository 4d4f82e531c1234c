"""The long table and the flat scalars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rows import make_results, row

from iconicity.scorer.measure.export import COLUMNS, export
from iconicity.scorer.measure.finding import as_json
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise


def test_long_table(tmp_path: Path) -> None:
    rows = [
        row("a", 0.9, 3, seed=7, prompt="The Scream", variant="original", name="1.png"),
        row("a", None, 1, name="2.png"),
        row("b", None, None, "skipped", name="3.png"),
    ]
    study = open_study(make_results(tmp_path, *rows), COLUMNS)
    finding = export(study, summarise(study))
    long = finding.table("long")
    first = long[long.gen_relpath == "a/1.png"].set_index("metric")
    assert first.value.to_dict() == {
        "cra_sim": float(np.float32(0.9)),
        "cra_pass": 1.0,
        "vr": 0.75,
        "vi": 0.25,
        "vr_max": float(np.float32(0.9)),
        "vr_mean": np.mean(np.array([0.9, 0.9, 0.9, 0.1], np.float32), dtype=float),
        "vr_p90": float(np.float32(0.9)),
    }
    assert set(first.seed) == {7} and set(first.prompt) == {"The Scream"} and set(first.model) == {"m@original"}
    assert set(long[long.gen_relpath == "a/2.png"].metric) == {"vr", "vi", "vr_max", "vr_mean", "vr_p90"}
    assert not (long.gen_relpath == "b/3.png").any() and not long.value.isna().any()
    flat = json.loads(as_json(finding))
    assert flat["m@original/cra"] == 1.0 and all(not isinstance(v, (dict, list)) for v in flat.values())
