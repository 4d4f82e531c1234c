"""The measures, against plain loops and their stated properties."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iconicity.scorer.measure import metrics

similarities = hnp.arrays(np.float32, st.integers(1, 16), elements=st.floats(-1, 1, width=32))
taus = st.floats(-1, 1)


@given(similarities, taus, taus)
def test_reuse_is_a_share_that_falls_as_tau_rises(p: metrics.Float32, a: float, b: float) -> None:
    low, high = sorted((a, b))
    vr = float(metrics.visual_reuse(p, low))
    assert 0 <= vr <= 1
    assert vr == sum(bool(np.float32(v) >= np.float32(low)) for v in p) / len(p)
    assert float(metrics.visual_reuse(p, high)) <= vr
    assert float(metrics.visual_independence(p, low)) == 1 - vr
    assert float(metrics.visual_reuse(p[::-1], low)) == vr


def test_tau_is_inclusive_whichever_way_it_rounds() -> None:
    for tau in (0.6, 0.7, 0.75, 0.1):
        assert metrics.passes(np.float32(tau), tau)
        assert not metrics.passes(np.nextafter(np.float32(tau), np.float32(-1)), tau)


@given(similarities)
def test_patch_statistics_are_the_published_ones(p: metrics.Float32) -> None:
    top, mean, p90 = metrics.patch_statistics(p)
    ordered = sorted(float(v) for v in p)
    at = 0.9 * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    assert float(top) == ordered[-1]
    assert float(mean) == pytest.approx(sum(ordered) / len(ordered), abs=1e-6)
    assert float(p90) == pytest.approx(ordered[low] + (at - low) * (ordered[high] - ordered[low]), abs=1e-6)


def test_cra_and_crt() -> None:
    assert metrics.cra([0.75, 0.74, 0.9, -1], 0.75) == 0.5
    assert math.isnan(metrics.cra([], 0.75))
    assert metrics.crt(0.5, 0.25) == 0.125
    assert metrics.crt(0.0, float("nan")) == 0.0


def test_reuse_in_one_arrangement_tells_a_copy_and_a_mirrored_one_from_shuffled_cells() -> None:
    everything = np.ones((1, 16), bool)
    same = np.arange(16).reshape(4, 4)
    moved = np.roll(same, 1, axis=1)
    for kept in (same, same[:, ::-1]):
        assert metrics.arranged_reuse(everything, kept.reshape(1, 16), 4, 4).tolist() == [1.0]
    assert metrics.arranged_reuse(everything, moved.reshape(1, 16), 4, 4).tolist() == [0.75]
    shuffled = np.random.default_rng(0).permutation(16)[None]
    assert metrics.arranged_reuse(everything, shuffled, 4, 4)[0] < 0.4
    assert metrics.arranged_reuse(~everything, shuffled, 4, 4).tolist() == [0.0]


@pytest.mark.parametrize("overlapping", [False, True])
def test_reuse_in_one_arrangement_is_the_loop(overlapping: bool) -> None:
    rng = np.random.default_rng(3)
    rows, cols, unit = 3, 4, 2 if overlapping else 1
    across, count = (7, 35) if overlapping else (4, 12)
    hit, cell = rng.random((40, 12)) < 0.7, rng.integers(0, count, (40, 12))
    half = rng.random((40, 12)) < 0.5  # half of the patches keep their place
    own = np.array([unit * (k // cols) * across + unit * (k % cols) for k in range(12)])
    cell = np.where(half, own, cell)
    found = metrics.arranged_reuse(hit, cell, rows, cols, overlapping)
    for i in range(40):
        most = 0
        for mirrored in (False, True):
            steps = Counter(
                (
                    cell[i, k] // across - unit * (k // cols),
                    cell[i, k] % across - unit * (cols - 1 - k % cols if mirrored else k % cols),
                )
                for k in range(12)
                if hit[i, k]
            )
            most = max([most, *steps.values()])
        assert found[i] == most / 12 <= hit[i].mean()
