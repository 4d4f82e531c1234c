"""``make screenshot``: the README's pictures, of paintings that are the program's own."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.csv as pc
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from playwright.sync_api import sync_playwright

import iconicity as ic
from iconicity.data.demo import SIZE
from iconicity.data.painting import bay_at_dusk, town_in_snow

IMAGE = "#/image/copier/bay_at_dusk%2F02_12_of_16_cells.jpg"
SIDE, GAP, INK = 220, 20, "#1b1b1f"


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


def drawing(painting: Image.Image) -> Image.Image:
    """Its edges on paper, with a wash of flat tones in other hues: the same composition, and no surface of it."""
    edges = ImageOps.invert(painting.convert("L").filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(3)))
    hue, saturation, value = painting.filter(ImageFilter.ModeFilter(15)).convert("HSV").split()
    wash = Image.merge("HSV", (hue.point(lambda h: (h + 128) % 256), saturation, value)).convert("RGB")
    return Image.blend(edges.convert("RGB"), wash, 0.25)


def of_three(folder: Path, out: Path) -> None:
    """A reference, and three images with their numbers; of paintings that are the program's own."""
    painting, name = bay_at_dusk(SIZE), "bay_at_dusk"
    made = {
        "a": ("A copy", painting),
        "b": ("A transformation", drawing(painting)),
        "c": ("An unrelated image", town_in_snow(SIZE)),
    }
    reference = folder / "refs" / name / "01.png"
    for path, image in (
        (reference, painting),
        *((folder / "gen" / name / f"{k}.png", each) for k, (_, each) in made.items()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    index = ic.Index.build(folder / "refs", folder / "index", encoders="offline-copy")
    index.score({"m": folder / "gen"}, folder / "results")
    rows = {
        (metric, row["gen_relpath"]): row
        for metric in ("cra", "vr")
        for row in pc.read_csv(folder / f"results/results_{metric}_dynamic.csv").to_pylist()
    }
    pictures: list[tuple[str, Path, tuple[str, ...]]] = [("Reference", reference, ())]
    for key, (title, _) in made.items():
        cra, vr = (rows[metric, f"{name}/{key}.png"] for metric in ("cra", "vr"))
        recognised = "recognised" if cra["cra_cal"] else "not recognised"
        said = (f"similarity {cra['cra_sim']:.3f}: {recognised}", f"VR {vr['vr_cal']:.3f}")
        pictures.append((title, folder / "gen" / name / f"{key}.png", said))
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
    with TemporaryDirectory() as folder:
        of_three(Path(folder), docs / "three.png")
