"""Repainted copies: the same forms at the same places, another surface, further away with each strength."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from toys import draw

from iconicity.scorer.validate.repaint import STRENGTHS, bent, brushed, drifted, invented, repainted


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Forms with fine detail."""
    image = draw(4, size)
    pen = ImageDraw.Draw(image)
    for x in range(0, size[0], 14):
        pen.line((x, 0, x + 20, size[1]), fill=(20, 20, 20), width=3)
    return image


def grey(image: Image.Image, blur: float = 0.0) -> np.ndarray:
    return np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(blur)), np.float64)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_forms_stay_and_detail_goes_further_with_each_strength() -> None:
    image = scene()
    made = [repainted(image, s, rng()) for s in STRENGTHS]
    assert all(m.size == image.size and m.mode == "RGB" for m in made)
    assert min(alike(grey(image, 8), grey(m, 8)) for m in made) > 0.8
    detail = [grey(i, 1) - grey(i, 8) for i in (image, *made)]
    kept = [alike(detail[0], d) for d in detail[1:]]
    assert kept == sorted(kept, reverse=True) and kept[-1] < 0.6


def test_one_seed_one_picture_and_no_side_effects() -> None:
    image = scene()
    before = image.tobytes()
    first, again, other = (repainted(image, STRENGTHS[1], rng(s)) for s in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes() and image.tobytes() == before


def test_large_pictures_come_out_in_the_size_of_a_generator() -> None:
    assert repainted(scene((1024, 512)), STRENGTHS[0], rng()).size == (512, 256)


def test_a_bend_moves_pixels_as_far_as_it_says() -> None:
    y, x = np.mgrid[0:120, 0:160].astype(np.float64)
    ramp = np.stack([x, y, x], axis=2)
    inside = (bent(ramp, 3.0, rng()) - ramp)[15:-15, 15:-15]
    assert inside[:, :, 0].std() == pytest.approx(3.0, rel=0.3) == inside[:, :, 1].std()
    assert np.abs(np.diff(inside, axis=1)).max() < 1.0  # smooth: forms bend and do not break
    assert np.array_equal(bent(ramp, 0.0, rng()), ramp)


def test_strokes_keep_colours_and_lose_what_is_narrower_than_the_brush() -> None:
    pixels = np.asarray(scene(), np.float64)
    fine, wide = (brushed(pixels, w, rng()) for w in (2.0, 6.0))
    near, far = (np.abs(p - pixels).mean() for p in (fine, wide))
    assert near < far and np.abs(fine.mean((0, 1)) - pixels.mean((0, 1))).max() < 12


def test_invented_detail_stands_where_detail_was_lost_and_is_not_it() -> None:
    lost = np.zeros((80, 120, 3))
    lost[:, 60:] = rng(1).normal(0, 20, (80, 60, 1))
    made = invented(lost, 2.0, rng())[:, :, 0]
    assert made[:, 80:].std() > 10 * made[:, :40].std() and abs(alike(made[:, 80:], lost[:, 80:, 0])) < 0.2


def test_colours_drift_smoothly_by_the_share_that_is_given() -> None:
    flat = np.full((100, 140, 3), 120.0)
    change = drifted(flat, 0.08, rng()) - flat
    assert 0.5 < change.std() / (255 * 0.08) < 0.8
    assert np.abs(np.diff(change, axis=1)).max() < 4
    assert np.array_equal(drifted(flat, 0.0, rng()), flat)


def test_each_part_of_a_strength_counts() -> None:
    image, whole = scene(), STRENGTHS[1]
    same = repainted(image, whole, rng()).tobytes()
    for name in ("bend", "brush", "detail", "drift"):
        assert repainted(image, replace(whole, **{name: 2 * getattr(whole, name)}), rng()).tobytes() != same
