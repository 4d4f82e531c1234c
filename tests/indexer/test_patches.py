"""The grid, against METRICS' formula written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import draw

from iconicity.indexer.patches import cell_boxes, cells

sides = st.integers(1, 60)
parts = st.integers(1, 6)


@given(sides, sides, parts, parts)
def test_cells_cover_the_image_once(width: int, height: int, rows: int, cols: int) -> None:
    boxes = cell_boxes(width, height, rows, cols)
    assert len(boxes) == rows * cols
    assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
    if width >= cols and height >= rows:
        assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) == width * height


@given(st.integers(6, 60), st.integers(6, 60), parts, parts)
def test_cells_are_the_formula(width: int, height: int, rows: int, cols: int) -> None:
    w, h = max(1, width // cols), max(1, height // rows)
    expected = [
        (c * w, r * h, width if c == cols - 1 else (c + 1) * w, height if r == rows - 1 else (r + 1) * h)
        for r in range(rows)
        for c in range(cols)
    ]
    assert cell_boxes(width, height, rows, cols) == expected


def test_crops_are_the_pixels() -> None:
    image = draw(1, (37, 23))
    for crop, box in zip(cells(image, 4, 4), cell_boxes(37, 23, 4, 4), strict=True):
        assert crop.tobytes() == image.crop(box).tobytes()


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cell_boxes(0, 5, 4, 4)
