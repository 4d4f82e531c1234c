"""The report: what its data say, that names stay data, and how a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from run import run
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.calibrate.calibration import (
    NOT_CALIBRATED,
    NULL_EDGES,
    SETTINGS,
    Calibration,
    own_and_null,
    read_calibration,
)
from iconicity.scorer.measure.image_null import write_null
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.say.report.build import read_titles, report
from iconicity.scorer.say.report.data import COLUMNS, ImageParts, needed_references
from iconicity.scorer.say.report.options import ReportOptions

HOSTILE = "<script>alert(1)</script>"
ODD = "../x\"'&=1+1\u202e" + "n" * 300
BETA = "beta_<b_onclick=alert(1)>\"'&%2f=;\u202e"  # a concept: a folder's name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models' images of alpha and beta; a model and a file with hostile names; a file that is gone."""
    root = tmp_path_factory.mktemp("report")
    make_refs(root / "refs", ["alpha", BETA], each=2)
    build_index(root / "refs", root / "i", toy_encoders())
    for name in ("m1", "m2"):
        write(root / "gen" / name / "alpha" / "0.png", draw(0))
        write(root / "gen" / name / BETA / "0.png", draw(100 if name == "m1" else 60_000))
    mixed = draw(0)
    mixed.paste(draw(70_000).crop((0, 0, 32, 48)), (0, 0))  # the left half is new
    write(root / "gen" / "m1" / "alpha" / "1.png", mixed)
    write(root / "gen" / "m1" / "alpha" / "<img src=x onerror=alert(1)>.png", draw(70_001))
    write(root / "gen" / "m1" / "alpha" / "gone.png", draw(70_002))
    Scoring(root / "i", root)(
        {HOSTILE: root / "gen" / "m2", ODD: root / "gen" / "m2", "m1": root / "gen" / "m1"},
        ScoreOptions(scope="all", tau_vr=0.9),
    )
    leave_null(root / "out")
    (root / "gen" / "m1" / "alpha" / "gone.png").unlink()
    (root / "t.csv").write_text(f"label_clean,title,artist,year\nalpha,{HOSTILE},=1+1,1889\n")
    calibration(root).write(root / "calibration.json")
    titles, held = read_titles(root / "t.csv", "label_clean"), read_calibration(root / "calibration.json")
    report(root / "out", open_index(root / "i"), root / "site", ReportOptions(titles=titles), calibration=held)
    report(
        root / "out",
        open_index(root / "i"),
        root / "one.html",
        ReportOptions(single_file=True, titles=titles),
        calibration=held,
    )
    return root


def leave_null(out: Path) -> None:
    """What 'iconicity calibrate' would leave beside the results of each patch's CSLS; no draws."""
    study = open_study(out, ["gen_sha256"])
    rows = [
        {"model": study.models[study.model[i]], "gen_relpath": study.relpaths[i],
         "gen_sha256": study.table.column("gen_sha256")[i].as_py(), "draws": 0, "p_csls": np.linspace(-0.5, 0.5, 16).tolist()}
        for i in np.flatnonzero(study.ok).tolist()
    ]  # fmt: skip
    facts = {"index_id": study.settings["index_id"], "calibration_sha256": calibration(out.parent).digest}
    write_null(out, study.mode, rows, facts)


def calibration(root: Path) -> Calibration:
    """Thresholds as 'iconicity calibrate' would write them, for two references a concept."""
    study = open_study(root / "out")
    row = {"null": "unrelated", "references": 2, "status": "indicative", "rate_check": 0.01, "rate_given": 0.25}
    thresholds = [
        row | {"metric": m, "tau": tau, "tau_given": study.tau[m]} for m, tau in (("cra", 0.8125), ("vr", 0.9375))
    ] + [row | {"metric": "vr_csls", "tau": 0.0, "tau_given": None, "rate_given": None}]
    reached = np.round(1.0 / (1.0 + np.exp(9.0 * (NULL_EDGES - 0.3))), 6).tolist()
    nulls = [{"metric": m, "references": 2, "reached": reached} for m in ("cra", "vr")]
    settings = {k: study.settings[k] for k in SETTINGS if k in study.settings}
    return Calibration(0.01, 0, study.settings["index_id"], settings, ["alpha", BETA], {}, [], thresholds, nulls, [])


