"""Images to measure with: the demo's pictures, or the user's own, augmented by crops and mirrors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from iconicity.data.demo import CONCEPTS, DONORS
from iconicity.data.demo import picture as picture_of
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.sources.suffixes import is_read


def sources(folder: Path | None) -> list[Image.Image]:
    """The images of a folder and its folders, or the demo's pictures. Raises :class:`InputError` for none."""
    if folder is None:
        return [picture_of(name) for name in (*CONCEPTS, *DONORS)]
    files = sorted(p for p in folder.rglob("*") if is_read(p.name))
    if not files:
        raise InputError(f"{folder}: no images in it; name another with --images, or leave it out")
    return [decode(read_bytes(p), p).image for p in files]


def augmented(pictures: list[Image.Image], seed: int, side: int = 768) -> Iterator[Image.Image]:
    """Without end: each picture in turn, a random crop of it, maybe mirrored, ``side`` pixels on its longer side."""
    rng = np.random.default_rng(seed)
    while True:
        for picture in pictures:
            w, h = picture.size
            share = rng.uniform(0.5, 0.95)
            cw, ch = max(1, int(w * share)), max(1, int(h * share))
            x, y = int(rng.integers(0, w - cw + 1)), int(rng.integers(0, h - ch + 1))
            crop = picture.crop((x, y, x + cw, y + ch))
            scale = side / max(crop.size)
            crop = crop.resize((max(1, round(cw * scale)), max(1, round(ch * scale))), Image.Resampling.BICUBIC)
            yield ImageOps.mirror(crop) if rng.random() < 0.5 else crop


def write_study(
    root: Path, pictures: list[Image.Image], concepts: int, references: int, generated: int, side: int = 768
) -> tuple[Path, Path]:
    """``refs/`` and ``gen/`` with JPEGs: ``references`` and ``generated`` images of each concept."""
    stream = augmented(pictures, seed=0, side=side)
    for kind, each in (("refs", references), ("gen", generated)):
        for c in range(concepts):
            folder = root / kind / f"concept_{c:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(each):
                next(stream).save(folder / f"{i:03d}.jpg", quality=90)
    return root / "refs", root / "gen"
