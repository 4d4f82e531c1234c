"""Intervals, tests and corrections, as pure functions of arrays.

Units are resampled whole (a concept with all its images, or an image of one concept), because images of one
concept resemble each other. How well the intervals cover is measured in docs/statistics-measured.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from iconicity.indexer.arrays import Float64
from iconicity.indexer.null.bootstrap import DRAWS as DRAWS
from iconicity.indexer.null.bootstrap import LEAST_EXACT as LEAST_EXACT
from iconicity.indexer.null.bootstrap import LEVEL as LEVEL
from iconicity.indexer.null.bootstrap import bootstrap_weights as bootstrap_weights

EXACT_SIGNS = 14  # up to so many differences all sign patterns are counted
_TIE = 1e-12  # sums this near are one: rounding must not decide a comparison
_COLUMNS = 256  # intervals taken at once, so that memory stays small


@dataclass(frozen=True)
class Interval:
    """Values with the ends of their intervals and how many units gave each; arrays of one shape, nan where undefined."""

    value: Float64
    low: Float64
    high: Float64
    n: npt.NDArray[np.int64]
    exact: npt.NDArray[np.bool_]  # ends that rest on the range of values, since units agree: see :func:`interval`

    def shown(self) -> Interval:
        """The same without exact intervals of fewer than :data:`LEAST_EXACT` units, which say little but the range."""
        few = self.exact & (self.n < LEAST_EXACT)
        return replace(self, low=np.where(few, np.nan, self.low), high=np.where(few, np.nan, self.high))


def interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    kind: Literal["ratio", "product"] = "ratio",
    bounds: tuple[float, float] = (0.0, 1.0),
    symmetric: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Studentised bootstrap interval of sum(a) / sum(b), or of mean(a) x mean(b), over the units (rows).

    a, b (n, m): one column a statistic, nan in either leaves the unit out; b None is all ones, so that the ratio is
    a mean. The statistic lies within ``bounds``, and its interval is cut there. Returns arrays (m,); ends are nan
    with fewer than two units. Standard errors, of the sample and of each draw, are the linearised ones.
    ``symmetric`` takes one quantile of |t| for both ends: right for differences, which have long tails on both sides.

    Where all units agree the bootstrap knows no spread. The interval is then the exact one: a share q of units
    beyond what was seen stays unseen with probability (1 - q)^n, so up to q = 1 - (alpha/2)^(1/n) may lie at the
    end of the range. For shares of 0 and 1 that is Clopper-Pearson's. Where all but a few agree, so that many draws
    have no spread and an end lies infinitely far, that end is found in the same way (of a ratio): the others are at most
    the share that Clopper and Pearson give for as many as were seen, and may lie at the end of the range.

    Source: Hall (1988), Theoretical comparison of bootstrap confidence intervals; Efron & Tibshirani (1993), ch. 12.
    """
    x = np.asarray(a, np.float64)
    y = np.ones_like(x) if b is None else np.asarray(b, np.float64)
    parts = [
        _interval(x[:, i : i + _COLUMNS], y[:, i : i + _COLUMNS], kind, bounds, symmetric, draws, seed, level)
        for i in range(0, x.shape[1], _COLUMNS)
    ]
    if not parts:
        empty = np.empty(0)
        return Interval(empty, empty, empty, np.empty(0, np.int64), np.empty(0, np.bool_))
    return Interval(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("value", "low", "high", "n", "exact")))