def data(place: Path, name: str) -> Any:
    text = (place / "site" / "data" / f"{name}.js").read_text()
    found = re.fullmatch(r'ICONICITY\.received\("(\w+)",(.*)\);\n', text)
    assert found and found[1] == name and not re.search("[<>&]", text)
    return json.loads(found[2])


def near(values: Any) -> list[Any]:
    return [None if v is None or np.isnan(v) else pytest.approx(v, abs=1e-6) for v in values]


def test_overview_has_the_numbers_of_the_summary(place: Path) -> None:
    study = open_study(place / "out", ["p_ref_cell"])
    overview, crt = data(place, "overview"), data(place, "crt")
    there = summarise(study, calibration=read_calibration(place / "calibration.json")).table()
    for kind, name in (("models", "given"), ("calibrated", "calibrated")):
        for m, r in zip(overview[kind], there[there.thresholds == name].to_dict("records"), strict=True):
            assert m["name"] == r["model"]
            for measure in ("cra", "vr_all", "crt", "vr_arranged", "vr_strict"):
                ends = [r[k] for k in (measure, f"{measure}_low", f"{measure}_high", f"{measure}_n")]
                assert m[measure] == near(ends)
    assert any(m["vr_strict"][0] not in (None, m["vr_all"][0]) for m in overview["calibrated"])
    for tau_cra, tau_vr in ((0.3, 0.5), (0.75, 0.9), (1.0, 1.0)):
        swept = summarise(open_study(place / "out", tau_cra=tau_cra, tau_vr=tau_vr)).table().set_index("model")
        for name, curve in overview["curves"].items():
            a, v = round(tau_cra * 100), round(tau_vr * 100)
            assert [curve["cra"][a], curve["vr_all"][v], crt[name][a][v]] == near(
                swept.loc[name, ["cra", "vr_all", "crt"]]
            )


def test_calibration_and_nulls(place: Path) -> None:
    overview = data(place, "overview")
    held = read_calibration(place / "calibration.json")
    assert [t["tau"] for t in overview["thresholds"]] == [0.8125, 0.9375, 0.0]
    frame = own_and_null(open_study(place / "out"), held)
    for null in overview["nulls"]:
        part = frame[frame.metric == null["metric"]]
        assert null["own"] == near(part.own) and null["null"] == near(part.null)


def test_parts_have_the_evidence(place: Path) -> None:
    study = open_study(place / "out", ["p_ref_id", "p_ref_cell", "other_sim", "own_rank"])
    c = study.concepts.index("alpha")
    part, patches, listing = data(place, f"concept_{c}"), data(place, f"evidence_{c}_0"), data(place, "images")
    rows = study.table.to_pylist()
    by_key = {(study.models[study.model[i]], r["gen_relpath"]): (i, r) for i, r in enumerate(rows)}
    overview = data(place, "overview")
    models = [m["name"] for m in overview["models"]]
    assert len(part["images"]) == len(patches) == 6 and part["title"] == HOSTILE
    mine = [i for i, concept in enumerate(listing["concept"]) if concept == c]
    for k, (image, found) in enumerate(zip(part["images"], patches, strict=True)):
        i, row = by_key[models[image["model"]], image["file"]]
        assert found["p"] == near(row["p"]) and found["cell"] == row["p_ref_cell"]
        assert [f"alpha/{part['references'][r]['file']}" for r in found["ref"]] == row["p_ref_id"]
        assert found["reused"] == (study.p[i] >= np.float32(0.9375)).tolist()  # the calibration's decides
        assert image["misattributed"] == (row["own_rank"] != 1) == found["other"]["first"]
        assert (mine[k] in listing["misattributed"]) == image["misattributed"]
        assert [listing[n][mine[k]] for n in ("model", "similarity", "vr", "recognised")] == [
            image[n] for n in ("model", "similarity", "vr", "recognised")
        ]
        assert f"alpha/{listing['file'][mine[k]]}" == image["file"]
        assert (image["thumb"] is None) == image["file"].endswith("gone.png")
        if image["thumb"]:
            assert (place / "site" / "thumbs" / image["thumb"][:2] / f"{image['thumb']}.jpg").is_file()
        else:
            assert "cannot be read" in image["problem"]
    dropped = [r for r in part["references"] if not r["kept"]]
    assert dropped and part["references"][dropped[0]["dup_of"]]["kept"]


