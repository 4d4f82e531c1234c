"""The rows x cols grid of cells (METRICS: "The grid and the crop")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[int, int, int, int]


def cell_boxes(width: int, height: int, rows: int, cols: int) -> list[Box]:
    """Pixel boxes (left, top, right, bottom) of the cells, row-major; the last row and column take the rest.

    Where an image has fewer pixels than cells, a cell lies outside of it; such a box is moved inside, so
    that every cell has at least one pixel.

    >>> cell_boxes(10, 4, 2, 2)
    [(0, 0, 5, 2), (5, 0, 10, 2), (0, 2, 5, 4), (5, 2, 10, 4)]
    """
    if min(width, height, rows, cols) < 1:
        raise ValueError(f"sizes must be at least 1, got {width} x {height} pixels and {rows} x {cols} cells")
    xs = _spans(width, cols)
    ys = _spans(height, rows)
    return [(x0, y0, x1, y1) for y0, y1 in ys for x0, x1 in xs]


def _spans(length: int, n: int) -> list[tuple[int, int]]:
    step = max(1, length // n)
    spans = []
    for i in range(n):
        start = min(i * step, length - 1)
        stop = length if i == n - 1 else min((i + 1) * step, length)
        spans.append((start, max(stop, start + 1)))
    return spans


def cells(image: Image.Image, rows: int, cols: int) -> list[Image.Image]:
    """The rows x cols crops of an image, row-major."""
    return [image.crop(box) for box in cell_boxes(*image.size, rows, cols)]


def cell_averages(
    tokens: npt.NDArray[np.float32], width: int, height: int, rows: int, cols: int
) -> npt.NDArray[np.float32]:
    """Token mode: mean token of each cell, normalised.

    ``tokens`` (h, w, dim) is the map of an image of width x height pixels that was squashed to the encoder's
    square input. Returns (rows * cols, dim) float32 unit rows, row-major. A token that lies in two cells counts
    in each by its overlap (METRICS: "The grid and the crop").
    """
    h, w, dim = tokens.shape
    across = _overlap(_spans(width, cols), width, w)
    down = _overlap(_spans(height, rows), height, h)
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
