"""The references that images are compared with: all kept ones, or each concept's first, in order of their ref_id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.vectors import AllVectors
from iconicity.scorer.measure.highest import Ranges, mask
from iconicity.scorer.measure.metrics import Float32, Ints

TIE = 1e-6  # similarities this near are one: the same picture under two titles does not beat itself
_BLOCK = 1024  # references a product takes at once


class Universe:
    """Positions of references and of their patches, over the vectors of an index or of one shard of it."""

    def __init__(self, vectors: AllVectors, static: bool) -> None:
        self.vectors = vectors
        self.name = "static" if static else "dynamic"
        self._rows = vectors.offsets[:-1] if static else None
        self.starts = np.arange(len(vectors.concepts)) if static else vectors.offsets[:-1]
        self.n = len(vectors.ref_ids) if self._rows is None else len(self._rows)
        self.cells, self.dim = (int(v) for v in vectors.patches.shape[1:])
        self.folder = vectors.folder

    def own(self, concepts: Sequence[str]) -> Ranges:
        """Positions of concepts, (n, 2); (0, 0) of one that has none here."""
        places = {c: self._own(c) for c in set(concepts)}
        return np.array([places[c] for c in concepts], np.int64).reshape(-1, 2)

    def _own(self, concept: str) -> tuple[int, int]:
        lo, hi = self.vectors.rows_of(concept)
        if self._rows is None or lo == hi:
            return lo, hi
        at = int(np.searchsorted(self._rows, lo))
        return at, at + 1

    def ref_id(self, position: int) -> str | None:
        """Of the reference at a position; -1: None."""
        if position < 0:
            return None
        row = position if self._rows is None else int(self._rows[position])
        return str(self.vectors.ref_ids[row].as_py())

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

    def clip_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Every image's CLIP vector, a block at a time, each with its first position."""
        for start in range(0, self.n, _BLOCK):
            yield start, self.clip(start, min(self.n, start + _BLOCK))

    def concepts_above(self, queries: FloatArray, own: Ranges, similarity: Float32) -> Ints:
        """How many other concepts have a higher best CLIP similarity than the own one, (n,).

        queries (n, D) are unit rows, own (n, 2) their concepts' positions, ``similarity`` (n,) the own concept's best,
        nan where it has none.
        """
        higher = np.zeros(len(queries), np.int64)
        wide = queries.astype(np.float64)
        bounds = np.append(self.starts, self.n)
        first = 0
        while first < len(self.starts):  # whole concepts, about so many references at a time
            last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _BLOCK * 16, side="right")) - 1)
            start, stop = int(bounds[first]), int(bounds[last])
            products = (wide @ self.clip(start, stop).astype(np.float64).T).astype(np.float32)
            mask(products, own, start)
            maxima = np.maximum.reduceat(products, bounds[first:last] - start, axis=1)
            higher += (np.clip(maxima, -np.inf, 1.0) > similarity[:, None] + TIE).sum(axis=1)
            first = last
        return higher

    def _at(self, start: int, stop: int) -> Any:
        return slice(start, stop) if self._rows is None else self._rows[start:stop]
