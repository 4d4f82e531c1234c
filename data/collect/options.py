"""Options of ``iconicity collect``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags

# Widths that the servers keep thumbnails in. Others are refused, or made anew for each who asks.
WIDTHS = (250, 330, 500, 960, 1280, 1920, 3840)
IMAGE, REPRESENTATION, CATEGORY, DEPICTS = FOUND_BY = ("image", "representation", "category", "depicts")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,12}){0,2}")
_PATTERN = re.compile(r"[a-z0-9.*+-]{1,60}")


def _patterns(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip().lower() for part in (text or "").split(",") if part.strip())


@dataclass(frozen=True)
class CollectOptions:
    """Which pictures of a concept are fetched, and how. Raises :class:`InputError` for a language or licence that is none."""

    per_concept: int = flags(
        5, Flag("--per-concept", "Pictures to fetch for each concept, at most.", least=1, most=100, metavar="N")
    )
    width: int = flags(
        960,
        Flag(
            "--width",
            "Width of the pictures in pixels, one that the server offers. A smaller picture is fetched as it is.",
            choices=[str(w) for w in WIDTHS],
            default="960",
        ),
        join=int,
    )
    licences: Sequence[str] = flags(
        (),
        Flag(
            "--licences",
            "Fetch only pictures under these licences, as the server names them: public-domain,cc0,cc-by. A * stands for "
            "any text, as in cc-*.",
            metavar="LIST",
            default=None,
            shown="any",
        ),
        join=_patterns,
    )
    found_by: Sequence[str] = flags(
        FOUND_BY,
        Flag(
            "--found-by",
            "Take pictures found in this way: the item's image (P18), files that are a digital representation of the item "
            "(P6243), its category, files that depict it (P180). May be repeated.",
            choices=FOUND_BY,
            default=(),
            shown="all, in this order",
            repeats=True,
        ),
        join=lambda named: tuple(w for w in FOUND_BY if w in named) or FOUND_BY,
    )
    language: str = flags(
        "en", Flag("--language", "Language of the titles, and of the Wikipedia whose page views are counted.")
    )
    restore: bool = flags(
        False, Flag("--restore", "Fetch pictures again that were deleted.", kind="switch", default=False)
    )

    def __post_init__(self) -> None:
        if not _LANGUAGE.fullmatch(self.language):
            raise InputError(
                f"`language` {self.language[:40]!r}: no code of a language; write one such as en or zh-hant"
            )
        for pattern in self.licences:
            if not _PATTERN.fullmatch(pattern):
                raise InputError(
                    f"`licences` {pattern[:40]!r}: no name of a licence; write names such as public-domain,cc0,cc-by"
                )
