"""Spearman, Kendall and partial rank correlations with bootstrap intervals, as pure functions of arrays.

A bootstrap draw is the sample with other weights. The order of the values stays, so that no draw is sorted: the
centred rank of a value, doubled, is the weight below it less the weight above it. These are whole numbers, and sums of
their products are exact: draws equal what ``scipy.stats`` gives for the drawn sample written out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import stats

from iconicity.scorer.measure.intervals import DRAWS, LEVEL, bootstrap_weights
from iconicity.scorer.measure.metrics import Float32, Float64

FEWEST = 4  # units below which nothing is computed
EXACT_ORDERS = 8  # up to so many units all orders are counted
_NOTHING = 1e-12  # share of a variance that rounding leaves of none
_BYTES = 1 << 27  # of ranks, or of products, held at once


@dataclass(frozen=True)
class Estimate:
    """A coefficient in [-1, 1], the ends of its interval and its two-sided p; nan where undefined.

    ``defined`` is the share of the draws in which the coefficient exists; the interval is taken over these. It has
    no ends where all of them agree, as in a perfect order: the bootstrap then knows no spread.
    """

    value: float
    low: float
    high: float
    p: float
    defined: float


_NAN = float("nan")
UNDEFINED = Estimate(_NAN, _NAN, _NAN, _NAN, 0.0)


class Ranked:
    """Columns over the same n units as ranks, in the sample and in each of its bootstrap draws.

    columns (n, v), finite. Intervals are percentile ones (Efron & Tibshirani 1993, ch. 13) over the draws of
    :func:`bootstrap_weights`, the same for each pair of columns. ``clusters`` (n,) numbers the group of each row, from
    0: groups are then drawn whole. All must have as many rows, so that every draw has n.
    """

    def __init__(
        self,
        columns: Float64,
        draws: int = DRAWS,
        seed: int = 0,
        level: float = LEVEL,
        clusters: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if not np.isfinite(columns).all():
            raise ValueError("columns hold values that are not finite; leave these units out")
        if clusters is not None and np.ptp(np.bincount(clusters)) > 0:
            raise ValueError("groups of unequal size: a draw of groups would not have n rows")
        self._columns = columns
        self._level = level
        self.n, self._v = columns.shape
        if self.n < FEWEST:
            return
        self._codes = np.stack([np.unique(c, return_inverse=True)[1] for c in columns.T])  # (v, n) place among values
        sample = np.ones((1, self.n))
        if clusters is None:
            drawn = bootstrap_weights(self.n, draws, seed)
        else:
            drawn = bootstrap_weights(int(clusters.max()) + 1, draws, seed)[:, clusters]
        self._weights = (sample, drawn)  # the sample is draw 0
        parts = [self._products(w) for each in self._weights for w in _chunks(each, self.n * (self._v + 2) * 8)]
        products = np.concatenate([p for p, _ in parts])  # (1 + draws, v, v)
        self._untied = np.concatenate([u for _, u in parts])  # (1 + draws, v) pairs of units with unequal values
        spread = np.sqrt(np.einsum("bii->bi", products))
        with np.errstate(divide="ignore", invalid="ignore"):
            self._rho = products / (spread[:, :, None] * spread[:, None, :])

    def _products(self, weights: Float64) -> tuple[Float64, Float64]:
        """Sums of products of the doubled centred ranks (b, v, v), and untied pairs (b, v), of b draws."""
        ranks = np.empty((len(weights), self._v, self.n))
        untied = np.empty((len(weights), self._v))
        for i, code in enumerate(self._codes):
            order = np.argsort(code, kind="stable")
            starts = np.flatnonzero(np.diff(code[order], prepend=-1))
            held = np.add.reduceat(np.take(weights, order, axis=1), starts, axis=1)  # weight of each value
            ranks[:, i] = np.take(2.0 * held.cumsum(axis=1) - held - self.n, code, axis=1)
            untied[:, i] = (self.n**2 - (held**2).sum(axis=1)) / 2.0
        return (ranks * weights[:, None, :]) @ ranks.swapaxes(1, 2), untied

    def spearman(self, i: int, j: int) -> Estimate:
        """Spearman's rho of columns i and j: Pearson's r of their mid-ranks. p by Student's t with n - 2 df.

        Source: Spearman (1904); ties as in Kendall & Gibbons (1990), ch. 3.
        """
        if self.n < FEWEST:
            return UNDEFINED
        rho = self._rho[:, i, j]
        if self.n <= EXACT_ORDERS and not np.isnan(rho[0]):
            return self._estimate(rho, _exact_p(self._columns[:, i], self._columns[:, j]))
        return self._estimate(rho, _t_test(float(rho[0]), self.n - 2))

    def kendall(self, i: int, j: int) -> Estimate:
        """Kendall's tau-b of columns i and j: pairs in the same order less pairs in the other, over the untied ones.

        p: exact without ties in small samples, else normal (``scipy.stats.kendalltau``). Source: Kendall (1945).
        """
        if self.n < FEWEST:
            return UNDEFINED
        x, y = (self._codes[k].astype(np.int32) for k in (i, j))
        signs: Float32 = np.sign(x[:, None] - x[None, :]).astype(np.float32)
        signs *= np.sign(y[:, None] - y[None, :])
        parts = []
        for each in self._weights:
            for w in _chunks(each, self.n * 12):
                w32 = w.astype(np.float32)  # whole numbers: exact up to 2^24 units
                parts.append(((w32 @ signs) * w32).sum(axis=1, dtype=np.float64) / 2.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tau = np.concatenate(parts) / np.sqrt(self._untied[:, i] * self._untied[:, j])
        known = not np.isnan(tau[0])
        p = float(stats.kendalltau(self._columns[:, i], self._columns[:, j]).pvalue) if known else _NAN
        return self._estimate(tau, p)

    def partial(self, i: int, j: int, given: Sequence[int]) -> Estimate:
        """Spearman's rho of what is left of the ranks of columns i and j after regression on the ranks of others.

        Equals -P_ij / sqrt(P_ii P_jj), P the inverse of the rank correlation matrix, where that exists. A control that
        is constant, or that follows from the others, changes nothing. nan where the controls leave nothing of i or
        j. p by Student's t with n - 2 - k df, k the controls that count. Source: Kendall & Gibbons (1990), ch. 8.
        """
        if self.n < FEWEST:
            return UNDEFINED
        at = [i, j, *given]
        left = self._rho[:, at][:, :, at].copy()
        counted = 0
        for k in range(2, len(at)):
            pivot = left[:, k, k]
            use = pivot > _NOTHING  # False for nan, too: constant
            counted += int(use[0])
            column = np.where(use[:, None], left[:, :, k], 0.0)
            left -= column[:, :, None] * column[:, None, :] / np.where(use, pivot, 1.0)[:, None, None]
        variance = left[:, 0, 0] * left[:, 1, 1]
        whole = (left[:, 0, 0] > _NOTHING) & (left[:, 1, 1] > _NOTHING)
        rho = np.where(whole, left[:, 0, 1] / np.sqrt(np.where(whole, variance, 1.0)), np.nan)
        return self._estimate(rho, _t_test(float(rho[0]), self.n - 2 - counted))

    def _estimate(self, drawn: Float64, p: float) -> Estimate:
        """Draw 0 is the sample."""
        value = float(drawn[0])
        if np.isnan(value):
            return UNDEFINED
        values = np.sort(np.clip(drawn[1:][~np.isnan(drawn[1:])], -1.0, 1.0))
        low = high = _NAN
        if values.size and values[-1] - values[0] > _NOTHING:
            out = int((1.0 - self._level) / 2.0 * values.size + 1e-9)  # draws beyond each end
            low, high = float(values[out]), float(values[-1 - out])
        return Estimate(min(1.0, max(-1.0, value)), low, high, p, values.size / max(1, len(drawn) - 1))


def _chunks(weights: Float64, bytes_a_draw: int) -> list[Float64]:
    size = max(1, _BYTES // bytes_a_draw)
    return [weights[i : i + size] for i in range(0, len(weights), size)]


def _t_test(r: float, df: int) -> float:
    """Two-sided p of a correlation under independence; of a perfect order of n, that of its two patterns: 2 / n!."""
    if np.isnan(r) or df < 1:
        return _NAN
    rest = 1.0 - r * r
    least = 2.0 / math.factorial(min(df + 2, 20))
    return least if rest <= _NOTHING else max(least, float(2.0 * stats.t.sf(abs(r) * np.sqrt(df / rest), df)))


@lru_cache(maxsize=1)
def _orders(n: int) -> npt.NDArray[np.int64]:
    return np.array(list(permutations(range(n))), np.int64)


def _exact_p(x: Float64, y: Float64) -> float:
    """Two-sided p of Spearman's rho over all orders of few ranks, ties included."""
    a, b = (stats.rankdata(v) - (len(v) + 1) / 2.0 for v in (x, y))
    products = np.abs(b[_orders(len(a))] @ a)
    return float((products >= abs(a @ b) - 1e-9).mean())
