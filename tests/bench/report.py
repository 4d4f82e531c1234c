"""Figures of a benchmark, as a table and as JSON, with the machine they were measured on."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iconicity.indexer.cores import cores
from iconicity.indexer.store.manifest import versions
from iconicity.scorer.text import table


@dataclass(frozen=True)
class Figure:
    """One measured quantity, repeated."""

    name: str
    values: Sequence[float]
    unit: str = ""

    @property
    def median(self) -> float:
        return float(statistics.median(self.values))


def as_text(figures: Sequence[Figure]) -> str:
    """A line a figure: min, median, max."""
    rows = [
        [f.name, *(_short(v) for v in (min(f.values), f.median, max(f.values))), str(len(f.values)), f.unit]
        for f in figures
    ]
    return table(("figure", "min", "median", "max", "n", "unit"), rows)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def as_json(figures: Sequence[Figure], options: dict[str, Any]) -> dict[str, Any]:
    """Figures with min, median and max, the options, and the machine."""
    return {
        "figures": [{**asdict(f), "min": min(f.values), "median": f.median, "max": max(f.values)} for f in figures],
        "options": options,
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, torch threads, and versions."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": cores(), "torch_threads": torch.get_num_threads(), "versions": versions()}
