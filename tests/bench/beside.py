"""What an index build costs beside other work: on a quiet machine, and beside one busy process per core."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.images import sources, write_study
from bench.report import Figure
from iconicity.indexer.cores import cores

PROGRAM = (sys.executable, "-m", "iconicity.cli")


def bench_beside(images: Path | None, n: int, repeat: int) -> list[Figure]:
    """Build an index of n references with the offline encoders, in turn without and beside the busy processes.

    Each build is a command of its own, start-up included. Its processor time is that of all its processes.
    """
    quiet, beside = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_study(root, sources(images), 1, n, 0)
        _build(root, "first")  # whose files are then in memory
        for i in range(repeat):
            quiet.append(_build(root, f"quiet{i}"))
            with _busy(cores()):
                beside.append(_build(root, f"beside{i}"))
    figures = []
    for k, what in enumerate(("processor time", "wall time")):
        pairs = [(q[k], b[k]) for q, b in zip(quiet, beside, strict=True)]
        figures += [
            Figure(f"{what}, no process of ours beside it", [q for q, _ in pairs], "s"),
            Figure(f"{what}, beside {cores()} busy", [b for _, b in pairs], "s"),
            Figure(f"{what}, beside / without", [b / q for q, b in pairs], "ratio"),
        ]
    return figures


def _build(root: Path, name: str) -> tuple[float, float]:
    """Processor and wall seconds of a build."""
    spent, started = _children(), time.perf_counter()
    subprocess.run([*PROGRAM, *arguments(root, name)], check=True, capture_output=True)
    return _children() - spent, time.perf_counter() - started


def arguments(root: Path, name: str) -> list[str]:
    """What is measured: the command line of a build."""
    return ["index", "build", "--encoders", "offline", "--refs", str(root / "refs"), "--index", str(root / name)]


def _children() -> float:
    """Processor seconds of all processes that ended and were waited for, those that they waited for included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _busy(n: int) -> Iterator[None]:
    """So many processes that do nothing but use the processor."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
