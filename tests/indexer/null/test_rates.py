"""Thresholds and pair rates against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iconicity.indexer.null.rates import Histogram, lowest_tau, pair_rate
from iconicity.scorer.measure.intervals import bootstrap_weights
from iconicity.scorer.measure.metrics import passes


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1, 1, width=32) | st.sampled_from([0.6, 0.1, -1.0, 1.0]), min_size=1, max_size=30),
    st.sampled_from([0.01, 0.1, 0.25, 0.5]),
)
def test_lowest_tau_by_brute_force(values: list[float], alpha: float) -> None:
    v = np.array(values, np.float32)
    part, whole = Histogram(1), Histogram(1)
    part.count(v[:, None], np.zeros(1, np.int64))
    whole.add(part, len(v), np.ones(1, np.int64))
    tau = lowest_tau(whole.rate(0), alpha)
    assert passes(v, tau).mean() <= alpha
    assert whole.rate_at(0, tau) == pytest.approx(passes(v, tau).mean())
    if tau > -1:
        assert passes(v, round(tau - 1e-4, 4)).mean() > alpha


def test_pairs_count_alike_whatever_their_images() -> None:
    whole = Histogram(2)
    for n, value in ((10, 0.9), (2, 0.1)):  # two concepts, one other each: half the pairs reach 0.5
        part = Histogram(2)
        part.count(np.full((n, 1), value, np.float32), np.array([1]))
        whole.add(part, n, np.array([0, 1]))
    assert whole.rate_at(1, 0.5) == pytest.approx(0.5) and np.isnan(whole.rate(0)).all()
    assert np.isnan(lowest_tau(whole.rate(0), 0.1)) and np.isnan(whole.rate_at(0, float("nan")))


def test_pair_rate_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    generated, others = ["a", "b", "c"], ["b", "c", "d", "e"]
    allowed = np.array([[g != o for o in others] for g in generated])
    shares = rng.uniform(0, 0.4, (3, 4))
    rate, low, high = pair_rate(shares, allowed, generated, others, draws=200)
    pairs = [(g, o) for g in range(3) for o in range(4) if allowed[g, o]]
    assert rate == pytest.approx(np.mean([shares[p] for p in pairs]))
    units = ["a", "b", "c", "d", "e"]
    drawn = []
    for w in bootstrap_weights(5, 200, 0):
        weight = dict(zip(units, w, strict=True))
        top = bottom = 0.0
        for g, o in pairs:
            both = weight[generated[g]] * weight[others[o]]
            top, bottom = top + both * shares[g, o], bottom + both
        if bottom:
            drawn.append(top / bottom)
    spread = np.std(drawn) * np.sqrt(3 / 2) / (rate * (1 - rate))  # 3 concepts on the smaller side
    for end, t in ((low, -1), (high, 1)):
        logit = np.log(rate / (1 - rate)) + t * stats.t.ppf(0.975, 2) * spread
        assert end == pytest.approx(1 / (1 + np.exp(-logit)))


def test_pair_rate_where_the_data_say_little() -> None:
    shares, allowed = np.zeros((3, 4)), np.ones((3, 4), bool)
    few = pair_rate(shares, allowed, list("abc"), list("wxyz"))
    assert few[0] == 0 and np.isnan(few[1:]).all()  # an exact interval of so few would say little but the range
    more, all_ = np.zeros((5, 6)), np.ones((5, 6), bool)
    rate, low, high = pair_rate(more, all_, list("abcde"), list("uvwxyz"))
    assert (rate, low) == (0, 0) and high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert list(pair_rate(more + 1, all_, list("abcde"), list("uvwxyz"))[1:]) == pytest.approx([0.025 ** (1 / 5), 1.0])
    one = np.array([[0.0, 0.3], [0.4, 0.0]])  # two concepts, each the other's only partner
    assert np.isnan(pair_rate(one, one > 0, ["a", "b"], ["a", "b"])[1:]).all()
    assert np.isnan(pair_rate(shares[:1], allowed[:1], ["a"], list("wxyz"))[1:]).all()
