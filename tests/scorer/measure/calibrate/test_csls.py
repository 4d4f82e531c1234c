"""The best match outside each work, against a loop."""

from __future__ import annotations

import numpy as np
import pytest

from iconicity.scorer.measure.calibrate.csls import best_elsewhere


@pytest.mark.parametrize("leave", [None, 0, 2])
def test_best_elsewhere_is_the_loop(leave: int | None) -> None:
    rng = np.random.default_rng(0)
    work = np.array([2, 0, 1, 1, 0, 2, 3])
    similarity = rng.uniform(-1, 1, (9, 7)).astype(np.float32)
    similarity[0] = 0.5  # ties
    found = best_elsewhere(similarity, work, 4, leave)
    assert found.shape == (9, 5)
    for i in range(9):
        for w in range(5):
            others = [s for s, v in zip(similarity[i], work, strict=True) if v not in (w, leave)]
            assert found[i, w] == max(others)


def test_where_there_is_nothing_else() -> None:
    found = best_elsewhere(np.array([[0.1, 0.2]], np.float32), np.array([0, 1]), 2, leave=1)
    assert found.tolist() == [[-np.inf, pytest.approx(0.1), pytest.approx(0.1)]]
