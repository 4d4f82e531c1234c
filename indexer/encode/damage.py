"""Find damage in the bytes of an image file: another format than its name, data that end early, bytes after the end.

libjpeg paints grey, or leaves detail out, where data end before an end mark, and Pillow hears nothing of it.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops

from iconicity.indexer.encode.pixels import Note

# (bytes, their place, what a file is that has them there)
_OTHERS = (
    (b"ftypavif", 4, "AVIF, which this Pillow cannot read; install pillow 11.3 or later"),
    (b"ftypavis", 4, "AVIF, which this Pillow cannot read; install pillow 11.3 or later"),
    (b"ftyphei", 4, "HEIC"),
    (b"ftyphev", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIF"),
    (b"ftypmsf1", 4, "HEIF"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"8BPS", 0, "PSD"),
    (b"%PDF", 0, "PDF"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"version https://git-lfs", 0, "a Git LFS pointer; fetch the file with 'git lfs pull'"),
    (b"<!doctype html", 0, "an HTML page"),
    (b"<html", 0, "an HTML page"),
    (b"<svg", 0, "SVG"),
    (b"<?xml", 0, "XML"),
)


def other_kind(data: bytes, formats: Sequence[str] = ()) -> str:
    """Name in words the format of bytes that Pillow cannot read as one of ``formats``; empty where it is unknown.

    >>> other_kind(b"<html>not found"), other_kind(b"abc")
    ('an HTML page', '')
    """
    head = data[:64].lstrip()
    for magic, at, kind in _OTHERS:
        found = data[at : at + len(magic)] if at or not magic.startswith(b"<") else head[: len(magic)].lower()
        if found == magic:
            return "AVIF, damaged or cut short" if kind.startswith("AVIF") and "AVIF" in formats else kind
    return ""


_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # the marker that ends entropy-coded data
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE, _HUFFMAN = frozenset({0xC2, 0xC6}), frozenset({0xC0, 0xC1, 0xC2})
_MORE_DATA = b"\x5a\x96\x3c\x27" * 16  # decoded as image data only where those end early
_BLANK = 64  # equal bytes at the end of a file without an end mark: what a download or a disk left unwritten
_CUT_SHORT = "cut short: its image data end before the image is whole"


def damage(data: bytes, image: Image.Image) -> tuple[str | None, Note]:
    """Return why a loaded image is not whole (None: it is, as far as can be seen), and notes on a whole image.

    ``data`` are the bytes that Pillow loaded ``image`` from without an error. Of JPEG and PNG.
    """
    if image.format == "PNG":
        return _png(data)
    if image.format in ("JPEG", "MPO"):
        return _jpeg(data, image)
    return None, Note.NONE


def _png(data: bytes) -> tuple[str | None, Note]:
    """Checksums of the chunks that pixels depend on: Pillow does not test those of image data."""
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            break
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"damaged: the checksum of its {kind.decode('ascii', 'replace')} chunk is wrong", Note.NONE
        at = end
        if kind == b"IEND":
            return None, Note.TRAILING if data[at:].strip(b"\0 \r\n\t") else Note.NONE
    return None, Note.NO_END


@dataclass(frozen=True)
class _Layout:
    """Places in a JPEG file: where its data end (the marker after the last scan), and whether its scans are complete."""

    frame: int
    data_end: int
    end: int | None  # behind the end mark
    whole: bool
    parts: bool  # it declares further images behind its end


def _jpeg(data: bytes, image: Image.Image) -> tuple[str | None, Note]:
    found = _layout(data)
    if found is None:
        return None, Note.NONE
    if not found.whole:
        return "cut short: scans of its progressive image are missing", Note.NONE
    if found.end is None and len(set(data[-_BLANK:])) == 1:
        return f"{_CUT_SHORT}, and blank bytes follow", Note.NONE
    corner = image.getpixel((image.width - 1, image.height - 1))
    grey = set(corner if isinstance(corner, tuple) else (corner,)) <= {127, 128}  # what libjpeg paints
    if (grey or found.frame in _PROGRESSIVE) and found.frame in _HUFFMAN and _takes_more(data, found.data_end, image):
        return _CUT_SHORT, Note.NONE
    if found.end is None:
        return None, Note.NO_END
    trailing = not found.parts and data[found.end :].strip(b"\0\xff \r\n\t")
    return None, Note.TRAILING if trailing else Note.NONE


def _takes_more(data: bytes, end: int, image: Image.Image) -> bool:
    """Whether further image data change the pixels: a whole image has no use for them."""
    with Image.open(io.BytesIO(data[:end] + _MORE_DATA + data[end:]), formats=("JPEG",)) as other:
        other.load()
        return ImageChops.difference(image, other).getbbox(alpha_only=False) is not None


def _layout(data: bytes) -> _Layout | None:
    """Return None for a file whose markers cannot be followed, although libjpeg could decode it."""
    frame, data_end, parts = 0, 0, False
    bits: dict[int, list[int]] = {}  # component -> the lowest bit sent of each coefficient, -1: none was
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1] if at + 1 < len(data) else 0xD9
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            whole = all(bit == 0 for component in bits.values() for bit in component)
            end = at + 2 if at + 2 <= len(data) else None
            return _Layout(frame, data_end, end, whole, parts) if data_end else None
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 4 + len(body)
        if marker in _FRAMES:
            frame = marker
            if frame in _PROGRESSIVE and len(body) > 5:
                bits = {c: [-1] * 64 for c in body[6 : 6 + 3 * body[5] : 3]}
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            parts = True
        elif marker == 0xDA:
            _note_scan(body, bits)
            after = _AFTER_SCAN.search(data, at)
            at = data_end = after.start() if after else len(data)
    whole = all(bit == 0 for component in bits.values() for bit in component)
    return _Layout(frame, data_end, None, whole, parts) if data_end else None


def _note_scan(body: bytes, bits: dict[int, list[int]]) -> None:
    """Record which bits a progressive scan sends."""
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        return
    first, last, low = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
    for component in body[1 : 1 + 2 * count : 2]:
        for k in range(first, min(last, 63) + 1):
            if component in bits:
                bits[component][k] = low
