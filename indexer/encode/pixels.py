"""Decoded images to the RGB pixels that people see: 8 bit, over white paper, in sRGB."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from iconicity.indexer.text import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import ImageCms

_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_BLOCK = 1 << 20  # pixels that are scaled at once, so that numbers of 64 bit take little memory
_SAME = 1  # of 255: a profile that moves no colour by more is sRGB itself
_FLAT = 32  # of 255: a profile whose colours span less is damaged
_BITS, _INVERTED, _FORMAT = 258, 262, 339  # TIFF's BitsPerSample, PhotometricInterpretation, SampleFormat


class Note(IntFlag):
    """Notes on an image that was read, but not wholly as its file asks."""

    NONE = 0
    BROKEN_PROFILE = 1
    OTHER_PROFILE = 2
    NO_WHITE = 4
    UNDEFINED = 8
    TRANSPARENT = 16
    TRAILING = 32
    NO_END = 64


_WORDS = {  # of one image, of several
    Note.BROKEN_PROFILE: (
        "has a broken colour profile and was read without it",
        "have a broken colour profile and were read without it",
    ),
    Note.OTHER_PROFILE: (
        "has a colour profile of another colour space and was read without it",
        "have a colour profile of another colour space and were read without it",
    ),
    Note.NO_WHITE: (
        "holds 32-bit numbers without a white point: its largest value chose one of 1, 255, 65535 or more",
        "hold 32-bit numbers without a white point: the largest value of each chose one of 1, 255, 65535 or more",
    ),
    Note.UNDEFINED: (
        "has undefined pixels (NaN), which were read as black",
        "have undefined pixels (NaN), which were read as black",
    ),
    Note.TRANSPARENT: (
        "is wholly transparent and was read as white",
        "are wholly transparent and were read as white",
    ),
    Note.TRAILING: (
        "has bytes after the end of its image, which were not read",
        "have bytes after the end of their images, which were not read",
    ),
    Note.NO_END: (
        "lacks the mark that ends its file; its image is whole as far as can be told",
        "lack the mark that ends a file; their images are whole as far as can be told",
    ),
}


def note_names(notes: Note) -> str | None:
    """Names of notes as rows hold them, such as ``broken_profile,undefined``; None where there are none."""
    return ",".join(str(n.name).lower() for n in notes) or None


def named_notes(names: str | None) -> Note:
    """The notes that :func:`note_names` named; names of other versions are left out."""
    known = {str(n.name).lower(): n for n in Note}
    notes = Note.NONE
    for name in (names or "").split(","):
        notes |= known.get(name, Note.NONE)
    return notes


@dataclass
class Noted:
    """Counts images by note, and writes one line for each note."""

    counts: Counter[Note] = field(default_factory=Counter)
    first: dict[Note, str] = field(default_factory=dict)

    def add(self, notes: Note, path: str) -> None:
        for note in Note(int(notes)):
            self.counts[note] += 1
            self.first.setdefault(note, path)

    def lines(self) -> list[str]:
        """Such as ``3 images have a broken colour profile and were read without it, first FILE``."""
        return [
            f"{counted(n, 'image')} {_WORDS[note][n > 1]}{', first' if n > 1 else ':'} {self.first[note]}"
            for note, n in sorted(self.counts.items())
        ]


def shown(image: Image.Image, errors: Sequence[type[Exception]]) -> tuple[Image.Image, Note]:
    """RGB pixels of a loaded image as viewers show them. An image without any of these is ``convert("RGB")``:

    - EXIF orientation is applied; a block that cannot be parsed says nothing (``errors``: what parsing may raise).
    - Grey of more than 8 bit is scaled: 0 is black, and white is the largest number of its bits. Numbers of 32 bit name
      no white: by the largest value it is 1 (floats alone), 255, 65535, or beyond that the next power of two, less one;
      floats may exceed it up to twofold, and are clipped. Values below 0 and NaN are black.
    - Transparency (RGBA, LA, PA, or of a palette or colour) lies over white.
    - An embedded profile (RGB, grey or CMYK) is converted to sRGB by littleCMS with perceptual intent. Where it moves no
      colour by more than 1 of 255 the bytes stay. A grey image with an RGB profile is an RGB image of equal channels. CMYK
      without a profile, and gamma or EXIF colour spaces without one, are as Pillow reads them.
    """
    tags: Any = getattr(image, "tag_v2", {})
    info = dict(image.info)
    try:
        upright = ImageOps.exif_transpose(image)
    except tuple(errors):
        upright = image
    notes, alpha = Note.NONE, None
    if upright.mode in _DEEP:
        upright, alpha, notes = _eight_bit(upright, tags, info.get("transparency"))
    elif upright.has_transparency_data:
        transparency = upright.info.get("transparency")
        if isinstance(transparency, tuple) and max(transparency) > 255:  # of 16 bit, of which Pillow keeps the upper 8
            upright.info["transparency"] = tuple(v >> 8 for v in transparency)
        grey = upright.mode in ("1", "L", "LA", "La")
        upright = upright.convert("RGBA")
        alpha = upright.getchannel("A")
        upright = upright.convert("RGB")
        upright = upright.getchannel("R") if grey else upright
    if alpha is not None and alpha.getextrema()[1] == 0:
        notes |= Note.TRANSPARENT
    rgb, of_profile = _in_srgb(upright, info["icc_profile"]) if "icc_profile" in info else (upright, Note.NONE)
    rgb = rgb.convert("RGB")
    if alpha is not None:
        paper = Image.new("RGB", rgb.size, "white")
        paper.paste(rgb, mask=alpha)
        rgb = paper
    return rgb, notes | of_profile


def _eight_bit(image: Image.Image, tags: Any, transparent: Any) -> tuple[Image.Image, Image.Image | None, Note]:
    """Deep grey as 8 bit, with an alpha channel where one value of it is ``transparent``."""
    import numpy as np

    unsigned = image.mode == "I" and bool(tags) and tags.get(_FORMAT, (1,))[0] == 1  # Pillow reads them as signed
    width, height = image.size
    rows = max(1, _BLOCK // width)
    boxes = [(0, top, width, min(height, top + rows)) for top in range(0, height, rows)]

    def block(box: tuple[int, int, int, int]) -> npt.NDArray[np.float64]:
        numbers = np.asarray(image.crop(box))
        return (numbers.view(np.uint32) if unsigned else numbers).astype(np.float64)

    highest, undefined = 0.0, False
    for box in boxes:
        values = block(box)
        finite = values[np.isfinite(values)]
        undefined = undefined or bool(np.isnan(values).any())
        highest = max(highest, float(finite.max(initial=0.0)))
    white, notes = _white(image.mode, highest, tags)
    notes |= Note.UNDEFINED if undefined else Note.NONE
    grey = Image.new("L", image.size)
    alpha = Image.new("L", image.size, 255) if isinstance(transparent, int) else None
    for box in boxes:
        values = block(box)
        if alpha is not None:
            alpha.paste(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)), box)
        scaled = np.nan_to_num(values, nan=0.0, posinf=white, neginf=0.0) / white
        scaled = 1.0 - scaled if tags.get(_INVERTED) == 0 else scaled
        grey.paste(Image.fromarray(np.rint(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)), box)
    return grey, alpha, notes


def _white(mode: str, highest: float, tags: Any) -> tuple[float, Note]:
    """Return the value that stands for white."""
    bits, kind = int(tags.get(_BITS, (16,))[0]), tags.get(_FORMAT, (1,))[0]
    if mode not in ("I", "F"):
        return float((1 << min(bits, 16)) - 1), Note.NONE
    if mode == "I" and bits == 16:
        return float(0x7FFF if kind == 2 else 0xFFFF), Note.NONE
    usual = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    over = 2.0 if mode == "F" else 1.0  # resampling and lights leave a little more than white
    white = next((w for w in usual if highest <= over * w), 2.0 ** int(highest).bit_length() - 1.0)
    return white, Note.NO_WHITE


def _in_srgb(image: Image.Image, data: bytes | None) -> tuple[Image.Image, Note]:
    """An image in sRGB by its embedded profile; as it is, with a note, where that is damaged or of another kind of image."""
    from PIL import ImageCms

    if image.mode == "LAB":  # colours that need no profile
        return image, Note.NONE
    image = image.convert("L") if image.mode == "1" else image if image.mode in ("L", "CMYK") else image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data or b""))
        space = str(profile.profile.xcolor_space).strip()
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != image.mode:
            return image, Note.OTHER_PROFILE
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(profile, srgb, image.mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        moved, span = _effect(image.mode, transform)
        if span < _FLAT:
            return image, Note.BROKEN_PROFILE
        converted = image if moved <= _SAME else ImageCms.applyTransform(image, transform)
        return converted or image, Note.NONE
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, Note.BROKEN_PROFILE


def _effect(mode: str, transform: ImageCms.ImageCmsTransform) -> tuple[int, int]:
    """Return how far a profile moves any colour of a lattice, and the range of its colours, both of 255."""
    from PIL import ImageCms

    bands, levels = len(Image.new(mode, (1, 1)).getbands()), 9
    steps = [255 * i // (levels - 1) for i in range(levels)]
    count = levels**bands
    lattice = bytes(steps[i // levels**b % levels] for i in range(count) for b in range(bands))
    before = Image.frombytes(mode, (count, 1), lattice)
    after = ImageCms.applyTransform(before, transform)
    assert after is not None
    new, old = after.tobytes(), before.convert("RGB").tobytes()
    moved = max(abs(a - b) for a, b in zip(new, old, strict=True))
    return moved, max(max(new[b::3]) - min(new[b::3]) for b in range(3))
