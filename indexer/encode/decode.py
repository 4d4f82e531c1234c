"""Turn image bytes into RGB pixels, with C libraries that were not made for hostile files.

:func:`decode` works in the process it is called in. Files of unknown origin are decoded in a process that may be lost:
:mod:`iconicity.indexer.encode.decoder` and :mod:`iconicity.indexer.encode.prepare` run it there, within :func:`limits`.
"""

from __future__ import annotations

import io
import signal
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError, features

from iconicity.indexer.encode.damage import damage, other_kind
from iconicity.indexer.encode.limits import MAX_PIXELS, memory_limit
from iconicity.indexer.encode.pixels import Note, shown
from iconicity.indexer.errors import ImageError

_AVIF = "avif" in features.modules and features.check_module("avif")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", *(("AVIF",) if _AVIF else ()))
if _AVIF:
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a thread for each core has a stack each, which counts as memory
MAX_ASPECT = 500  # encoders enlarge the short side to their input: a line of pixels would become gigabytes
CPU_SECONDS = 60.0  # processor time and not wall-clock time, so that a busy machine refuses no image
_BYTES_A_PIXEL = 24  # decoder, file, upright and converted copies together
_SPARE_BYTES = 512 << 20

# What Pillow's decoders raise on hostile files. Nothing else is swallowed.
_DECODE_ERRORS: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip
ImageFile.LOAD_TRUNCATED_IMAGES = False  # half an image must not pass for a whole one


@dataclass(frozen=True)
class Decoded:
    """RGB pixels of an image (8 bit), and notes on how they were read."""

    image: Image.Image
    notes: Note = Note.NONE


def decode(data: bytes, path: Path | str, pixels: str = "shown", max_pixels: int = MAX_PIXELS) -> Decoded:
    """Image bytes to RGB, 8 bit, of the first frame.

    ``pixels`` "shown": as viewers show them, see :func:`iconicity.indexer.encode.pixels.shown`. "published":
    ``convert("RGB")`` and nothing else, as in the published scripts: the orientation stays as stored, alpha is
    dropped, 16-bit grey is clipped, and colour profiles are ignored. The size in the header is looked at before
    anything is decoded. Raises :class:`ImageError` with the reason.
    """
    try:
        with warnings.catch_warnings(), _pillow_limit(max_pixels):
            warnings.simplefilter("ignore")  # bomb warnings below the limit, palette transparency, broken EXIF
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise Image.DecompressionBombError
                image.load()
                reason, notes = damage(data, image)
                if reason is not None:
                    raise ImageError(path, reason)
                rgb, more = shown(image, _DECODE_ERRORS) if pixels == "shown" else (image.convert("RGB"), Note.NONE)
                return Decoded(rgb, notes | more)
    except UnidentifiedImageError as e:
        kind = other_kind(data, FORMATS)
        raise ImageError(path, f"not an image of a known format{': ' * bool(kind)}{kind}") from e
    except Image.DecompressionBombError as e:
        raise ImageError(path, f"more pixels than the limit of {max_pixels} (`max_pixels`)") from e
    except ImportError as e:
        raise ImageError(
            path, "its colour profile needs a Pillow with littleCMS: install one of Pillow's wheels"
        ) from e
    except _DECODE_ERRORS as e:
        raise ImageError(path, f"cannot be decoded: {type(e).__name__}: {' '.join(str(e).split())[:120]}") from e


def require_shape(width: int, height: int, path: Path | str) -> None:
    """Raise :class:`ImageError` when an image or a cell is too narrow for any encoder."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(path, f"{width} x {height} pixels: narrower than 1:{MAX_ASPECT}")


@contextmanager
def limits(max_pixels: int, cpu_seconds: float = CPU_SECONDS) -> Iterator[None]:
    """Bound what this process may use within the block: the system kills it (SIGPROF) after so much processor time,
    and refuses more memory than an image of ``max_pixels`` can need. For processes that may be lost.
    """
    with memory_limit(max_pixels * _BYTES_A_PIXEL + _SPARE_BYTES):
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Pillow's own check, which also looks at what a header cannot tell, such as a GIF frame larger than the image."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)  # Pillow refuses twice its limit
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
