"""Opens every page of a built site in Chromium, from the disk: no page may ask for anything from elsewhere, or have an error.

    python docs/site/check.py SITE

Also searches for a word, follows the first hit, and looks at the pages on a phone's width.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright


def problems(page: Page, site: Path) -> list[str]:
    found: list[str] = []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else found.append(f"asks for {r.url}"))
    page.on("requestfailed", lambda r: found.append(f"cannot load {r.url}"))
    page.on("console", lambda m: found.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    pages = sorted(site.glob("*.html"))
    for html in pages:
        before = len(found)
        page.goto(html.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append("is wider than a phone's screen")
        found[before:] = [f"{html.name} {problem}" for problem in found[before:]]
    page.goto((site / "search.html").as_uri() + "?q=threshold")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.click("#search-results li a")
    if Path(page.url.split("?")[0].split("#")[0].removeprefix("file://")) not in pages:
        found.append(f"search leads to {page.url}")
    print(f"{len(pages)} pages opened, {len(found)} problems")
    return found


def main(site: Path) -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium here: the pages were not opened")
        return 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        found = problems(browser.new_page(viewport={"width": 390, "height": 844}), site.resolve())
        browser.close()
    print("".join(f"{problem}\n" for problem in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
