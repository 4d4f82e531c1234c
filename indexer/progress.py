"""Progress of long steps, reported to a callable, so that library code knows no terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # (what, done, total)


def no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
