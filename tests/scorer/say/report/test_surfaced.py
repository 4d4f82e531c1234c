"""The page of what surfaced though not named: its numbers are those of ``attribute``, and a browser shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.attribute import COLUMNS, attribute
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.say.report.build import report
from iconicity.scorer.say.report.options import ReportOptions

BETA = "beta_<b_onclick=alert(1)>\"'&%2f=;"  # a concept: a folder's name
EACH = 14  # copies of beta's picture: more than a page shows at first


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neutral images of two models: copies of beta's picture, one of gamma's, one of nothing; beside one of alpha."""
    root = tmp_path_factory.mktemp("surfaced")
    make_refs(root / "refs", ["alpha", BETA, "gamma"], each=2)
    build_index(root / "refs", root / "i", toy_encoders())
    for k in range(EACH):
        copy = draw(100)
        copy.putpixel((k, 0), (255, 0, 0))
        write(root / "gen" / "m" / "neutral" / f"{k:02d}.png", copy)
    write(root / "gen" / "m" / "neutral" / "gamma.png", draw(200))
    write(root / "gen" / "n" / "neutral" / "beta.png", draw(100))
    write(root / "gen" / "n" / "neutral" / "new.png", draw(77_000))
    write(root / "gen" / "n" / "alpha" / "0.png", draw(0))
    models = {m: root / "gen" / m for m in ("m", "n")}
    Scoring(root / "i", root)(models, ScoreOptions(scope="all", tau_cra=0.95))
    Scoring(root / "i", root)(models, out=root / "own")
    index = open_index(root / "i")
    titles = {BETA: {"title": "<i>Beta"}}
    report(root / "out", index, root / "site", ReportOptions(titles=titles, draws=200))
    report(root / "out", index, root / "one.html", ReportOptions(single_file=True, titles=titles, draws=200))
    report(root / "own", index, root / "none", ReportOptions(draws=200))
    return root


def data(place: Path, name: str, site: str = "site") -> Any:
    found = re.fullmatch(r'ICONICITY\.received\("\w+",(.*)\);\n', (place / site / "data" / f"{name}.js").read_text())
    assert found and not re.search("[<>&]", found[1])
    return json.loads(found[1])


def test_the_part_has_the_numbers_of_attribute(place: Path) -> None:
    finding = attribute(open_study(place / "out", COLUMNS), open_index(place / "i"), draws=200)
    table, images = finding.table("references"), finding.table("images")
    part, overview, listing = data(place, "surfaced"), data(place, "overview"), data(place, "images")
    assert overview["surfaced"] == len(part["references"]) == table.reference.nunique() == 2
    beta, gamma = part["references"]
    assert (beta["called"], gamma["called"], beta["concept"]) == ("<i>Beta", "gamma", BETA)
    for r in part["references"]:
        ref_id = f"{r['concept']}/{r['file']}"
        mine = table[table.reference == ref_id].to_dict("records")
        assert [(m["model"], m["images"], m["surfaced"]) for m in r["models"]] == [
            (t["model"], t["images"], t["surfaced"]) for t in mine
        ]
        assert [m["share"] for m in r["models"]] == pytest.approx([t["share"] for t in mine], abs=1e-6)
        assert all(m["threshold"] == 0.95 for m in r["models"])
        hits = images[images.unprompted & (images.other_ref_id == ref_id)]
        assert sorted((overview["models"][i["model"]]["name"], i["file"]) for i in r["images"]) == sorted(
            zip(hits.model, hits.gen_relpath, strict=True)
        )
        similarity = [i["surfaced"] for i in r["images"]]
        assert similarity == sorted(similarity, reverse=True)
        for i in r["images"]:  # the place is that in the concept's part
            found = data(place, f"concept_{i['c']}")["images"][i["k"]]
            assert (found["model"], found["file"]) == (i["model"], i["file"]) and found["thumb"]
        assert r["thumb"] and not r["problem"]
    assert len(listing["concept"]) == EACH + 4
    assert not np.isnan(similarity).any()


def test_nothing_of_it_where_only_own_concepts_were_compared(place: Path) -> None:
    assert data(place, "overview", "none")["surfaced"] == 0
    assert not (place / "none" / "data" / "surfaced.js").exists()


@pytest.mark.parametrize("file", ["site/index.html", "one.html"])
def test_a_browser_shows_it(browser: Any, place: Path, file: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    faults: list[str] = []
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("dialog", lambda d: faults.append("dialog"))
    page.goto((place / file).as_uri())
    page.wait_for_selector("table")
    page.click("#surfaced")
    page.wait_for_selector("section .card a.pic")
    assert page.inner_text("h1") == "Surfaced though not named"
    assert page.locator("section h2").all_inner_texts() == [f"<i>Beta ({EACH + 1})", "gamma (1)"]
    assert page.locator("section").first.locator("ul .card").count() == 12
    assert page.locator("section figure img").count() == 2
    page.locator("section").first.get_by_text(f"Show all {EACH + 1}").click()
    page.wait_for_function(f"document.querySelectorAll('section:first-of-type ul .card').length === {EACH + 1}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert faults == []
    assert [v["id"] for v in axe.run(page).response["violations"]] == []
    faults.clear()  # axe asks for the style, and is refused
    page.locator("section").last.locator("a.pic").click()
    page.wait_for_selector("button:has-text('Next image')")
    assert page.inner_text("h1") == "m: neutral/gamma.png" and "The index has no references" in page.inner_text("main")
    page.keyboard.press("u")
    page.wait_for_selector("section .card")
    page.check("#blind")
    page.wait_for_function("document.querySelector('h1').innerText === 'Scores are hidden'")
    assert not page.is_visible("#surfaced") and faults == []
    page.close()


def test_the_link_is_hidden_where_nothing_surfaced(browser: Any, place: Path) -> None:
    page = browser.new_page()
    page.goto((place / "none" / "index.html").as_uri() + "#/surfaced")
    page.wait_for_selector("h1")
    assert not page.is_visible("#surfaced") and "Nothing did" in page.inner_text("main")
    page.close()
