"""Manipulations of a reference with exact truth: pure functions of images and a random generator.

``coverage`` is the share of each cell's area, row by row, that shows pixels of the reference: (K,) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from iconicity.indexer.grid import Box, cell_boxes
from iconicity.scorer.measure.metrics import Float64

Grid = tuple[int, int]
Rng = np.random.Generator
_BICUBIC = Image.Resampling.BICUBIC


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image cut and scaled to a size in pixels."""
    return ImageOps.fit(image, size, _BICUBIC)


def coverage_of(mask: Image.Image, grid: Grid) -> Float64:
    """Share of each cell's area that a mask (mode L, 255: all of the pixel) covers: (K,) in [0, 1].

    >>> coverage_of(Image.new("L", (4, 4), 255), (2, 2)).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    values = np.asarray(mask, np.float64) / 255.0
    return np.array([values[t:b, left:r].mean() for left, t, r, b in cell_boxes(*mask.size, *grid)], np.float64)


def paste_cells(reference: Image.Image, canvas: Image.Image, chosen: Sequence[int], grid: Grid) -> Image.Image:
    """The canvas with some cells of the grid replaced by the reference's own, at their own places."""
    out = canvas.copy()
    boxes = cell_boxes(*reference.size, *grid)
    for i in chosen:
        out.paste(reference.crop(boxes[i]), boxes[i][:2])
    return out


