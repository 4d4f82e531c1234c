"""The null of generated images: their best similarities to references of unrelated concepts.

For an image whose concept has J references one draw of the null is the maximum over J references of **one** other
concept (one concept's references resemble each other). The references of a concept are drawn in an order fixed by
a seed, and the draw at J takes the first J of them, so that a value never depends on which other concepts there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from iconicity.indexer.arrays import Bools, Float32, Float64, Ints
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.vectors import AllVectors

POOL = 200  # concepts an image is compared with, unless asked otherwise


def rank(seed: int, name: str) -> str:
    """Key of a fixed random order of names."""
    return hashlib.sha256(f"{seed}|{name}".encode()).hexdigest()


def choose(names: Iterable[str], n: int, seed: int) -> tuple[str, ...]:
    """n of the names, sorted; which ones is fixed by the seed."""
    return tuple(sorted(sorted(set(names), key=lambda name: rank(seed, name))[:n]))


@dataclass(frozen=True)
class Pool:
    """R references of some concepts, each concept's in the order of the draws.

    The column r of a null belongs to the concept ``concepts[of[r]]`` and is its draw at J = ``draw[r]``.
    """

    concepts: tuple[str, ...]
    of: Ints  # (R,)
    draw: Ints  # (R,) from 1
    ref_ids: tuple[str, ...]
    clip: Float64  # (R, D)
    patches: Float64  # (R, K, D')

    @classmethod
    def open(cls, vectors: AllVectors, concepts: Sequence[str], seed: int, static: bool) -> Pool:
        """The references of some concepts; ``static`` takes the first by name alone, as scoring does."""
        of: list[int] = []
        draw: list[int] = []
        rows: list[int] = []
        ids: list[str] = []
        for i, concept in enumerate(concepts):
            low, high = vectors.rows_of(concept)
            mine = [low] if static else range(low, high)
            named = {row: str(vectors.ref_ids[row].as_py()) for row in mine}
            ordered = sorted(mine, key=lambda row: rank(seed, named[row]))
            of += [i] * len(ordered)
            draw += range(1, len(ordered) + 1)
            rows += ordered
            ids += [named[row] for row in ordered]
        at = np.array(rows, np.int64)
        return cls(
            tuple(concepts),
            np.array(of, np.int64),
            np.array(draw, np.int64),
            tuple(ids),
            np.asarray(vectors.clip[at], np.float64),
            np.asarray(vectors.patches[at], np.float64),
        )

    def columns_of(self, excluded: Iterable[str]) -> Bools:
        """Columns of concepts that are not excluded: (R,)."""
        out = set(excluded)
        keep = np.array([c not in out for c in self.concepts], bool)
        return np.asarray(keep[self.of], bool)

    def clip_maxima(self, clip: FloatArray) -> Float32:
        """Null of image vectors (n, D): (n, R), each column the maximum over its draw."""
        return self._accumulate(products(clip, self.clip))

    def patch_similarity(self, patches: FloatArray | Float64) -> Float32:
        """Best similarity of patches (q, D') to each single reference: (q, R)."""
        return np.asarray(self.cell_similarity(patches).max(axis=2), np.float32)

    def cell_similarity(self, patches: FloatArray | Float64) -> Float32:
        """Similarity of patches (q, D') to each cell of each reference: (q, R, K)."""
        references, cells, dim = self.patches.shape
        return products(patches, self.patches.reshape(references * cells, dim)).reshape(-1, references, cells)

    def patch_maxima(self, similarity: Float32) -> Float32:
        """Null of patches from their similarities to each reference."""
        return self._accumulate(similarity)

    def best_cells(self, patches: FloatArray, columns: Ints) -> Ints:
        """Which cell of a reference (by column) each patch matches best: (q,)."""
        similarity = np.einsum("qd,qkd->qk", patches.astype(np.float64), self.patches[columns])
        return np.asarray(similarity.astype(np.float32).argmax(axis=1), np.int64)

    def _accumulate(self, similarity: Float32) -> Float32:
        out = similarity.copy()
        starts = np.flatnonzero(self.draw == 1)
        for low, high in zip(starts, [*starts[1:], len(self.draw)], strict=True):
            np.maximum.accumulate(out[:, low:high], axis=1, out=out[:, low:high])
        return out


def products(a: FloatArray | Float64, b: Float64) -> Float32:
    """Cosines of unit rows a (q, d) and b (m, d), within -1 and 1: (q, m)."""
    # in float64, rounded once: no decision depends on how many images are taken together
    return np.asarray(np.clip(a.astype(np.float64) @ b.T, -1.0, 1.0), np.float32)