def test_no_verdict_where_no_threshold_means_anything(place: Path, tmp_path: Path) -> None:
    lost = [{**t, "status": NOT_CALIBRATED} for t in calibration(place).thresholds]
    held = replace(calibration(place), thresholds=lost)
    report(place / "out", open_index(place / "i"), tmp_path / "site", calibration=held)
    overview, listing = data(tmp_path, "overview"), data(tmp_path, "images")
    assert not overview["decides"] and not any(j["holds"] for j in overview["judged"].values())
    assert not overview["labels"] and not overview["decided"]
    assert "was published for openai/clip-vit-base-patch16, and thumbnail" in overview["judged"]["cra"]["sentence"]
    assert "25 % of comparisons with unrelated concepts reach it" in overview["judged"]["cra"]["sentence"]
    first = [listing["concept"].index(c) + k for c, k in overview["examples"].pop("similar")]
    assert not overview["examples"]  # none is called a replica or transformed
    similar = [listing["similarity"][i] for i in first]
    assert similar == sorted(similar, reverse=True) and similar[0] == max(s for s in listing["similarity"] if s)


def test_a_calibration_that_is_named_decides(place: Path) -> None:
    overview, listing = data(place, "overview"), data(place, "images")
    assert overview["decides"] and overview["labels"] == {"cra": "CRA (calibrated)", "vr": "VR (calibrated)"}
    assert overview["decided"].startswith("decided at the calibration's thresholds")
    assert overview["examples"]["replica"] and "similar" not in overview["examples"]
    known = [(s, r) for s, r in zip(listing["similarity"], listing["recognised"], strict=True) if r is not None]
    assert all(r == (s >= 0.8125) for s, r in known) and {r for _, r in known} == {True, False}


def test_examples_where_thresholds_mean_something(place: Path) -> None:
    held = calibration(place)
    rows = [{**t, "tau_given": 0.7 if t["metric"] == "cra" else 0.9, "rate_given": 0.01} for t in held.thresholds]
    study = open_study(place / "out", COLUMNS, tau_cra=0.7).with_calibration(replace(held, thresholds=rows))
    assert study.decides
    parts = ImageParts(study, needed_references(study, open_index(place / "i")), {}, {}, "shown")
    shown = parts.examples()
    images = parts.concept(0, {})["images"]
    best = [images[k] for c, k in shown["replica"] if c == 0]
    assert best and best[0]["vr"] == max(i["vr"] for i in images if i["recognised"]) and "similar" not in shown


def test_evidence_is_split(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iconicity.scorer.say.report import data as module

    monkeypatch.setattr(module, "EVIDENCE", 4)
    held = read_calibration(place / "calibration.json")
    report(place / "out", open_index(place / "i"), tmp_path / "s", calibration=held)
    whole = data(place, "evidence_0_0")
    shutil.copytree(tmp_path / "s", tmp_path / "site")
    parts = [data(tmp_path, f"evidence_0_{b}") for b in range(2)]
    assert [len(p) for p in parts] == [4, 2] and parts[0] + parts[1] == whole
    assert data(tmp_path, "overview")["evidence"] == 4


def test_nothing_lies_outside_and_all_is_made_again_alike(place: Path, tmp_path: Path) -> None:
    names = {p.relative_to(place / "site").as_posix() for p in (place / "site").rglob("*") if p.is_file()}
    assert all(re.fullmatch(r"[a-z_.-]+|data/\w+\.js|thumbs/[0-9a-f]{2}/[0-9a-f]{64}-shown\.jpg", n) for n in names), (
        names
    )
    before = {n: (place / "site" / n).stat().st_mtime_ns for n in names if n.startswith("thumbs/")}
    stale = place / "site" / "thumbs" / "00" / f"{'0' * 64}.jpg"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"of an image that is no longer shown")
    options = ReportOptions(titles=read_titles(place / "t.csv", "label_clean"))
    held = read_calibration(place / "calibration.json")
    report(place / "out", open_index(place / "i"), place / "site", options, calibration=held)
    assert before == {n: (place / "site" / n).stat().st_mtime_ns for n in before} and not stale.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="holds something that is no report"):
        report(place / "out", open_index(place / "i"), tmp_path / "full")
    build_index(place / "refs", tmp_path / "j", toy_encoders(clip_seed=9))
    with pytest.raises(SettingsError, match="name that one with `index`"):
        report(place / "out", open_index(tmp_path / "j"), tmp_path / "new")


