"""Repainted copies: the composition of a picture with a new surface, as generators of images give back what they memorised.

A pasted copy keeps the pixels of its reference. A generator's copy keeps forms and colours at their places, roughly, and
invents the detail. Every function is pure: an image and a random generator in, an image out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.validate.manipulate import Rng, noise

SIDE = 512  # pixels of the longest side: what most generators of the studies give
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Strength:
    """How far a repainted copy is from its picture. Lengths are shares of the shorter side.

    ``bend``: standard deviation of the displacement of forms. ``brush``: width of the finest stroke; smaller forms are lost.
    ``detail``: strength of invented detail relative to the lost detail. ``drift``: standard deviation of local changes
    of brightness and contrast.
    """

    bend: float
    brush: float
    detail: float
    drift: float


STRENGTHS = (
    Strength(bend=0.008, brush=0.006, detail=0.5, drift=0.05),
    Strength(bend=0.012, brush=0.008, detail=0.5, drift=0.07),
    Strength(bend=0.014, brush=0.010, detail=0.5, drift=0.08),
)


def repainted(image: Image.Image, strength: Strength, rng: Rng) -> Image.Image:
    """The picture painted again, RGB, at most :data:`SIDE` pixels long: bent, in strokes, with invented detail and colours that drift."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    unit = min(small.size)
    forms = bent(np.asarray(small, np.float64), strength.bend * unit, rng)
    width = max(1.5, strength.brush * unit)
    painted = brushed(forms, width, rng)
    lost = forms - painted
    painted = painted + strength.detail * invented(lost, width, rng)
    return _image(drifted(painted, strength.drift, rng))


def bent(pixels: Float64, far: float, rng: Rng) -> Float64:
    """Pixels (h, w, 3) moved by a smooth field whose displacement has a standard deviation of ``far`` pixels in x and in y."""
    h, w = pixels.shape[:2]
    dy, dx = (far * noise((w, h), rng, 3, falloff=1.6) for _ in range(2))
    y, x = np.mgrid[0:h, 0:w]
    at = np.stack([y + dy, x + dx])
    return np.stack([ndimage.map_coordinates(pixels[:, :, c], at, order=1, mode="nearest") for c in range(3)], axis=2)


def brushed(pixels: Float64, width: float, rng: Rng) -> Float64:
    """Pixels (h, w, 3) in strokes along their edges, wide ones first, and narrower ones where these leave a form out.

    ``width`` is that of the narrowest stroke in pixels. After Hertzmann (1998), "Painterly rendering with curved brush
    strokes of multiple sizes", with straight strokes.
    """
    canvas = _image(ndimage.gaussian_filter(pixels, (4 * width, 4 * width, 0)))
    for brush in (4 * width, 2 * width, width):
        target = ndimage.gaussian_filter(pixels, (brush / 2, brush / 2, 0))
        grey = ndimage.gaussian_filter(target @ _GREY, brush / 2)
        gy, gx = np.gradient(grey)
        wrong = ndimage.gaussian_filter(np.abs(target - np.asarray(canvas)).mean(2), brush / 2)
        every = wrong > (-1.0 if brush == 4 * width else 4.0)
        _strokes(canvas, target, np.arctan2(gx, -gy), every, brush, rng)
    soft = canvas.filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(soft, np.float64)


def _strokes(canvas: Image.Image, target: Float64, angle: Float64, every: np.ndarray, brush: float, rng: Rng) -> None:
    """Paint strokes of one width on the canvas in random order: a place on a jittered grid each."""
    h, w = angle.shape
    pen = ImageDraw.Draw(canvas)
    step = max(1, round(brush * 0.8))
    ys, xs = np.mgrid[0:h:step, 0:w:step]
    ys = np.clip(ys.ravel() + rng.integers(-step // 2, step // 2 + 1, ys.size), 0, h - 1)
    xs = np.clip(xs.ravel() + rng.integers(-step // 2, step // 2 + 1, xs.size), 0, w - 1)
    kept = rng.permutation(np.flatnonzero(every[ys, xs]))
    ys, xs = ys[kept], xs[kept]
    length = brush * rng.uniform(0.8, 2.0, len(kept))
    turn = angle[ys, xs] + rng.normal(0, 0.25, len(kept))
    dx, dy = length * np.cos(turn), length * np.sin(turn)
    colours = np.clip(target[ys, xs] + rng.normal(0, 5, (len(kept), 1)), 0, 255).astype(np.int64)
    wide = max(1, round(brush))
    for x, y, a, b, colour in zip(xs.tolist(), ys.tolist(), dx.tolist(), dy.tolist(), colours.tolist(), strict=True):
        pen.line((x - a, y - b, x + a, y + b), fill=tuple(colour), width=wide)


def invented(lost: Float64, width: float, rng: Rng) -> Float64:
    """Detail (h, w, 1) that is as strong, place by place, as the lost detail (h, w, 3), and shows something else."""
    h, w = lost.shape[:2]
    grey = lost @ _GREY
    local = np.sqrt(ndimage.gaussian_filter(grey**2, 4 * width))
    fresh = ndimage.gaussian_filter(rng.standard_normal((h, w)), width / 2)
    return np.asarray(local * fresh / max(float(fresh.std()), 1e-9))[:, :, None]


def drifted(pixels: Float64, share: float, rng: Rng) -> Float64:
    """Pixels (h, w, 3) whose contrast and colours change smoothly from place to place by a standard deviation of ``share``."""
    h, w = pixels.shape[:2]
    middle = ndimage.gaussian_filter(pixels, (min(h, w) / 8, min(h, w) / 8, 0))
    contrast = 1 + share * noise((w, h), rng, 3, falloff=1.6)[:, :, None]
    colour = np.stack([noise((w, h), rng, 3, falloff=1.6) for _ in range(3)], axis=2)
    light = noise((w, h), rng, 3, falloff=1.6)[:, :, None]
    return middle + contrast * (pixels - middle) + 255 * share * (0.5 * light + 0.4 * colour)


def _image(pixels: Float64) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
