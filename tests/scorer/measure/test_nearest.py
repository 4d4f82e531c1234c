"""Searches over all patches against the plain product: exact, approximate, and settled by proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iconicity.indexer.spec import FloatArray
from iconicity.scorer.measure import highest, nearest
from iconicity.scorer.measure.highest import highest_cosine
from iconicity.scorer.measure.metrics import Ints
from iconicity.scorer.measure.nearest import Approximate, Bound


def unit(rng: np.random.Generator, n: int, dim: int) -> FloatArray:
    """Clustered unit rows, like those of an encoder."""
    centres = rng.standard_normal((max(2, n // 50), dim))
    v = centres[rng.integers(0, len(centres), n)] + 0.6 * rng.standard_normal((n, dim)) * np.linspace(2, 0.1, dim)
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True), np.float32)


class Held:
    """Vectors in memory, as the search wants them."""

    name = "dynamic"
    cells = 4

    def __init__(self, vectors: FloatArray, folder: Path | None = None) -> None:
        self.vectors = vectors
        self.n, self.dim = len(vectors) // self.cells, vectors.shape[1]
        self.folder = folder

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        for start in range(0, len(self.vectors), 700):
            yield start, self.vectors[start : start + 700]

    def patch_rows(self, at: Ints) -> FloatArray:
        return self.vectors[at]


def ranges(rng: np.random.Generator, n: int, total: int) -> Ints:
    lows = np.repeat(rng.integers(0, total, n // 4 + 1), 4)[:n]
    return np.stack([lows, np.minimum(lows + 20, total)], axis=1)


def plain(queries: FloatArray, own: Ints, vectors: FloatArray) -> tuple[FloatArray, Ints]:
    best, at = [], []
    for q, (lo, hi) in zip(queries, own, strict=True):
        products = vectors.astype(np.float64) @ q.astype(np.float64)
        products[lo:hi] = -2
        at.append(int(products.argmax()))
        best.append(products.max())
    return np.array(best, np.float32), np.array(at)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(8, 900), st.booleans())
def test_it_is_the_plain_loop(seed: int, n: int, total: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng, total, 16), unit(rng, n, 16)
    own = ranges(rng, n, total)
    best, at = highest_cosine(queries, Held(vectors).blocks(), own, exact=exact)
    expected, _ = plain(queries, own, vectors)
    some = expected > -2
    np.testing.assert_allclose(best[some], expected[some], atol=1e-6)
    assert np.array_equal(at >= 0, some) and np.all(best[~some] == -1)
    chosen = np.einsum("nd,nd->n", queries[some], vectors[at[some]])
    np.testing.assert_allclose(chosen, best[some], atol=1e-6)
    assert not np.any((at[some] >= own[some, 0]) & (at[some] < own[some, 1]))


@pytest.mark.parametrize("exact", [False, True])
def test_decisions_at_tau_are_those_of_float64(exact: bool) -> None:
    rng = np.random.default_rng(5)
    vectors, queries = unit(rng, 3000, 32), unit(rng, 200, 32)
    own = np.zeros((200, 2), np.int64)
    expected, where = plain(queries, own, vectors)
    best, at = highest_cosine(queries, Held(vectors).blocks(), own, exact=exact)
    assert np.array_equal(best, expected) and np.array_equal(at, where)


@pytest.mark.parametrize("few", [64, 1])
@pytest.mark.parametrize("close", [highest._close, highest.torch_close])
def test_of_equal_patches_the_first_counts_however_they_lie_in_blocks(
    close: Callable[..., Any], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blank paper: many patches are one and the same, or differ by less than float32 tells."""
    monkeypatch.setattr(highest, "_FEW", few)
    monkeypatch.setattr(highest, "_WIDE_ROWS", 7)
    monkeypatch.setattr(highest, "_PAIRS", 5)
    monkeypatch.setattr(highest, "_close", close)
    rng = np.random.default_rng(2)
    pool = unit(rng, 30, 48)
    pool[10:20] = pool[0] + np.float32(1e-7) * rng.standard_normal((10, 48)).astype(np.float32)
    vectors, queries = pool[rng.integers(0, 30, 2000)], pool[rng.integers(0, 30, 60)]
    own = ranges(rng, 60, 2000)
    own[:4] = (0, 2000)  # nothing else is there
    expected, where = plain(queries, own, vectors)
    expected, where = np.where(expected < -1, -1, np.minimum(expected, 1)), where
    for size in (2000, 700, 1, 33):
        blocks = [(i, vectors[i : i + size]) for i in range(0, 2000, size)]
        best, at = highest_cosine(queries, blocks, own)
        assert np.array_equal(best, expected.astype(np.float32))
        first = [
            -1 if i < 4 else next(j for j in range(2000) if outside(j, o) and product(q, vectors[j]) == b)
            for i, (q, o, b) in enumerate(zip(queries, own, best, strict=True))
        ]
        assert at.tolist() == first


