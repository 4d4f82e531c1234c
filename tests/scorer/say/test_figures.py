"""Figures for print: what is drawn is what the findings say; formats, fonts, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rows import make_results, random_rows, row
from run import run
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.attributes import concept_attributes
from iconicity.scorer.measure.calibrate.calibration import SETTINGS, Calibration, own_and_null
from iconicity.scorer.measure.correlate import correlate
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.sweep import sweep
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.say import figures
from iconicity.scorer.say.credits import credit_line
from iconicity.scorer.say.fonts import _families, choose_fonts
from iconicity.scorer.say.scatter import correlates


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


def test_a_bar_of_one_concept_is_hollow_and_what_is_undefined_is_none(tmp_path: Path) -> None:
    rows = [row("a", 0.9, 2, name="1.png"), row("a", 0.2, 2, model="none", name="1.png")]
    foreign = {"published": {"cra": "another encoder", "vr": ""}}
    figure = figures.bars(summarise(open_study(make_results(tmp_path / "one", *rows, settings=foreign)), draws=200))
    drawn: Any = figure.axes[0].patches
    assert all(not bar.get_fill() for bar in drawn)
    assert sorted(bar.get_height() for bar in drawn) == [0.0, 0.0, 0.5, 0.5, 0.5, 1.0]  # CRA and CRT of both models
    # VR and VI do not exist where nothing is recognised; CRA and CRT are 0 there
    assert [t.get_text() for t in figure.axes[0].texts] == ["0", "n/a", "n/a", "0"]
    assert figure.get_supxlabel() == "no verdict: the CRA threshold 0.75 means nothing for CLIP"


def test_points_curves_and_cells(study: Study) -> None:
    summary = summarise(study, draws=200)
    axes: Any = figures.recognition(summary).axes[0]
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    assert sorted(points[:, 0].tolist()) == pytest.approx(sorted(summary.table("concepts").cra.tolist()))
    swept = sweep(study, step=0.25, draws=200)
    axes = figures.curves(swept, figures.measure_of("CRT", swept=True)).axes[0]
    curve = swept.table("curves")
    wanted = curve[(curve.measure == "crt") & (curve.along == "tau_cra") & (curve.model == "m1")]
    assert axes.lines[1].get_ydata().tolist() == wanted.value.tolist()
    drawn: Any = figures.heatmap(summary, figures.measure_of("VR")).axes[0]
    image = drawn.images[0].get_array()
    assert np.asarray(image).T.ravel().tolist() == summary.table("concepts").vr_all.tolist()


@pytest.mark.parametrize("reference_cells", ["grid", "overlapping"])
def test_evidence(tmp_path: Path, reference_cells: str) -> None:
    make_refs(tmp_path / "refs", ["alpha", "beta"], each=1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), IndexOptions(reference_cells=reference_cells))
    mixed = draw(0)
    mixed.paste(draw(70_000).crop((0, 0, 32, 48)), (0, 0))
    write(tmp_path / "gen" / "m" / "alpha" / "x.png", mixed)
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"}, ScoreOptions(tau_vr=0.95))
    study, index = open_study(tmp_path / "out", figures.EVIDENCE_COLUMNS), open_index(tmp_path / "i")
    figure = figures.evidence(study, index, "m/Alpha/x.png", most=4)  # the folder's own spelling
    left, right = figure.axes
    axes: Any
    reused = np.flatnonzero(study.p[0] >= np.float32(0.95))
    best = sorted(reused, key=lambda k: -study.p[0][k])[:4]
    cells = study.table.column("p_ref_cell")[0].as_py()
    steps = (4, 16, 12) if reference_cells == "grid" else (7, 8, 6)
    for axes, wanted, (across, x, y) in ((left, best, (4, 16, 12)), (right, [cells[k] for k in best], steps)):
        corners = [(round(r.get_x()), round(r.get_y())) for r in axes.patches]
        assert corners == [(x * (k % across), y * (k // across)) for k in wanted]
        assert {(round(r.get_width()), round(r.get_height())) for r in axes.patches} == {(16, 12)}
    path = figures.save(figure, tmp_path / "e.pdf")
    assert b"/FontFile2" in path.read_bytes() and b"Type3" not in path.read_bytes()  # TrueType, whole
    with Image.open(figures.save(figure, tmp_path / "e.png")) as image:
        assert image.size == (1920, 1080)  # a slide
    run("plot", "evidence", tmp_path / "out", "--image", "alpha/x.png", "--out", tmp_path / "p.png")  # knows the index
    for name in ("m/alpha/none.png", "n/alpha/x.png"):
        with pytest.raises(InputError, match="no image of these results"):
            figures.evidence(study, index, name)
    (tmp_path / "gen" / "m" / "alpha" / "x.png").unlink()
    with pytest.raises(InputError, match="restore the file"):
        figures.evidence(study, index, "m/alpha/x.png")


def test_plates_of_several_images(tmp_path: Path) -> None:
    names = [f"c{i:02d}" for i in range(21)]  # enough for thresholds of the index
    make_refs(tmp_path / "refs", names, each=1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    for i, name in enumerate(names[:3]):
        write(tmp_path / "gen" / "m" / name / "x.png", draw(100 * i if i < 2 else 9000))
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"})
    (tmp_path / "refs" / "credits.csv").write_text("file,author,source\nc00/00.png,葛飾 北斎,a museum\n")
    (tmp_path / "refs" / "c01" / "credits.csv").write_text("file,licence\n00.png,CC0\n")
    assert credit_line(tmp_path / "refs" / "c00" / "00.png") == "葛飾 北斎, a museum"
    assert credit_line(tmp_path / "refs" / "c01" / "00.png") == "CC0" and credit_line("s3://bucket/c01/00.png") == ""
    assert credit_line(tmp_path / "refs" / "c02" / "00.png") == ""
    study, index = open_study(tmp_path / "out", figures.EVIDENCE_COLUMNS), open_index(tmp_path / "i")
    caption: Any = figures.evidence(study, index, "m/c00/x.png")._supxlabel  # type: ignore[attr-defined]
    assert "Reference: 葛飾 北斎, a museum" in caption.get_text()
    out = ["--out", tmp_path / "p.pdf", "--out", tmp_path / "p.png"]
    done = run("plot", "evidence", tmp_path / "out", "--all-recognised", *out)
    assert done.stdout.splitlines() == [str(tmp_path / n) for n in ("p-1.png", "p-2.png", "p.pdf")]
    assert (tmp_path / "p.pdf").read_bytes().count(b"/Type /Page ") == 2
    assert "name the images" in run("plot", "evidence", tmp_path / "out", *out, code=2).stderr
    (tmp_path / "refs" / "c02" / "credits.csv").write_text("name\n00.png\n")
    with pytest.raises(InputError, match="no column 'file'"):
        credit_line(tmp_path / "refs" / "c02" / "00.png")


def a_calibration(study: Study) -> Calibration:
    rows = [{"metric": "cra", "null": "unrelated", "references": 2, "tau": 0.61, "status": "ok"}]
    nulls = [
        {"metric": m, "references": j, "reached": np.linspace(1.0, 0.0, 101).tolist()}
        for m in ("cra", "vr")
        for j in (1, 2)
    ]
    settings = {k: study.settings[k] for k in SETTINGS if k in study.settings}
    return Calibration(0.01, 0, "x", settings, ["c0"], {}, [], rows, nulls, [])


def test_nulls_beside_own_similarities(study: Study) -> None:
    held = a_calibration(study)
    frame = own_and_null(study, held)
    figure = figures.nulls(frame, study, {m: held.taus(m) for m in ("cra", "vr")})
    assert len(figure.axes) == 4
    axes: Any = figure.axes[1]  # CLIP at two references
    part = frame[(frame.metric == "cra") & (frame.references == 2)]
    null, own = ([bar.get_height() for bar in group] for group in axes.containers)
    assert null == pytest.approx(part.null.tolist()) and own == pytest.approx(part.own.tolist())
    assert [line.get_xdata()[0] for line in axes.lines] == [0.75, 0.61]


def test_correlates_grid(study: Study, tmp_path: Path) -> None:
    lines = [f"c{i},{10**i},{i % 3}" for i in range(5)]
    (tmp_path / "a.csv").write_text("\n".join(["label_clean,fame,age", *lines]) + "\n")
    found = correlate(study, concept_attributes(study.concepts, tmp_path / "a.csv"), draws=100)
    figure = correlates(found, "m1", log=["fame"])
    assert len(figure.axes) == 6
    axes: Any = figure.axes[0]
    values = found.table("values")
    mine = values[values.model == "m1"]
    assert np.array_equal(axes.collections[0].get_offsets(), mine[["fame", "cra"]].to_numpy())
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "fame (log scale)"
    with pytest.raises(InputError, match="name one with `model`"):
        correlates(found, "m7")
    with pytest.raises(InputError, match="no such attribute"):
        correlates(found, "m1", log=["height"])
    run(
        "plot",
        "correlates",
        tmp_path / "r",
        "--attributes",
        tmp_path / "a.csv",
        "--model",
        "m0",
        "--out",
        tmp_path / "c.pdf",
    )
    assert (
        "--model"
        in run(
            "plot",
            "correlates",
            tmp_path / "r",
            "--attributes",
            tmp_path / "a.csv",
            "--out",
            tmp_path / "c.pdf",
            code=2,
        ).stderr
    )


def test_the_command(tmp_path: Path) -> None:
    make_results(tmp_path / "r", *random_rows(1, models=2, concepts=3, images=2))
    for kind in ("bars", "recognition", "heatmap"):
        run("plot", kind, tmp_path / "r", "--out", tmp_path / f"{kind}.svg")
        first = (tmp_path / f"{kind}.svg").read_bytes()
        run("plot", kind, tmp_path / "r", "--out", tmp_path / f"{kind}.svg")
        assert first.startswith(b"<?xml") and (tmp_path / f"{kind}.svg").read_bytes() == first
    assert "iconicity calibrate" in run("plot", "nulls", tmp_path / "r", "--out", tmp_path / "n.pdf", code=1).stderr
    a_calibration(open_study(tmp_path / "r")).write(tmp_path / "r" / "calibration.json")
    run("plot", "nulls", tmp_path / "r", "--out", tmp_path / "n.pdf")
    assert (tmp_path / "n.pdf").read_bytes().startswith(b"%PDF")
    assert "--attributes" in run("plot", "correlates", tmp_path / "r", "--out", tmp_path / "e.pdf", code=2).stderr
    assert "--image" in run("plot", "evidence", tmp_path / "r", "--out", tmp_path / "e.pdf", code=2).stderr
    assert (
        "the ending names the format" in run("plot", "bars", tmp_path / "r", "--out", tmp_path / "e.doc", code=1).stderr
    )


def test_titles_in_other_scripts(tmp_path: Path) -> None:
    rows = [row("\u795e\u5948\u5ddd", 0.9, 2, name="1.png"), row("\u5bcc\u5cb3", 0.2, 2, name="1.png")]
    results = make_results(tmp_path / "r", *rows)
    drawn = run("plot", "heatmap", results, "--measure", "cra", "--out", tmp_path / "h.pdf")
    fonts = (tmp_path / "h.pdf").read_bytes()
    families, lacking = _families(frozenset(map(ord, "\u795e\u5948\u5ddd\u5bcc\u5cb3")))
    assert "Warning" not in drawn.stderr
    if lacking:  # as on a machine without a font of this script
        assert drawn.stderr.count("\n") == 1 and "in CJK" in drawn.stderr
    else:
        assert drawn.stderr == "" and families[-1].replace(" ", "").encode() in fonts


def test_titles_that_no_font_draws_are_named_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    name = "\U00012000\U00012001"  # cuneiform
    rows = [row(name, 0.9, 2, name="1.png"), row("b", 0.2, 2, name="1.png")]
    figure = figures.heatmap(
        summarise(open_study(make_results(tmp_path / "r", *rows)), draws=200), figures.measure_of("cra")
    )
    (line,) = choose_fonts(figure)
    figures.save(figure, tmp_path / "h.png")
    assert line.startswith(f"no installed font draws '{name}' in CUNEIFORM: boxes stand for these characters")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
