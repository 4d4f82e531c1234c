"""With the scores hidden the pages of two reports that differ in their scores alone are the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.naming import ImageNames
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.results import require_results, writing_scores
from iconicity.scorer.say.report.build import report
from iconicity.scorer.validate.labelled import match, read_labels
from iconicity.scorer.validate.words import COPIED, NOT_COPIED

EACH = 4
# every kind of page, and addresses that were left from a choice by scores
PAGES = (
    "#/", "#/?tau_cra=0.10&tau_vr=0.90", "#/images", "#/images?show=replica&sort=vr&least=0.5", "#/concept/alpha",
    "#/concept/alpha?show=recognised&sort=crt", "#/image/m/alpha%2F0.png", "#/image/n/beta%2F3.png",
    "#/surfaced",
)  # fmt: skip


def other_scores(results: Path, out: Path, seed: int) -> None:
    """The same results with all that was measured drawn at random."""
    shutil.copytree(results, out)
    held, rng = require_results(out), np.random.default_rng(seed)
    rows = [row for model in held.models for row in held.rows(model)]
    for row in rows:
        refs = ["00.png", "01.png", "02.png"]
        row["cra_sim"], row["cra_ref_id"] = (
            float(np.float32(rng.uniform(0.5, 1))),
            f"{row['concept']}/{rng.choice(refs)}",
        )
        row["p"] = rng.uniform(0.3, 1, 16).astype(np.float32).tolist()
        row["p_ref_id"] = [f"{row['concept']}/{r}" for r in rng.choice(refs, 16)]
        row["p_ref_cell"] = rng.integers(0, 16, 16).tolist()
        row["own_rank"], row["other_sim"] = int(rng.integers(1, 3)), float(np.float32(rng.uniform(0.5, 1)))
    with writing_scores(held.path, held.mode, held.settings, held.tau) as writer:
        for row in rows:
            writer.write(row)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blind")
    make_refs(root / "refs", ["alpha", "beta"], each=3)
    build_index(root / "refs", root / "i", toy_encoders())
    for m, name in enumerate(("m", "n")):
        for concept in ("alpha", "beta"):
            for k in range(EACH):
                write(root / "gen" / name / concept / f"{k}.png", draw(1000 * m + 100 * k + len(concept)))
    Scoring(root / "i", root)({n: root / "gen" / n for n in ("m", "n")}, ScoreOptions(scope="all"))
    for k in (0, 1):
        other_scores(root / "out", root / str(k) / "out", k)
        report(root / str(k) / "out", open_index(root / "i"), root / f"site{k}")
    return root


def opened(browser: Any, place: Path, k: int) -> Any:
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    page.goto(f"{(place / f'site{k}' / 'index.html').as_uri()}#/images")  # no charts: they take two seconds
    page.wait_for_selector(".card")
    return page


def settled(page: Any) -> dict[str, Any]:
    """All that a page shows, says to a screen reader, links to, or has in its address."""
    page.wait_for_timeout(300)
    found: dict[str, Any] = page.evaluate(
        "({ title: document.title, hash: location.hash, body: document.body.outerHTML, text: document.body.innerText })"
    )
    return found


def seen(browser: Any, place: Path, k: int, blind: bool) -> list[Any]:
    page = opened(browser, place, k)
    page.locator("#blind").set_checked(blind)
    out: list[Any] = []
    for where in PAGES:
        page.goto(page.url.split("#")[0] + where)
        if blind:
            page.reload()  # hidden stays hidden
        page.wait_for_selector("h1")
        out.append(settled(page))
    page.goto(page.url.split("#")[0] + "#/images")
    page.wait_for_selector(".card")
    page.locator(".card a.pic").first.click()
    page.wait_for_selector(".evidence")
    for key in "nnnpu":
        page.keyboard.press(key)
        out.append(settled(page))
    with page.expect_download() as got:
        page.get_by_text("Download this list").click()
    out.append(Path(got.value.path()).read_text(encoding="utf-8-sig"))
    page.context.close()
    return out


def test_hidden_scores_change_nothing_that_can_be_seen(browser: Any, place: Path) -> None:
    first, second = (seen(browser, place, k, blind=True) for k in (0, 1))
    for one, other in zip(first, second, strict=True):
        assert one == other
    assert first[-1].startswith("model,concept,file\n") and len(first[-1].splitlines()) == 1 + 4 * EACH
    hashes = [s["hash"] for s in first[: len(PAGES)]]
    assert hashes[1] == "#/" and hashes[3] == "#/images" and hashes[5] == "#/concept/alpha"
    for page in first[:-1]:
        assert "cosine" not in page["body"] and "recognised" not in page["text"] and 'class="cell' not in page["body"]
    shown = [seen(browser, place, k, blind=False) for k in (0, 1)]
    assert all(one != other for one, other in zip(*shown, strict=True))  # the two reports do differ


def test_each_rater_has_an_order_and_labels_find_their_images(browser: Any, place: Path) -> None:
    page = opened(browser, place, 0)
    page.locator("#blind").check()
    page.goto(page.url.split("#")[0] + "#/images")
    page.wait_for_selector(".card")
    files = "[...document.querySelectorAll('.card select')].map(n => n.getAttribute('aria-label'))"
    orders = []
    for rater in ("Jörg", "ann"):
        page.locator("#rater").fill(rater)
        page.locator("#rater").press("Tab")
        page.wait_for_timeout(300)
        orders.append(page.evaluate(files))
        for k, word in enumerate(("replica", "unrelated")):
            page.locator(".card select").nth(k).select_option(word)
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) != orders[0]
    other = page.context.new_page()  # a tab beside it
    other.goto(page.url.split("#")[0] + "#/image/m/alpha%2F0.png")
    other.wait_for_selector(".evidence")
    assert other.locator(".cell").count() == 0 and other.locator(".references .card").count() == 4
    other.locator("#blind").uncheck()
    other.wait_for_selector(".cell")
    page.wait_for_selector("#sort")  # shown here too
    with page.expect_download() as got:
        page.get_by_text("Download labels").click()
    data = Path(got.value.path()).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") and "Jörg".encode() in data
    labels, study = read_labels(Path(got.value.path())), open_study(place / "0" / "out", ["gen_path"])
    found = match(study, labels, COPIED, NOT_COPIED)
    assert sum(len(v) for v in found.votes.values()) == 4 and len(found.notes) == 1
    names = ImageNames(study)
    assert {f"Label of {v.path}" for v in labels} == {*orders[0][:2], *orders[1][:2]}
    assert all(len(names.find(v.path, v.model)) == 1 for v in labels)
    page.context.close()