def test_single_file_runs_only_its_own_scripts(place: Path) -> None:
    text = (place / "one.html").read_text()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    (allowed,) = re.findall(r"script-src ([^;]*);", policy)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    scripts += re.findall(r'<script type="text/plain" id="library">(.*?)</script>', text, re.S)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert len(scripts) == 8 and allowed.split() == hashes
    assert not re.findall(r"<script[^>]* src=|<link", text) and HOSTILE not in text
    thumbs = re.findall(r'id="thumb-([\w-]+)">data:image/jpeg;base64,([\w+/=]+)<', text)
    assert {t for t, _ in thumbs} == {p.stem for p in (place / "site" / "thumbs").glob("*/*.jpg")}
    assert not list(place.glob("tmp*"))


def test_a_file_that_changed_since_has_no_picture(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "p")
    Scoring(tmp_path / "p" / "i", tmp_path / "p")({"m1": tmp_path / "p" / "gen" / "m1"}, out=tmp_path / "o")
    write(tmp_path / "p" / "gen" / "m1" / "alpha" / "1.png", draw(5))
    done = report(tmp_path / "o", open_index(tmp_path / "p" / "i"), tmp_path / "s")
    path = str(tmp_path / "p/gen/m1/alpha/1.png")
    assert done.problems == {path: "the file has changed since it was scored"}


def test_thumbnails_show_the_pixels_that_were_scored(tmp_path: Path) -> None:
    upright = draw(5).resize((48, 96))
    turned = upright.getexif()
    turned[0x0112] = 6  # viewers turn it, the published scripts do not
    for path in (tmp_path / "refs" / "alpha" / "1.jpg", tmp_path / "gen" / "m" / "alpha" / "1.jpg"):
        path.parent.mkdir(parents=True)
        upright.save(path, exif=turned)
    for pixels, size in (("shown", (96, 48)), ("published", (48, 96)), ("shown", (96, 48))):
        index, out = tmp_path / f"{pixels}.index", tmp_path / pixels
        build_index(tmp_path / "refs", index, toy_encoders(), IndexOptions(pixels=pixels))
        Scoring(index, tmp_path)({"m": tmp_path / "gen" / "m"}, out=out)
        report(out, open_index(index), tmp_path / "site")
        (thumbnail,) = (tmp_path / "site" / "thumbs").glob("*/*")
        with Image.open(thumbnail) as made:
            assert made.size == size
        (part,) = {i["thumb"] for i in data(tmp_path, "concept_0")["images"]}
        assert part == thumbnail.stem


