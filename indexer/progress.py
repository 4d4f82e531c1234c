"""Progress of long steps, reported to a callable, so that library code knows no terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # (what, done, total)


def no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def within(stage: str, progress: Progress) -> Progress:
    """The progress of one stage of several, whose name stands before that of each step."""

    def report(what: str, done: int, total: int) -> None:
        progress(f"{stage}, {what}", done, total)

    return report
