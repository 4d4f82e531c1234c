"""Paintings made by the program itself, so that a picture of the demo's report shows nobody else's work."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]


def bay_at_dusk(size: int) -> Image.Image:
    """Sun over a bay: hills, water with its reflection, two boats, a tree in front."""
    x, y = _plane(size)
    sky = _blend((244, 190, 108), (96, 110, 170), 1.0 - y / 0.5)
    canvas = np.where(y[..., None] < 0.55, sky, _blend((236, 168, 98), (34, 62, 104), (y - 0.55) / 0.45))
    sun = np.hypot(x - 0.66, y - 0.4)
    canvas = np.where((sun < 0.075)[..., None], (255, 236, 170), canvas)
    glitter = (np.abs(x - 0.66) < 0.03 + 0.12 * (y - 0.55)) & (y > 0.55) & (np.sin(y * 260.0) > 0.1)
    canvas = np.where(glitter[..., None], (255, 226, 150), canvas)
    for height, colour, wave in ((0.47, (112, 96, 138), 9.0), (0.52, (66, 74, 102), 6.0)):
        ridge = height - 0.05 * np.sin(x * wave + wave) - 0.025 * np.sin(x * 3.1 * wave)
        canvas = np.where(((y > ridge) & (y < 0.55))[..., None], colour, canvas)
    picture = _picture(canvas)
    pen = ImageDraw.Draw(picture)
    for left, top, scale in ((0.2, 0.64, 1.0), (0.44, 0.6, 0.55)):
        _boat(pen, size, left, top, scale)
    pen.polygon([(size * 0.9, size), (size * 0.93, size * 0.3), (size * 0.95, size * 0.3), (size, size)], (40, 28, 24))
    for dx, dy, r in ((0.84, 0.26, 0.1), (0.95, 0.16, 0.12), (0.99, 0.32, 0.09)):
        pen.ellipse([size * (dx - r), size * (dy - r), size * (dx + r), size * (dy + r)], (44, 66, 46))
    return _brush(picture, 1, 0.12)


def town_in_snow(size: int) -> Image.Image:
    """Roofs and lit windows under a night sky with a moon."""
    x, y = _plane(size)
    canvas = _blend((58, 84, 132), (12, 16, 44), 1.0 - y)
    canvas = np.where((np.hypot(x - 0.24, y - 0.2) < 0.08)[..., None], (240, 240, 216), canvas)
    picture = _picture(canvas)
    pen = ImageDraw.Draw(picture)
    rng = np.random.default_rng(5)
    for _ in range(70):
        a, b = rng.uniform(0, size), rng.uniform(0, size * 0.5)
        pen.ellipse([a - 1.5, b - 1.5, a + 1.5, b + 1.5], (230, 230, 250))
    for i in range(9):
        left, top = size * (i / 9.0 - 0.02), size * rng.uniform(0.48, 0.66)
        right = left + size * 0.13
        pen.rectangle([left, top, right, size], [(86, 62, 70), (102, 80, 66), (70, 70, 92)][i % 3])
        pen.polygon([(left - 6, top), ((left + right) / 2, top - size * 0.09), (right + 6, top)], (232, 238, 246))
        for row in range(3):
            for column in range(2):
                a, b = left + size * (0.025 + 0.055 * column), top + size * (0.04 + 0.09 * row)
                pen.rectangle(
                    [a, b, a + size * 0.028, b + size * 0.045], (250, 206, 104) if rng.uniform() < 0.6 else (30, 30, 48)
                )
    pen.rectangle([0, size * 0.92, size, size], (222, 230, 242))
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def _plane(size: int) -> tuple[Floats, Floats]:
    """Coordinates of the pixels, 0 to 1."""
    y, x = np.mgrid[0:size, 0:size] / float(size)
    return x, y


def _blend(low: Colour, high: Colour, share: Floats) -> Floats:
    part = np.clip(share, 0.0, 1.0)[..., None]
    return np.asarray(np.array(low) * (1.0 - part) + np.array(high) * part, np.float64)


def _picture(canvas: Floats) -> Image.Image:
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _boat(pen: ImageDraw.ImageDraw, size: int, left: float, top: float, scale: float) -> None:
    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(size * (left + scale * a), size * (top + scale * b)) for a, b in points]

    pen.polygon(at((0.0, 0.0), (0.16, 0.0), (0.13, 0.035), (0.03, 0.035)), (58, 32, 28))
    pen.polygon(at((0.08, -0.01), (0.08, -0.15), (0.15, -0.01)), (240, 228, 200))
    pen.polygon(at((0.07, -0.01), (0.07, -0.12), (0.01, -0.01)), (206, 92, 62))


def _brush(picture: Image.Image, seed: int, turn: float) -> Image.Image:
    """A picture painted over with short strokes of its own colours, along curved lines."""
    rng = np.random.default_rng(seed)
    size = picture.width
    under = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)))
    out = picture.copy()
    pen = ImageDraw.Draw(out)
    for length, width, count in ((size / 22, 5, size * 12), (size / 40, 3, size * 24)):
        places = rng.integers(0, size, (count, 2))
        tints = rng.normal(0.0, 11.0, (count, 3))
        for (px, py), tint in zip(places, tints, strict=True):
            angle = turn + 0.7 * np.sin(px / size * 5.0) + 0.7 * np.cos(py / size * 7.0)
            dx, dy = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
            r, g, b = np.clip(under[py, px] + tint, 0, 255).astype(int)
            pen.line([px - dx, py - dy, px + dx, py + dy], fill=(int(r), int(g), int(b)), width=width)
    return Image.blend(picture, out, 0.85)
