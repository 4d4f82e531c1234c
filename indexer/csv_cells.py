"""Cells of the CSV files we write: every reader gives back what was written, and no spreadsheet runs a name.

A cell is quoted where any reader could take it apart: a lone carriage return, which Python's own writer leaves bare,
separators, line ends of Unicode, and blanks at its ends. An empty text is ``""``, a cell without a value is nothing.

A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it;
so does one that already has apostrophes there, so that reading takes away what writing put. Numbers stay numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile("'*[=+\\-@\t\r]")
_NEUTRAL = re.compile("''*[=+\\-@\t\r]")
_QUOTED = re.compile('[",;\x00-\x1f\x7f-\x9f\u2028\u2029]|^\\s|\\s$|^$')


def neutral(value: Any) -> Any:
    """A value for a CSV cell; text that a spreadsheet would run begins with an apostrophe.

    >>> neutral("=1+1"), neutral("plain"), neutral(-0.5)
    ("'=1+1", 'plain', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def plain(text: str) -> str:
    """Text of a cell as it was before :func:`neutral`.

    >>> plain("'=1+1"), plain("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if _NEUTRAL.match(text) else text


def csv_line(values: Iterable[Any]) -> str:
    """One row of a CSV file, with its line end.

    >>> csv_line(["a", None, "", "b, c", "=1", 0.5])
    'a,,"","b, c",\\'=1,0.5\\n'
    """
    line = ",".join(map(_cell, values))
    return (line or '""') + "\n"  # readers pass over an empty line


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(neutral(value))
    if not _QUOTED.search(text):
        return text
    doubled = text.replace('"', '""').replace("\0", "\\x00")  # some readers end a cell at a NUL
    return f'"{doubled}"'


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as a CSV file; values that are missing are empty cells."""
    known = frame.notna().to_numpy()
    rows = zip(*(frame.iloc[:, i].array for i in range(frame.shape[1])), strict=True)
    lines = [
        csv_line([v if has else None for v, has in zip(*both, strict=True)]) for both in zip(rows, known, strict=True)
    ]
    return csv_line(frame.columns) + "".join(lines)
