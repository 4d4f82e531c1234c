"""How a long step says how far it is: a callable, so that no library code knows of terminals."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # (what, done, total)


def no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
