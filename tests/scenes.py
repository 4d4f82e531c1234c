"""Pictures that register, and second scans of them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def picture(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Forms of several sizes with corners that can be found again."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, "grey")
    pen = ImageDraw.Draw(image)
    for reach in np.geomspace(80, 8, 120):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        corners = [(x + dx, y + dy) for dx, dy in rng.uniform(-reach, reach, (3, 2)).tolist()]
        pen.polygon(corners, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def rescanned(image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """Another crop and size, another light."""
    scan = image.resize(size, Image.Resampling.BICUBIC, box=box)
    dull = ImageEnhance.Color(ImageEnhance.Contrast(scan).enhance(0.7)).enhance(0.6)
    noise = np.random.default_rng(9).normal(0, 8, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(dull) + noise, 0, 255).astype(np.uint8))
