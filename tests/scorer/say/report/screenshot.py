"""``make screenshot``: the README's picture, taken of the demo's report."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGE = "#/image/copier/bay_at_dusk%2F02_12_of_16_cells.jpg"  # both pictures are the program's own


def main(site: Path, out: Path) -> None:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 880})
        page.goto((site / "index.html").resolve().as_uri() + IMAGE)
        page.wait_for_selector(".link line", state="attached")
        page.wait_for_timeout(300)
        taken = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(taken)) as image:
        image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
