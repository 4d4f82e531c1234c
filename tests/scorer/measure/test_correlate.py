"""Correlations with attributes, from rows on disk to the command line."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rows import make_results, random_rows, row
from scipy import stats
from statsmodels.stats.multitest import multipletests

from iconicity.cli import main
from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.attributes import Attributes
from iconicity.scorer.measure.correlate import KINDS, correlate
from iconicity.scorer.measure.finding import Finding, as_json, as_text
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.values import cells, inputs_of
from iconicity.scorer.say.scatter import write_scatters

CONCEPTS = 14


def attributes(concepts: int = CONCEPTS, seed: int = 0, **columns: Any) -> Attributes:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"freq": np.round(np.exp(rng.normal(4, 2, concepts))), "year": rng.integers(1500, 1900, concepts).astype(float)}
        | columns,
        index=[f"c{i}" for i in range(concepts)],
    )
    return Attributes(frame, list(frame.columns))


def found(path: Path, rows: list[dict[str, Any]], held: Attributes | None = None, **options: Any) -> Finding:
    study = open_study(make_results(path, *rows))
    return correlate(study, held or attributes(), **{"draws": 300} | options)


ROWS = random_rows(4, models=2, concepts=CONCEPTS, images=5)


def notes(finding: Finding) -> str:
    return "\n".join(finding.notes)


def line(finding: Finding, attribute: str) -> Any:
    """The row of the first model's CRA."""
    pairs = finding.table()
    return pairs[(pairs.model == "m0") & (pairs.measure == "cra") & (pairs.attribute == attribute)].iloc[0]


def test_equals_scipy_on_the_cells(tmp_path: Path) -> None:
    finding = found(tmp_path, ROWS)
    study = open_study(tmp_path)
    values = cells(study, inputs_of(study)[0][0]).values
    held = attributes().values.loc[list(study.concepts)]
    pairs = finding.table()
    assert len(pairs) == 2 * 3 * 2 and list(finding.tables) == ["pairs", "values"]
    for r in pairs.itertuples():
        x, y = values[str(r.measure)][study.models.index(str(r.model))], held[r.attribute]
        assert (r.n, r.missing, r.partial_n, r.given) == (CONCEPTS, 0, CONCEPTS, "references")
        rho, tau = stats.spearmanr(x, y), stats.kendalltau(x, y)
        assert (r.spearman, r.spearman_p) == pytest.approx((rho.statistic, rho.pvalue))
        assert (r.kendall, r.kendall_p) == pytest.approx((tau.statistic, tau.pvalue))
        design = np.column_stack([np.ones(CONCEPTS), stats.rankdata(study.references)])
        left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in map(stats.rankdata, (x, y))]
        assert r.partial == pytest.approx(np.corrcoef(left[0], left[1])[0, 1])
        for kind in KINDS:
            low, value, high = (getattr(r, f"{kind}{end}") for end in ("_low", "", "_high"))
            assert -1 <= low < value < high <= 1
    for kind in KINDS:
        np.testing.assert_allclose(pairs[f"{kind}_q"], multipletests(pairs[f"{kind}_p"], method="fdr_bh")[1])
    assert "partial: Spearman with J (number of references) held constant" in notes(finding)


def test_missing_values_are_counted(tmp_path: Path) -> None:
    held = attributes()
    held.values.loc[["c1", "c2", "c3"], "freq"] = np.nan
    held = Attributes(
        pd.concat([held.values.drop(index="c9"), pd.DataFrame({"freq": [1.0]}, index=["zz"])]), held.columns
    )
    finding = found(tmp_path, ROWS, held, controls=["freq"])
    freq, year = (line(finding, a) for a in ("freq", "year"))
    assert (freq.n, freq.missing, freq.partial_n, freq.given) == (10, 4, 10, "references")
    assert (year.n, year.missing, year.partial_n, year.given) == (13, 1, 10, "references,freq")
    assert "concepts of the results that the attributes lack: 1 (first: c9)" in notes(finding)
    assert "concepts of the attributes that the results lack: 1 (first: zz)" in notes(finding)
    values = finding.table("values")
    assert len(values) == 2 * CONCEPTS and list(values.columns[:3]) == ["model", "concept", "references"]
    used = values[values.model == "m0"].dropna(subset=["cra", "year"])
    assert year.spearman == pytest.approx(stats.spearmanr(used.cra, used.year).statistic)
    assert finding.facts["given"] == "references,freq"
    assert "J (number of references), freq held constant" in notes(finding)


