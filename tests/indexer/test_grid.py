"""The grid, against METRICS' formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import draw

from iconicity.indexer.grid import cell_averages, cell_boxes, cell_count, cell_shape, cells

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


@given(sides, sides, parts, parts)
def test_overlapping_cells_are_the_grids_and_those_half_way_between(w: int, h: int, rows: int, cols: int) -> None:
    plain, boxes = cell_boxes(w, h, rows, cols), cell_boxes(w, h, rows, cols, overlapping=True)
    down, across = cell_shape(rows, cols, overlapping=True)
    assert (down, across) == (2 * rows - 1, 2 * cols - 1)
    assert len(boxes) == down * across == cell_count(rows, cols, overlapping=True)
    assert [boxes[2 * r * across + 2 * c] for r in range(rows) for c in range(cols)] == plain
    assert all(0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h for x0, y0, x1, y1 in boxes)
    step_x, step_y = max(1, w // cols), max(1, h // rows)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        r, c = divmod(i, across)
        if w >= cols and h >= rows:
            assert (x0, y0) == (c * step_x // 2, r * step_y // 2)
            if c % 2:
                assert x1 - x0 == step_x
            if r % 2:
                assert y1 - y0 == step_y


def test_tokens_of_overlapping_cells() -> None:
    tokens = np.random.default_rng(0).standard_normal((8, 8, 5)).astype(np.float32)
    found = cell_averages(tokens, 80, 80, 4, 4, overlapping=True).reshape(7, 7, 5)
    assert np.array_equal(found[::2, ::2].reshape(16, 5), cell_averages(tokens, 80, 80, 4, 4))
    mean = tokens[1:3, 3:5].reshape(-1, 5).astype(np.float64).mean(axis=0)  # 10 to 30 pixels down, 30 to 50 across
    assert np.allclose(found[1, 3], mean / np.linalg.norm(mean), atol=1e-6)


def test_crops_are_the_pixels() -> None:
    image = draw(1, (37, 23))
    for crop, box in zip(cells(image, 4, 4), cell_boxes(37, 23, 4, 4), strict=True):
        assert crop.tobytes() == image.crop(box).tobytes()


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cell_boxes(0, 5, 4, 4)
