"""Scores against plain loops and scikit-free oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iconicity.scorer.measure.rank_correlation import Ranked
from iconicity.scorer.validate.scores import (
    across_concepts,
    auroc,
    average_precision,
    cohens_kappa,
    count_cells,
    tau_at,
    within_concepts,
)

few = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@given(few, few)
def test_auroc_is_the_share_of_pairs(a: list[int], b: list[int]) -> None:
    share = np.mean([1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b])
    assert auroc(a, b) == pytest.approx(share)
    assert auroc(b, a) == pytest.approx(1.0 - share)


@given(few, few)
def test_average_precision_is_the_area_under_its_steps(a: list[int], b: list[int]) -> None:
    area, before = 0.0, 0.0
    for tau in sorted({*a, *b}, reverse=True):
        hits, false = sum(x >= tau for x in a), sum(y >= tau for y in b)
        recall = hits / len(a)
        area += (recall - before) * (hits / (hits + false))
        before = recall
    assert average_precision(a, b) == pytest.approx(area)


def test_a_side_without_images_or_values_has_no_score() -> None:
    for score in (auroc, average_precision):
        assert np.isnan(score([], [1.0])) and np.isnan(score([1.0], [])) and np.isnan(score([np.nan], [1.0]))


def test_within_and_across_concepts() -> None:
    scores = np.array([3.0, 2.0, 10.0, 9.0, 5.0])
    concept, positive = np.array([0, 0, 1, 1, 2]), np.array([True, False, True, False, True])
    assert within_concepts(auroc, scores, concept, positive, ~positive, 3)[:2].tolist() == [1.0, 1.0]
    assert np.isnan(within_concepts(auroc, scores, concept, positive, ~positive, 3)[2])
    across = across_concepts(scores, concept, positive, ~positive, 3)
    # no one threshold serves both concepts: the copy of the first lies below the other image of the second
    assert across[:, :2].tolist() == [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]


def test_cells_on_a_boxs_rim_count_as_neither() -> None:
    coverage = np.array([[1.0, 0.5, 0.49, 0.0, np.nan], [0.0, 0.0, 0.0, 0.0, 0.0]])
    hit = np.array([[True, False, True, True, True], [False, True, False, False, False]])
    c = count_cells(hit, coverage)
    assert (c.found.tolist(), c.false.tolist()) == ([1, 0], [1, 1])
    assert (c.reused.tolist(), c.unused.tolist()) == ([2, 0], [1, 5])


def test_tau_lets_through_at_most_alpha_and_is_the_lowest() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 4000).astype(np.float32)
    tau = tau_at(values, 0.01)
    assert (values >= np.float32(tau)).mean() <= 0.01 < (values >= np.float32(tau - 2e-4)).mean()
    assert np.isnan(tau_at(np.empty(0, np.float32), 0.01))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=12))
def test_kappa(pairs: list[tuple[str, str]]) -> None:
    n = len(pairs)
    table = {(x, y): sum(p == (x, y) for p in pairs) / n for x in "abc" for y in "abc"}
    agreed = sum(table[x, x] for x in "abc")
    chance = sum(sum(table[x, y] for y in "abc") * sum(table[y, x] for y in "abc") for x in "abc")
    found = cohens_kappa([p[0] for p in pairs], [p[1] for p in pairs])
    assert np.isnan(found) if chance > 1 - 1e-12 else found == pytest.approx((agreed - chance) / (1 - chance))


def test_groups_are_drawn_whole() -> None:
    """Copies of the rows of a group add nothing: the interval is that of the groups."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 2))
    once = Ranked(x, draws=500).spearman(0, 1)
    groups = np.repeat(np.arange(12), 3)
    thrice = Ranked(x[groups], draws=500, clusters=groups).spearman(0, 1)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    naive = Ranked(x[groups], draws=500).spearman(0, 1)
    assert naive.high - naive.low < 0.8 * (once.high - once.low)
    with pytest.raises(ValueError, match="unequal size"):
        Ranked(x, clusters=np.r_[np.zeros(11, np.int64), 1])