def test_files_that_were_moved_have_pictures(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha"], each=2)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    for k in range(3):
        write(tmp_path / "gen" / "m" / "alpha" / f"{k}.png", draw(5000 + k))
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"})
    (tmp_path / "refs").rename(tmp_path / "refs2")
    (tmp_path / "gen").rename(tmp_path / "gen2")
    made = ["report", tmp_path / "out", "--out", tmp_path / "site"]
    done = run(*made, code=3)
    assert "1 concept\n" in done.stdout and "3 images of" in done.stdout
    assert re.search(r"note: \d files are not there; say where they lie now with --gen NAME=DIR", done.stderr)
    done = run(*made, "--gen-root", tmp_path / "gen2", "--refs", tmp_path / "refs2")
    files = [*(tmp_path / "gen2").rglob("*.png"), *(tmp_path / "refs2").rglob("*.png")]
    wanted = {f"{hashlib.sha256(file.read_bytes()).hexdigest()}-shown" for file in files}
    assert done.stderr == "" and {p.stem for p in (tmp_path / "site" / "thumbs").glob("*/*.jpg")} == wanted
    shutil.rmtree(tmp_path / "site")
    (tmp_path / "gen2" / "m" / "alpha" / "0.png").write_bytes(b"damaged")
    done = run(*made, "--gen", f"m={tmp_path / 'gen2' / 'm'}", "--refs", tmp_path / "refs2", code=3)
    assert "0.png: the file has changed since it was scored" in done.stderr and "note:" not in done.stderr


def test_the_command(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("report", place / "out", "--out", tmp_path / "r", code=3)  # the index is known from the results
    assert "9 images of 2 concepts" in done.stdout and str(tmp_path / "r" / "index.html") in done.stdout
    assert "no picture" in done.stderr and "gone.png: cannot be read: No such file" in done.stderr
    some = ["report", place / "out", "--out", tmp_path / "r", "--index", place / "i", "--prompt-csv", place / "t.csv"]
    run(*some, "--calibration", place / "calibration.json", code=3)
    assert '"thresholds"' in (tmp_path / "r" / "data" / "overview.js").read_text()
    run(*some, code=3)
    assert '"thresholds"' not in (tmp_path / "r" / "data" / "overview.js").read_text()
    shutil.copytree(place / "out", tmp_path / "out")
    shutil.copy(place / "calibration.json", tmp_path / "out")  # where 'iconicity calibrate' leaves it
    run("report", tmp_path / "out", "--out", tmp_path / "r2", code=3)
    assert '"thresholds"' in (tmp_path / "r2" / "data" / "overview.js").read_text()
    monkeypatch.chdir(tmp_path)
    assert "report.html" in run("report", place / "out", "--single-file", code=3).stdout
    assert (tmp_path / "report.html").is_file()
    wrong = run("report", place / "out", "--single-file", "--out", tmp_path / "r", code=2)
    assert "--single-file writes a file" in wrong.stderr
    wrong = run("report", place / "out", "--prompt-csv", place / "t.csv", "--concept-col", "x", code=1)
    assert "--concept-col" in wrong.stderr
    assert "holds no scores" in run("report", tmp_path, code=1).stderr


# ---------------------------------------------------------------- in a browser


@pytest.fixture(params=["folder", "single file"])
def page(browser: Any, place: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A page that may load nothing but the report's own files, and say nothing.

    It opens at a concept: the overview's charts take the browser two seconds, in the tests that look at it.
    """
    address = (place / ("site/index.html" if request.param == "folder" else "one.html")).as_uri()
    own = (place / "site").as_uri() if request.param == "folder" else address
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    opened.on("console", lambda m: said.append(m.text))
    opened.on("pageerror", lambda e: said.append(str(e)))
    opened.on("dialog", lambda d: said.append(f"dialog {d.message}"))
    opened.on("request", lambda r: None if r.url.startswith((own, "data:", "blob:")) else said.append(r.url))
    opened.goto(f"{address}#/concept/alpha")
    opened.wait_for_selector(".card")
    yield opened
    opened.screenshot(path=tmp_path / "page.png")  # pytest keeps it a while, for whoever wants to look
    opened.close()
    assert said == []


def visit(page: Any, where: str, wait: str) -> None:
    page.goto(page.url.split("#")[0] + where)
    page.wait_for_selector(wait)


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page; Playwright's own waiting needs eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


def models_table(page: Any) -> list[dict[str, str]]:
    table = page.locator("table").first
    head = table.locator("th").all_inner_texts()
    rows = table.locator("tbody tr").all()
    return [dict(zip(head, row.locator("td").all_inner_texts(), strict=True)) for row in rows]


def test_the_pages_say_the_thresholds_that_decide(page: Any, place: Path) -> None:
    known = data(place, "overview")
    held = read_calibration(place / "calibration.json")
    visit(page, "#/", "table")
    for metric, reached in known["reached"].items():
        assert reached and all(tau == pytest.approx(held.taus(metric)[j], abs=1e-6) for j, tau in reached)
        said = re.search(rf" {metric.upper()} threshold: ([.0-9]+)", page.locator("p.decided").inner_text())
        assert said and float(said[1].rstrip(".")) == pytest.approx(reached[0][1], abs=6e-4)
        assert page.locator(f"#tau-{metric}").input_value() == f"{round(100 * known['start'][metric])}"
    page.evaluate("location.hash = '#/images'")
    page.locator(".card a.pic").first.click()
    page.wait_for_selector(".cell")
    words = page.locator("p.score").first.inner_text()
    for reached in known["reached"].values():
        pairs = [(int(j), float(t)) for t, j in re.findall(r"threshold ([.0-9]+) for (\d+) reference", words)]
        assert any(j == n and t == pytest.approx(tau, abs=6e-4) for j, tau in reached for n, t in pairs)


def test_sliders_change_the_table_to_the_numbers_of_the_summary(page: Any, place: Path) -> None:
    visit(page, "#/", "table")
    assert [r["thresholds"] for r in models_table(page)] == ["given"] * 3 + ["calibrated"] * 3
    page.evaluate(
        "for (const [id, v] of [['tau-cra', 30], ['tau-vr', 55]]) { const s = document.getElementById(id); s.value = v; s.dispatchEvent(new Event('input')); }"
    )
    until(page, "location.hash.includes('tau_vr=0.55')")
    until(page, "document.querySelectorAll('table')[0].rows.length === 4")
    there = summarise(open_study(place / "out", tau_cra=0.3, tau_vr=0.55)).table().set_index("model")

    def agree() -> None:
        rows = models_table(page)
        assert len(rows) == 3
        for cells in rows:
            r = there.loc[cells["model"]]
            assert [cells[k] for k in ("CRA", "VR", "VI", "CRT")] == [
                f"{r[k]:.3f}" for k in ("cra", "vr_all", "vi_all", "crt")
            ]

    agree()
    page.reload()  # a link shows the same
    page.wait_for_selector("table")
    agree()
    page.get_by_role("button", name="The thresholds that decide").click()
    until(page, "document.querySelectorAll('table')[0].rows.length === 7")
    page.locator("#nulls .js-plotly-plot").nth(1).wait_for()


def test_pointing_at_a_patch_outlines_its_match(page: Any, place: Path) -> None:
    study = open_study(place / "out", ["p_ref_id", "p_ref_cell"])
    c = study.concepts.index("alpha")
    part = data(place, f"concept_{c}")
    k = next(k for k, i in enumerate(part["images"]) if i["file"] == "alpha/1.png")
    found = data(place, f"evidence_{c}_0")[k]
    visit(page, "#/image/m1/alpha%2F1.png", ".cell")
    assert page.locator(".cell.reused").count() == sum(found["reused"]) in range(4, 13)
    assert f"{sum(found['reused'])} of 16 patches are reused (VR (calibrated) " in page.locator("main").inner_text()
    for i in (0, 3, 14):
        page.locator(".cell").nth(i).hover()
        assert page.locator(".target").get_attribute("data-cell") == str(found["cell"][i])
        caption = page.locator("figcaption").nth(1).inner_text()
        assert part["references"][found["ref"][i]]["file"] in caption and f"{found['p'][i]:.3f}" in caption
        assert f"Patch {i} (row {i // 4 + 1}, column {i % 4 + 1})" in caption
    plate = shlex.split(page.locator("main code").inner_text())
    assert plate[plate.index("--image") + 1] == "m1/alpha/1.png"
    page.locator(".cell").nth(5).focus()  # by keyboard too
    page.keyboard.press("ArrowRight")
    assert page.locator(".target").get_attribute("data-cell") == str(found["cell"][6])
    page.keyboard.press("ArrowDown")
    assert page.locator(".target").get_attribute("data-cell") == str(found["cell"][10])
    assert page.locator(".link line").count() == 2
    page.keyboard.press("n")
    until(page, "!document.querySelector('h1').textContent.endsWith('/1.png')")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog').open && document.activeElement === document.body")
    page.keyboard.press("u")
    until(page, "location.hash.startsWith('#/concept/alpha')")


def test_overlapping_cells_are_outlined_where_they_lie(browser: Any, tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha"], each=1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), IndexOptions(reference_cells="overlapping"))
    moved = draw(70_000)
    moved.paste(draw(0).crop((24, 18, 40, 30)), (0, 0))  # what stands at row 3, column 3 of the half steps
    write(tmp_path / "gen" / "m" / "alpha" / "x.png", moved)
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"}, ScoreOptions(tau_vr=0.95))
    report(tmp_path / "out", open_index(tmp_path / "i"), tmp_path / "one.html", ReportOptions(single_file=True))
    page = browser.new_page()
    page.goto(f"{(tmp_path / 'one.html').as_uri()}#/image/m/alpha%2Fx.png")
    page.wait_for_selector(".cell")
    page.locator(".cell").nth(0).hover()
    target = page.locator(".target")
    assert target.get_attribute("data-cell") == str(3 * 7 + 3)
    style = target.get_attribute("style")
    assert [float(v) for v in re.findall(r"([\d.]+)%", style)] == [37.5, 37.5, 25.0, 25.0]
    assert (
        "Patch 0 (row 1, column 1) matches its cell 24 (row 2.5, column 2.5)"
        in page.locator("figcaption").nth(1).inner_text()
    )
    page.close()


def test_lists_filters_links_and_hostile_names(page: Any, place: Path) -> None:
    visit(page, "#/concept/alpha", ".gallery:not(.references) .card")
    assert HOSTILE in page.locator("h1").inner_text()
    assert page.locator("main script, main img[src=x]").count() == 0
    cards = page.locator(".gallery:not(.references) .card")
    assert cards.count() == 6
    page.locator("#show").select_option("recognised")
    until(page, "document.querySelectorAll('.gallery:not(.references) .card').length < 6")
    recognised = cards.count()
    visit(page, "#/concept/none", "h1")
    until(page, "document.querySelector('h1').textContent === 'No such concept'")
    visit(page, "#/images?show=recognised&least=0.5&sort=crt", ".card")
    listing = data(place, "images")
    wanted = [i for i, v in enumerate(listing["vr"]) if listing["recognised"][i] and v >= 0.5]
    assert cards.count() == len(wanted) and recognised > 0
    order = page.locator(".gallery .card .score:has-text('VR')").all_inner_texts()
    vr = [float(t.split("VR (calibrated) ")[1]) for t in order]
    assert vr == sorted(vr)  # CRT of a recognised image is 1 - VR
    page.locator(".gallery .card a.pic").first.click()
    page.wait_for_selector(".cell")
    assert f"1 of {len(wanted)}" in page.locator("main").inner_text()  # 'next' goes on in the list
    page.keyboard.press("u")
    until(page, "location.hash.includes('show=recognised') && location.hash.includes('sort=crt')")
    visit(page, "#/", "#text")
    page.locator("#text").fill("bet")
    assert page.locator("table").nth(1).locator("tbody tr").count() == 3
    page.locator("table").nth(1).locator("th button").nth(1).click()
    assert page.locator("table").nth(1).locator("th[aria-sort]").inner_text() == "model"


def test_labels_are_kept_and_downloads_hold_no_formula(page: Any) -> None:
    visit(page, f"#/concept/{quote(BETA, safe='')}", ".card select")
    assert page.locator("h1").inner_text().startswith("beta <b onclick")
    page.locator("#rater").fill("=1+1")
    page.locator("#rater").press("Tab")
    until(page, "document.querySelectorAll('.card select').length === 3")
    page.locator(".card select").first.select_option("replica")
    with page.expect_download() as got:
        page.get_by_text("Download labels").click()
    text = Path(got.value.path()).read_text(encoding="utf-8")
    assert text.startswith("\ufeffpath,concept,label,rater,model\n")  # Excel needs the mark
    assert ",replica,'=1+1" in text and ",=1" not in text
    page.reload()
    page.wait_for_selector(".card select")
    assert page.locator(".card select").first.input_value() == "replica"
    page.locator("#rater").fill("another")  # a rater does not see another's labels
    page.locator("#rater").press("Tab")
    until(page, "document.querySelector('.card select').value === ''")
    with page.expect_download() as got:
        page.get_by_text("Download this list").click()
    lines = Path(got.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "model,concept,file,cra_sim,recognised,vr,crt,nearer_to_another" and len(lines) == 4


def test_labels_of_people_are_shown_unless_scores_are_hidden(browser: Any, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "out", tmp_path / "results")
    rows = [f"m1/alpha/0.png,alpha,replica,{HOSTILE}", "m1/alpha/0.png,alpha,other,b", "m1/alpha/1.png,alpha,other,b"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,concept,label,rater", *rows, ""]))
    run("report", tmp_path / "results", "--out", tmp_path / "site", code=3)
    opened = browser.new_page()
    opened.goto((tmp_path / "site" / "index.html").as_uri())
    opened.wait_for_selector("table")
    text = opened.locator("main").inner_text()
    assert "Scores against labels" in text and "not decidable here: 0 concepts have both labels" in text
    visit(opened, "#/image/m1/alpha%2F0.png", ".evidence")
    assert f"labelled replica by {HOSTILE}, other by b" in opened.locator("main").inner_text()
    opened.locator("#blind").check()
    until(opened, "!document.body.innerText.includes('labelled')")
    (tmp_path / "labels.csv").write_text("path,concept,label\nnobody/alpha/0.png,alpha,copy\n")
    assert (
        "labels are not shown: none of the 1 label counts"
        in run("report", tmp_path / "results", "--out", tmp_path / "site", code=3).stderr
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, place: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    for where, wait in (
        ("#/", "table"), ("#/images", ".card"), ("#/concept/alpha", ".card"), ("#/image/m1/alpha%2F1.png", ".cell"),
    ):  # fmt: skip
        opened.goto((place / "site" / "index.html").as_uri() + where)
        opened.wait_for_selector(wait)
        opened.wait_for_timeout(300)
        found = axe.run(opened).response["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]][:2]) for v in found] == []
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert opened.evaluate(wide), f"{where} is wider than a phone"
    opened.close()
