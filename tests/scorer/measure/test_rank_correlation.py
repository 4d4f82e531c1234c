"""Rank correlations and their draws, against scipy on samples written out, and against regression of ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iconicity.scorer.measure.intervals import bootstrap_weights
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.measure.rank_correlation import EXACT_ORDERS, UNDEFINED, Estimate, Ranked


def sample(seed: int, n: int, v: int = 4, levels: int = 6) -> Float64:
    """Columns that go along with each other, with ties."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(size=(n, v)) + rng.normal(size=(n, 1)), 1) // (6 / levels)


def ends(drawn: list[float], level: float = 0.95) -> tuple[float, float]:
    values = sorted(d for d in drawn if not math.isnan(d))
    out = int((1 - level) / 2 * len(values) + 1e-9)
    return values[out], values[-1 - out]


def by_regression(columns: Float64, i: int, j: int, controls: list[int]) -> float:
    """Correlation of the residuals of two columns' ranks on the ranks of others."""
    ranks = np.stack([stats.rankdata(c) for c in columns.T], axis=1)
    design = np.column_stack([np.ones(len(ranks)), ranks[:, controls]])
    left = [ranks[:, k] - design @ np.linalg.lstsq(design, ranks[:, k], rcond=None)[0] for k in (i, j)]
    if min(float(r.std()) for r in left) < 1e-9:
        return float("nan")
    return float(np.corrcoef(left[0], left[1])[0, 1])


