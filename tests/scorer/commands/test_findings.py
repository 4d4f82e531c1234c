"""The findings' commands by exit code and message, on an index and results made by the commands themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from run import models, run
from toys import draw, make_refs, tiny_clip, tiny_vit, write

NAMES = [f"k{i:02d}" for i in range(12)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 concepts, two models; their vectors in a cache of their own."""
    root = tmp_path_factory.mktemp("findings")
    make_refs(root / "refs", NAMES, each=1)
    for m in ("m1", "m2"):
        for i, name in enumerate(NAMES):
            write(root / "gen" / m / name / "0.png", draw(100 * i if m == "m1" else 7000 + i))
    tiny_clip(root / "clip")
    tiny_vit(root / "vit.safetensors")
    run("index", "build", "--refs", root / "refs", "--index", root / "i", *models(root))
    for scope, out in (("concept", "o"), ("all", "all")):
        run("score", "--index", root / "i", "--gen-root", root / "gen", "--out", root / out, "--scope", scope,
            "--cache", root / "cache", "--note", "drawn, not generated")  # fmt: skip
    return root


def test_summary_writes_tables(place: Path, tmp_path: Path) -> None:
    done = run("summary", place / "o", "--out", tmp_path / "t.csv", "--out", tmp_path / "t.tex")
    assert "drawn, not generated" in done.stdout and "indicative" in done.stdout and "CRA" in done.stdout
    assert pd.read_csv(tmp_path / "t.csv").model.tolist() == ["m1", "m2"]
    assert "drawn, not generated" in (tmp_path / "t.csv.meta.json").read_text()
    again = run("summary", place / "o", "--seed", 1, "--json").stdout
    assert json.loads(again)["seed"] == 1 and json.loads(again)["m1/cra"] == 1.0
    assert "the ending names the format" in run("summary", place / "o", "--out", tmp_path / "t.doc", code=1).stderr
    assert "Missing argument" in run("summary", code=2).stderr


def test_the_note_is_kept_by_a_later_run(place: Path, tmp_path: Path) -> None:
    base = [
        "score",
        "--index",
        place / "i",
        "--gen",
        place / "gen" / "m1",
        "--cache",
        place / "cache",
        "--out",
        tmp_path / "n",
    ]
    run(*base, "--note", "first")
    run(*base, "--ic-tau", 0.5)
    run(*base, "--note", "second")
    text = run("summary", tmp_path / "n").stdout
    assert text.count("first") == 1 and text.count("second") == 1
    meta = json.loads((tmp_path / "n" / "results_cra_dynamic.meta.json").read_text())
    assert meta["notes"] == ["first", "second"]


def test_sweep(place: Path) -> None:
    assert "no tau_vr" not in run("sweep", place / "o", "--step", 0.5, "--draws", 100).stdout
    assert "tau cra" in run("sweep", place / "o", "--table", "grid", "--step", 0.5, "--draws", 100).stdout
    assert "--step 0" in run("sweep", place / "o", "--step", 0, code=1).stderr


def test_calibrate_then_everything_that_uses_it(place: Path, tmp_path: Path) -> None:
    base = ["calibrate", place / "o", "--index", place / "i", "--cache", place / "cache", "--draws", 200]
    done = run(*base, "--alpha", 0.2, "--to", tmp_path / "c.json")
    assert "indicative" in done.stdout and str(tmp_path / "c.json") in done.stderr
    assert "calibrated" in run("summary", place / "o", "--calibration", tmp_path / "c.json").stdout
    flat = json.loads(run("summary", place / "o", "--calibration", tmp_path / "c.json", "--json").stdout)
    assert flat["calibration_alpha"] == 0.2 and flat["m1/cra_cal"] == 1.0
    assert "other ref id" in run("summary", place / "o", "--table", "patches", "--patch-tau", -1).stdout
    run(*base, "--apply", tmp_path / "c.json")
    scored = run("score", "--index", place / "i", "--gen", place / "gen" / "m1", "--cache", place / "cache", "--out",
                 tmp_path / "s", "--calibration", tmp_path / "c.json")  # fmt: skip
    assert "0 embedded" in scored.stdout
    assert "cra_cal" in (tmp_path / "s" / "results_cra_dynamic.csv").read_text().splitlines()[0]
    assert "no calibration" in run("summary", place / "o", "--calibration", place / "vit.safetensors", code=1).stderr
    none = run(
        "calibrate", place / "o", "--cache", place / "cache", "--alpha", 1e-6, "--to", tmp_path / "n.json", code=3
    )
    assert "no threshold could be fitted: 1000000 pairs" in none.stdout and "about 2002 are needed" in none.stdout
    empty = [*base[:4], "--cache", tmp_path / "empty"]
    assert "score again with this cache" in run(*empty, code=1).stderr


def test_attribute(place: Path) -> None:
    text = run("attribute", place / "all", "--index", place / "i", "--notes", "all").stdout
    assert "unprompted" in text and "no p: " in text
    assert "attributed to" in run("attribute", place / "all", "--table", "confusion").stdout
    assert "--scope all" in run("attribute", place / "o", "--index", place / "i", code=1).stderr


def test_compare(place: Path) -> None:
    text = run("compare", "m1", "m2", "--results", place / "o").stdout
    assert "p holm" in text and "effect size" in text
    assert "k03" in run("compare", "m1", "m2", "--results", place / "o", "--table", "concepts").stdout
    assert "is it 'm1'" in run("compare", "m11", "m2", "--results", place / "o", code=1).stderr
    assert "results: no such folder" in run("compare", "m1", "m2", code=1).stderr  # results/ is the default


def test_export(place: Path, tmp_path: Path) -> None:
    run("export", place / "o", "--out", tmp_path / "l.parquet", "--out", tmp_path / "s.json")
    assert set(pd.read_parquet(tmp_path / "l.parquet").metric) >= {"cra_sim", "vr"}
    assert json.loads((tmp_path / "s.json").read_text())["m1/cra"] == 1.0
    assert "--out" in run("export", place / "o", code=2).stderr


def test_directories_that_do_not_belong_together(place: Path, tmp_path: Path) -> None:
    assert "both hold" in run("summary", place / "o", place / "all", code=1).stderr
    run("score", "--index", place / "i", "--gen", place / "gen" / "m1", "--cache", place / "cache", "--mode", "static",
        "--out", tmp_path / "s", "--ic-tau", 0.75)  # fmt: skip
    assert "made with" in run("summary", place / "o", tmp_path / "s", code=1).stderr
