"""Sweeps: equal to the summary at every threshold; flips by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rows import make_results, random_rows, row

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.sweep import flips, grid, sweep


@pytest.mark.parametrize("vi_scope", ["recognised", "all"])
def test_every_point_equals_the_summary_there(tmp_path: Path, vi_scope: str) -> None:
    path = make_results(tmp_path, *random_rows(4, models=2, concepts=4, images=3))
    found = sweep(open_study(path), step=0.25, vi_scope=vi_scope, draws=200)
    points = found.table("grid")
    assert len(points) == 2 * 5 * 6  # 0.75 is a step already, 0.6 is added
    for key, part in points.groupby(["tau_cra", "tau_vr"]):
        tau_cra, tau_vr = (float(str(t)) for t in key) if isinstance(key, tuple) else (0.0, 0.0)
        study = open_study(path, tau_cra=tau_cra, tau_vr=tau_vr)
        there = summarise(study, vi_scope=vi_scope, draws=200).table().set_index("model")
        for r in part.to_dict("records"):
            for name in ("cra", "vr_all", "crt"):
                assert r[name] == pytest.approx(there.loc[r["model"], name]), (tau_cra, tau_vr, name)
    curves = found.table("curves")
    here = summarise(open_study(path), vi_scope=vi_scope, draws=200).table().set_index("model")
    for r in curves[np.isclose(curves.tau, np.where(curves.along == "tau_cra", 0.75, 0.6))].to_dict("records"):
        m = here.loc[r["model"]]
        ends = [m[f"{r['measure']}{end}"] for end in ("", "_low", "_high")]
        assert [r["value"], r["value_low"], r["value_high"]] == pytest.approx(ends, nan_ok=True)


def test_values_fall_as_the_threshold_rises(tmp_path: Path) -> None:
    found = sweep(
        open_study(make_results(tmp_path, *random_rows(4, models=1, concepts=4, images=5))), step=0.05, draws=200
    )
    curves = found.table("curves")
    for measure, along in (("cra", "tau_cra"), ("vr_all", "tau_vr"), ("crt", "tau_cra")):
        part = curves[(curves.measure == measure) & (curves.along == along)]
        assert (part.value.diff().dropna() <= 1e-12).all()
    rising = curves[(curves.measure == "crt") & (curves.along == "tau_vr")]
    assert (rising.value.diff().dropna() >= -1e-12).all()


def test_flips_by_hand() -> None:
    tau = [0.1, 0.2, 0.3, 0.4]
    values = {"a": [0.9, 0.5, 0.3, 0.1], "b": [0.8, 0.5, 0.4, 0.1]}
    curves = pd.concat(
        pd.DataFrame({"model": m, "measure": "cra", "along": "tau_cra", "tau": tau, "value": v})
        for m, v in values.items()
    )
    assert flips(curves, ["a", "b"]).to_dict("records") == [
        {"measure": "cra", "along": "tau_cra", "first": "a", "then": "b", "last_tau": 0.1, "tau": 0.3}
    ]


def test_what_was_not_scored_is_undefined(tmp_path: Path) -> None:
    found = sweep(open_study(make_results(tmp_path, row("a", 0.9, None))), step=0.5, draws=200)
    points = found.table("grid")
    assert points.vr_all.isna().all() and points.crt.isna().all() and points.cra.tolist()[0] == 1.0
    points = sweep(open_study(tmp_path), step=0.5, draws=200, vi_scope="all").table("grid")
    assert points.crt.isna().all()
    make_results(tmp_path / "s", row("a", None, None, "skipped"))
    with pytest.raises(InputError, match="no image of it could be used"):
        sweep(open_study(tmp_path / "s"))
    for step, taus in ((0.6, [0, 0.6, 1]), (0.3, [0, 0.3, 0.6, 0.9, 1]), (0.4, [0, 0.4, 0.8, 1]), (1.0, [0, 1])):
        assert grid(step).tolist() == taus
    assert len(grid(0.005)) == 201 and len(grid(0.01)) == 101 and len(grid(1 / 3)) == 4 and len(grid(0.07)) == 16
    with pytest.raises(InputError, match="`step` 0"):
        sweep(open_study(tmp_path), step=0.0)
    bare = make_results(tmp_path / "t", row("a", 0.9, 1), tau={"cra": 0.75, "vr": None})
    with pytest.raises(InputError, match="`tau_vr`"):
        sweep(open_study(bare))


def test_grid_is_the_decimal_numbers() -> None:
    assert grid(0.01)[[60, 75, 100]].tolist() == [0.6, 0.75, 1.0] and len(grid(0.01)) == 101
