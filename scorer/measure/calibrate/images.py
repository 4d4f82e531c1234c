"""The null of each image at its own number of references: how many unrelated draws reach its similarities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from iconicity.indexer.spec import FloatArray
from iconicity.scorer.measure.calibrate.compare import CRA, VR, Compared, Comparison
from iconicity.scorer.measure.metrics import Float32, Ints
from iconicity.scorer.measure.study import Study

_KEYS = ("model", "gen_relpath", "gen_sha256")


class ImageNulls:
    """Rows of the null files of a study, gathered while its images are compared."""

    def __init__(self, study: Study, comparison: Comparison) -> None:
        self._study, self._comparison = study, comparison
        self._rows: dict[int, dict[str, Any]] = {}

    def add(self, concept: int, clip_rows: Ints, patch_rows: Ints, patches: FloatArray, compared: Compared) -> None:
        """Keep the nulls of some images of a concept: rows of the study, and patch vectors (m, K, D')."""
        study, pool = self._study, self._comparison.pool
        j = int(study.references[concept])
        at_j = self._comparison.design.others(study.concepts[concept]) & (pool.draw == j)
        for row in (*clip_rows, *patch_rows):
            self._rows[int(row)] = {"draws": int(at_j.sum())}
        if at_j.any() and len(clip_rows):
            reached = _reached(compared.nulls[CRA][:, at_j], study.similarity[clip_rows])
            for row, share in zip(clip_rows, reached, strict=True):
                self._rows[int(row)]["cra_reached"] = share
        n, k, dim = patches.shape
        if not n:
            return
        for name, values in compared.own.items():
            for row, mine in zip(patch_rows, values.reshape(n, k), strict=True):
                self._rows[int(row)][name] = mine
        if not at_j.any():
            return
        reached = _reached(compared.nulls[VR][:, at_j], study.p[patch_rows].reshape(-1))
        columns = np.flatnonzero(np.isin(pool.of, pool.of[at_j]) & (pool.draw <= j))
        best = columns[compared.single[:, columns].argmax(axis=1)]
        cell = pool.best_cells(patches.reshape(n * k, dim), best)
        for i, row in enumerate(patch_rows):
            part = slice(i * k, (i + 1) * k)
            self._rows[int(row)] |= {
                "p_reached": reached[part],
                "p_best": compared.single[np.arange(n * k)[part], best[part]],
                "p_best_ref_id": [pool.ref_ids[b] for b in best[part]],
                "p_best_ref_cell": cell[part].astype(np.int16),
            }

    def rows_of(self, source: int) -> Iterator[dict[str, Any]]:
        """Rows of the null file of one results directory."""
        table = self._study.table
        for i in np.flatnonzero(table.column("source").to_numpy() == source):
            if int(i) in self._rows:
                yield {
                    **{name: table.column(name)[int(i)].as_py() for name in _KEYS},
                    **dict.fromkeys(("cra_reached", "p_reached")),
                    **self._rows[int(i)],
                }


def _reached(null: Float32, own: Float32) -> Float32:
    """Share of the draws (columns) that reach each row's own value."""
    return np.asarray((null >= own[:, None]).mean(axis=1), np.float32)
