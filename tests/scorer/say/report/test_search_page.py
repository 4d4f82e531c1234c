"""A search as a page of pictures: the hits that were found, with nothing that could run."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run import models, run
from toys import draw, make_refs, running, tiny_clip, tiny_vit, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.options import IndexOptions
from iconicity.scorer.say.report.search_page import write_search_page
from iconicity.scorer.search import search_image


def test_pictures_of_the_hits(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha", "<b>&beta"], each=2)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    image = write(tmp_path / "<img src=x onerror=alert(1)>.png", draw(100))  # <b>&beta/00.png
    hits = search_image(image, tmp_path / "i", k=3, run=running())
    (tmp_path / "refs" / "alpha" / "01.png").unlink()
    page = write_search_page(hits, image, tmp_path / "new" / "h.html", grid=(4, 4), pixels="shown")
    text = page.read_text()
    assert "<script" not in text and "<img src=x" not in text and "<b>&" not in text
    assert "script-src" not in text and "default-src &#39;none&#39;" in text
    assert "no threshold for these encoders" in text
    concept = hits["patches"][0][0]["concept"]
    known: dict[str, dict[str, tuple[float, int]]] = {"cra": {}, "vr": {concept: (0.25, 2)}}
    page = write_search_page(hits, image, tmp_path / "t.html", grid=(4, 4), pixels="shown", thresholds=known)
    said = page.read_text().count("(threshold 0.250 for 2 references)")
    assert said == sum(found[0]["concept"] == concept for found in hits["patches"]) > 0
    shown = [html.unescape(p) for p in re.findall(r'<p class="soft">(.*?)</p>', text)][1:]
    assert shown[:3] == [h["ref_id"] for h in hits["image"]]
    assert shown[3:] == [f"{p[0]['ref_id']}, cell {p[0]['cell']}" for p in hits["patches"]]
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) + text.count("no picture") >= 4 and text.count("no picture: cannot be read") >= 1
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as first:
        assert np.abs(np.asarray(first, float) - np.asarray(draw(100), float)).mean() < 8
    # patch 6 is row 1, column 2 of four
    windows = re.findall(r"background-size:400.0% 400.0%;background-position:([\d.]+)% ([\d.]+)%", text)
    assert [float(v) for v in windows[12]] == [200 / 3, 100 / 3]


def test_windows_of_overlapping_cells_show_half_steps(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha"], each=1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), IndexOptions(reference_cells="overlapping"))
    # half a cell to the left and up: what stood in the overlapping cell (1, 1) stands in the first cell
    image = write(tmp_path / "moved.png", draw(0).crop((8, 6, 64, 48)).resize((56, 42)))
    hits = search_image(image, tmp_path / "i", k=1, run=running())
    assert max(p[0]["cell"] for p in hits["patches"]) < 49
    page = write_search_page(hits, image, tmp_path / "h.html", grid=(4, 4), overlapping=True, pixels="shown")
    windows = re.findall(r"background-size:400.0% 400.0%;background-position:([\d.]+)% ([\d.]+)%", page.read_text())
    for i, found in enumerate(hits["patches"]):
        row, col = divmod(found[0]["cell"], 7)
        shown = [float(v) for v in windows[2 * i + 1]]
        assert shown == pytest.approx([100 * col / 6, 100 * row / 6], abs=0.01)


def test_the_command(tmp_path: Path) -> None:
    tiny_clip(tmp_path / "clip")
    tiny_vit(tmp_path / "vit.safetensors")
    make_refs(tmp_path / "refs", ["alpha"], each=1)
    run("index", "build", "--refs", tmp_path / "refs", "--index", tmp_path / "i", *models(tmp_path))
    image = write(tmp_path / "q.png", draw(0))
    done = run("search", image, "--index", tmp_path / "i", "--html", tmp_path / "h.html", *models(tmp_path))
    assert "alpha/00.png" in done.stdout and "h.html" in done.stderr
    assert "alpha/00.png" in (tmp_path / "h.html").read_text()
