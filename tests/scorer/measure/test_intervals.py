"""Intervals, tests and corrections against plain loops, scipy and statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from iconicity.scorer.measure.intervals import (
    benjamini_hochberg,
    bootstrap_weights,
    effect_size,
    holm,
    interval,
    label_permutation_p,
    sign_flip_p,
)

DRAWS = 400


def samples(n: int, draws: int = DRAWS) -> list[list[int]]:
    """The drawn units, one list a sample, from the weights."""
    return [np.repeat(np.arange(n), w.astype(int)).tolist() for w in bootstrap_weights(n, draws, 0)]


def test_weights_are_samples_with_replacement() -> None:
    w = bootstrap_weights(30, 5000, 1)
    assert (w.sum(axis=1) == 30).all() and w.min() == 0
    assert np.var(w) == pytest.approx(1 - 1 / 30, rel=0.02)  # multinomial
    np.testing.assert_array_equal(w, bootstrap_weights.__wrapped__(30, 5000, 1))
    assert not np.array_equal(w, bootstrap_weights(30, 5000, 2))
    with pytest.raises(ValueError, match="read-only"):
        w[0, 0] = 3


def loop_interval(a: list[float], b: list[float], kind: str, low: float = 0.0, high: float = 1.0) -> list[float]:
    """The studentised bootstrap, one sample at a time, from its textbook formula."""

    def statistic(rows: list[int]) -> tuple[float, float]:
        x, y = [a[i] for i in rows], [b[i] for i in rows]
        n = len(rows)
        if kind == "ratio":
            value = sum(x) / sum(y)
            squares = sum((xi - value * yi) ** 2 for xi, yi in zip(x, y, strict=True))
            return value, math.sqrt(squares) / sum(y)
        mx, my = sum(x) / n, sum(y) / n
        influence = [my * (xi - mx) + mx * (yi - my) for xi, yi in zip(x, y, strict=True)]
        return mx * my, math.sqrt(sum(u * u for u in influence)) / n

    value, se = statistic(list(range(len(a))))
    t = []
    for rows in samples(len(a)):
        drawn, drawn_se = statistic(rows)
        off = drawn - value
        if abs(off) < 1e-9:
            t.append(0.0)
        else:
            t.append(off / drawn_se if drawn_se > 1e-9 else math.copysign(math.inf, off))
    t.sort()
    tail = 0.025
    at = [t[math.ceil(q * len(t)) - 1] for q in (1 - tail, tail)]
    ends = [value - at[0] * se, value - at[1] * se]
    if kind == "ratio" and math.inf in map(abs, at):  # most units agree: the others are few, wherever they may lie
        each = [round(x / y, 12) for x, y in zip(a, b, strict=True)]
        common = max(set(each), key=each.count)
        others = len(each) - each.count(common)
        reach = stats.binomtest(others, len(each)).proportion_ci(0.95, method="exact").high
        exact = [common - (common - low) * reach, common + (high - common) * reach]
        ends = [e if math.isfinite(q) else x for e, q, x in zip(ends, at, exact, strict=True)]
    return [value, min(max(ends[0], low), high), min(max(ends[1], low), high)]


@pytest.mark.parametrize("kind", ["ratio", "product"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_interval_equals_a_plain_loop(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 1, 12), rng.uniform(0.2, 1, 12)
    if seed == 2:
        a[:9], b = 0.0, np.ones(12)  # samples whose units are all alike
    if kind == "ratio":
        a = a * b
    found = interval(a[:, None], b[:, None], kind=kind, draws=DRAWS)  # type: ignore[arg-type]
    assert [found.value[0], found.low[0], found.high[0]] == pytest.approx(loop_interval(a.tolist(), b.tolist(), kind))
    assert found.n[0] == 12


def test_a_mean_has_the_standard_error_of_scipy() -> None:
    x = np.random.default_rng(3).uniform(0, 1, 200)
    ours = interval(x[:, None])
    theirs = stats.bootstrap((x,), np.mean, confidence_level=0.95, method="BCa", rng=np.random.default_rng(0))
    assert ours.value[0] == pytest.approx(x.mean())
    assert ours.low[0] == pytest.approx(theirs.confidence_interval.low, abs=0.005)
    assert ours.high[0] == pytest.approx(theirs.confidence_interval.high, abs=0.005)


def test_symmetric_intervals_have_one_quantile() -> None:
    d = np.random.default_rng(0).normal(0.1, 0.3, 15).clip(-1, 1)
    found = interval(d[:, None], bounds=(-1, 1), symmetric=True, draws=DRAWS)
    se = d.std() / math.sqrt(15)
    t = sorted(abs(d[rows].mean() - d.mean()) / (d[rows].std() / math.sqrt(15)) for rows in samples(15))
    reach = t[math.ceil(0.95 * DRAWS) - 1] * se
    assert [found.low[0], found.high[0]] == pytest.approx([d.mean() - reach, d.mean() + reach])


@pytest.mark.parametrize("n", [2, 9, 50])
def test_units_that_all_agree_have_the_exact_interval(n: int) -> None:
    found = interval(np.stack([np.zeros(n), np.ones(n), np.full(n, 0.3)], axis=1))
    for i, k in enumerate((0, n)):
        exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert (found.low[i], found.high[i]) == pytest.approx((exact.low, exact.high))
    assert found.low[2] < 0.3 < found.high[2]


@pytest.mark.parametrize("others", [1, 2, 3])
def test_where_most_units_agree_an_end_is_never_nothing(others: int) -> None:
    x = np.ones(26)
    x[:others] = 0.9
    found, all_alike = interval(x[:, None]), interval(np.ones((26, 1)))
    reach = stats.binomtest(others, 26).proportion_ci(0.95, method="exact").high
    assert found.low[0] == pytest.approx(1 - reach) and found.low[0] < all_alike.low[0]
    assert found.value[0] <= found.high[0] <= 1
    flipped = interval(1 - x[:, None])
    assert flipped.high[0] == pytest.approx(reach) and flipped.low[0] == pytest.approx(1 - found.high[0])
    both = interval(np.stack([x, np.roll(x, 5)], axis=1))  # columns alone or together
    assert both.low.tolist() == pytest.approx([found.low[0]] * 2)
    if others == 3:  # fewer than 5 % of the draws have no spread
        return
    d = interval(np.where(x < 1, 0.1, 0.0)[:, None], bounds=(-1, 1), symmetric=True)
    assert (d.low[0], d.high[0]) == (pytest.approx(-reach), pytest.approx(reach))


def test_undefined_units_are_left_out() -> None:
    x = np.array([[0.1, np.nan], [0.5, 0.5], [np.nan, np.nan], [0.9, np.nan]])
    found = interval(x, draws=DRAWS)
    assert found.n.tolist() == [3, 1] and found.value.tolist() == pytest.approx([0.5, 0.5])
    assert 0 <= found.low[0] < 0.5 < found.high[0] <= 1 and np.isnan([found.low[1], found.high[1]]).all()
    assert np.isnan(interval(np.full((3, 1), np.nan)).value[0]) and interval(np.empty((3, 0))).value.size == 0
    # many columns are taken in parts
    wide = np.random.default_rng(0).uniform(0, 1, (8, 600))
    whole = interval(wide, draws=DRAWS)
    assert whole.low[599] == interval(wide[:, 599:], draws=DRAWS).low[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_interval_lies_in_bounds_around_the_value(values: list[float]) -> None:
    found = interval(np.array(values)[:, None], draws=DRAWS)
    assert 0 <= found.low[0] <= found.value[0] + 1e-12 and found.value[0] - 1e-12 <= found.high[0] <= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_are_all_counted(values: list[int]) -> None:
    d = np.array(values) / 4
    ours = sign_flip_p(d)
    count = sum(
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) >= abs(d.sum())
        for signs in itertools.product((-1, 1), repeat=len(d))
    )
    assert ours == pytest.approx(count / 2 ** len(d))
    assert sign_flip_p(-d) == ours


def test_sign_flips_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.4, 1, 10), rng.normal(0.2, 1, 60)
    exact = stats.permutation_test((small, np.zeros(10)), lambda x, y: np.mean(x - y), permutation_type="samples")
    assert sign_flip_p(small) == pytest.approx(exact.pvalue)
    theirs = stats.permutation_test(
        (large, np.zeros(60)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    assert sign_flip_p(large) == pytest.approx(theirs.pvalue, abs=0.02)
    assert sign_flip_p(np.full(60, 0.5), draws=999) == 1 / 1000  # (b + 1) / (B + 1)
    assert np.isnan(sign_flip_p([np.nan])) and sign_flip_p([0.0, np.nan]) == 1.0


def test_label_permutations_agree_with_scipy_and_a_loop() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (7, 4)) / 4
    found = label_permutation_p(x, 3)
    for i in range(4):
        theirs = stats.permutation_test(
            (x[:3, i], x[3:, i]),
            lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
            vectorized=True,
            n_resamples=10**6,
        )
        splits = [set(c) for c in itertools.combinations(range(7), 3)]
        apart = [abs(x[list(s), i].mean() - x[[k for k in range(7) if k not in s], i].mean()) for s in splits]
        count = sum(a >= abs(x[:3, i].mean() - x[3:, i].mean()) - 1e-12 for a in apart)
        assert found[i] == pytest.approx(count / len(splits))
        assert found[i] <= theirs.pvalue + 1e-9  # scipy doubles one side, ours counts both
    y = rng.integers(0, 5, (7, 4)) / 4
    product = label_permutation_p(x, 3, y)
    s = next(iter(splits))
    assert product.shape == (4,) and (product > 0).all() and len(s) == 3
    many = label_permutation_p(np.concatenate([np.ones((30, 1)), np.zeros((30, 1))]), 30, draws=999)
    assert many[0] == 1 / 1000


def test_product_permutation_equals_a_loop() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 1, (2, 6))

    def value(rows: list[int]) -> float:
        return float(x[rows].mean() * y[rows].mean())

    apart = []
    for c in itertools.combinations(range(6), 2):
        rest = [k for k in range(6) if k not in c]
        apart.append(abs(value(list(c)) - value(rest)))
    assert label_permutation_p(x[:, None], 2, y[:, None])[0] == pytest.approx(
        np.mean(np.array(apart) >= apart[0] - 1e-12)
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_agree_with_statsmodels(p: list[float]) -> None:
    with_nan = np.insert(np.array(p), 0, np.nan)
    for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        assert ours(with_nan)[1:] == pytest.approx(multipletests(p, method=method)[1])
        assert np.isnan(ours(with_nan)[0])


def test_effect_size() -> None:
    assert effect_size([1.0, 2.0, 3.0, np.nan]) == pytest.approx(2.0)
    assert np.isnan(effect_size([0.5, 0.5])) and np.isnan(effect_size([1.0]))
