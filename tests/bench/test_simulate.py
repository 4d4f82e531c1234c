"""A small share of `make sim`: the statistics keep what they promise on synthetic studies with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench import simulate


def test_intervals_cover_the_truth() -> None:
    found = simulate.coverage(concepts=(30,), spreads=(2.0,), studies=300, draws=500)
    for measure in ("cra", "vr_recognised", "crt", "difference"):
        assert (found[measure] >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)).all(), found[["rate", measure]]
    assert (found.cra < 1.0).any() and (found.cra_width < 0.4).all()  # not by being endless


def test_calibrated_thresholds_keep_their_rate() -> None:
    found = simulate.false_positives(concepts=(100,), references=(1,), alpha=0.05, studies=12, draws=200)
    assert found.calibrated.item() == 12
    assert 0.03 <= found.mean_rate.item() <= 0.07 and found.coverage.item() >= 0.75


def test_too_few_concepts_are_not_calibrated() -> None:
    found = simulate.false_positives(concepts=(6,), references=(1,), alpha=0.01, studies=3, draws=100)
    assert found.calibrated.item() == 0 and np.isnan(found.mean_rate.item())


def test_the_true_rate_is_that_of_a_large_sample() -> None:
    rng = np.random.default_rng(0)
    shared = 0.3 + np.hypot(0.05, 0.05) * rng.standard_normal(400_000)
    values = shared + 0.1 * rng.standard_normal((5, 400_000)).max(axis=0)
    assert simulate._true_rate(0.6, 5) == pytest.approx((values >= 0.6).mean(), abs=0.002)
    assert simulate._true_rate(0.5, 1) == pytest.approx(stats.norm.sf(0.2, scale=np.sqrt(0.015)))


def test_p_is_no_smaller_than_it_may_be() -> None:
    found = simulate.no_difference(concepts=(8, 30), studies=300, draws=500)
    assert found.holds.all(), found[~found.holds]
    assert (found[found.a == 0.1].share > 0.02).all()  # nor is it always 1
