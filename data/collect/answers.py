"""Answers of servers as checked objects, and their texts as plain, short lines."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from iconicity.indexer.errors import AnswerError

TEXT = 300  # characters of a text that is kept
_HTML = 20_000  # characters of HTML that are read
_URL_LENGTH = 1000
_URL = re.compile(r"https?://[^\s<>\"\\^`{|}]+")
_SILENT = frozenset({"script", "style", "template", "title"})
M = TypeVar("M", bound=BaseModel)


def checked(kind: type[M], answer: Any, at: str) -> M:
    """An answer as an object of ``kind``. Raises :class:`AnswerError` for one of another shape."""
    try:
        return kind.model_validate(answer)
    except ValidationError as e:
        place = ".".join(str(part) for part in e.errors(include_url=False, include_input=False)[0]["loc"])
        raise AnswerError(at, f"its answer has another shape than expected, at {tidy(place, 80) or 'its start'}") from e


def tidy(text: str, most: int = TEXT) -> str:
    """Text as one line of at most so many characters, without what cannot be seen or moves other text.

    >>> tidy("a\\x1b[2J\\n b\\u202e")
    'a [2J b'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())[:most].strip()


def plain_text(html: str) -> str:
    """What HTML says, as one line.

    >>> plain_text('<a href="//x">A &amp; B</a><script>c</script><br>d')
    'A & B d'
    """
    reader = _Text()
    reader.feed(html[:_HTML])
    reader.close()
    return tidy(" ".join(reader.parts))


def web_address(text: str) -> str:
    """An address of http or https; "" for any other text.

    >>> web_address("//creativecommons.org/by/4.0"), web_address("javascript:alert(1)")
    ('https://creativecommons.org/by/4.0', '')
    """
    text = text.strip()
    text = f"https:{text}" if text.startswith("//") else text
    return text if len(text) <= _URL_LENGTH and text.isprintable() and _URL.fullmatch(text) else ""


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self._silent += tag in _SILENT

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)