def test_another_model_changes_no_value_and_order_none(tmp_path: Path) -> None:
    more = [*ROWS, *random_rows(9, models=1, concepts=CONCEPTS + 3, images=2, first="other")]
    shuffled = attributes().values.sample(frac=1, random_state=1)
    before = found(tmp_path / "a", ROWS).table()
    after = found(tmp_path / "b", more, Attributes(shuffled, ["freq", "year"])).table()
    assert len(after) == len(before) + 6
    kept = after[after.model.isin(before.model)].reset_index(drop=True)
    q = [f"{k}_q" for k in KINDS]  # of all rows together
    pd.testing.assert_frame_equal(kept.drop(columns=q), before.drop(columns=q))


def test_the_seed_decides_the_intervals(tmp_path: Path) -> None:
    one, again, other = (found(tmp_path / f"{i}", ROWS, seed=s) for i, s in enumerate((0, 0, 1)))
    pd.testing.assert_frame_equal(one.table(), again.table())
    assert (one.table().spearman_low != other.table().spearman_low).any()
    assert one.table().spearman.equals(other.table().spearman)


def test_constant_references(tmp_path: Path) -> None:
    finding = found(tmp_path, [r | {"n_ref_kept": 2} for r in ROWS])
    for end in ("", "_low", "_high", "_p"):
        np.testing.assert_allclose(finding.table()[f"partial{end}"], finding.table()[f"spearman{end}"])
    assert "all concepts have as many references (J) for m0, m1" in notes(finding)


def test_concepts_without_references_are_left_out(tmp_path: Path) -> None:
    rows = [r | ({"n_ref_kept": 0, "cra_sim": None, "p": None} if r["concept"] == "c3" else {}) for r in ROWS]
    finding = found(tmp_path, rows)
    assert set(finding.table().n) == {CONCEPTS - 1} and set(finding.table().missing) == {0}
    assert "c3" not in set(finding.table("values").concept)
    assert "concepts without references, left out: 1 (first: c3)" in notes(finding)


def test_undefined_pairs_are_said(tmp_path: Path) -> None:
    finding = found(tmp_path / "a", ROWS, attributes(same=1.0))
    same = finding.table()[finding.table().attribute == "same"]
    assert same[[*KINDS, *(f"{k}_{x}" for k in KINDS for x in ("low", "high", "p", "q"))]].isna().all().all()
    assert (
        "no correlation (fewer than 4 concepts, or one side has a single value): 6 of 18 rows: m0 cra x same"
        in notes(finding)
    )
    q = finding.table().spearman_q.dropna()
    np.testing.assert_allclose(q, multipletests(finding.table().spearman_p.dropna(), method="fdr_bh")[1])
    assert json.loads(as_json(finding))["m0/cra/same/spearman"] is None
    few = found(tmp_path / "b", [r for r in ROWS if r["concept"] in ("c0", "c1", "c2")])
    assert few.table().spearman.isna().all() and set(few.table().n) == {3}
    js = {f"c{i}": float(1 + i % 3) for i in range(CONCEPTS)}
    finding = found(tmp_path / "c", ROWS, attributes(j=[js[f"c{i}"] for i in range(CONCEPTS)]))
    assert "no partial correlation" in notes(finding)
    assert math.isnan(line(finding, "j").partial) and not math.isnan(line(finding, "j").spearman)


def test_what_was_not_scored_is_left_out(tmp_path: Path) -> None:
    finding = found(tmp_path, [r | {"p": None} for r in ROWS])
    assert set(finding.table().measure) == {"cra"} and "not scored, so left out: VR, CRT" in notes(finding)
    bad = [row(f"c{i}", None, None, "skipped", model="n") for i in range(CONCEPTS)]
    finding = found(tmp_path / "b", [*ROWS, *bad])
    assert set(finding.table().set_index("model").loc["n"].n) == {0}


