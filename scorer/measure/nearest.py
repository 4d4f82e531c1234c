"""Nearest patches over many references without comparing all: a FAISS index whose hits are exact, and a proof of absence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.files import are_derived, note_derived, replacing, turn
from iconicity.scorer.measure.highest import NEAR, Ranges, cosines, highest_cosine, mask, runs, take_first
from iconicity.scorer.measure.metrics import Float64, Ints

FACTORY = "IVF1024,RaBitQfs"  # on real ViT vectors 4-bit PQ missed 8 % of the hits, this 1 % (docs/performance.md)
NPROBE, REFINE = 16, 20
LEAST = 50_000  # patches below which the exact product is as fast as asking an index
_TRAIN = 50_000
_SAMPLE = 4096
_DIMS = (32, 64, 96, 128, 192, 256)
_SURVIVOR_COST = 120.0  # of one exact product after the bound, in products within it; sets the number of dimensions
_MOST_BYTES = 1 << 30  # of rotated vectors; above it the bound is not worth its memory
_BOUND_ROWS = 4096  # whose bounds for a thousand queries stay in the processor's cache
_SLACK = 1e-5  # covers float32 rounding of the bound


class Patches(Protocol):
    """Patch vectors by flat position, as unit rows."""

    n: int  # references
    cells: int  # patches of each
    name: str

    @property
    def folder(self) -> Path | None: ...

    @property
    def dim(self) -> int: ...

    def blocks(self) -> Iterator[tuple[int, FloatArray]]: ...

    def patch_rows(self, at: Ints) -> FloatArray: ...


class Approximate:
    """A FAISS index over patches; what it finds is compared exactly from the stored vectors."""

    def __init__(self, patches: Patches, index: Any) -> None:
        self._patches = patches
        self._index = index

    @classmethod
    def open(cls, patches: Patches) -> Approximate:
        """The index kept beside the vectors if it is whole and theirs, else a new one, kept there."""
        folder = patches.folder
        if folder is None:
            return cls(patches, _build(patches))
        path = folder / f"patches-{patches.name}.faiss"
        facts = {"factory": FACTORY, "faiss": faiss.__version__, "patches": patches.n * patches.cells}
        with turn(path.with_suffix(".lock")):
            if not are_derived(path.with_suffix(".json"), [path], facts):
                with replacing(path) as tmp:
                    faiss.write_index(_build(patches), str(tmp))
                note_derived(path.with_suffix(".json"), [path], facts)
            return cls(patches, faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    def search(self, queries: FloatArray, own: Ranges) -> tuple[FloatArray, Ints]:
        """As :func:`highest_cosine`, but a better match may have been missed."""
        best, at = np.full(len(queries), -1.0, np.float32), np.full(len(queries), -1, np.int64)
        found = self._outside(queries, own)
        rows = self._patches.patch_rows(np.maximum(found, 0))
        products = np.einsum("qd,qkd->qk", queries, rows)
        products[found < 0] = -np.inf
        top = products.argmax(axis=1)
        pick = np.arange(len(queries))
        there = found[pick, top] >= 0
        at[there] = found[pick, top][there]
        best[there] = cosines(queries[there], rows[pick, top][there])
        return best, at

    def _outside(self, queries: FloatArray, own: Ranges) -> Ints:
        """(n, REFINE) candidates, own ones -1. Where the own concept fills half of them, it is left out of the search."""
        found: Ints = self._index.search(queries, REFINE, params=faiss.SearchParametersIVF(nprobe=NPROBE))[1]
        found[(found >= own[:, :1]) & (found < own[:, 1:])] = -1
        few = np.flatnonzero((found >= 0).sum(axis=1) < REFINE // 2)
        for a, b in runs(own[few]) if few.size else ():
            outside = faiss.IDSelectorNot(faiss.IDSelectorRange(*own[few[a]].tolist()))
            options = faiss.SearchParametersIVF(nprobe=NPROBE, sel=outside)
            found[few[a:b]] = self._index.search(queries[few[a:b]], REFINE, params=options)[1]
        return found


def _build(patches: Patches) -> Any:
    total = patches.n * patches.cells
    index = faiss.index_factory(patches.dim, FACTORY, faiss.METRIC_INNER_PRODUCT)
    index.train(patches.patch_rows(_spread(total, _TRAIN)))
    for _, block in patches.blocks():
        index.add(block)
    return index


def _spread(total: int, n: int) -> Ints:
    """At most n positions, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(n, total)).astype(np.int64))


