"""The report: what its data say, that names stay data, and how a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run import run
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.index import open_index
from iconicity.scorer.findings.study import open_study
from iconicity.scorer.findings.summary import summarise
from iconicity.scorer.report.build import read_titles, report

HOSTILE = "<script>alert(1)</script>"
ODD = "../x\"'&=1+1\u202e" + "n" * 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models' images of alpha and beta; a model and a file with hostile names; a file that is gone."""
    root = tmp_path_factory.mktemp("report")
    make_refs(root / "refs", ["alpha", "beta"], each=2)
    build_index(root / "refs", root / "i", toy_encoders())
    for name in ("m1", "m2"):
        write(root / "gen" / name / "alpha" / "0.png", draw(0))
        write(root / "gen" / name / "beta" / "0.png", draw(100 if name == "m1" else 60_000))
    mixed = draw(0)
    mixed.paste(draw(70_000).crop((0, 0, 32, 48)), (0, 0))  # the left half is new
    write(root / "gen" / "m1" / "alpha" / "1.png", mixed)
    write(root / "gen" / "m1" / "alpha" / "<img src=x onerror=alert(1)>.png", draw(70_001))
    write(root / "gen" / "m1" / "alpha" / "gone.png", draw(70_002))
    Scoring(root / "i", root)(
        {HOSTILE: root / "gen" / "m2", ODD: root / "gen" / "m2", "m1": root / "gen" / "m1"}, scope="all", tau_vr=0.9
    )
    (root / "gen" / "m1" / "alpha" / "gone.png").unlink()
    (root / "t.csv").write_text(f"label_clean,title,artist,year\nalpha,{HOSTILE},=1+1,1889\n")
    report(root / "out", open_index(root / "i"), root / "site", titles=read_titles(root / "t.csv", "label_clean"))
    return root


def data(place: Path, name: str) -> Any:
    text = (place / "site" / "data" / f"{name}.js").read_text()
    found = re.fullmatch(r'ICONICITY\.received\("(\w+)",(.*)\);\n', text)
    assert found and found[1] == name and not re.search("[<>&]", text)
    return json.loads(found[2])


def test_overview_has_the_numbers_of_the_summary(place: Path) -> None:
    study = open_study(place / "out")
    overview = data(place, "overview")
    for m, r in zip(overview["models"], summarise(study).table().to_dict("records"), strict=True):
        assert m["name"] == r["model"]
        for name in ("cra", "vr_all", "crt"):
            assert m[name][:3] == [
                None if np.isnan(r[k]) else pytest.approx(r[k], abs=1e-6) for k in (name, f"{name}_low", f"{name}_high")
            ]
    for tau_cra, tau_vr in ((0.3, 0.5), (0.75, 0.9), (1.0, 1.0)):
        there = summarise(open_study(place / "out", tau_cra=tau_cra, tau_vr=tau_vr)).table().set_index("model")
        for name, s in overview["sweeps"].items():
            a, v = round(tau_cra * 100), round(tau_vr * 100)
            assert [s["cra"][a], s["vr_all"][v], s["crt"][a][v]] == pytest.approx(
                there.loc[name, ["cra", "vr_all", "crt"]].tolist(), abs=1e-6
            )


def test_parts_have_the_evidence(place: Path) -> None:
    study = open_study(place / "out", ["p_ref_id", "p_ref_cell"])
    c = study.concepts.index("alpha")
    part = data(place, f"concept_{c}")
    rows = study.table.to_pylist()
    by_key = {(study.models[study.model[i]], r["gen_relpath"]): (i, r) for i, r in enumerate(rows)}
    models = [m["name"] for m in data(place, "overview")["models"]]
    assert len(part["images"]) == 6 and part["title"] == HOSTILE
    for image in part["images"]:
        i, row = by_key[models[image["model"]], image["file"]]
        assert image["p"] == pytest.approx(row["p"], abs=1e-6) and image["cell"] == row["p_ref_cell"]
        assert [f"alpha/{part['references'][k]['file']}" for k in image["ref"]] == row["p_ref_id"]
        assert image["reused"] == (study.p[i] >= np.float32(0.9)).tolist()
        assert (image["thumb"] is None) == image["file"].endswith("gone.png")
        if image["thumb"]:
            assert (place / "site" / "thumbs" / image["thumb"][:2] / f"{image['thumb']}.jpg").is_file()
        else:
            assert "cannot be read" in image["problem"]
    dropped = [r for r in part["references"] if not r["kept"]]
    assert dropped and part["references"][dropped[0]["dup_of"]]["kept"]


def test_nothing_lies_outside_and_all_is_made_again_alike(place: Path, tmp_path: Path) -> None:
    names = {p.relative_to(place / "site").as_posix() for p in (place / "site").rglob("*") if p.is_file()}
    assert all(re.fullmatch(r"[a-z_.-]+|data/\w+\.js|thumbs/[0-9a-f]{2}/[0-9a-f]{64}\.jpg", n) for n in names), names
    before = {n: (place / "site" / n).stat().st_mtime_ns for n in names if n.startswith("thumbs/")}
    report(place / "out", open_index(place / "i"), place / "site", titles=read_titles(place / "t.csv", "label_clean"))
    assert before == {n: (place / "site" / n).stat().st_mtime_ns for n in before}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="holds something that is no report"):
        report(place / "out", open_index(place / "i"), tmp_path / "full")
    build_index(place / "refs", tmp_path / "j", toy_encoders(clip_seed=9))
    with pytest.raises(SettingsError, match="name that one with --index"):
        report(place / "out", open_index(tmp_path / "j"), tmp_path / "new")


