"""Truth is exact by construction: pasted cells pixel by pixel, masks by area."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps
from toys import draw, jpeg

from iconicity.indexer.grid import cell_boxes
from iconicity.scorer.validate import manipulate as m

GRID = (4, 4)
SIZE = (70, 50)  # no multiple of 4: the last cells are larger
REF, DONOR = draw(1, SIZE), draw(2, SIZE)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int64)


def test_pasted_cells_are_the_references_pixels_and_all_others_the_donors() -> None:
    chosen = [0, 5, 15]
    out = pixels(m.paste_cells(REF, DONOR, chosen, GRID))
    for i, (x0, y0, x1, y1) in enumerate(cell_boxes(*SIZE, *GRID)):
        source = REF if i in chosen else DONOR
        assert np.array_equal(out[y0:y1, x0:x1], pixels(source)[y0:y1, x0:x1])
    assert np.array_equal(out, pixels(m.paste_cells(REF, DONOR, chosen, GRID)))


def test_changed_cells_leave_the_others_alone_and_show_the_same_place() -> None:
    out = pixels(m.paste_changed(REF, DONOR, [6], GRID, rng()))
    boxes = cell_boxes(*SIZE, *GRID)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        if i != 6:
            assert np.array_equal(out[y0:y1, x0:x1], pixels(DONOR)[y0:y1, x0:x1])
    x0, y0, x1, y1 = boxes[6]
    cell, ref, donor = (a[y0:y1, x0:x1].reshape(-1, 3) for a in (out, pixels(REF), pixels(DONOR)))
    assert not np.array_equal(cell, ref)
    like = [np.corrcoef(cell.ravel(), other.ravel())[0, 1] for other in (ref, donor)]
    assert like[0] > 0.9 > like[1]


@pytest.mark.parametrize("offset", [1 / 8, 1 / 4, 1 / 2])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_moved_cells_lie_off_the_grid_and_their_mask_counts_their_pixels(offset: float, k: int) -> None:
    out, mask = m.paste_shifted(REF, DONOR, k, offset, GRID, rng(k))
    inside = pixels(mask) == 255
    assert set(np.unique(pixels(mask))) <= {0, 255}
    assert np.array_equal(pixels(out)[~inside], pixels(DONOR)[~inside])
    dx, dy = (round(offset * length) for length in (SIZE[0] // 4, SIZE[1] // 4))
    moved = []  # every chosen cell, found again at one of the four moves
    for sx, sy in ((-dx, -dy), (-dx, dy), (dx, -dy), (dx, dy)):
        found = 0
        for x0, y0, x1, y1 in cell_boxes(*SIZE, *GRID):
            box = (x0 + sx, y0 + sy, x1 + sx, y1 + sy)
            if min(box[:2]) >= 0 and box[2] <= SIZE[0] and box[3] <= SIZE[1]:
                found += list(out.crop(box).tobytes()) == list(REF.crop((x0, y0, x1, y1)).tobytes())
        moved.append(found)
    assert max(moved) == k
    covered = m.coverage_of(mask, GRID)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in cell_boxes(*SIZE, *GRID)]
    assert np.dot(covered, areas) == pytest.approx(inside.sum())
    assert 0 < covered.max() <= (1 if k > 1 else (1 - offset) ** 2 + 0.1)


def test_more_cells_than_can_be_moved_are_refused() -> None:
    with pytest.raises(ValueError, match="10 cells to move, 9 stay inside"):
        m.paste_shifted(REF, DONOR, 10, 0.25, GRID, rng())


def test_coverage_is_a_share_of_area_for_any_mask() -> None:
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 3, 2))  # 2 x 2 pixels of the first 2 x 2 cell, 1 x 2 of the second
    assert m.coverage_of(mask, GRID).tolist()[:4] == [1.0, 0.5, 0.0, 0.0]
    assert m.coverage_of(mask, (1, 1)).tolist() == [6 / 64]


def test_inpainted_cells_touch_no_other_cell() -> None:
    out, mask = m.paste_inpainted(REF, DONOR, [5], GRID)
    x0, y0, x1, y1 = cell_boxes(*SIZE, *GRID)[5]
    outside = np.ones((SIZE[1], SIZE[0]), bool)
    outside[y0:y1, x0:x1] = False
    assert np.array_equal(pixels(out)[outside], pixels(DONOR)[outside]) and not pixels(mask)[outside].any()
    covered = m.coverage_of(mask, GRID)
    assert 0.5 < covered[5] < 1 and (np.delete(covered, 5) == 0).all()


def test_shuffled_cells_are_all_there_and_none_at_its_place() -> None:
    for seed in range(20):
        out, order = m.shuffle_cells(REF, GRID, rng(seed))
        assert sorted(order) == list(range(16)) and all(a != b for a, b in enumerate(order))
    boxes = cell_boxes(*out.size, *GRID)
    whole = m.whole(REF, GRID)
    assert out.size == (68, 48)
    for place, cell in enumerate(order):
        assert out.crop(boxes[place]).tobytes() == whole.crop(boxes[cell]).tobytes()


def test_a_scaled_window_stays_inside_and_at_scale_one_is_the_box() -> None:
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).convert("RGB")
    assert m.scaled_window(ramp, (16, 16, 32, 32), 1.0).tobytes() == ramp.crop((16, 16, 32, 32)).tobytes()
    wide = pixels(m.scaled_window(ramp, (48, 0, 64, 16), 0.9))[8, :, 0]
    assert wide.max() <= 63 and wide[-1] - wide[0] > 15  # more of the image than the box, none from beyond it
    near = pixels(m.scaled_window(ramp, (16, 16, 32, 32), 1.1))[8, :, 0]
    assert near[-1] - near[0] < 15


def test_transformations_keep_the_size_and_little_of_the_surface() -> None:
    big = draw(3, (160, 120))
    for made in (m.flat_tones(big), m.drawing(big), m.strokes(big, rng()), m.redrawn(big, rng())):
        assert made.size == big.size and made.mode == "RGB"
        assert np.abs(pixels(made) - pixels(big)).mean() > 10
    assert len(np.unique(pixels(m.flat_tones(big)).reshape(-1, 3), axis=0)) <= 6
    assert set(np.unique(pixels(m.drawing(big)))) == {40, 250}


def test_bland_images_hold_nothing_of_a_reference() -> None:
    for make in (m.sky, m.gradient, m.paper):
        assert make(SIZE, rng()).size == SIZE
        assert np.array_equal(pixels(make(SIZE, rng(4))), pixels(make(SIZE, rng(4))))
    boxed = pixels(m.letterbox(DONOR))
    assert not boxed[: SIZE[1] // 4].any() and not boxed[-(SIZE[1] // 4) :].any() and boxed[SIZE[1] // 2].any()


def test_copies() -> None:
    assert m.cut(REF).size == SIZE and m.resized(REF).size == (28, 20)
    assert not np.array_equal(pixels(m.cut(REF)), pixels(REF))
    assert ImageOps.mirror(m.fit(DONOR, (20, 20))).size == (20, 20)
    assert jpeg(REF, 30).size == SIZE