def spearman_p(columns: Float64) -> float:
    """Few units: all orders of one side, counted; else scipy's t."""
    x, y = columns.T[:2]
    whole = stats.spearmanr(x, y)
    if len(x) > EXACT_ORDERS:
        return float(whole.pvalue)
    each = [abs(stats.spearmanr(x, order).statistic) for order in itertools.permutations(y)]
    return float(np.mean(np.array(each) >= abs(whole.statistic) - 1e-9))


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
@pytest.mark.parametrize(("n", "levels"), [(4, 100), (9, 3), (23, 6), (40, 100)])
def test_every_draw_equals_scipy_on_the_sample_written_out(n: int, levels: int) -> None:
    columns = sample(n, n, levels=levels)
    weights = bootstrap_weights(n, 200, 3).astype(int)
    drawn = [np.repeat(columns, w, axis=0) for w in weights]
    ranked = Ranked(columns, 200, 3)
    controls = [2, 3] if n > 4 else []  # two of four units' ranks are all that can be known
    rho, tau, left = ranked.spearman(0, 1), ranked.kendall(0, 1), ranked.partial(0, 1, controls)
    tests: list[tuple[Estimate, Callable[[Float64], float], Any]] = [
        (rho, lambda c: float(stats.spearmanr(c[:, 0], c[:, 1]).statistic), spearman_p(columns)),
        (tau, lambda c: float(stats.kendalltau(c[:, 0], c[:, 1]).statistic), stats.kendalltau(*columns.T[:2]).pvalue),
        (left, lambda c: by_regression(c, 0, 1, controls), None),
    ]
    for found, test, p in tests:
        each = [test(c) for c in drawn]
        assert found.value == pytest.approx(test(columns), abs=1e-9)
        assert (found.low, found.high) == pytest.approx(ends(each), abs=1e-9)
        assert found.defined == pytest.approx(np.mean(~np.isnan(each)))
        if p is not None:
            assert found.p == pytest.approx(float(p), rel=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = sample(0, 30)

    def all_of(ranked: Ranked) -> list[Estimate]:
        return [ranked.spearman(0, 1), ranked.kendall(0, 1), ranked.partial(0, 1, [2])]

    whole = all_of(Ranked(columns, 500))
    monkeypatch.setattr("iconicity.scorer.measure.rank_correlation._BYTES", 10_000)
    assert all_of(Ranked(columns, 500)) == whole


def test_partial_equals_the_inverse_of_the_rank_correlations_and_its_t_test() -> None:
    columns = sample(5, 60, v=5)
    found = Ranked(columns, 100).partial(0, 1, [2, 3, 4])
    inverse = np.linalg.inv(np.asarray(stats.spearmanr(columns).statistic))
    r = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert found.value == pytest.approx(r) and found.value == pytest.approx(by_regression(columns, 0, 1, [2, 3, 4]))
    df = 60 - 2 - 3
    assert found.p == pytest.approx(2 * stats.t.sf(abs(r) * math.sqrt(df / (1 - r * r)), df))


def test_controls_that_hold_nothing_new_change_nothing() -> None:
    columns = sample(6, 30, v=3)
    more = np.column_stack([columns, np.ones(30), columns[:, 2] ** 3])  # constant; a monotone copy
    ranked = Ranked(more, 300)
    plain, alone = ranked.spearman(0, 1), ranked.partial(0, 1, [2])
    for one, other in (
        (ranked.partial(0, 1, [3]), plain),
        (ranked.partial(0, 1, []), plain),
        (ranked.partial(0, 1, [2, 3, 4]), alone),
    ):
        assert astuple(one) == pytest.approx(astuple(other))


def test_undefined() -> None:
    columns = np.column_stack([np.arange(8.0), np.ones(8), np.arange(8.0) ** 2])
    ranked = Ranked(columns, 100)
    for e in (ranked.spearman(0, 1), ranked.kendall(0, 1), ranked.partial(0, 1, [2]), ranked.partial(0, 1, [0])):
        assert math.isnan(e.value) and math.isnan(e.p) and math.isnan(e.low) and e.defined == 0
    few = Ranked(sample(0, 3), 100)
    assert few.spearman(0, 1) is few.kendall(0, 1) is few.partial(0, 1, [2]) is UNDEFINED
    with pytest.raises(ValueError, match="not finite"):
        Ranked(np.array([[1.0, np.nan]] * 5))


def test_a_perfect_order_has_no_interval() -> None:
    e = Ranked(np.column_stack([np.arange(8.0), np.arange(8.0) ** 2]), 200).spearman(0, 1)
    assert e.value == 1 and e.p == pytest.approx(2 / math.factorial(8)) and math.isnan(e.low) and math.isnan(e.high)


def test_a_nearly_constant_column_says_in_how_many_draws_it_counts() -> None:
    columns = np.column_stack([np.eye(20)[0], np.arange(20.0)])
    e = Ranked(columns, 2000).spearman(0, 1)
    assert e.defined == pytest.approx(np.mean(bootstrap_weights(20, 2000, 0)[:, 0] > 0))
    assert 0.55 < e.defined < 0.75


def test_no_p_is_zero() -> None:
    x = np.arange(12.0)
    ranked = Ranked(np.column_stack([x, x, x % 3]), 100)
    assert ranked.spearman(0, 1).p == pytest.approx(2 / math.factorial(12))
    assert 0 < ranked.partial(0, 1, [2]).p <= 2 / math.factorial(11)


values = st.integers(0, 9)
pairs = st.lists(st.tuples(values, values, values), min_size=4, max_size=14)


@settings(max_examples=60, deadline=None)
@given(rows=pairs, seed=st.integers(0, 99))
def test_ranks_alone_count(rows: list[tuple[int, int, int]], seed: int) -> None:
    columns = np.array(rows, float)
    bent = np.column_stack([np.exp(columns[:, 0]), columns[:, 1] ** 3 - 7, np.sqrt(columns[:, 2])])
    one, other = Ranked(columns, 100), Ranked(bent, 100)
    for a, b in (
        (one.spearman(0, 1), other.spearman(0, 1)),
        (one.kendall(0, 1), other.kendall(0, 1)),
        (one.partial(0, 1, [2]), other.partial(0, 1, [2])),
    ):
        assert (a.value, a.low, a.high, a.p) == pytest.approx((b.value, b.low, b.high, b.p), nan_ok=True)
        assert math.isnan(a.value) or -1 <= a.value <= 1
        assert math.isnan(a.low) or -1 <= a.low <= a.high <= 1
    shuffled = Ranked(np.random.default_rng(seed).permutation(columns), 100)
    for kind in ("spearman", "kendall"):
        a, b, back = getattr(one, kind)(0, 1), getattr(shuffled, kind)(0, 1), getattr(one, kind)(1, 0)
        assert (a.value, a.p) == pytest.approx((b.value, b.p), nan_ok=True)
        assert (a.value, a.low, a.high) == pytest.approx((back.value, back.low, back.high), nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(rows=pairs)
def test_turning_one_side_mirrors_the_interval(rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(rows, float)
    one, other = (Ranked(np.column_stack([columns[:, 0], s * columns[:, 1]]), 100) for s in (1, -1))
    for kind in ("spearman", "kendall"):
        a, b = getattr(one, kind)(0, 1), getattr(other, kind)(0, 1)
        assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), nan_ok=True)


def test_the_seed_alone_decides() -> None:
    columns = sample(1, 25)
    one, again, other = (Ranked(columns, 300, s).spearman(0, 1) for s in (0, 0, 1))
    assert one == again and one.low != other.low
    wide, narrow = (Ranked(columns, 300, level=x).spearman(0, 1) for x in (0.99, 0.5))
    assert wide.low < narrow.low <= narrow.high < wide.high
