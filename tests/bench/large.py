"""Opening an index: what ``index info`` and scoring within concepts read, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.report import Figure

_OPEN = """
import sys, time
from pathlib import Path
from iconicity.indexer.store.index import open_index
index = open_index(Path(sys.argv[1]))
counts = index.concepts()
index.block([next(iter(counts))])
"""


def opening(index: Path, repeat: int) -> list[Figure]:
    """Seconds of ``index info``, and of opening for scope concept up to the first concept's vectors; start-up included."""
    commands = {
        "index info": [sys.executable, "-m", "iconicity.cli", "index", "info", "--index", str(index)],
        "opening for scope concept": [sys.executable, "-c", _OPEN, str(index)],
    }
    size = sum(p.stat().st_size for p in index.rglob("*") if p.is_file()) / 1e6
    figures = [Figure("size of the index on disk", [size], "MB")]
    for name, command in commands.items():
        seconds = []
        for _ in range(repeat):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        figures.append(Figure(name, seconds, "s, start-up included"))
    return figures
