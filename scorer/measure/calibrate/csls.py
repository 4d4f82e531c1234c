"""CSLS: how much nearer a patch and a cell are to each other than either is to anything of another work.

csls(x, y) = cos(x, y) - (r(x) + r(y)) / 2, with r the highest cosine to a cell of another work of the pool; within -1 and 1.
What all concepts' references give alike, sky, paper, a dark ground, and what an encoder gives alike whatever it sees,
cancels. Source: Conneau et al. (2018), cross-domain similarity local scaling; here with one neighbour, and the neighbours
of both sides among the references, since generated images are no sample of anything.
"""

from __future__ import annotations

import numpy as np

from iconicity.indexer.null.design import Design
from iconicity.indexer.null.pool import Pool, products
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.vectors import AllVectors
from iconicity.scorer.measure.calibrate.whiten import Whitening
from iconicity.scorer.measure.metrics import Float32, Float64, Ints

_ROWS = 512  # cells compared with the pool at once


def best_elsewhere(similarity: Float32, work: Ints, works: int, leave: int | None = None) -> Float32:
    """Highest similarity outside each work: (q, works + 1), the last column leaves out nothing; -inf where there is none.

    similarity (q, R) to references that belong to the works ``work`` (R,); the work ``leave`` is left out everywhere.

    >>> best_elsewhere(np.float32([[0.5, 0.9, 0.7]]), np.array([0, 1, 1]), 2).tolist()
    [[0.8999999761581421, 0.5, 0.8999999761581421]]
    """
    best = np.full((len(similarity), works + 1), -np.inf, np.float32)
    for w in np.unique(work):
        if w != leave:
            best[:, w] = similarity[:, work == w].max(axis=1)
    rows, top = np.arange(len(best)), best.argmax(axis=1)
    first = best[rows, top]
    best[rows, top] = -np.inf
    out = np.repeat(first[:, None], works + 1, axis=1)
    out[rows, top] = best.max(axis=1)
    return out


class Neighbours:
    """The similarity of every cell of the pool to the nearest cell of another work, and the same of other references."""

    FEWEST = 3  # works in the pool: the own one, the one compared with, and another

    def __init__(
        self, pool: Pool, vectors: AllVectors, design: Design, static: bool, whitening: Whitening | None = None
    ) -> None:
        """``whitening``: what the pool's vectors went through, and others are to go."""
        self.pool, self._vectors, self._design, self._static = pool, vectors, design, static
        self.whitening = whitening
        self._kept: tuple[str, tuple[Float64, Float32]] | None = None  # while the images of a concept go by
        names = sorted({design.work(c) for c in pool.concepts})
        self._number = {w: i for i, w in enumerate(names)}
        self.works = len(names)
        self.work = np.array([self.number(pool.concepts[i]) for i in pool.of], np.int64)  # (R,)
        references, cells, _ = pool.patches.shape
        self.cells = np.empty((references, cells), np.float32)  # r of each
        if self.works >= self.FEWEST:
            for w in range(self.works):
                mine = np.flatnonzero(self.work == w)
                self.cells[mine] = self._nearest(pool.patches[mine].reshape(-1, pool.patches.shape[2]), w).reshape(
                    -1, cells
                )

    @property
    def enough(self) -> bool:
        """Whether there is another work to compare with, whatever pair is looked at."""
        return self.works >= self.FEWEST

    def number(self, concept: str) -> int:
        """Number of a concept's work; that of no column where the pool has none of it."""
        return self._number.get(self._design.work(concept), self.works)

    def _nearest(self, cells: FloatArray | Float64, work: int) -> Float32:
        parts = [
            best_elsewhere(self.pool.patch_similarity(cells[i : i + _ROWS]), self.work, self.works, work)[:, -1]
            for i in range(0, len(cells), _ROWS)
        ]
        return np.concatenate(parts)

    def own(self, concept: str) -> tuple[Float64, Float32]:
        """Cells of a concept's references (J * K, D'), and r of each; ``static`` takes the first reference alone."""
        if self._kept is None or self._kept[0] != concept:
            self._kept = concept, self._own(concept)
        return self._kept[1]

    def _own(self, concept: str) -> tuple[Float64, Float32]:
        dim = self.pool.patches.shape[2]
        if concept in self.pool.concepts:
            mine = self.pool.of == self.pool.concepts.index(concept)
            return self.pool.patches[mine].reshape(-1, dim), self.cells[mine].ravel()
        low, high = self._vectors.rows_of(concept)
        rows = slice(low, low + 1 if self._static else high)
        found = np.asarray(self._vectors.patches[rows], np.float64)
        cells = (found if self.whitening is None else self.whitening(found)).reshape(-1, dim)
        return cells, self._nearest(cells, self.number(concept))

    def csls(
        self, patches: FloatArray | Float64, each: Float32, single: Float32, concept: str
    ) -> tuple[Float32, Float32]:
        """CSLS of a concept's patches (q, D'): to each draw (q, R), and to their best own cell (q,).

        ``each`` (q, R, K), their similarities to the pool's cells, is used up; ``single`` (q, R) is its best of each reference.
        """
        elsewhere = best_elsewhere(single, self.work, self.works, self.number(concept))
        each -= self.cells / 2
        return self.of_others(each.max(axis=2), elsewhere), self.of_own(patches, elsewhere, self.own(concept))

    def of_own(self, patches: FloatArray | Float64, elsewhere: Float32, own: tuple[Float64, Float32]) -> Float32:
        """CSLS of patches (q, D') and their best own cell: (q,). ``elsewhere`` of :func:`best_elsewhere`, the own work left out."""
        cells, r = own
        best = (products(patches, cells) - r / 2).max(axis=1)
        return np.asarray(np.clip(best - elsewhere[:, -1] / 2, -1.0, 1.0), np.float32)

    def of_others(self, lessened: Float32, elsewhere: Float32) -> Float32:
        """CSLS of patches and each draw (q, R), as if its concept were the own one. ``lessened``: cosines less r(y) / 2."""
        return np.asarray(
            np.clip(self.pool.patch_maxima(lessened) - elsewhere[:, self.work] / 2, -1.0, 1.0), np.float32
        )
