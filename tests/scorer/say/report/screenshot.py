"""``make screenshot``: the README's pictures, taken of the demo. Of all pictures the program's own, or in the public domain."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pyarrow.csv as pc
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

IMAGE = "#/image/copier/bay_at_dusk%2F02_12_of_16_cells.jpg"
SIDE, GAP, INK = 220, 20, "#1b1b1f"
BESIDE = {
    "A copy": "copier/rocket/00_copy.jpg",
    "A transformation": "transformer/rocket/04_restyled.jpg",
    "An unrelated image": "transformer/rocket/06_unrelated.jpg",
}


def of_report(site: Path, out: Path) -> None:
    """The page of one image, as Chromium shows it."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 920})
        page.goto((site / "index.html").resolve().as_uri() + IMAGE)
        page.wait_for_selector(".link line", state="attached")
        page.wait_for_timeout(300)
        taken = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(taken)) as image:
        image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(out, optimize=True)


def of_three(demo: Path, out: Path) -> None:
    """A reference, and three images with their numbers in the demo's results."""
    rows = {}
    for metric in ("cra", "vr"):
        for row in pc.read_csv(demo / f"results/results_{metric}_dynamic.csv").to_pylist():
            rows[metric, f"{row['model']}/{row['gen_relpath']}"] = row
    pictures: list[tuple[str, Path, tuple[str, ...]]] = [("Reference", demo / "refs/rocket/01.png", ())]
    for title, name in BESIDE.items():
        cra, vr = rows["cra", name], rows["vr", name]
        recognised = "recognised" if cra["cra_cal"] else "not recognised"
        said = (f"similarity {cra['cra_sim']:.3f}: {recognised}", f"VR {vr['vr_cal']:.3f}")
        pictures.append((title, demo / "gen" / name, said))
    plate = Image.new("RGB", (GAP + len(pictures) * (SIDE + GAP), SIDE + 92), "white")
    draw = ImageDraw.Draw(plate)
    for i, (title, path, lines) in enumerate(pictures):
        x = GAP + i * (SIDE + GAP)
        draw.text((x, 8), title, font=ImageFont.load_default(19), fill=INK)
        with Image.open(path) as image:
            plate.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 36))
        for n, line in enumerate(lines):
            draw.text((x, SIDE + 42 + n * 22), line, font=ImageFont.load_default(16), fill=INK)
    plate.quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    demo, docs = map(Path, sys.argv[1:])
    of_report(demo / "report", docs / "report.png")
    of_three(demo, docs / "three.png")
