"""Progress for people on stderr: one bar in a terminal, else a line a minute, as a log of a batch job needs it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from iconicity.indexer.progress import Progress
from iconicity.indexer.text import echo_line, one_line

EVERY = 60.0  # seconds between two lines, and before the first
SECONDS = "ICONICITY_PROGRESS_SECONDS"  # of the environment: another number of them, for a program that reads the lines


def progress_bar() -> Progress:
    """Progress on stderr: a bar of the step that runs now in a terminal, else at most one line a minute."""
    if sys.stderr.isatty():
        return _bar()
    seconds = os.environ.get(SECONDS, "")
    return progress_lines(every=float(seconds) if seconds.isdigit() else EVERY)


def _bar() -> Progress:
    from tqdm import tqdm

    bar: Any = None
    running = ""

    def report(what: str, done: int, total: int) -> None:
        nonlocal bar, running
        if bar is None or what != running:
            if bar is not None:
                bar.close()
            bar, running = tqdm(total=total, desc=one_line(what), unit="img", file=sys.stderr, leave=False), what
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return report


def progress_lines(clock: Callable[[], float] = time.monotonic, every: float = EVERY) -> Progress:
    """Progress as lines: the first after ``every`` seconds, so that a short command says nothing."""
    said = clock()
    running, began, first = "", said, 0

    def report(what: str, done: int, total: int) -> None:
        nonlocal said, running, began, first
        now = clock()
        if what != running:
            running, began, first = what, now, done
        if now - said < every or done >= total:
            return
        said = now
        left = f", about {_minutes((now - began) * (total - done) / (done - first))} left" if done > first else ""
        echo_line(f"{what}: {done} of {total} ({done / total:.0%}){left}", err=True)

    return report


def _minutes(seconds: float) -> str:
    """
    >>> _minutes(20), _minutes(600), _minutes(9000)
    ('1 min', '10 min', '2.5 h')
    """
    return f"{max(1, round(seconds / 60))} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
