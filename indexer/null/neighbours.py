"""CSLS: how much nearer a patch and a cell are to each other than either is to anything of another work.

csls(x, y) = cos(x, y) - (r(x) + r(y)) / 2, within -1 and 1, with r the highest cosine to a patch of another work among the
queries of a sample. What all works have alike (sky, paper, a dark ground) cancels. Source: Conneau et al. (2018),
cross-domain similarity local scaling, here with one neighbour.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from iconicity.indexer.arrays import Float32, Float64, Ints
from iconicity.indexer.errors import CorruptIndexError, mending
from iconicity.indexer.null.pool import products
from iconicity.indexer.null.same_work import sharing
from iconicity.indexer.null.sample import COMPARED, query_cells
from iconicity.indexer.null.thresholds import CSLS, IndexThresholds, thresholds_of
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Reference

FEWEST = 3  # works: the own one, the one compared with, and another


class Neighbours:
    """Patches (n, P, D) of n concepts, which are the works ``work`` (n,): what a patch or a cell is compared with."""

    def __init__(self, patches: FloatArray | Float64, work: Ints) -> None:
        self.patches = np.asarray(patches, np.float64)
        self.work = work

    @property
    def enough(self) -> bool:
        """Whether there is a work to compare with, whichever two are left out."""
        return len(set(self.work.tolist())) >= FEWEST

    def best_of_each(self, patches: FloatArray | Float64) -> Float32:
        """Highest cosine of some patches (q, D) to a patch of each of the n concepts: (q, n)."""
        n, per, dim = self.patches.shape
        return np.asarray(products(patches, self.patches.reshape(n * per, dim)).reshape(-1, n, per).max(axis=2))

    def best_elsewhere(self, similarity: Float32, work: Ints) -> Float32:
        """r of some cells (q,) that belong to the works ``work`` (q,), from their cosines (q, n * P) to all patches."""
        n, per, _ = self.patches.shape
        best = similarity.reshape(-1, n, per).max(axis=2)
        best[work[:, None] == self.work] = -np.inf
        return np.asarray(best.max(axis=1), np.float32)

    def r(self, cells: FloatArray | Float64, works: Collection[int]) -> Float32:
        """r of cells (q, D) of a concept that is these works: the highest cosine to a patch of another work, (q,)."""
        others = ~np.isin(self.work, list(works))
        return np.asarray(self.best_of_each(cells)[:, others].max(axis=1), np.float32)


def csls_of_draws(lessened: Float32, near: Neighbours, work: Ints) -> Float32:
    """CSLS of the queries with draws, from cosines less r(y) / 2 at their best cells: (n, P, n, 1 + J) like ``lessened``.

    r of a query's patch leaves out its own work and the one it is compared with.
    """
    n, per, dim = near.patches.shape
    each = near.best_of_each(near.patches.reshape(n * per, dim)).reshape(n, per, n)
    out = np.empty_like(lessened)
    for i in range(n):
        for j in range(n):
            elsewhere = each[i][:, (work != work[i]) & (work != work[j])].max(axis=1)
            out[i, :, j] = np.clip(lessened[i, :, j] - elsewhere[:, None] / 2, -1.0, 1.0)
    return out


def open_neighbours(index: Index, mode: str) -> IndexNeighbours | None:
    """What CSLS compares with in an index; None where the index has no thresholds of CSLS for the mode."""
    thresholds = thresholds_of(index.manifest)
    return IndexNeighbours(index, thresholds) if thresholds is not None and thresholds.taus(mode, CSLS) else None


class IndexNeighbours:
    """CSLS of generated images: their patches against their own concept, with the queries of an index as neighbours."""

    def __init__(self, index: Index, thresholds: IndexThresholds) -> None:
        """Reads the queries. Raises :class:`CorruptIndexError` where one is gone."""
        self._index, self._thresholds = index, thresholds
        rows = {row.reference.ref_id: row for row in index.store.tested_rows(list(thresholds.queries))}
        if lost := sorted(set(thresholds.queries) - rows.keys()):
            raise CorruptIndexError(
                f"{index.path}: its thresholds were fitted on {lost[0]}, which is gone; {mending(index.path)}"
            )
        flat = np.stack([np.asarray(rows[q].patches, np.float64) for q in thresholds.queries])
        patches = flat.reshape(len(flat), index.reference_cells, -1)[:, query_cells(index.settings)]
        self._near = Neighbours(patches, np.array(thresholds.works, np.int64))
        self._sampled: list[Reference] = []
        self._own: tuple[str, Collection[int], Float32] | None = None  # of the concept whose images go by

    def csls(self, concept: str, cells: Float64, patches: FloatArray) -> Float32:
        """CSLS of the patches (q, D) of an image with the best of its concept's cells (m, D): (q,)."""
        if self._own is None or self._own[0] != concept:
            works = self._works(concept)
            self._own = concept, works, self._near.r(cells, works)
        _, works, r = self._own
        best = (products(patches, cells) - r / 2).max(axis=1)
        return np.asarray(np.clip(best - self._near.r(patches, works) / 2, -1.0, 1.0), np.float32)

    def _works(self, concept: str) -> Collection[int]:
        """Works among the neighbours that a concept is, under any of its names."""
        number = dict(zip(self._thresholds.concepts, self._thresholds.works, strict=True))
        if concept in number:
            return {number[concept]}
        if not self._sampled:
            found = self._index.references(number)
            few = found if len(found) <= COMPARED else {q: found[q] for q in self._thresholds.queries}
            self._sampled = list(few.values())
        return {number[c] for c in sharing(self._index.references([concept]).values(), self._sampled)}
