"""The rows x cols grid of cells (METRICS: "The grid and the crop")."""

from __future__ import annotations

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
