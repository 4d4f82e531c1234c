"""Safe printing: no name moves the cursor, starts a line, or hides the text beside it."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from iconicity.indexer.flags import with_flags
from iconicity.indexer.places import named

# Control characters (C0, DEL, C1), lone surrogates, line and paragraph separators, and what reorders or hides text:
# letters of right-to-left scripts stay, the marks that turn other text around do not.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]")


def one_line(text: str) -> str:
    """Return text with control characters as escapes.

    >>> one_line("a\\x1b[2Jb\\nc")
    'a\\\\x1b[2Jb\\\\nc'
    """
    return _UNSAFE.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun in the right form.

    >>> counted(1, "image"), counted(2, "image"), counted(2, "patch", "patches")
    ('1 image', '2 images', '2 patches')
    """
    return f"{n} {one if n == 1 else many or one + 's'}"


def json_text(value: Any) -> str:
    """Return JSON that is safe to print: control characters become JSON's own escapes."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _UNSAFE.sub(lambda m: m[0] if m[0] == "\n" else f"\\u{ord(m[0]):04x}", text)


def echo(text: str, data: bool = False) -> None:
    """Print text of several lines. ``data``: it is JSON, in which names stay as they are."""
    click.echo("\n".join(one_line(line) for line in named(text if data else with_flags(text)).split("\n")))


def echo_line(text: object, err: bool = False) -> None:
    """Print one line, which may hold names from users."""
    click.echo(one_line(named(with_flags(str(text)))), err=err)
