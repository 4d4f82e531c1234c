"""The rows x cols grid of cells (METRICS: "The grid and the crop").

References may have the cells at half steps between them too (``overlapping``), (2 rows - 1) x (2 cols - 1) in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[int, int, int, int]


def overlaps(settings: Mapping[str, Any]) -> bool:
    """Whether settings of an index, or of results, ask for overlapping cells of the references."""
    return bool(settings.get("reference_cells") == "overlapping")


def cell_shape(rows: int, cols: int, overlapping: bool = False) -> tuple[int, int]:
    """Rows and columns of cells. Cell number ``i`` is in row ``i // columns``, column ``i % columns``.

    >>> cell_shape(4, 4, overlapping=True)
    (7, 7)
    """
    return (2 * rows - 1, 2 * cols - 1) if overlapping else (rows, cols)


def cell_count(rows: int, cols: int, overlapping: bool = False) -> int:
    """Number of cells."""
    down, across = cell_shape(rows, cols, overlapping)
    return down * across


def cell_boxes(width: int, height: int, rows: int, cols: int, overlapping: bool = False) -> list[Box]:
    """Pixel boxes (left, top, right, bottom) of the cells, row-major; the last row and column take the rest.

    ``overlapping``: the cells of the grid stand at even rows and columns, those between them begin half-way.
    Where an image has fewer pixels than cells, a cell lies outside of it; such a box is moved inside, so
    that every cell has at least one pixel.

    >>> cell_boxes(10, 4, 2, 2)
    [(0, 0, 5, 2), (5, 0, 10, 2), (0, 2, 5, 4), (5, 2, 10, 4)]
    >>> cell_boxes(10, 4, 1, 2, overlapping=True)
    [(0, 0, 5, 4), (2, 0, 7, 4), (5, 0, 10, 4)]
    """
    if min(width, height, rows, cols) < 1:
        raise ValueError(f"sizes must be at least 1, got {width} x {height} pixels and {rows} x {cols} cells")
    xs = _spans(width, cols, overlapping)
    ys = _spans(height, rows, overlapping)
    return [(x0, y0, x1, y1) for y0, y1 in ys for x0, x1 in xs]


def _spans(length: int, n: int, overlapping: bool = False) -> list[tuple[int, int]]:
    step = max(1, length // n)
    spans = []
    for i in range(n):
        start = min(i * step, length - 1)
        stop = length if i == n - 1 else min((i + 1) * step, length)
        spans.append((start, max(stop, start + 1)))
    if not overlapping:
        return spans
    starts = [(a + b) // 2 for (a, _), (b, _) in pairwise(spans)]
    between = [(start, min(length, start + step)) for start in starts]
    return [*(s for pair in zip(spans, between, strict=False) for s in pair), spans[-1]]


def cells(image: Image.Image, rows: int, cols: int, overlapping: bool = False) -> list[Image.Image]:
    """The crops of an image, row-major."""
    return [image.crop(box) for box in cell_boxes(*image.size, rows, cols, overlapping)]


def cell_averages(
    tokens: npt.NDArray[np.float32], width: int, height: int, rows: int, cols: int, overlapping: bool = False
) -> npt.NDArray[np.float32]:
    """Token mode: mean token of each cell, normalised.

    ``tokens`` (h, w, dim) is the map of an image of width x height pixels that was squashed to the encoder's
    square input. Returns (cells, dim) float32 unit rows, row-major. A token that lies in two cells counts
    in each by its overlap (METRICS: "The grid and the crop").
    """
    h, w, dim = tokens.shape
    across = _overlap(_spans(width, cols, overlapping), width, w)
    down = _overlap(_spans(height, rows, overlapping), height, h)
    means = np.einsum("rh,cw,hwd->rcd", down, across, tokens.astype(np.float64), optimize=True).reshape(-1, dim)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not np.all(norms > 0):  # also false for NaN
        raise ValueError("tokens that average to no direction")
    unit: npt.NDArray[np.float32] = (means / norms).astype(np.float32)
    return unit


def _overlap(spans: list[tuple[int, int]], length: int, tokens: int) -> npt.NDArray[np.float64]:
    """(cells, tokens) weights, each row summing to 1: how much of each token lies in each span of pixels."""
    edges = np.arange(tokens + 1) * (length / tokens)
    lows, highs = np.array(spans, np.float64).T[:, :, None]
    shared = np.clip(np.minimum(highs, edges[1:]) - np.maximum(lows, edges[:-1]), 0.0, None)
    weights: npt.NDArray[np.float64] = shared / shared.sum(axis=1, keepdims=True)
    return weights
