"""Names and help texts of the options that fields of dataclasses become. Imports no command-line library.

A message of the library names a field or a parameter in backticks: "lower `batch_size`". Where the command line prints
it, :func:`with_flags` writes the flag. A name that several classes have is written with its class: `Select.concepts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

OWN = object()  # a flag's default is its field's


@dataclass(frozen=True)
class Flag:
    """One option of the command line. It sets a field, alone or together with other options.

    A choice of words, a number between ``least`` and ``most``, a switch (a field that is False), or a ``kind`` of text:
    the command line knows text, path, count (a number, or auto for None) and shard. ``shown``: the default in words.
    With ``repeats`` the value is a tuple of all that were named.
    """

    name: str
    help: str
    choices: Sequence[str] = ()
    least: float | None = None
    most: float | None = None
    above: bool = False  # more than ``least``, and not ``least`` itself
    kind: str = "text"
    default: Any = OWN
    shown: str = ""
    metavar: str | None = None
    repeats: bool = False
    also: Sequence[str] = ()  # other names that the command line takes

    @property
    def param(self) -> str:
        """Name of the function parameter that holds the option."""
        return self.name.lstrip("-").replace("-", "_")


def flags(default: Any, *of: Flag, join: Callable[..., Any] | None = None) -> Any:
    """A field with its flags. ``join`` makes the field's value from theirs; without ``join`` the one flag gives the value."""
    return field(default=default, metadata={"flags": of, "join": join})


_NAME = re.compile(r"`([\w.]+)`")
FLAGS_OF: dict[str, set[str]] = {}  # name in a message -> the flags that it may be; the commands fill it


def with_flags(text: str) -> str:
    """Return a message for the command line: names in backticks become their flags, where there is just one.

    >>> FLAGS_OF.setdefault("batch_size", set()).add("--batch-size")
    >>> with_flags("lower `batch_size`, not `something`")
    'lower --batch-size, not `something`'
    """

    def flag(name: re.Match[str]) -> str:
        found = FLAGS_OF.get(name[1], ())
        return next(iter(found)) if len(found) == 1 else name[0]

    return _NAME.sub(flag, text)


def bare(text: str) -> str:
    """Return a message for a page or a paper: names without their backticks.

    >>> bare("beyond `k_gen` 50")
    'beyond k_gen 50'
    """
    return _NAME.sub(r"\1", text)