class Bound:
    """Proves that no patch reaches tau, most of the time from a few leading dimensions.

    With vectors rotated to their principal axes, q.x <= q1.x1 + |q2| |x2| (Cauchy-Schwarz), 1 the leading part and
    2 the rest. Where this bound reaches tau the product is taken in full.
    """

    def __init__(self, patches: Patches, queries: FloatArray, tau: float) -> None:
        self._patches = patches
        self._tau = float(np.float32(tau))
        sample = patches.patch_rows(_spread(patches.n * patches.cells, _SAMPLE)).astype(np.float64)
        _, axes = np.linalg.eigh(sample.T @ sample)
        self._axes = axes[:, ::-1]
        self._m = self._dimensions(queries[: _SAMPLE // 64].astype(np.float64), sample)
        total = patches.n * patches.cells
        self._rotated: FloatArray | None = None
        if total * (self._m + 1) * 4 <= _MOST_BYTES:
            self._rotated = np.empty((total, self._m + 1), np.float32)
            for start, block in patches.blocks():
                self._rotated[start : start + len(block)] = self._rotate(block.astype(np.float64), self._m)

    def _dimensions(self, queries: Float64, sample: Float64) -> int:
        """The number of leading dimensions that costs least on a sample."""
        dim = sample.shape[1]

        def cost(m: int) -> float:
            bound = self._rotate(queries, m) @ self._rotate(sample, m).T
            return float(m / dim + _SURVIVOR_COST * np.mean(bound >= self._tau - _SLACK))

        return min((m for m in _DIMS if m < dim), key=cost, default=dim)

    def _rotate(self, vectors: Float64, m: int) -> FloatArray:
        """(n, m + 1): the leading part, then the length of the rest."""
        lead = vectors @ self._axes[:, :m]
        rest = np.sqrt(np.clip((vectors**2).sum(axis=1) - (lead**2).sum(axis=1), 0.0, None))
        return np.concatenate([lead, rest[:, None] + 1e-6], axis=1).astype(np.float32)

    def settle(self, queries: FloatArray, own: Ranges) -> tuple[FloatArray, Ints, FloatArray]:
        """(best, position, upper): the best match where one reaches tau, and what no match exceeds.

        Where none reaches tau, ``upper`` is the number just below it and ``best`` the best one that was looked at.
        """
        if self._rotated is None:
            best, at = highest_cosine(queries, self._patches.blocks(), own)
            return best, at, best
        n = len(queries)
        best, at = np.full(n, -1.0, np.float32), np.full(n, -1, np.int64)
        rotated = self._rotate(queries.astype(np.float64), self._m)
        limit = np.float32(self._tau - _SLACK)
        for first_row, whole in self._patches.blocks():
            for offset in range(0, len(whole), _BOUND_ROWS):
                block, start = whole[offset : offset + _BOUND_ROWS], first_row + offset
                bound = rotated @ self._rotated[start : start + len(block)].T
                mask(bound, own, start)
                q, x = np.divmod(np.flatnonzero(bound >= limit), len(block))
                if q.size:
                    self._take_best(queries, block, start, q, x, best, at)
        found = np.flatnonzero(at >= 0)
        best[found] = cosines(queries[found], self._patches.patch_rows(at[found]))
        below = np.nextafter(np.float32(self._tau), np.float32(-2.0))
        return best, at, np.where(best >= np.float32(self._tau), best, below)

    def _take_best(
        self, queries: FloatArray, block: FloatArray, start: int, q: Ints, x: Ints, best: FloatArray, at: Ints
    ) -> None:
        """Compare pairs (query q, row x of a block) in full; improve ``best`` and ``at`` in place. q is sorted."""
        products = np.einsum("nd,nd->n", queries[q], block[x])
        near = np.flatnonzero(np.abs(products - self._tau) < NEAR)
        products[near] = cosines(queries[q[near]], block[x[near]])
        take_first(q, x + start, products, best, at)