def cells_mask(size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """A mask (mode L) that is 255 within some boxes."""
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


def paste_changed(
    reference: Image.Image, canvas: Image.Image, chosen: Sequence[int], grid: Grid, rng: Rng
) -> Image.Image:
    """As :func:`paste_cells`, each cell scaled by up to 10 % about its middle and its colours changed by up to 20 %."""
    out = canvas.copy()
    boxes = cell_boxes(*reference.size, *grid)
    for i in chosen:
        piece = scaled_window(reference, boxes[i], float(rng.uniform(0.9, 1.1)))
        out.paste(jitter(piece, rng), boxes[i][:2])
    return out


def scaled_window(image: Image.Image, box: Box, scale: float) -> Image.Image:
    """What a box shows when the image is scaled about the box's middle; moved inside where it would leave the image."""
    left, top, right, bottom = box
    spans = []
    for low, high, length in ((left, right, image.width), (top, bottom, image.height)):
        half = min((high - low) / scale, length) / 2
        middle = min(max((low + high) / 2, half), length - half)
        spans.append((middle - half, middle + half))
    (x0, x1), (y0, y1) = spans
    return image.resize((right - left, bottom - top), _BICUBIC, box=(x0, y0, x1, y1))


def jitter(image: Image.Image, rng: Rng, most: float = 0.2) -> Image.Image:
    """Brightness, contrast and saturation, each times 1 - ``most`` to 1 + ``most``."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(float(rng.uniform(1 - most, 1 + most)))
    return image


def paste_shifted(
    reference: Image.Image, canvas: Image.Image, k: int, offset: float, grid: Grid, rng: Rng
) -> tuple[Image.Image, Image.Image]:
    """k cells of the reference, all moved by ``offset`` of a cell in x and y, so that none lies on the grid.

    Of the four directions one is drawn; cells that would leave the image are not chosen, nor do boxes overlap. Returns
    the image and its mask. Raises :class:`ValueError` where fewer than k cells can be moved.
    """
    boxes = cell_boxes(*reference.size, *grid)
    left, top, right, bottom = boxes[0]
    dx, dy = (round(offset * length) * int(rng.choice((-1, 1))) for length in (right - left, bottom - top))
    moved = [(b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy) for b in boxes]
    inside = [
        i
        for i, (x0, y0, x1, y1) in enumerate(moved)
        if x0 >= 0 and y0 >= 0 and x1 <= reference.width and y1 <= reference.height
    ]
    if len(inside) < k:
        raise ValueError(f"{k} cells to move, {len(inside)} stay inside")
    chosen = sorted(rng.choice(inside, k, replace=False).tolist())
    out = canvas.copy()
    for i in chosen:
        out.paste(reference.crop(boxes[i]), moved[i][:2])
    return out, cells_mask(reference.size, [moved[i] for i in chosen])


def paste_inpainted(
    reference: Image.Image, canvas: Image.Image, chosen: Sequence[int], grid: Grid
) -> tuple[Image.Image, Image.Image]:
    """Cells blurred and blended into the canvas over a fifth of their width. Returns the image and its mask."""
    boxes = cell_boxes(*reference.size, *grid)
    unit = min(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1])
    soft = cells_mask(reference.size, [boxes[i] for i in chosen]).filter(ImageFilter.GaussianBlur(unit / 10))
    # nothing of a cell that was not chosen: its truth is 0
    mask = ImageChops.darker(soft, cells_mask(reference.size, [boxes[i] for i in chosen]))
    blurred = reference.filter(ImageFilter.GaussianBlur(max(1.0, unit / 60)))
    return Image.composite(blurred, canvas, mask), mask


def whole(image: Image.Image, grid: Grid) -> Image.Image:
    """An image without the few pixels that make its last cells larger."""
    rows, cols = grid
    return image.crop((0, 0, max(1, image.width // cols) * cols, max(1, image.height // rows) * rows))


def shuffle_cells(image: Image.Image, grid: Grid, rng: Rng) -> tuple[Image.Image, list[int]]:
    """The cells in another order, none at its own place. Returns the image and which cell each place got."""
    image = whole(image, grid)
    boxes = cell_boxes(*image.size, *grid)
    cycle = rng.permutation(len(boxes)).tolist()  # one cycle through all cells leaves none where it was
    order = [0] * len(boxes)
    for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        order[a] = b
    out = image.copy()
    for place, cell in enumerate(order):
        out.paste(image.crop(boxes[cell]), boxes[place][:2])
    return out, order


def cut(image: Image.Image, share: float = 1 / 16) -> Image.Image:
    """A border of some share of each side cut off, enlarged to the old size."""
    x, y = round(image.width * share), round(image.height * share)
    return image.resize(image.size, _BICUBIC, box=(x, y, image.width - x, image.height - y))


def resized(image: Image.Image, share: float = 0.4) -> Image.Image:
    """A smaller copy."""
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))), _BICUBIC)


def flat_tones(image: Image.Image) -> Image.Image:
    """Six flat colours, exchanged among each other: the drawing of a poster."""
    half = resized(image, 0.5).filter(ImageFilter.ModeFilter(5))
    flat = half.quantize(6, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    r, g, b = ImageOps.invert(flat.resize(image.size, Image.Resampling.NEAREST)).split()
    return Image.merge("RGB", (b, r, g))


def drawing(image: Image.Image) -> Image.Image:
    """Dark lines on white paper, along the strongest tenth of the edges."""
    smooth = image.convert("L").filter(ImageFilter.GaussianBlur(max(1.0, min(image.size) / 150)))
    edges = np.asarray(smooth.filter(ImageFilter.FIND_EDGES))
    lines = edges > max(1.0, float(np.percentile(edges, 90)))
    return Image.fromarray(np.where(lines, 40, 250).astype(np.uint8)).convert("RGB")


def strokes(image: Image.Image, rng: Rng) -> Image.Image:
    """Short thick strokes in the colours below them, their hues turned."""
    step = max(4, min(image.size) // 48)
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(v + 96) % 256 for v in range(256)])
    colours = np.asarray(Image.merge("HSV", (turned, saturation, value)).convert("RGB"))
    out = Image.fromarray(colours).filter(ImageFilter.GaussianBlur(step))
    pen = ImageDraw.Draw(out)
    places = [(x, y) for x in range(0, image.width, step) for y in range(0, image.height, step)]
    for at in rng.permutation(len(places)).tolist():
        x, y = places[at]
        angle, length = rng.uniform(0, np.pi), step * rng.uniform(0.8, 1.8)
        dx, dy = length * np.cos(angle), length * np.sin(angle)
        colour = tuple(int(c) for c in np.clip(colours[y, x] + rng.normal(0, 14, 3), 0, 255))
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=max(2, step // 2))
    return out


def redrawn(image: Image.Image, rng: Rng) -> Image.Image:
    """Large forms alone, bent, under a texture of its own: drawn again from memory."""
    w, h = image.size
    low = image.resize((12, 12), Image.Resampling.BOX).resize((w, h), _BICUBIC)
    bend = 0.06 * min(w, h)
    phase = rng.uniform(0, 2 * np.pi, 2)
    y, x = np.mgrid[0:h, 0:w]
    sx = np.clip(x + bend * np.sin(2 * np.pi * y / h + phase[0]), 0, w - 1).astype(np.int64)
    sy = np.clip(y + bend * np.sin(2 * np.pi * x / w + phase[1]), 0, h - 1).astype(np.int64)
    bent = np.asarray(low, np.float64)[sy, sx]
    return Image.fromarray(np.clip(bent + 28.0 * noise((w, h), rng)[:, :, None], 0, 255).astype(np.uint8))


def noise(size: tuple[int, int], rng: Rng, coarse: int = 4, falloff: float = 0.7) -> Float64:
    """Smooth noise over several scales, mean 0, standard deviation 1: (h, w). A larger ``falloff`` makes it smoother."""
    w, h = size
    out = np.zeros((h, w))
    side = coarse
    while side < max(w, h):
        layer = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32)).resize((w, h), _BICUBIC)
        out += np.asarray(layer, np.float64) * (coarse / side) ** falloff
        side *= 2
    spread = float(out.std())
    smooth: Float64 = (out - out.mean()) / (spread if spread > 0 else 1.0)
    return smooth


def sky(size: tuple[int, int], rng: Rng) -> Image.Image:
    """Blue that grows lighter downwards, soft clouds."""
    w, h = size
    down = np.linspace(0, 1, h)[:, None, None]
    blue = (1 - down) * np.array([70, 120, 190]) + down * np.array([190, 215, 240])
    cloud = np.clip(noise(size, rng, 3) - 0.5, 0, 1)[:, :, None]
    return Image.fromarray(np.clip(blue * (1 - cloud) + 245 * cloud + np.zeros((h, w, 1)), 0, 255).astype(np.uint8))


def gradient(size: tuple[int, int], rng: Rng) -> Image.Image:
    """One colour that turns into another."""
    w, h = size
    first, second = rng.uniform(0, 255, (2, 3))
    along = (np.linspace(0, 1, h)[:, None] + np.linspace(0, 1, w)[None, :])[:, :, None] / 2
    return Image.fromarray((first * (1 - along) + second * along).astype(np.uint8))


def letterbox(image: Image.Image) -> Image.Image:
    """An image between two black bars, each a quarter of the height."""
    w, h = image.size
    out = Image.new("RGB", (w, h))
    out.paste(fit(image, (w, max(1, h - 2 * (h // 4)))), (0, h // 4))
    return out


def paper(size: tuple[int, int], rng: Rng) -> Image.Image:
    """Old paper: warm white, stains, fine grain."""
    w, h = size
    tone = np.array([236.0, 226.0, 204.0]) + 6.0 * noise(size, rng)[:, :, None] + rng.normal(0, 4, (h, w, 1))
    return Image.fromarray(np.clip(tone, 0, 255).astype(np.uint8))
