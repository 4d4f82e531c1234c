"""Whitening: what it takes away, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from iconicity.scorer.measure.calibrate.whiten import SHRINKAGE, Whitening
from iconicity.scorer.measure.metrics import Float64


def cells(n: int = 300, dim: int = 6) -> Float64:
    """Unit vectors that nearly all point the same way, and vary a hundred times as much along one axis as along another."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, dim)) * np.geomspace(0.3, 0.003, dim) + np.r_[3.0, np.zeros(dim - 1)]
    rows: Float64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


def test_it_is_the_formula() -> None:
    rows = cells()
    variance, axes = np.linalg.eigh(np.cov(rows.T, bias=True))
    kept = variance > 1e-6 * variance.mean()
    expected = (rows - rows.mean(axis=0)) @ axes[:, kept] / np.sqrt(variance[kept] + SHRINKAGE * variance.mean())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = Whitening.of(rows)(rows)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-9)  # axes may be turned
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    assert np.median(rows @ rows.T) > 0.9 and abs(np.median(found @ found.T)) < 0.1


def test_what_all_share_and_how_they_are_turned_counts_for_nothing() -> None:
    rows = cells()
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))
    plain, moved = Whitening.of(rows)(rows), Whitening.of(rows @ turn + 5.0)(rows @ turn + 5.0)
    np.testing.assert_allclose(plain @ plain.T, moved @ moved.T, atol=1e-8)


def test_fewer_cells_than_dimensions_have_fewer_axes() -> None:
    rows = cells(5, 40)
    assert Whitening.of(rows.reshape(1, 5, 40))(rows).shape == (5, 4)


def test_the_mean_has_no_direction() -> None:
    rows = cells()
    assert not Whitening.of(rows)(rows.mean(axis=0, keepdims=True)).any()
    with pytest.raises(ValueError, match="all the same"):
        Whitening.of(np.ones((4, 3)))
