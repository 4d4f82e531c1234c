"""The creator's name in a prompt: found, dropped or added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from iconicity.data.english import FUNCTION_WORDS, WORD

_SEVERAL = re.compile(r"\s*[;|]\s*")  # between the names of several creators
_MADE = "painted|drawn|made|created|photographed|sculpted|designed|directed"
_PARTS = 9  # of a name that is looked for in part
_LEAST = 3  # letters of a last name that is looked for alone


@dataclass(frozen=True)
class NoName:
    """Why a prompt cannot be had with and without its creator's name."""

    reason: str


def creator_names(creator: str) -> list[str]:
    """Names of a cell that may hold several, separated by semicolons or bars, or by commas between whole names.

    >>> creator_names("Jan van Eyck; Hubert van Eyck"), creator_names("Gogh, Vincent van")
    (['Jan van Eyck', 'Hubert van Eyck'], ['Gogh, Vincent van'])
    """
    names = [" ".join(name.split()) for name in _SEVERAL.split(creator.strip()) if name.strip()]
    parts = [part.strip() for name in names for part in name.split(",") if part.strip()]
    return parts if all(" " in part for part in parts) else names


def name_words(creator: str) -> set[str]:
    """Words of the names in lower case, without those like "of" and "the"."""
    return {w[0].lower() for name in creator_names(creator) for w in WORD.finditer(name)} - FUNCTION_WORDS


def other_name(prompt: str, title: str, creator: str) -> tuple[str, str] | NoName:
    """The prompt without its creator's name where it has it, else with it; and which, as ``dropped: ...`` or ``added: ...``.

    A name that belongs to the title is not dropped: "Whistler's Mother".

    >>> other_name("The Scream by Edvard Munch, oil", "The Scream", "Edvard Munch")
    ('The Scream, oil', 'dropped: by Edvard Munch')
    >>> other_name("the scream, oil", "The Scream", "Edvard Munch")
    ('the scream by Edvard Munch, oil', 'added: by Edvard Munch')
    """
    names = creator_names(creator)
    if not names:
        return NoName("no creator")
    dropped: list[str] = []
    text = prompt
    for pattern, within_title in _patterns(names):
        of_title = span_of(title, text)

        def without(found: re.Match[str], kept: tuple[int, int] = of_title, always: bool = within_title) -> str:
            if not always and kept[0] <= found.start("name") and found.end("name") <= kept[1]:
                return found[0]
            dropped.append(" ".join(found[0].strip(" \t\n,;:()[]–-").split()))
            return " "

        text = pattern.sub(without, text)
    if dropped:
        left = re.sub(r"\s+([,;.:!?)])", r"\1", " ".join(text.split())).strip(" ,;:")
        return (
            (left, f"dropped: {', '.join(dropped)}") if WORD.search(left) else NoName("nothing but the creator's name")
        )
    start, end = span_of(title, prompt)
    if any(not (start <= m.start() and m.end() <= end) for m in _name_of(names).finditer(prompt)):
        return NoName("the creator's name is a part of its sentence")
    added = f"by {' and '.join(names)}"
    if start == end:
        end = len(prompt.rstrip(" .!?"))
    return f"{prompt[:end]} {added}{prompt[end:]}", f"added: {added}"


def span_of(title: str, prompt: str) -> tuple[int, int]:
    """Where a title stands in a prompt, whatever the case; an empty span where it does not."""
    words = title.split()
    if not words:
        return 0, 0
    found = re.search(r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)", prompt, re.IGNORECASE)
    return found.span() if found else (0, 0)


def _patterns(names: list[str]) -> Iterator[tuple[re.Pattern[str], bool]]:
    """How a name is joined to a prompt, and whether that counts within the title, too."""
    name = rf"(?P<name>{_any_of(names)})"
    for pattern, within_title in (
        (rf"(?<![\s,;])[\s,;]*[(\[]?(?:\b(?:{_MADE})\s+)?\b(?:by|in\s+the\s+style\s+of)\s+(?:the\s+(?:artist|painter)\s+)?(?:\w\.\s*)*{name}(?!\w)[)\]]?", True),
        (rf"(?<!\w){name}['’](?:s\b)?\s*", False),
        (rf"\s*[(\[]\s*{name}\s*[)\]]", False),
        (rf"\s*(?:[,;:–]|\s-)\s*{name}(?=\s*(?:[,;.)]|$))", False),
        (rf"^\s*{name}\s*[,;:–]\s*", False),
    ):  # fmt: skip
        yield re.compile(pattern, re.IGNORECASE), within_title


def _name_of(names: list[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{_any_of(names)})(?!\w)", re.IGNORECASE)


def _any_of(names: list[str]) -> str:
    """Alternatives: each name, and its last parts, the longest first."""
    ends = {*names, *(part.strip() for name in names for part in name.split(",") if len(part.strip()) >= _LEAST)}
    for name in names:
        parts = name.split()
        ends |= {" ".join(parts[i:]) for i in range(1, len(parts)) if len(parts[-1]) >= _LEAST and len(parts) <= _PARTS}
    return "|".join(r"\s+".join(map(re.escape, end.split())) for end in sorted(ends, key=lambda e: (-len(e), e)))
