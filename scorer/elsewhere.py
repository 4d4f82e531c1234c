"""Scope ``all``: the best match of an image among every other concept, exact or approximate.

Exact is a blocked product. Approximate asks a FAISS index and takes every hit's similarity anew from the stored
vectors, so that a hit is true; what it missed is unknown, and is said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iconicity.indexer.encoders import FloatArray, pick_device
from iconicity.indexer.index import Index
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.vectors import AllVectors, open_vectors
from iconicity.scorer.generated import Embedded
from iconicity.scorer.metrics import Ints, unresolved
from iconicity.scorer.nearest import LEAST, Approximate, Bound, best_outside
from iconicity.scorer.results import Record

Ranges = npt.NDArray[np.int64]  # (n, 2): first row and the row after the last
TIE = 1e-6  # similarities this near are one: the same picture under two titles does not beat itself
_BLOCK = 1024  # references a product takes at once


class Universe:
    """The references every image is compared with, in order of concept: all kept ones, or each concept's first."""

    def __init__(self, vectors: AllVectors, static: bool) -> None:
        self.vectors = vectors
        self.name = "static" if static else "dynamic"
        self._rows = vectors.offsets[:-1] if static else None
        self.starts = np.arange(len(vectors.concepts)) if static else vectors.offsets[:-1]
        self.n = len(vectors.ref_ids) if self._rows is None else len(self._rows)
        self.cells, self.dim = (int(v) for v in vectors.patches.shape[1:])
        self.folder = vectors.folder

    def row(self, position: int) -> int:
        """Row of the stored vectors that stands at a position."""
        return position if self._rows is None else int(self._rows[position])

    def own(self, concept: str) -> tuple[int, int]:
        """Positions of a concept; (0, 0) when it has none."""
        lo, hi = self.vectors.rows_of(concept)
        if self._rows is None or lo == hi:
            return lo, hi
        at = int(np.searchsorted(self._rows, lo))
        return at, at + 1

    def clip(self, start: int, stop: int) -> FloatArray:
        return np.asarray(self.vectors.clip[self._at(start, stop)], np.float32)

    def patches(self, start: int, stop: int) -> FloatArray:
        """Patches of the references at some positions, flat (m * K, D')."""
        block: FloatArray = np.asarray(self.vectors.patches[self._at(start, stop)], np.float32)
        return block.reshape(-1, block.shape[-1])

    def patch_rows(self, at: Ints) -> FloatArray:
        """Single patches by flat position, (..., D')."""
        references, cells = at // self.cells, at % self.cells
        rows = references if self._rows is None else self._rows[references]
        return np.asarray(self.vectors.patches[rows, cells], np.float32)

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Every patch, a block at a time, each with its first flat position."""
        for start in range(0, self.n, _BLOCK):
            yield start * self.cells, self.patches(start, min(self.n, start + _BLOCK))

    def _at(self, start: int, stop: int) -> Any:
        return slice(start, stop) if self._rows is None else self._rows[start:stop]


class Elsewhere:
    """Adds the columns of scope ``all`` to rows. The vectors of the index are opened when the first row needs them."""

    def __init__(
        self,
        index: Index,
        mode: str,
        search: str,
        settle: bool,
        tau: float | None,
        cache: Path | None,
        device: str = "cpu",
        progress: Progress = no_progress,
    ) -> None:
        self._progress = progress
        self._index = index
        self._static = mode == "static"
        self._search = search
        self._settle = settle
        self._tau = tau
        self._cache = cache
        self._device = device
        self._universe: Universe | None = None
        self._approximate: Approximate | None = None
        self._bound: Bound | None = None

    def unsettled(self, row: Record) -> bool:
        """Whether a stored row has patches this run is to settle."""
        if not self._settle or row["p_other"] is None or self._tau is None:
            return False
        return bool(_unproven(row, self._tau).any())

    def add(self, rows: Iterable[tuple[Embedded, Record]], together: int) -> Iterator[Record]:
        """Rows with their columns, in order; images are matched ``together`` at once."""
        iterator = iter(rows)
        while group := list(islice(iterator, together)):
            clips = [(e.clip, row) for e, row in group if e.clip is not None]
            if clips:
                self._add_clip(np.stack([c for c, _ in clips]), [row for _, row in clips])
            patches = [(e.patches, row) for e, row in group if e.patches is not None]
            if patches:
                self._add_patches(np.stack([p for p, _ in patches]), [row for _, row in patches])
            yield from (row for _, row in group)

    def _get_universe(self) -> Universe:
        if self._universe is None:
            self._device = self._device if self._device == "cpu" else pick_device(self._device)
            self._universe = Universe(open_vectors(self._index, self._cache, self._progress), self._static)
        return self._universe

    def _add_clip(self, queries: FloatArray, rows: Sequence[Record]) -> None:
        """Best other reference, and the own concept's rank: 1 + how many concepts have a higher best similarity."""
        universe = self._get_universe()
        own = np.array([universe.own(r["concept"]) for r in rows])
        similarity = np.array([np.nan if r["cra_sim"] is None else r["cra_sim"] for r in rows], np.float32)
        best, at, higher = _best_other_concept(queries, own, similarity, universe)
        for i, row in enumerate(rows):
            if at[i] >= 0:
                row["other_sim"] = float(best[i])
                row["other_ref_id"] = universe.vectors.ref_ids[universe.row(int(at[i]))].as_py()
            row["own_rank"] = None if row["cra_sim"] is None else 1 + int(higher[i])

    def _add_patches(self, patches: FloatArray, rows: Sequence[Record]) -> None:
        universe = self._get_universe()
        n, k, dim = patches.shape
        queries = patches.reshape(n * k, dim)
        own = np.repeat([universe.own(r["concept"]) for r in rows], k, axis=0) * universe.cells
        if self._search == "exact" or universe.n * universe.cells < LEAST:
            best, at = best_outside(queries, own, universe.blocks, self._tau, self._device)
            upper = best
        else:
            best, at, upper = self._approximately(queries, own, rows, k)
        nowhere = at < 0  # no other concept
        best, upper = np.where(nowhere, np.float32(np.nan), best), np.where(nowhere, np.float32(np.nan), upper)
        for i, row in enumerate(rows):
            part = slice(i * k, (i + 1) * k)
            where = at[part]
            row["p_other"] = best[part].tolist()
            row["p_other_upper"] = upper[part].tolist()
            row["p_other_ref_id"] = [
                None if w < 0 else universe.vectors.ref_ids[universe.row(int(w) // universe.cells)].as_py()
                for w in where
            ]
            row["p_other_ref_cell"] = [None if w < 0 else int(w) % universe.cells for w in where]

    def _approximately(
        self, queries: FloatArray, own: Ranges, rows: Sequence[Record], k: int
    ) -> tuple[FloatArray, Ints, FloatArray]:
        universe = self._get_universe()
        if self._approximate is None:
            self._approximate = Approximate.open(universe)
        best, at = self._approximate.search(queries, own)
        upper = np.ones_like(best)
        if not self._settle or self._tau is None:
            return best, at, upper
        own_best = np.concatenate([r["p"] if r["p"] is not None else [-1.0] * k for r in rows]).astype(np.float32)
        open_ = np.flatnonzero(np.maximum(own_best, best) < np.float32(self._tau))
        if open_.size:
            if self._bound is None:
                self._bound = Bound(universe, queries[open_], self._tau)
            found, where, proven = self._bound.settle(queries[open_], own[open_])
            better = found > best[open_]
            best[open_[better]], at[open_[better]] = found[better], where[better]
            upper[open_] = np.maximum(proven, best[open_])
        return best, at, upper


def _unproven(row: Record, tau: float) -> npt.NDArray[np.bool_]:
    """Patches of a row without a hit at tau, own or other's, that may have one."""
    other, upper = np.array(row["p_other"], np.float32), np.array(row["p_other_upper"], np.float32)
    found = other if row["p"] is None else np.fmax(other, np.array(row["p"], np.float32))
    return unresolved(found, upper, tau)


def _best_other_concept(
    queries: FloatArray, own: Ranges, similarity: FloatArray, universe: Universe
) -> tuple[FloatArray, Ints, Ints]:
    """(n,) best similarity outside the own concept, its position (-1: none), and how many concepts beat the own one."""
    n = len(queries)
    best, at, higher = np.full(n, -np.inf, np.float32), np.full(n, -1), np.zeros(n, np.int64)
    wide = queries.astype(np.float64)
    bounds = np.append(universe.starts, universe.n)
    first = 0
    while first < len(universe.starts):  # whole concepts, about a block at a time
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _BLOCK * 16, side="right")) - 1)
        start, stop = int(bounds[first]), int(bounds[last])
        products = (wide @ universe.clip(start, stop).astype(np.float64).T).astype(np.float32)
        np.clip(products, -1.0, 1.0, out=products)
        for i, (lo, hi) in enumerate(own):
            products[i, max(lo, start) - start : max(0, hi - start)] = -np.inf
        top = products.argmax(axis=1)
        value = products[np.arange(n), top]
        better = value > best
        best[better], at[better] = value[better], top[better] + start
        maxima = np.maximum.reduceat(products, bounds[first:last] - start, axis=1)
        higher += (maxima > similarity[:, None] + TIE).sum(axis=1)
        first = last
    return np.clip(best, -1.0, 1.0), at, higher
