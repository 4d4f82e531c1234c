"""Whitening: patch vectors as they differ from what those of the references have in common.

x -> (x - m) V (L + s)^(-1/2), to unit length: m is the mean of the pool's cells, V their principal axes, L the variances along
these, s a tenth of the mean variance, so that axes with next to none do not count as much as any. An encoder whose vectors
nearly all point the same way tells its images apart along axes of little variance; there they differ as much as along others.
Source: Jegou & Chum (2012), negative evidences and co-occurrences in image retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iconicity.indexer.spec import FloatArray
from iconicity.scorer.measure.metrics import Float64

SHRINKAGE = 0.1  # of the mean variance; docs/validation-tables.md says what others gave
_NONE = 1e-6  # of the mean variance: an axis below it is rounding


@dataclass(frozen=True)
class Whitening:
    """A change of vectors that is fixed by some cells: ``mean`` (D,), ``axes`` (D, r), each over its deviation."""

    mean: Float64
    axes: Float64

    @classmethod
    def of(cls, cells: FloatArray | Float64) -> Whitening:
        """Of cells (..., D), two or more of them different. Raises :class:`ValueError` else."""
        rows = np.asarray(cells, np.float64).reshape(-1, cells.shape[-1])
        mean = rows.mean(axis=0)
        away = rows - mean
        variance, axes = np.linalg.eigh(away.T @ away / len(rows))
        level = float(variance.sum()) / min(rows.shape)
        if not level > 1e-12:  # of unit vectors: less is rounding
            raise ValueError("cells that are all the same have no axes")
        kept = variance > _NONE * level
        return cls(mean, axes[:, kept] / np.sqrt(variance[kept] + SHRINKAGE * level))

    def __call__(self, vectors: FloatArray | Float64) -> Float64:
        """Vectors (..., D) to unit vectors (..., r); one that is the mean has no direction, and stays 0.

        >>> Whitening.of(np.eye(3))(np.eye(3)).shape
        (3, 2)
        """
        moved = (np.asarray(vectors, np.float64) - self.mean) @ self.axes
        length = np.linalg.norm(moved, axis=-1, keepdims=True)
        unit: Float64 = np.divide(moved, length, out=np.zeros_like(moved), where=length > 0.0)
        return unit
