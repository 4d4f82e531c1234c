"""The gate: what breaks a rule is listed, what cannot be judged is not called good."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rows import make_results, random_rows, row
from run import run

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.check import Rule, RuleError, check
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(
        tmp_path / "r",
        row("a", 0.9, 4, name="0.png"),
        row("a", 0.8, 2, name="1.png"),
        row("b", 0.6, 0, name="2.png"),
        row("b", 0.9, 1, model="n", name="3.png"),
    )


def test_images_that_break_a_rule_are_listed(results: Path) -> None:
    found = check(open_study(results), ["vr >= 0.5", "cra_sim < 0.7"])
    listed = [
        ("a", "a/0.png", "vr", 1.0, 0.5, "vr >= 0.5"),
        ("a", "a/1.png", "vr", 0.5, 0.5, "vr >= 0.5"),
        ("b", "b/2.png", "cra_sim", float(np.float32(0.6)), 0.7, "cra_sim < 0.7"),
    ]
    names = ["model", "concept", "gen_relpath", "measure", "value", "n", "threshold", "rule"]
    assert found.table("failures").to_dict("records") == [
        dict(zip(names, ("m", c, f, measure, v, 1, t, rule), strict=True)) for c, f, measure, v, t, rule in listed
    ]
    assert len(found.table("undefined")) == 0
    assert found.scalars == {"checked": 4, "n_failures": 3, "n_undefined": 0, "undefined": [], "failures": [
        {"level": "image", "model": "m", "concept": c, "image": f, "measure": measure, "value": v, "interval": None, "n": 1,
         "threshold": t, "rule": rule} for c, f, measure, v, t, rule in listed
    ]}  # fmt: skip


def test_a_value_on_the_rule_is_on_one_side(results: Path) -> None:
    study = open_study(results)
    counts = {text: len(check(study, [text]).table("failures")) for text in (
        "vr > 0.5", "vr >= 0.5", "cra_sim > 0.6", "cra_sim >= 0.6", "cra_sim <= 0.6", "cra_sim < 0.6",
    )}  # fmt: skip
    assert list(counts.values()) == [1, 2, 3, 4, 1, 0]


def test_concepts_and_models_are_judged_by_the_values_of_summary(results: Path) -> None:
    study = open_study(results)
    (failure,) = check(study, ["vr_all > 0.5"], "concept").table("failures").to_dict("records")
    assert (failure["concept"], failure["value"], failure["n"]) == ("a", 0.75, 2)
    assert check(study, ["cra >= 1"], "model").table("failures").model.tolist() == ["n"]
    assert check(study, ["VR > 50%"], "concept").table("failures").measure.tolist() == ["vr_all"]
    with pytest.raises(RuleError, match=r"no measure of models; there are cra, vr_recognised, .*; and the ends"):
        check(study, ["vrr > 0.5"], "model")
    for name, of in (("vr_strict", "image"), ("vr_cal", "image"), ("cra_cal_low", "model"), ("vr_strict", "concept")):
        with pytest.raises(InputError, match=f"{name} needs thresholds of 'iconicity calibrate', by `calibration`"):
            check(study, [f"{name} > 0.5"], of)
    with pytest.raises(RuleError, match="an image's value has no interval; judge concepts or models with `of`"):
        check(study, ["vr_low > 0.5"])


def test_ends_of_intervals_and_a_least_n(tmp_path: Path) -> None:
    path = make_results(
        tmp_path / "r", *random_rows(3, models=2, concepts=8, images=4), row("c0", 0.9, 4, model="one", name="x.png")
    )
    study = open_study(path)
    summary = summarise(study).table("models").set_index("model")
    for measure, end in (("cra", "low"), ("vr_all", "high"), ("crt", "high")):
        found = check(study, [f"{measure}_{end} >= -1"], "model", least_n=2)
        failures = found.table("failures").to_dict("records")
        assert [f["model"] for f in failures] == ["m0", "m1"]
        for failure, listed in zip(failures, found.scalars["failures"], strict=True):
            shown = summary.loc[str(failure["model"])]
            ends = [shown[f"{measure}_low"], shown[f"{measure}_high"]]
            assert failure["value"] == shown[f"{measure}_{end}"] and failure["n"] == shown[f"{measure}_n"] == 8
            assert [failure["value_low"], failure["value_high"]] == listed["interval"] == ends
        (few,) = found.table("undefined").to_dict("records")
        assert (few["model"], few["n"], few["why"]) == ("one", 1, "n is below 2")
    by_concept = check(study, ["cra_high > 0"], "concept", least_n=4)
    table = summarise(study).table("concepts")
    concepts = table.set_index(["model", "concept"])["cra_high"].to_dict()
    for row_ in by_concept.table("failures").to_dict("records"):
        assert row_["value"] == concepts[row_["model"], row_["concept"]] and row_["n"] == 4
    lacking = table.model[table.cra_high.isna()].tolist()  # few images, and they agree
    assert by_concept.table("undefined").model.tolist() == lacking and lacking[-1] == "one" and len(lacking) > 1


def test_what_cannot_be_judged_is_not_called_good(tmp_path: Path) -> None:
    rows = [
        row("a", 0.9, None, name="0.png"),
        row("a", None, None, "skipped", name="1.png"),
        row("a", 0.9, 1, name="2.png"),
    ]
    results = make_results(tmp_path / "r", *rows)
    found = check(open_study(results), ["vr > 0.5"])
    assert found.table("undefined").gen_relpath.tolist() == ["a/0.png", "a/1.png"]
    done = run("check", results, "--fail-if", "vr > 0.5", code=3)
    assert (
        "vr > 0.5: 1 value is undefined and was not judged, first m/a/0.png (not scored; --table undefined)"
        in done.stdout
    )
    assert "first m/a/1.png (no image could be used;" in done.stdout
    assert "1 rule, 3 images: 0 broken, 2 not judged" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "vr",
        "vr > ",
        "> 0.5",
        "vr > x",
        "vr == 0.5",
        "vr > 0.5; import os",
        "__import__('os') > 1",
        "vr > nan",
        "1 > 0",
        "vr > 1e999",
        "vr => 0.5",
        "vr > 0,5",
    ],
)
def test_rules_are_read_and_never_run(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read; write a measure, one of"):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("text", "measure", "value"),
    [("VR > 50%", "vr", 0.5), ("vr strict >= .5", "vr_strict", 0.5), ("VR rec. < 12.5 %", "vr_recognised", 0.125),
     ("CRA_low <= 1", "cra_low", 1.0), ("vr_mean > 1", "vr_mean", 1.0), ("VR Strict > +0.1", "vr_strict", 0.1)],
)  # fmt: skip
def test_names_without_case_and_shares_in_percent(text: str, measure: str, value: float) -> None:
    rule = Rule.parse(text)
    assert (rule.measure, rule.value) == (measure, value)


@pytest.mark.parametrize("text", ["vr > 50", "vr > 101%", "cra_sim < -1.5"])
def test_a_value_that_no_measure_has_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match=r"is beyond 1; write a share, like 0\.5 or 50%"):
        Rule.parse(text)


def test_exit_codes(results: Path, tmp_path: Path) -> None:
    done = run("check", results, "--fail-if", "vr > 0.5", "--out", tmp_path / "f.csv", code=4)
    assert "a/0.png" in done.stdout and "a/1.png" not in done.stdout
    assert (tmp_path / "f.csv").read_text().splitlines()[1:] == ["m,a,a/0.png,vr,1.0,1,0.5,vr > 0.5"]
    facts = json.loads(run("check", results, "--fail-if", "vr > 0.5", "--json", code=4).stdout)
    assert [f["image"] for f in facts["failures"]] == ["a/0.png"] and facts["n_failures"] == 1
    run("check", results, "--fail-if", "vr > 1", code=0)
    run("check", results, "--fail-if", "nonsense", code=2)
    assert "there are cra_sim, " in run("check", results, "--fail-if", "vrr > 0.5", code=2).stderr
    assert "'vr > 50%'" in run("check", tmp_path / "none", "--fail-if", "vr is large", code=2).stderr
    assert "--of concept" in run("check", results, "--fail-if", "vr > 0.5", "--least-n", 2, code=2).stderr
    assert "calibrate" in run("check", results, "--fail-if", "vr_strict > 0.5", code=1).stderr
    run("check", tmp_path / "none", "--fail-if", "vr > 0.5", code=1)
    run("check", results, code=2)
