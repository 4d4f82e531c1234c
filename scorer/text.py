"""Results as plain text tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iconicity.indexer.text import one_line


def number(value: float, digits: int = 3) -> str:
    return "nan" if math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share as a percentage with one decimal at most.

    >>> percent(0.975), percent(0.01)
    ('97.5 %', '1 %')
    """
    return f"{round(100.0 * share, 1):g} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right. A cell is one line, whatever is in it."""
    header, rows = [one_line(c) for c in header], [[one_line(c) for c in r] for r in rows]
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *(line(r) for r in rows)])


def encoders_line(labels: Iterable[str]) -> str:
    """Which encoders gave the numbers; one that gave both is named once."""
    return one_line("encoders: " + "; ".join(dict.fromkeys(labels)))


def search_text(hits: Mapping[str, Any]) -> str:
    """Nearest references of the image, then the best cell for each of its patches."""
    image = [[h["ref_id"], number(h["similarity"])] for h in hits["image"]]
    patches = [
        [f"{i}", h[0]["ref_id"], str(h[0]["cell"]), number(h[0]["similarity"])]
        for i, h in enumerate(hits["patches"])
        if h
    ]
    return "\n\n".join(
        [
            encoders_line(hits["encoders"]),
            table(("reference", "cosine"), image),
            table(("patch", "reference", "cell", "cosine"), patches),
        ]
    )


def cache_text(path: str, facts: Mapping[str, float]) -> str:
    """What the cache holds, a line each."""
    return "\n".join(
        [
            one_line(f"cache    {path}"),
            f"vectors  {facts['vectors']:.0f}, {facts['vector_bytes'] / 1e6:.1f} MB, oldest {facts['oldest_days']:.1f} days",
            f"files    {facts['files']:.0f} known by size and time",
            f"derived  {facts['derived_bytes'] / 1e6:.1f} MB of memory maps of indexes",
        ]
    )