def outside(j: int, own: Ints) -> bool:
    return not own[0] <= j < own[1]


def product(a: FloatArray, b: FloatArray) -> np.float32:
    return min(np.float32(1), np.float32(a.astype(np.float64) @ b.astype(np.float64)))


def over(queries: FloatArray, rows: FloatArray) -> tuple[FloatArray, Ints]:
    return highest_cosine(queries, [(0, rows)], exact=True)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
def test_a_single_block_is_the_loop(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    q, r = unit(rng, n, 8), unit(rng, m, 8)
    similarity, best = over(q, r)
    for i in range(n):
        loop = [sum(float(a) * float(b) for a, b in zip(q[i], row, strict=True)) for row in r]
        assert similarity[i] == pytest.approx(max(loop), abs=1e-6)
        assert loop[best[i]] == pytest.approx(max(loop), abs=1e-7)


@given(st.integers(0, 10_000))
def test_shape_of_the_batch_and_order_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, r = unit(rng, 20, 64), unit(rng, 50, 64)
    whole, best = over(q, r)
    for i in range(20):
        one, at = over(q[i : i + 1], r)
        assert one[0] == whole[i] and at[0] == best[i]
    order = rng.permutation(50)
    shuffled, _ = over(q, r[order])
    np.testing.assert_array_equal(shuffled, whole)


@given(st.integers(0, 10_000))
def test_another_reference_never_lowers_and_a_copy_gives_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, r = unit(rng, 4, 8), unit(rng, 5, 8)
    assert np.all(over(q, r)[0] >= over(q, r[:3])[0])
    np.testing.assert_allclose(over(r, r)[0], 1, atol=1e-6)


def test_of_equals_the_first_counts_and_without_rows_there_is_none() -> None:
    r = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    assert over(r, r)[1].tolist() == [0, 0, 2]
    assert [v.tolist() for v in highest_cosine(r[:1], [])] == [[-1], [-1]]


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> tuple[FloatArray, FloatArray, Ints]:
    monkeypatch.setattr(nearest, "FACTORY", "IVF16,RaBitQfs")
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, 8000, 64), unit(rng, 320, 64)
    queries[:40] = vectors[:40]  # patches whose ten nearest are own
    own = ranges(rng, 320, 8000)
    own[:40] = (0, 400)
    return vectors, queries, own


def test_approximate_hits_are_true_and_few_are_missed(
    many: tuple[FloatArray, FloatArray, Ints], tmp_path: Path
) -> None:
    vectors, queries, own = many
    held = Held(vectors, tmp_path)
    best, at = Approximate.open(held).search(queries, own)
    expected, _ = plain(queries, own, vectors)
    assert np.all(best <= expected + 1e-6)
    there = at >= 0
    np.testing.assert_allclose(best[there], np.einsum("nd,nd->n", queries[there], vectors[at[there]]), atol=1e-6)
    assert not np.any((at >= own[:, 0]) & (at < own[:, 1]))
    tau = float(np.median(expected))
    hits = expected >= tau
    assert np.mean(best[hits] >= tau) > 0.5  # how few are missed on real vectors is measured by the bench


def test_the_file_is_used_again_and_made_anew_when_damaged(
    many: tuple[FloatArray, FloatArray, Ints], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries, own = many
    held = Held(vectors, tmp_path)
    first = Approximate.open(held).search(queries, own)
    path = tmp_path / "patches-dynamic.faiss"
    made = path.stat().st_mtime_ns
    Approximate.open(held)
    assert path.stat().st_mtime_ns == made
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = Approximate.open(held).search(queries, own)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    monkeypatch.setattr(nearest, "_build", lambda patches: pytest.fail("was whole"))
    Approximate.open(held)


@pytest.mark.parametrize("most_bytes", [1 << 30, 0])
def test_settled_decisions_are_those_of_the_product(
    many: tuple[FloatArray, FloatArray, Ints], most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_MOST_BYTES", most_bytes)
    vectors, queries, own = many
    expected, _ = plain(queries, own, vectors)
    for quantile in (0.02, 0.3, 0.5, 0.7, 0.98):
        tau = float(np.quantile(expected, quantile))
        best, at, upper = Bound(Held(vectors), queries, tau).settle(queries, own)
        hits = expected >= np.float32(tau)
        assert np.array_equal(best >= np.float32(tau), hits)
        np.testing.assert_allclose(best[hits], expected[hits], atol=1e-6)
        assert np.all(upper >= expected - 1e-6) and np.all(upper[~hits] < np.float32(tau))
        assert np.all((at[hits] < own[hits, 0]) | (at[hits] >= own[hits, 1]))
