"""The hits of a search as one page of pictures, with everything inside and no script at all."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.errors import ImageError
from iconicity.indexer.grid import cell_shape
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.text import counted
from iconicity.scorer.say.report.pages import render
from iconicity.scorer.say.report.thumbnails import small

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write_search_page(
    hits: Mapping[str, Any],
    image: Path,
    page: Path,
    *,
    grid: tuple[int, int],
    overlapping: bool = False,
    pixels: str,
    max_pixels: int = MAX_PIXELS,
    thresholds: Mapping[str, Mapping[str, tuple[float, int]]] = MappingProxyType({}),
) -> Path:
    """Write what :func:`~iconicity.scorer.search.search_image` found for an image: its nearest references, and for each patch of
    the ``grid`` the nearest cell, with ``thresholds`` (of :func:`~iconicity.scorer.search.hit_thresholds`). A picture that can no longer be read is said in its place."""
    pictures: dict[str, str] = {}
    problems: dict[str, str] = {}

    def picture(path: str) -> None:
        if path in pictures or path in problems:
            return
        try:
            data = io.BytesIO()
            small(shared().decode(read_bytes(path), path, pixels, max_pixels).image).save(data, "JPEG", quality=82)
            pictures[path] = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
        except ImageError as e:
            problems[path] = e.reason

    rows, cols = grid
    patches = [
        {
            "number": i,
            "hit": found[0],
            "from": _window(i, rows, cols),
            "to": _window(found[0]["cell"], rows, cols, overlapping),
        }
        for i, found in enumerate(hits["patches"])
        if found
    ]
    for path in [str(image), *(h["path"] for h in hits["image"]), *(p["hit"]["path"] for p in patches)]:
        picture(path)
    text = render(
        "search.html.j2",
        policy=_POLICY,
        image=str(image),
        encoders=dict.fromkeys(hits["encoders"]),
        hits=hits["image"],
        thresholds={
            m: {c: f"threshold {tau:.3f} for {counted(n, 'reference')}" for c, (tau, n) in of.items()}
            for m, of in thresholds.items()
        },
        patches=patches,
        pictures=pictures,
        problems=problems,
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, text)
    return page


def _window(cell: int, rows: int, cols: int, overlapping: bool = False) -> dict[str, float]:
    """How to show one cell of a picture alone: its size in cells, and its place in percent of what does not fit."""
    down, across = cell_shape(rows, cols, overlapping)
    row, col = divmod(cell, across)
    return {
        "width": 100.0 * cols,
        "height": 100.0 * rows,
        "x": 100.0 * col / (across - 1) if across > 1 else 0.0,
        "y": 100.0 * row / (down - 1) if down > 1 else 0.0,
    }
