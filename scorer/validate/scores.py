"""How well a score tells images, or cells, apart: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iconicity.indexer.null.rates import Histogram, lowest_tau
from iconicity.scorer.measure.metrics import Bools, Float32, Float64, Ints

MOSTLY = 0.5  # share of a cell that must be the reference's for the cell to count as reused


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Share of pairs in which the positive scores higher, ties a half; in [0, 1], nan where a side is empty.

    Source: Mann & Whitney (1947); Bamber (1975).

    >>> auroc([3, 2], [1, 2])
    0.875
    """
    a, b = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not (a.size and b.size) or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    b = np.sort(b)  # scipy's mannwhitneyu says the same in forty times the time, and is asked thousands of times
    below, not_above = (np.searchsorted(b, a, side).sum() for side in ("left", "right"))
    return float((below + not_above) / 2 / (a.size * b.size))


def average_precision(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Precision at each threshold, weighted by the recall it adds; in (0, 1], nan where a side is empty.

    Equal scores are one threshold, so that their order counts for nothing. Chance is the share of positives.

    >>> average_precision([3, 1], [2])
    0.8333333333333333
    """
    a, b = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not (a.size and b.size) or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    _, place = np.unique(-np.concatenate([a, b]), return_inverse=True)
    hits = np.bincount(place, np.arange(a.size + b.size) < a.size)
    precision = hits.cumsum() / np.bincount(place).cumsum()
    return float((precision * hits).sum() / a.size)


Separation = Callable[[npt.ArrayLike, npt.ArrayLike], float]


def within_concepts(
    separation: Separation, scores: Float64, concept: Ints, positive: Bools, negative: Bools, concepts: int
) -> Float64:
    """A separation within each concept: (concepts,), nan where it lacks one kind. All rows are (n,)."""
    return np.array(
        [separation(scores[positive & (concept == c)], scores[negative & (concept == c)]) for c in range(concepts)],
        np.float64,
    )


def across_concepts(scores: Float64, concept: Ints, positive: Bools, negative: Bools, concepts: int) -> Float64:
    """AUROC of the positives of each concept (rows) against the negatives of each (columns): (concepts, concepts)."""
    return np.array(
        [
            [auroc(scores[positive & (concept == a)], scores[negative & (concept == b)]) for b in range(concepts)]
            for a in range(concepts)
        ],
        np.float64,
    )


@dataclass(frozen=True)
class CellCounts:
    """Of each image: reused cells found, not reused cells taken for it, reused and not reused cells; (n,) each.

    A cell is reused where at least half of its area is the reference's and not reused where none of it is; what lies
    between, a box's rim, counts as neither.
    """

    found: Float64
    false: Float64
    reused: Float64
    unused: Float64


def count_cells(hit: Bools, coverage: Float64) -> CellCounts:
    """Decisions (n, K) against the truth (n, K); cells with nan truth count as neither."""
    reused, unused = coverage >= MOSTLY, coverage == 0.0
    return CellCounts(
        (hit & reused).sum(1).astype(np.float64),
        (hit & unused).sum(1).astype(np.float64),
        reused.sum(1).astype(np.float64),
        unused.sum(1).astype(np.float64),
    )


def tau_at(values: Float32, alpha: float) -> float:
    """Lowest four-decimal threshold that at most ``alpha`` of the values (n,) in [-1, 1] reach; nan where there are none.

    >>> tau_at(np.float32([0.1, 0.2, 0.3, 0.4]), 0.25)
    0.3001
    """
    held, part = Histogram(1), Histogram(1)
    part.count(values[:, None], np.zeros(1, np.int64))
    if len(values):
        held.add(part, len(values), np.ones(1, np.int64))
    return lowest_tau(held.rate(0), alpha)


def cohens_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Agreement of two raters beyond chance, in [-1, 1]; nan where chance alone agrees always.

    Source: Cohen (1960).

    >>> cohens_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.5
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.size == 0:
        return float("nan")
    agreed = float((a == b).mean())
    chance = float(sum((a == v).mean() * (b == v).mean() for v in np.unique(np.concatenate([a, b]))))
    return (agreed - chance) / (1.0 - chance) if chance < 1.0 else float("nan")