def test_a_file_that_changed_since_has_no_picture(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "p")
    Scoring(tmp_path / "p" / "i", tmp_path / "p")({"m1": tmp_path / "p" / "gen" / "m1"}, out=tmp_path / "o")
    write(tmp_path / "p" / "gen" / "m1" / "alpha" / "1.png", draw(5))
    done = report(tmp_path / "o", open_index(tmp_path / "p" / "i"), tmp_path / "s")
    assert list(done.problems.values()) == ["the file has changed since it was scored"]


def test_the_command(place: Path, tmp_path: Path) -> None:
    done = run("report", place / "out", "--out", tmp_path / "r", code=3)  # the index is known from the results
    assert "9 images of 2 concepts" in done.stdout and str(tmp_path / "r" / "index.html") in done.stdout
    assert "no picture" in done.stderr and "No such file" in done.stderr
    run(
        "report",
        place / "out",
        "--out",
        tmp_path / "r",
        "--index",
        place / "i",
        "--prompt-csv",
        place / "t.csv",
        code=3,
    )
    assert (
        "--concept-col"
        in run("report", place / "out", "--prompt-csv", place / "t.csv", "--concept-col", "x", code=1).stderr
    )
    assert "holds no scores" in run("report", tmp_path, code=1).stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with api.sync_playwright() as p:
        running = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, place: Path) -> Iterator[Any]:
    """A page that may load nothing but the report's own files, and say nothing."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    opened.on("console", lambda m: said.append(m.text))
    opened.on("pageerror", lambda e: said.append(str(e)))
    opened.on("dialog", lambda d: said.append(f"dialog {d.message}"))
    opened.on("request", lambda r: None if r.url.startswith((place / "site").as_uri()) else said.append(r.url))
    opened.goto((place / "site" / "index.html").as_uri())
    opened.wait_for_selector("table")
    yield opened
    opened.close()
    assert said == []


def test_sliders_change_the_table_to_the_numbers_of_the_summary(page: Any, place: Path) -> None:
    page.evaluate(
        "for (const [id, v] of [['tau-cra', 30], ['tau-vr', 55]]) { const s = document.getElementById(id); s.value = v; s.dispatchEvent(new Event('input')); }"
    )
    there = summarise(open_study(place / "out", tau_cra=0.3, tau_vr=0.55)).table().set_index("model")
    rows = page.locator("table").first.locator("tbody tr")
    head = page.locator("table").first.locator("th").all_inner_texts()
    assert rows.count() == 3
    for i in range(3):
        cells = dict(zip(head, rows.nth(i).locator("td").all_inner_texts(), strict=True))
        r = there.loc[cells["model"]]
        assert [cells[k] for k in ("CRA", "VR all", "VI all", "CRT")] == [
            f"{r[k]:.3f}" for k in ("cra", "vr_all", "vi_all", "crt")
        ]


def test_pointing_at_a_patch_outlines_its_match(page: Any, place: Path) -> None:
    study = open_study(place / "out", ["p_ref_id", "p_ref_cell"])
    part = data(place, f"concept_{study.concepts.index('alpha')}")
    image = next(i for i in part["images"] if i["file"] == "alpha/1.png")
    page.goto(page.url.split("#")[0] + "#/image/m1/alpha%2F1.png")
    page.wait_for_selector(".cell")
    assert page.locator(".cell.reused").count() == sum(image["reused"]) in range(4, 13)
    for k in (0, 3, 14):
        page.locator(".cell").nth(k).hover()
        assert page.locator(".target").get_attribute("data-cell") == str(image["cell"][k])
        caption = page.locator("figcaption").nth(1).inner_text()
        assert part["references"][image["ref"][k]]["file"] in caption and f"{image['p'][k]:.3f}" in caption
    page.locator(".cell").nth(5).focus()  # by keyboard too
    assert page.locator(".target").get_attribute("data-cell") == str(image["cell"][5])
    page.keyboard.press("n")
    page.wait_for_function("!location.hash.includes('1.png')")


def test_filters_links_and_hostile_names(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#/concept/alpha")
    page.wait_for_selector(".gallery .card")
    assert HOSTILE in page.locator("h1").inner_text()
    assert page.locator("main script, main img[src=x]").count() == 0
    images = page.locator(".gallery").nth(1).locator(".card")
    assert images.count() == 6
    page.locator("#what").select_option("rec")
    assert 0 < images.count() < 6
    page.goto(page.url.split("#")[0] + "#/concept/none")
    page.wait_for_function("document.querySelector('h1').textContent === 'No such concept'")
    page.goto(page.url.split("#")[0] + "#/")
    page.wait_for_selector("#text")
    page.locator("#text").fill("bet")
    assert page.locator("table").nth(1).locator("tbody tr").count() == 3


def test_labels_are_kept_and_downloads_hold_no_formula(page: Any, place: Path) -> None:
    page.goto(page.url.split("#")[0] + "#/concept/beta")
    page.wait_for_selector(".gallery .card select")
    page.locator(".card select").first.select_option("replica")
    page.locator("#rater").fill("=1+1")
    with page.expect_download() as got:
        page.get_by_text("Download labels").click()
    text = Path(got.value.path()).read_text()
    assert text.startswith("path,concept,label,rater\n") and "replica" in text and "'=1+1" in text and ",=1" not in text
    page.reload()
    page.wait_for_selector(".card select")
    assert page.locator(".card select").first.input_value() == "replica"
