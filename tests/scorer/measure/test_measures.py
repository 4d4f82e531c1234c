"""Measures at the thresholds of a calibration: the same in every table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rows import SETTINGS, make_results, random_rows, row
from run import run

from iconicity.scorer.measure.attributes import Attributes
from iconicity.scorer.measure.calibrate.calibration import SETTINGS as FITTED
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.compare import compare
from iconicity.scorer.measure.correlate import correlate
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.sweep import sweep

TAUS = {"cra": {1: 0.7, 2: 0.8}, "vr": {1: 0.5, 2: 0.55, 3: 0.65}}  # CRA of three references has no threshold
NAMES = {"cra_cal": "cra", "vr_all_cal": "vr_all", "crt_cal": "crt"}


@pytest.fixture
def held() -> Calibration:
    thresholds: list[dict[str, Any]] = [
        {"null": "unrelated", "metric": m, "references": j, "tau": tau, "status": "ok"}
        for m, each in TAUS.items()
        for j, tau in each.items()
    ]
    settings = {k: SETTINGS[k] for k in FITTED if k in SETTINGS}
    return Calibration(0.01, 0, "x", settings, [], {}, [], thresholds, [], [])


def test_sweep_and_compare_have_the_calibrated_values_of_summary(tmp_path: Path, held: Calibration) -> None:
    study = open_study(make_results(tmp_path, *random_rows(2, models=2, concepts=18, images=5)))
    table = summarise(study, calibration=held, draws=200).table()
    there = table[table.thresholds == "calibrated"].set_index("model")
    curves = sweep(study, step=0.5, calibration=held, draws=200).table("curves")
    mine = curves[curves.along == "calibrated"]
    assert mine.tau.isna().all() and len(mine) == 6 and set(mine.measure) == set(NAMES)
    for r in mine.to_dict("records"):
        name, shown = NAMES[r["measure"]], there.loc[r["model"]]
        ends = [shown[f"{name}{end}"] for end in ("", "_low", "_high", "_n")]
        assert [r[f"value{end}"] for end in ("", "_low", "_high", "_n")] == pytest.approx(ends)
    plain = sweep(study, step=0.5, draws=200).table("curves")
    rest = curves[curves.along != "calibrated"].astype({"tau": float})
    pd.testing.assert_frame_equal(rest, plain, check_dtype=False)
    found = compare(study, ["m0", "m1"], calibration=held, draws=200)
    pairs = found.table("pairs").set_index("measure")
    assert list(pairs.index) == ["cra", "vr_all", "crt", *NAMES]
    for name, of in NAMES.items():
        for side, model in (("a", "m0"), ("b", "m1")):
            assert pairs.loc[name, f"value_{side}"] == pytest.approx(there.loc[model, of])
    assert pairs.concepts.tolist() == [18, 18, 18, 12, 18, 12]
    assert any("J not calibrated for cra: 6 concepts with 3 references" in n for n in found.notes)
    by_concept = found.table("concepts")
    lacking = by_concept[by_concept.measure == "cra_cal"].set_index("concept").p.isna()
    assert lacking[lacking].index.tolist() == sorted(f"c{c}" for c in range(2, 18, 3))


def test_correlate_at_calibrated_thresholds(tmp_path: Path, held: Calibration) -> None:
    study = open_study(make_results(tmp_path, *random_rows(2, models=1, concepts=12, images=5)))
    frame = pd.DataFrame({"freq": np.arange(12.0)}, index=[f"c{c}" for c in range(12)])
    found = correlate(study, Attributes(frame, ["freq"]), calibration=held, draws=200)
    assert found.table().measure.tolist() == ["cra", "vr_all", "crt", *NAMES]
    table = summarise(study, calibration=held, draws=200).table("concepts")
    there = table[table.thresholds == "calibrated"].set_index("concept")
    values = found.table("values").set_index("concept")
    for name, of in NAMES.items():
        np.testing.assert_allclose(values[name], there[of].loc[values.index])


def test_the_commands_take_a_calibration(tmp_path: Path, held: Calibration) -> None:
    results = make_results(tmp_path / "r", *random_rows(2, models=2, concepts=6, images=3))
    held.write(tmp_path / "c.json")
    for command in (["compare", "m0", "m1", "--results", results], ["sweep", results, "--step", "0.5"]):
        done = run(*command, "--calibration", tmp_path / "c.json", "--draws", "100")
        assert "vr_all_cal" in done.stdout and "calibrated thresholds: 0.01 of unrelated pairs" not in done.stderr


def test_few_that_agree_have_no_interval_in_any_table(tmp_path: Path) -> None:
    few = open_study(
        make_results(tmp_path / "4", *(row(f"c{c}", 0.9, 4, name=f"{i}.png") for c in range(4) for i in range(4)))
    )
    many = open_study(
        make_results(tmp_path / "6", *(row(f"c{c}", 0.9, 4, name=f"{i}.png") for c in range(6) for i in range(6)))
    )
    low = 0.025 ** (1 / 6)  # Clopper and Pearson's of 6 of 6
    for table, units in (("models", "concepts"), ("concepts", "images")):
        found = summarise(few, draws=100)
        assert found.table(table)[["cra_low", "vr_all_high", "crt_low", "vi_all_low"]].isna().all(axis=None)
        assert any(n.startswith(f"no interval where fewer than 5 {units} agree: CRA") for n in found.notes)
        shown = summarise(many, draws=100).table(table).iloc[0]
        assert shown.cra_low == pytest.approx(low) and shown.cra_high == 1 and shown.cra_exact
        assert shown.vi_all_high == pytest.approx(1 - low) and shown.vi_all_low == 0 and shown.vi_all_exact
    for study, ends in ((few, [np.nan] * 2), (many, [low, 1.0])):
        curves = sweep(study, step=0.5, draws=100).table("curves")
        first = curves[(curves.measure == "cra") & (curves.tau == 0)].iloc[0]
        assert [first.value_low, first.value_high] == pytest.approx(ends, nan_ok=True) and first.value_exact
