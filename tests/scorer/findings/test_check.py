"""The gate: what breaks a rule is listed, what cannot be judged is not called good."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import make_results, row
from run import run

from iconicity.indexer.errors import InputError
from iconicity.scorer.findings.check import Rule, check
from iconicity.scorer.findings.study import open_study


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(
        tmp_path / "r", row("a", 0.9, 4, name="0.png"), row("a", 0.8, 2, name="1.png"), row("b", 0.6, 0, name="2.png"),
        row("b", 0.9, 1, model="n", name="3.png"),
    )  # fmt: skip


def test_images_that_break_a_rule_are_listed(results: Path) -> None:
    found = check(open_study(results), ["vr >= 0.5", "cra_sim < 0.7"])
    failures = found.table("failures")
    assert failures.to_dict("records") == [
        {"model": "m", "concept": "a", "gen_relpath": "a/0.png", "value": 1.0, "rule": "vr >= 0.5"},
        {"model": "m", "concept": "a", "gen_relpath": "a/1.png", "value": 0.5, "rule": "vr >= 0.5"},
        {"model": "m", "concept": "b", "gen_relpath": "b/2.png", "value": pytest.approx(0.6), "rule": "cra_sim < 0.7"},
    ]
    assert len(found.table("undefined")) == 0 and found.scalars == {"checked": 4, "failures": 3, "undefined": 0}


def test_a_value_on_the_rule_is_on_one_side(results: Path) -> None:
    study = open_study(results)
    counts = {text: len(check(study, [text]).table("failures")) for text in (
        "vr > 0.5", "vr >= 0.5", "cra_sim > 0.6", "cra_sim >= 0.6", "cra_sim <= 0.6", "cra_sim < 0.6",
    )}  # fmt: skip
    assert list(counts.values()) == [1, 2, 3, 4, 1, 0]


def test_concepts_and_models_are_judged_by_their_own_measures(results: Path) -> None:
    study = open_study(results)
    assert check(study, ["vr_all > 0.5"], "concept").table("failures").values.tolist() == [
        ["m", "a", 0.75, "vr_all > 0.5"]
    ]
    assert check(study, ["cra >= 1"], "model").table("failures").model.tolist() == ["n"]
    with pytest.raises(InputError, match="no measure of models; there are cra, "):
        check(study, ["vr > 0.5"], "model")
    with pytest.raises(InputError, match="'iconicity calibrate' adds"):
        check(study, ["vr_specific > 0.5"])


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
    assert "2 values are undefined and were not judged" in done.stdout


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
    ],
)
def test_rules_are_read_and_never_run(text: str) -> None:
    with pytest.raises(InputError, match="no rule; write one like"):
        Rule.parse(text)


def test_exit_codes(results: Path, tmp_path: Path) -> None:
    done = run("check", results, "--fail-if", "vr > 0.5", "--out", tmp_path / "f.csv", code=1)
    assert "a/0.png" in done.stdout and "a/1.png" not in done.stdout
    assert (tmp_path / "f.csv").read_text().splitlines()[1:] == ["m,a,a/0.png,1.0,vr > 0.5"]
    run("check", results, "--fail-if", "vr > 1", code=0)
    run("check", results, "--fail-if", "nonsense", code=1)
    run("check", results, code=2)
