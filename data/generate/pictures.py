"""The file of one image: a PNG that says in a text chunk what made it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from iconicity.data.generate.plan import Planned

Pixels = npt.NDArray[np.uint8]  # (height, width, 3)
_CHUNK = "iconicity"
_END = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG that is whole


class Facts(Planned):
    """What made an image. ``flagged``: what the model's safety checker said; None where the model has none.

    ``model``: id on the hub, or the name of a folder.
    """

    flagged: bool | None
    model: str
    revision: str | None
    device: str
    diffusers: str
    torch: str
    transformers: str


def png(pixels: Pixels, facts: Facts) -> bytes:
    """The bytes of an image's file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text(_CHUNK, json.dumps(facts.model_dump()))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def read_png(path: Path) -> tuple[Facts, str] | None:
    """What made an image and its size, as 512x512; None of a file that is not whole, or that :func:`png` did not make.

    No pixel is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as f:
            f.seek(-len(_END), os.SEEK_END)
            if f.read() != _END:
                return None
            f.seek(0)
            with Image.open(f, formats=["PNG"]) as image:
                text = image.info.get(_CHUNK)
                size = f"{image.width}x{image.height}"
            return (Facts.model_validate_json(text), size) if isinstance(text, str) else None
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError, ValidationError):
        return None
