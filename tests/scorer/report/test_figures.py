"""Figures for print: what is drawn is what the findings say; formats, fonts, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rows import make_results, random_rows
from run import run
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError
from iconicity.indexer.index import open_index
from iconicity.scorer.findings.study import Study, open_study
from iconicity.scorer.findings.summary import summarise
from iconicity.scorer.findings.sweep import sweep
from iconicity.scorer.report import figures


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(make_results(tmp_path / "r", *random_rows(1, models=2, concepts=5, images=4)))


def test_bars_and_their_intervals(study: Study) -> None:
    summary = summarise(study, draws=200)
    axes: Any = figures.bars(summary).axes[0]
    heights = [[bar.get_height() for bar in group] for group in axes.containers if hasattr(group, "patches")]
    table = summary.table()
    for drawn, name in zip(heights, ("cra", "vr_recognised", "vi_recognised", "crt"), strict=True):
        assert drawn == pytest.approx(table[name].tolist())
    assert [t.get_text() for t in axes.get_xticklabels()] == ["m0", "m1"]


def test_points_curves_and_cells(study: Study) -> None:
    summary = summarise(study, draws=200)
    axes: Any = figures.recognition(summary).axes[0]
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    assert sorted(points[:, 0].tolist()) == pytest.approx(sorted(summary.table("concepts").cra.tolist()))
    swept = sweep(study, step=0.25, draws=200)
    axes = figures.curves(swept, "crt").axes[0]
    curve = swept.table("curves")
    wanted = curve[(curve.measure == "crt") & (curve.along == "tau_cra") & (curve.model == "m1")]
    assert axes.lines[1].get_ydata().tolist() == wanted.value.tolist()
    drawn: Any = figures.heatmap(summary, "vr_all").axes[0]
    image = drawn.images[0].get_array()
    assert np.asarray(image).T.ravel().tolist() == summary.table("concepts").vr_all.tolist()


def test_evidence(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha", "beta"], each=1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    mixed = draw(0)
    mixed.paste(draw(70_000).crop((0, 0, 32, 48)), (0, 0))
    write(tmp_path / "gen" / "m" / "alpha" / "x.png", mixed)
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"}, tau_vr=0.95)
    study, index = open_study(tmp_path / "out", figures.EVIDENCE_COLUMNS), open_index(tmp_path / "i")
    figure = figures.evidence(study, index, "m", "alpha/x.png", most=4)
    left, right = figure.axes
    axes: Any
    reused = np.flatnonzero(study.p[0] >= np.float32(0.95))
    best = sorted(reused, key=lambda k: -study.p[0][k])[:4]
    cells = study.table.column("p_ref_cell")[0].as_py()
    for axes, wanted in ((left, best), (right, [cells[k] for k in best])):
        corners = [(round(r.get_x()), round(r.get_y())) for r in axes.patches]
        assert corners == [(16 * (k % 4), 12 * (k // 4)) for k in wanted]
    path = figures.save(figure, tmp_path / "e.pdf")
    assert b"/FontFile2" in path.read_bytes() and b"Type3" not in path.read_bytes()  # TrueType, whole
    with Image.open(figures.save(figure, tmp_path / "e.png")) as image:
        assert image.width == 1600
    with pytest.raises(InputError, match="name it as CONCEPT/FILE"):
        figures.evidence(study, index, "m", "alpha/none.png")
    (tmp_path / "gen" / "m" / "alpha" / "x.png").unlink()
    with pytest.raises(InputError, match="restore the file"):
        figures.evidence(study, index, "m", "alpha/x.png")


def test_the_command(tmp_path: Path) -> None:
    make_results(tmp_path / "r", *random_rows(1, models=2, concepts=3, images=2))
    for kind in ("bars", "recognition", "heatmap"):
        run("plot", kind, tmp_path / "r", "--out", tmp_path / f"{kind}.svg")
        first = (tmp_path / f"{kind}.svg").read_bytes()
        run("plot", kind, tmp_path / "r", "--out", tmp_path / f"{kind}.svg")
        assert first.startswith(b"<?xml") and (tmp_path / f"{kind}.svg").read_bytes() == first
    assert "needs --image" in run("plot", "evidence", tmp_path / "r", "--out", tmp_path / "e.pdf", code=2).stderr
    assert (
        "the ending names the format" in run("plot", "bars", tmp_path / "r", "--out", tmp_path / "e.doc", code=1).stderr
    )
