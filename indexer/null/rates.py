"""False-positive rates: thresholds from histograms of a null, and rates over pairs of concepts with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iconicity.indexer.arrays import Bools, Float32, Float64, Ints
from iconicity.indexer.null.bootstrap import DRAWS, LEAST_EXACT, LEVEL, bootstrap_weights

STEP = 1e-4  # step between thresholds: four decimals
_EDGES = np.round(np.arange(20_002) * STEP - 1.0, 4)  # the last one lies above every cosine
_EDGES32 = _EDGES.astype(np.float32)  # a similarity is compared with a threshold as float32


class Histogram:
    """Similarities by number of references J, in bins between four-decimal thresholds, each pair of concepts alike."""

    def __init__(self, js: int) -> None:
        self._bins = np.zeros((js, len(_EDGES) - 1), np.float64)
        self._pairs = np.zeros(js, np.float64)

    def count(self, values: Float32, j: Ints) -> None:
        """Count values (n, R) whose columns belong to the numbers of references j (R,)."""
        code = j * self._bins.shape[1] + _bin(values)
        self._bins += np.bincount(code.ravel(), minlength=self._bins.size).reshape(self._bins.shape)

    def add(self, part: Histogram, n: int, pairs: Ints) -> None:
        """Add the counts of one concept's n images (or patches), compared with so many concepts at each J."""
        self._bins += part._bins / n
        self._pairs += pairs

    def rate(self, j: int) -> Float64:
        """Share of pairs that reach each four-decimal threshold from -1 to 1; nan without pairs."""
        if self._pairs[j] == 0:
            return np.full(len(_EDGES) - 1, np.nan)
        above: Float64 = np.cumsum(self._bins[j, ::-1])[::-1] / self._pairs[j]
        return above

    def rate_at(self, j: int, tau: float) -> float:
        """The rate at a four-decimal threshold."""
        return float("nan") if np.isnan(tau) else float(self.rate_at_each(j, np.array([tau]))[0])

    def rate_at_each(self, j: int, taus: Float64) -> Float64:
        """The rates at some four-decimal thresholds."""
        rates = np.append(self.rate(j), 0.0)
        return np.asarray(rates[np.rint((taus + 1.0) / STEP).astype(np.int64)], np.float64)


def lowest_tau(rates: Float64, alpha: float) -> float:
    """Lowest four-decimal threshold whose rate is at most alpha; nan without rates. May lie just above 1.

    The rate falls as tau rises, so that every higher one does too.
    """
    if np.isnan(rates).any():
        return float("nan")
    low = np.flatnonzero(np.append(rates, 0.0) <= alpha + 1e-12)
    return float(_EDGES[low[0]])


def _bin(values: Float32) -> Ints:
    """Number of the highest threshold that a value reaches, compared as float32."""
    k = np.clip(((values.astype(np.float64) + 1.0) / STEP).astype(np.int64), 0, len(_EDGES) - 2)
    k -= _EDGES32[k] > values
    k += _EDGES32[k + 1] <= values
    return k


def pair_rate(
    shares: Float64,
    allowed: Bools,
    generated: Sequence[str],
    others: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Mean over the allowed pairs, and the ends of its interval with concepts resampled on both sides at once.

    shares, allowed (C, R): of each pair of a ``generated`` and an ``others`` concept the share that reaches a
    threshold. A concept that stands on both sides is drawn for both. The standard error is that of the pigeonhole
    bootstrap (Owen 2007), the interval Student's on the logit scale, with as many units as the smaller side has
    concepts (chosen by its coverage, docs/statistics-measured.md); where no pair or every pair passes, the exact one over them,
    which fewer than :data:`LEAST_EXACT` do not have; nan with fewer than two, or where the draws show no spread.
    """
    from scipy import special, stats  # takes longer to import than all else that an index build of few concepts needs

    use = allowed.astype(np.float64)
    hits = np.where(allowed, shares, 0.0)
    rate = float(hits.sum() / use.sum())
    units = sorted({*generated, *others})
    place = {name: i for i, name in enumerate(units)}
    rows, columns = np.array([place[g] for g in generated]), np.array([place[o] for o in others])
    tail = (1.0 - level) / 2.0
    smaller = min(int(allowed.any(axis=1).sum()), int(allowed.any(axis=0).sum()))
    if smaller < 2:
        return rate, float("nan"), float("nan")
    if rate in (0.0, 1.0):
        if smaller < LEAST_EXACT:
            return rate, float("nan"), float("nan")
        reach = 1.0 - tail ** (1.0 / smaller)
        return rate, max(0.0, rate - rate * reach), min(1.0, rate + (1.0 - rate) * reach)
    weights = bootstrap_weights(len(units), draws, seed)
    left, right = weights[:, rows], weights[:, columns]
    top = np.einsum("bd,bd->b", left @ hits, right)
    bottom = np.einsum("bd,bd->b", left @ use, right)
    drawn = top[bottom > 0] / bottom[bottom > 0]
    if not drawn.size or np.ptp(drawn) < 1e-12:  # pairs that are always drawn together show no spread
        return rate, float("nan"), float("nan")
    # few concepts: a spread of n units is too small by n / (n - 1), and t has longer tails than the normal
    spread = float(drawn.std()) * np.sqrt(smaller / (smaller - 1)) / (rate * (1.0 - rate))
    ends = special.expit(special.logit(rate) + spread * stats.t.ppf([tail, 1.0 - tail], smaller - 1))
    return rate, float(ends[0]), float(ends[1])
