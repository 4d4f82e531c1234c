"""A measure of another package: one function, one entry, and it stands in every table."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from rows import make_results, random_rows
from run import run
from toys import ROOT

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.measures import CALIBRATED, MEASURES, measures

PACKAGE = """
import numpy as np
from iconicity.scorer.measure.measures import Measure

def widest_gap(p, tau_vr):
    return np.abs(p - tau_vr[:, None]).max(axis=1)

GAP = Measure("gap", "Gap", ("p", "tau_vr"), widest_gap, "Widest distance of a patch from the threshold.", bounds=(0.0, 2.0))
WRONG = Measure("cra", "Another CRA", ("p",), lambda p: p.mean(axis=1))
"""


def install(path: Path, name: str = "GAP") -> None:
    """A package with an entry point, as pip would leave it."""
    (path / "gaps.py").write_text(PACKAGE)
    info = path / "gaps-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gaps\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[iconicity.measures]\ngap = gaps:{name}\n")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    measures.cache_clear()
    yield path
    measures.cache_clear()


def test_a_measure_of_another_package_stands_in_every_table(package: Path, tmp_path: Path) -> None:
    install(package)
    results = make_results(tmp_path / "r", *random_rows(1, models=2, concepts=8, images=3))
    done = run("summary", results, "--draws", 100, "--out", tmp_path / "s.csv")
    assert "Gap" in done.stdout.splitlines()[0]
    summary = pd.read_csv(tmp_path / "s.csv")
    assert (summary.gap > 0.2).all() and (summary.gap_low < summary.gap).all()
    run("export", results, "--draws", 100, "--out", tmp_path / "l.csv")
    long = pd.read_csv(tmp_path / "l.csv")
    each = long[(long.metric == "gap") & (long.model == "m0")].groupby("concept").value.mean()
    assert each.mean() == pytest.approx(summary.gap[0])
    run("compare", "m0", "m1", "--results", results, "--draws", 100, "--out", tmp_path / "c.csv")
    pair = pd.read_csv(tmp_path / "c.csv").set_index("measure").loc["gap"]
    assert pair.difference == pytest.approx(summary.gap[0] - summary.gap[1]) and 0 < pair.p <= 1
    assert json.loads(run("check", results, "--fail-if", "gap > 0.25", "--json", code=4).stdout)["n_failures"] > 0
    run("check", results, "--fail-if", "Gap > 1.5", "--of", "model")


def test_a_name_that_is_taken_is_refused(package: Path, tmp_path: Path) -> None:
    install(package, "WRONG")
    with pytest.raises(InputError, match=r"measure gap \(gaps:WRONG\): the name 'cra' is taken"):
        measures()


def test_what_is_no_measure_is_refused(package: Path) -> None:
    install(package, "widest_gap")
    with pytest.raises(InputError, match="is no iconicity Measure"):
        measures()


def test_a_measure_is_named_in_one_source_file() -> None:
    """Metrics that are scored, cra and vr, and the stored similarity are names of their own."""
    names = {n for m in MEASURES for n in (m.key, m.image_key)} - {"cra", "vr", "vi", "cra_sim", None}
    elsewhere = {
        "scorer/say/csv.py": {"vr_all"},
        "indexer/null/thresholds.py": {"vr_strict"},
    }  # of all concepts; a metric
    for path in [ROOT / "cli.py", *(p for d in ("indexer", "scorer", "data") for p in (ROOT / d).rglob("*.py"))]:
        relative = path.relative_to(ROOT).as_posix()
        constants = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        found = {c.removesuffix(CALIBRATED) for c in constants if isinstance(c, str)} & names
        assert found <= elsewhere.get(relative, set()) or relative == "scorer/measure/measures.py", (relative, found)


def test_the_documentation_has_a_row_for_each_measure() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text()
    for measure in MEASURES:
        name = "" if measure.image_key in (measure.key, None) else f", of an image `{measure.image_key}`"
        assert f"| `{measure.key}`{name} | {measure.label} | {measure.about} |" in text
