"""Processor cores that this process may use, and threads that wait without using one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

# OpenMP and BLAS threads wait by spinning. Beside other work that takes the core which the last thread needs: a CNN then
# takes four times the processor time. Libraries read these once, when they are loaded.
QUIET: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}


def cores(root: Path = Path("/")) -> int:
    """Whole processor cores this process may use, at least 1.

    The least of its affinity, of the quota of its control groups (versions 1 and 2) and of ``SLURM_CPUS_PER_TASK``.
    """
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min([_affinity(), *_quotas(root), *([int(slurm)] if slurm.isdecimal() else [])]))


def threads() -> int:
    """Threads of one computation: ``OMP_NUM_THREADS`` where it is set, else :func:`cores`."""
    own = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, int(own)) if own.isdecimal() else cores()


def settle() -> None:
    """Let libraries that are loaded later use :func:`threads` threads that wait without spinning.

    Variables that are set already stay. They are the whole process's: the command line calls this, ``import iconicity``
    does not.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if cores() < _affinity():  # else they count the same themselves
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Whole cores that each control group above this process allows. A container sees its own as the topmost."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, own = rest.partition(":")
        tops = [mounted, mounted / "unified"] if not kinds else [mounted / kinds, mounted / "cpu"]
        if kinds and "cpu" not in kinds.split(","):
            continue
        for top in tops:
            group = Path(own.lstrip("/"))
            for part in (group, *group.parents):
                numbers = _numbers(top / part)
                if numbers is not None and min(numbers) > 0:
                    yield numbers[0] // numbers[1]


def _numbers(folder: Path) -> tuple[int, int] | None:
    """Microseconds of processor time that a control group has in a period, and the period's; None: no limit."""
    files = [["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]]
    for names in files:
        try:
            quota, period = " ".join((folder / n).read_text(encoding="utf-8") for n in names).split()
            return int(quota), int(period)
        except (OSError, ValueError):  # ValueError: "max"
            continue
    return None
