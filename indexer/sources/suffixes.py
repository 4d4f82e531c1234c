"""Tell by the suffix of a name whether a file is an image that is read, an image that is not, or no image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from iconicity.indexer.text import counted

# By format; a name's case does not matter.
READ = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
}
SUFFIXES = frozenset(suffix for suffixes in READ.values() for suffix in suffixes)
SUPPORTED = " ".join(sorted(SUFFIXES))
# Formats for images that are not read: phones and JPEG's successors, cameras, editors, vectors and pages, the rest.
_UNREAD = """
    heic heif hif jp2 j2k j2c jpc jpf jpx jpm jph jxl jxr hdp wdp jls qoi bpg flif
    raw dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr erf kdc mrw rwl iiq
    psd psb xcf kra ora clip afphoto sketch
    svg svgz eps ps ai pdf djvu djv emf wmf cdr
    tga icb vda vst ico cur icns pcx dcx ppm pgm pbm pnm pam pfm exr hdr dds sgi bw ras sun xbm xpm pict pct iff lbm
"""
UNREAD = frozenset(f".{suffix}" for suffix in _UNREAD.split())
# As downloads leave them: photo.jpg?w=200, photo.jpg_large, photo.jpg~
_BLURRED = re.compile(f"(?:{'|'.join(re.escape(s) for s in sorted(SUFFIXES | UNREAD))})[^a-z0-9.][^.]*")

# Why an image was passed over by its name, place or metadata, as a reason. Many such files are told in one line.
UNSUPPORTED = "unsupported extension"
LOOSE = "beside the concept folders"
NESTED = "in a folder within a concept folder"
UNSAFE = "flagged by the model's safety checker"
PASSED_OVER = (UNSUPPORTED, LOOSE, NESTED, UNSAFE)


class Unused(Protocol):
    """A file that could not be used, and why."""

    @property
    def path(self) -> str: ...
    @property
    def reason(self) -> str: ...


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, empty where it has none.

    >>> suffix_of("photo.JPG"), suffix_of("photo")
    ('.jpg', '')
    """
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_read(name: str) -> bool:
    """Whether a file is by its suffix an image that is read."""
    return suffix_of(name) in SUFFIXES


def is_image(name: str) -> bool:
    """Whether a file is by its suffix an image, read or not.

    >>> [is_image(n) for n in ("a.JPG", "a.heic", "a.jpg?w=200", "Thumbs.db", "a.json")]
    [True, True, True, False, False]
    """
    suffix = suffix_of(name)
    return suffix in SUFFIXES or suffix in UNREAD or _BLURRED.fullmatch(suffix) is not None


def passed_over(skipped: Iterable[Unused]) -> list[str]:
    """A line for each kind of image that was passed over by its name, place or metadata."""
    by_reason: dict[str, list[str]] = {}
    for s in skipped:
        by_reason.setdefault(s.reason, []).append(s.path)
    lines = []
    if paths := by_reason.get(UNSUPPORTED):
        lines.append(
            f"ignored {counted(len(paths), 'image')} with unsupported extensions: {_by_suffix(paths)} (supported: {SUPPORTED}), "
            f"first {paths[0]}"
        )
    if paths := by_reason.get(LOOSE):
        lines.append(
            f"ignored {counted(len(paths), 'image')} beside the concept folders, first {paths[0]}; move each image into the folder of "
            "its concept"
        )
    if paths := by_reason.get(NESTED):
        lines.append(
            f"ignored {counted(len(paths), 'image')} in folders within the concept folders, first {paths[0]}; move each image directly "
            "into the folder of its concept"
        )
    if paths := by_reason.get(UNSAFE):
        lines.append(
            f"left out {counted(len(paths), 'image')} that the model's safety checker flagged, first {paths[0]}"
        )
    return lines


def not_images(names: Sequence[str]) -> list[str]:
    """The line that counts files that are no images, by suffix; none without files."""
    if not names:
        return []
    return [
        f"ignored {counted(len(names), 'file that is', 'files that are')} no image by name: "
        f"{_by_suffix(names)}, first {names[0]}"
    ]


def _by_suffix(names: Iterable[str]) -> str:
    """How many names have each suffix, the most frequent first.

    >>> _by_suffix(["a.heic", "b.HEIC", "c.jp2", "d"])
    '.heic 2, .jp2 1, no suffix 1'
    """
    counts = Counter(suffix_of(name) or "no suffix" for name in names)
    return ", ".join(f"{suffix} {n}" for suffix, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
