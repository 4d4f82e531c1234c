"""What a file's bytes say of it before they are decoded: another format than its name says."""

from __future__ import annotations

# (bytes, where they stand): what a file is that is none of the formats read
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


def other_kind(data: bytes) -> str:
    """What bytes are that are no image of a format we read, in words; empty where they tell nothing.

    >>> other_kind(b"<html>not found"), other_kind(b"abc")
    ('an HTML page', '')
    """
    head = data[:64].lstrip()
    for magic, at, kind in _OTHERS:
        found = data[at : at + len(magic)] if at or not magic.startswith(b"<") else head[: len(magic)].lower()
        if found == magic:
            return kind
    return ""