def test_names_that_are_taken_or_not_there(tmp_path: Path) -> None:
    for held, options, message in (
        (attributes(crt=1.0), {}, "'crt' has the name"),
        (attributes(), {"controls": ["x"]}, "no attribute 'x'"),
        (attributes(title="x"), {"controls": ["title"]}, "no attribute 'title'"),
        (Attributes(pd.DataFrame(index=["c0"]), []), {}, "no column of numbers or dates"),
    ):
        with pytest.raises(InputError, match=message):
            found(tmp_path, ROWS, held, **options)
    with pytest.raises(InputError, match="undefined for all concepts"):
        found(tmp_path / "b", [row("c0", None, None)])


def test_text(tmp_path: Path) -> None:
    text = as_text(found(tmp_path, ROWS), "pairs")
    header = text.splitlines()[0].split("  ")
    assert [h.strip() for h in header if h.strip()] == [
        "model", "measure", "attribute", "n", "missing", "spearman", "spearman q", "kendall", "partial", "partial q",
    ]  # fmt: skip


def test_plots(tmp_path: Path) -> None:
    zero = [0.0, *np.arange(1.0, CONCEPTS)]
    further: dict[str, Any] = {"a/b $x$": zero, "a-b $x$": zero, "low": [-1.0, *zero[1:]], "none": np.nan}
    held = attributes(**further)
    finding = found(tmp_path / "r", [r | {"model": "sd/1.4"} for r in ROWS if r["model"] == "m0"], held)
    paths = write_scatters(finding, tmp_path / "p", ["freq", "a/b $x$"])
    names = sorted(p.name for p in (tmp_path / "p").iterdir())
    assert names == sorted(p.name for p in paths) and len(names) == 5 * 3
    assert {"sd-1.4_cra_freq.png", "sd-1.4_vr_all_a-b-x-.png", "sd-1.4_vr_all_a-b-x--2.png"} <= set(names)
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 500
    for column, message in (("x", "no such attribute"), ("low", "-1 of c0 is negative")):
        with pytest.raises(InputError, match=message):
            write_scatters(finding, tmp_path / "q", [column])
    assert not (tmp_path / "q").exists()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The command in this process, by exit code: what it printed (out, err)."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*args: object, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["iconicity", "correlate", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
        done = capsys.readouterr()
        assert (stopped.value.code or 0) == code, done.err
        return done

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_the_command(tmp_path: Path, run: Callable[..., Any]) -> None:
    make_results(tmp_path / "r", *ROWS)
    held = attributes().values
    held["title"] = [f"Title {i}" for i in range(CONCEPTS)]
    held.to_csv(tmp_path / "a.csv", index_label="label_clean")
    (tmp_path / "c.txt").write_text("a title 3, title 4\nthe title 5\n")
    base = [tmp_path / "r", "--draws", 200, "--attributes", tmp_path / "a.csv"]
    done = run(
        *base, "--captions", tmp_path / "c.txt", "--control", "year", "--attribute", "freq", "--plots", tmp_path / "p",
        "--log", "freq", "--out", tmp_path / "o.csv", "--out", tmp_path / "o.tex", "--table", "values", "--notes", "all",
    )  # fmt: skip
    values = pd.read_csv(tmp_path / "o.csv")
    assert {"freq", "year", "caption_share", "title_overlap", "nearest_title"} <= set(values.columns)
    assert values.caption_count.sum() == 2 * 3 and "caption_share: share of the captions" in done.out
    assert len(list((tmp_path / "p").iterdir())) == 2 * 3 * 2 and "m0_cra_freq.png" in done.err
    flat = json.loads(run(*base, "--json").out)
    assert flat["m0/cra/freq/n"] == CONCEPTS and flat["attributes"] == str(tmp_path / "a.csv")
    error = run(*base, "--concept-col", "slug", code=1).err
    assert error.startswith("error: ") and "--concept-col" in error and len(error.splitlines()) == 1
    for args, message in (
        ([tmp_path / "r"], "--attributes FILE"),
        ([*base, "--log", "freq"], "--plots"),
        ([*base, "--caption-col", "x"], "belong to --captions"),
        ([tmp_path / "r", "--captions", tmp_path / "c.txt", "--attribute", "x"], "which is missing"),
    ):
        assert message in run(*args, code=2).err
