"""Text in CSV cells, so that a spreadsheet takes no name for a formula.

A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it;
so does one that already has apostrophes there, so that reading takes away what writing put. Numbers stay numbers.
"""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile("'*[=+\\-@\t\r]")
_NEUTRAL = re.compile("''*[=+\\-@\t\r]")


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
