"""The app in a browser: a whole study from two folders to a saved label, with a stop and a restart in the middle."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from app_server import Client, serving
from toys import draw, make_gen, make_refs, write

HOSTILE = "<img src=x onerror=alert(1)>\n\"'&"
Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens pages that may ask nothing of anybody else, and say nothing."""
    said: list[str] = []

    def watch(page: Any, own: str) -> Any:
        page.on("console", lambda m: None if "status of 400" in m.text else said.append(m.text))  # told on the page
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("dialog", lambda d: said.append(f"dialog {d.message}"))
        page.on("request", lambda r: None if r.url.startswith((own, "data:", "blob:")) else said.append(r.url))
        page.set_default_timeout(60_000)
        return page

    with ExitStack() as contexts:

        def open_(client: Client, **how: Any) -> Any:
            context = contexts.enter_context(browser.new_context(**how))
            page = watch(context.new_page(), f"http://{client.host}/")
            context.on("page", lambda p: watch(p, f"http://{client.host}/"))
            page.goto(client.app.address)
            page.wait_for_url(f"http://{client.host}/")  # without the token
            page.wait_for_selector("#encoders input")
            return page

        yield open_
    assert said == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page; Playwright's own waiting needs eval, which the page's policy forbids."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_a_whole_study(opened: Open, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, gen, folder = make_refs(tmp_path / "refs"), make_gen(tmp_path / "gen" / "m1"), tmp_path / "study"
    shutil.copytree(refs / "beta", refs / HOSTILE)
    for k in (7, 8):
        write(gen / HOSTILE / f"{k}.png", draw(100 * k))
    write(gen / "gama" / "1.png", draw(1))
    monkeypatch.setenv("SLOW", "0.05")
    with serving(folder) as client:
        page = opened(client)
        page.locator("#gen input[type=file]").set_input_files(gen.parent)  # copied into the study
        until(page, "document.querySelector('#gen input').value.endsWith('/given/gen/gen')")
        assert (
            "10 of 12 files copied into the study; 2 left out, first: " in page.locator("#gen").inner_text()
        )  # HOSTILE
        page.locator("#gen input[type=text]").fill(str(gen.parent))
        page.locator("#refs .browse").click()
        page.locator("#below button, #below .soft").first.wait_for()
        page.locator("#close").click()
        page.locator("#refs input[type=text]").fill(str(tmp_path / "none"))
        page.locator("input[value=offline]").check()
        page.locator("#check").click()
        until(page, "document.getElementById('fault').textContent.includes('none: no such folder')")
        page.locator("#refs input[type=text]").fill(str(refs))
        page.locator("#check").click()
        page.get_by_text("(is it 'gamma'?)").wait_for()
        assert "m1\t11\t4" in page.locator("#models").inner_text() and page.locator("main img").count() == 0
        page.locator("#start").click()
        other = page.context.new_page()  # a second page sees the same, and stops the run
        other.goto(f"http://{client.host}/")
        until(other, "/Step \\d of 3, .*: \\d+ of \\d+/.test(document.getElementById('step').textContent)")
        other.locator("#stop").click()
        for one in (page, other):
            one.locator("#said").get_by_text("What is finished stays").wait_for()
            assert one.locator("#start").inner_text() == "Go on"
        page.context.close()
    assert not (folder / "report").exists()
    monkeypatch.setenv("SLOW", "0")
    with serving(folder) as client:  # the program was started again: another address, the same study
        page = opened(client, viewport={"width": 360, "height": 740})
        assert page.locator("#refs input[type=text]").input_value() == str(refs)
        page.locator("#start").click()
        page.locator("#said").get_by_text("What to look at first").wait_for()
        page.locator("#said a").focus()
        page.wait_for_timeout(2500)  # what did not change stays as it is, with the focus
        assert page.evaluate("document.activeElement.matches('#said a')")
        page.keyboard.press("Enter")  # to the image that the sentence names
        page.wait_for_selector(".cell")
        page.goto(f"http://{client.host}/report/?hidden#/images")
        page.wait_for_selector(".card select")
        assert page.locator("#blind").is_checked() and page.locator(".score").count() == 0
        page.get_by_label("Label of m1/alpha/00.png").select_option("replica")
        other = page.context.new_page()
        other.goto(page.url)
        other.wait_for_selector(".card select")
        assert other.get_by_label("Label of m1/alpha/00.png").input_value() == "replica"
        other.get_by_label("Label of m1/alpha/01.png").select_option("unrelated")
        until(other, "fetch('/labels').then(r => r.json()).then(l => l.labels.length === 2)")
        assert [(r["path"], r["label"], r["rater"]) for r in rows(folder / "labels.csv")] == [
            ("m1/alpha/00.png", "replica", "me"), ("m1/alpha/01.png", "unrelated", "me"),
        ]  # fmt: skip
        page.get_by_text("Your study").click()
        page.get_by_text("2 labels saved").wait_for()
        page.locator("#made-labels button").click()
        page.locator("#made-labels .notes").get_by_text("2 labelled images of 1 concept").wait_for()
        assert (folder / "tables" / "labels.csv").is_file()
        look_for_faults(browser, client)
        odd = tmp_path / "ä ö#?%20.png"  # all that means something in an address
        shutil.copy(gen / "beta" / "00.png", odd)
        page.locator("#picture input").set_input_files(odd)
        page.wait_for_url("**/searched/*.html")
        assert "beta: 1.000" in page.locator("main").inner_text()
        page.get_by_text("Your study").click()
        page.wait_for_selector("#searched a")


def look_for_faults(browser: Any, client: Client) -> None:
    """Each page with axe, on a phone's width."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        page.goto(client.app.address)
        page.wait_for_selector("#made .made")
        for where, wait in (("/", "#made .made"), ("/report/#/images", ".card")):
            page.goto(f"http://{client.host}{where}")
            page.wait_for_selector(wait)
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            found = axe.run(page).response["violations"]
            assert [(v["id"], [n["html"] for n in v["nodes"]][:2]) for v in found] == []
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.close()
