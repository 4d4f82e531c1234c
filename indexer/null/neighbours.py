"""CSLS: how much nearer a patch and a cell are to each other than either is to anything of another work.

csls(x, y) = cos(x, y) - (r(x) + r(y)) / 2, within -1 and 1, with r the highest cosine to a patch of another work among the
queries of a sample. What all works have alike (sky, paper, a dark ground) cancels. Source: Conneau et al. (2018),
cross-domain similarity local scaling, here with one neighbour.
"""

from __future__ import annotations

import numpy as np

from iconicity.indexer.arrays import Float32, Float64, Ints
from iconicity.indexer.null.pool import products
from iconicity.indexer.spec import FloatArray

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

    def r(self, cells: FloatArray | Float64, work: int) -> Float32:
        """r of cells (q, D) of one work: the highest cosine to a patch of another work, (q,)."""
        each = self.best_of_each(cells)
        return np.asarray(each[:, self.work != work].max(axis=1), np.float32)

    def csls(self, patches: FloatArray, cells: Float64, r: Float32, work: int) -> Float32:
        """CSLS of patches (q, D) and their best cell (m, D) of a work, whose ``r`` (m,) is known: (q,)."""
        best = (products(patches, cells) - r / 2).max(axis=1)
        return np.asarray(np.clip(best - self.r(patches, work) / 2, -1.0, 1.0), np.float32)


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