def _interval(
    x: Float64,
    y: Float64,
    kind: str,
    bounds: tuple[float, float],
    symmetric: bool,
    draws: int,
    seed: int,
    level: float,
) -> Interval:
    n, m = x.shape
    used = ~(np.isnan(x) | np.isnan(y))
    if kind == "ratio":
        used &= y != 0
    count = used.sum(axis=0).astype(np.int64)
    x, y = np.where(used, x, 0.0), np.where(used, y, 0.0)
    nan = np.full(m, np.nan)
    if n == 0:
        return Interval(nan, nan, nan, count, np.zeros(m, np.bool_))
    moments = np.concatenate([x, y, x * x, x * y, y * y, used.astype(np.float64)], axis=1)
    value, se = _statistic(moments.sum(axis=0).reshape(6, m), kind)
    drawn, drawn_se = _statistic(
        (bootstrap_weights(n, draws, seed) @ moments).reshape(draws, 6, m).swapaxes(0, 1), kind
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        off = drawn - value
        t = np.where(np.abs(off) < _TIE, 0.0, off / drawn_se)  # a draw of equal units: infinitely far
    t = np.sort(np.abs(t).T if symmetric else t.T, axis=1)  # draws in which the statistic is undefined come last
    defined = (~np.isnan(t)).sum(axis=1)
    tail = (1.0 - level) / 2.0

    def quantile(q: float) -> Float64:
        at = np.clip(np.ceil(q * defined - 1e-9).astype(np.int64) - 1, 0, draws - 1)
        return np.asarray(t[np.arange(m), at], np.float64)

    lowest, highest = bounds
    unseen = 1.0 - tail ** (1.0 / np.maximum(count, 1))
    flat = se == 0
    above, below = (quantile(level), -quantile(level)) if symmetric else (quantile(1.0 - tail), quantile(tail))
    with np.errstate(invalid="ignore"):
        low = np.where(flat, value - (value - lowest) * unseen, value - above * se)
        high = np.where(flat, value + (highest - value) * unseen, value - below * se)
    low, high = np.clip(low, lowest, highest), np.clip(high, lowest, highest)
    if kind == "ratio":
        for i in np.flatnonzero(~flat & (np.isinf(above) | np.isinf(below)) & (count >= 2)):
            common, reach = _mostly(x[used[:, i], i] / y[used[:, i], i], tail)
            if np.isinf(above[i]):
                low[i] = min(value[i], common - (common - lowest) * reach)
            if np.isinf(below[i]):
                high[i] = max(value[i], common + (highest - common) * reach)
    few = count < 2
    exact = (flat | ((kind == "ratio") & (np.isinf(above) | np.isinf(below)))) & ~few
    return Interval(value, np.where(few, np.nan, low), np.where(few, np.nan, high), count, exact)


def _mostly(values: Float64, tail: float) -> tuple[float, float]:
    """The value that most units have, and the upper end of the share of units that have another (Clopper & Pearson 1934)."""
    found, counts = np.unique(np.round(values, 12), return_counts=True)
    others = len(values) - int(counts.max())
    return float(found[counts.argmax()]), clopper_pearson(others, len(values), 1.0 - 2.0 * tail)[1]


def clopper_pearson(k: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Ends of the exact interval of a share of ``k`` among ``n`` units (Clopper & Pearson 1934); nan without units.

    >>> [round(end, 3) for end in clopper_pearson(12, 40)]
    [0.166, 0.465]
    """
    if n == 0:
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
    return low, 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1.0 - tail))


def _statistic(moments: Float64, kind: str) -> tuple[Float64, Float64]:
    """The statistic and its linearised standard error from the sums of x, y, x^2, xy, y^2 and 1."""
    sx, sy, sxx, sxy, syy, n = moments
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "ratio":
            value = sx / sy
            variance = (sxx - 2.0 * value * sxy + value**2 * syy) / sy**2
            size = np.maximum(sxx, value**2 * syy) / sy**2
        else:
            mx, my = sx / n, sy / n
            value = mx * my
            variance = my**2 * (sxx / n - mx**2) + mx**2 * (syy / n - my**2) + 2.0 * value * (sxy / n - mx * my)
            variance, size = variance / n, np.maximum(my**2 * sxx / n, mx**2 * syy / n) / n
    variance = np.where(variance <= 1e-13 * size, 0.0, variance)  # what rounding leaves of equal units
    return np.asarray(value, np.float64), np.sqrt(variance)


def sign_flip_p(differences: npt.ArrayLike, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of a mean difference under exchange of the two sides, unit by unit; nan without units.

    Up to :data:`EXACT_SIGNS` differences all sign patterns are counted, else p = (b + 1) / (draws + 1) with b of the
    random patterns at least as far from 0 (Phipson & Smyth 2010). Differences (n,), nan left out.

    >>> sign_flip_p([1.0, 1.0, 1.0])
    0.25
    """
    d = np.asarray(differences, np.float64)
    d = d[~np.isnan(d)]
    if d.size == 0:
        return float("nan")
    far = np.abs(d.sum()) - _TIE * max(1.0, float(np.abs(d).sum()))
    if d.size <= EXACT_SIGNS:
        return float((np.abs(_all_signs(d.size) @ d) >= far).mean())
    return float((np.count_nonzero(np.abs(_random_signs(d.size, draws, seed) @ d) >= far) + 1) / (draws + 1))


@lru_cache(maxsize=2)
def _all_signs(n: int) -> Float64:
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return np.asarray(bits * 2.0 - 1.0, np.float64)


@lru_cache(maxsize=4)
def _random_signs(n: int, draws: int, seed: int) -> Float64:
    return np.asarray(np.random.default_rng([seed, n, 1]).integers(0, 2, (draws, n)) * 2.0 - 1.0, np.float64)


def label_permutation_p(
    values: npt.ArrayLike,
    first: int,
    factor: npt.ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Float64:
    """Two-sided p of a difference between two groups under exchange of their units; a p a column.

    values (n, m): the ``first`` rows are one group, the others the second. The statistic is the mean of values, or
    mean(values) x mean(factor). All splits are counted where there are at most ``draws``, else
    p = (b + 1) / (draws + 1) (Phipson & Smyth 2010).
    """
    x = np.asarray(values, np.float64)
    n = len(x)
    exact = comb(n, first) <= draws
    side = _all_splits(n, first) if exact else _random_splits(n, first, draws, seed)

    def difference(chosen: Float64) -> Float64:
        other = 1.0 - chosen
        one, two = chosen @ x / first, other @ x / (n - first)
        if factor is not None:
            f = np.asarray(factor, np.float64)
            one, two = one * (chosen @ f / first), two * (other @ f / (n - first))
        return np.abs(one - two)

    observed = np.zeros((1, n))
    observed[0, :first] = 1.0
    far = (difference(side) >= difference(observed) - _TIE).sum(axis=0)
    return np.asarray(far / len(side) if exact else (far + 1) / (draws + 1), np.float64)


@lru_cache(maxsize=8)
def _all_splits(n: int, first: int) -> Float64:
    chosen = list(combinations(range(n), first))
    out = np.zeros((len(chosen), n))
    np.put_along_axis(out, np.array(chosen, np.int64).reshape(len(chosen), first), 1.0, axis=1)
    return out


@lru_cache(maxsize=8)
def _random_splits(n: int, first: int, draws: int, seed: int) -> Float64:
    order = np.random.default_rng([seed, n, first, 2]).random((draws, n)).argsort(axis=1)
    return np.asarray(order < first, np.float64)


def effect_size(differences: npt.ArrayLike) -> float:
    """Cohen's d_z: mean of the paired differences over their standard deviation (ddof 1); nan where that is 0.

    >>> effect_size([0.0, 1.0, 2.0])
    1.0
    """
    d = np.asarray(differences, np.float64)
    d = d[~np.isnan(d)]
    spread = float(d.std(ddof=1)) if d.size > 1 else 0.0
    return float(d.mean() / spread) if spread > _TIE else float("nan")


def holm(p: npt.ArrayLike) -> Float64:
    """Holm's step-down adjusted p, in the order given; nan stays nan and does not count (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """

    def adjust(values: Float64) -> Float64:
        order = np.argsort(values, kind="stable")
        out = np.empty_like(values)
        out[order] = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
        return np.minimum(out, 1.0)

    return _of_known(p, adjust)


def benjamini_hochberg(p: npt.ArrayLike) -> Float64:
    """Adjusted p (q) that bounds the false discovery rate; nan stays nan (Benjamini & Hochberg 1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.04, 0.04]
    """
    from scipy import stats

    return _of_known(p, stats.false_discovery_control)


def _of_known(p: npt.ArrayLike, adjust: Callable[[Float64], Float64]) -> Float64:
    out = np.array(p, np.float64)
    known = ~np.isnan(out)
    if known.any():
        out[known] = adjust(out[known])
    return out
