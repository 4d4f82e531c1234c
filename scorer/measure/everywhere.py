"""Scope ``all``: the best match of an image among every other concept, exact or approximate.

Exact is a blocked product. Approximate asks a FAISS index and takes every hit's similarity anew from the stored
vectors, so that a hit is true; what it missed is unknown, and is said so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.spec import FloatArray
from iconicity.scorer.measure.metrics import unresolved
from iconicity.scorer.measure.shards import (
    ClipAnswers,
    ClipQueries,
    PatchAnswers,
    PatchQueries,
    Queries,
    Shards,
    merge_clip,
    merge_patches,
)
from iconicity.scorer.results import Record


class Elsewhere:
    """Adds the columns of scope ``all`` to rows. The shards are opened when the first row needs them."""

    def __init__(self, shards: Callable[[], Shards], search: str, settle: bool, tau: float | None) -> None:
        self._open = shards
        self._shards: Shards | None = None
        self._search = search
        self._tau = tau if settle else None

    def unsettled(self, row: Record) -> bool:
        """Whether a stored row has patches this run is to settle."""
        if row["p_other"] is None or self._tau is None:
            return False
        return bool(_unproven(row, self._tau).any())

    def add(self, rows: Iterable[tuple[Vectors | None, Record]], together: int) -> Iterator[Record]:
        """Rows with their columns, in order, by their images' vectors; images are matched ``together`` at once."""
        iterator = iter(rows)
        while group := list(islice(iterator, together)):
            clips = [(v.clip, row) for v, row in group if v is not None and v.clip is not None]
            patches = [(v.patches, row) for v, row in group if v is not None and v.patches is not None]
            if clips or patches:
                self._add(clips, patches)
            yield from (row for _, row in group)

    def close(self) -> None:
        """Close the shards."""
        if self._shards is not None:
            self._shards.close()

    def _ask(self, queries: Queries) -> tuple[ClipAnswers | None, PatchAnswers | None]:
        if self._shards is None:
            self._shards = self._open()
        answers = self._shards.ask(queries)
        clip, patches = [a.clip for a in answers if a.clip], [a.patches for a in answers if a.patches]
        return merge_clip(clip) if clip else None, merge_patches(patches) if patches else None

    def _add(self, clips: Sequence[tuple[FloatArray, Record]], patches: Sequence[tuple[FloatArray, Record]]) -> None:
        clip_rows, patch_rows = [row for _, row in clips], [row for _, row in patches]
        clip_queries = patch_queries = None
        if clips:
            own = np.array([np.nan if r["cra_sim"] is None else r["cra_sim"] for r in clip_rows], np.float32)
            vectors = np.stack([vector for vector, _ in clips])
            clip_queries = ClipQueries(vectors, tuple(r["concept"] for r in clip_rows), own)
        if patches:
            stacked = np.stack([p for p, _ in patches])
            concepts = tuple(r["concept"] for r in patch_rows for _ in range(stacked.shape[1]))
            patch_queries = PatchQueries(stacked.reshape(-1, stacked.shape[-1]), concepts, self._search)
        clip, found = self._ask(Queries(clip_queries, patch_queries))
        if clip is not None:
            _fill_clip(clip, clip_rows)
        if found is not None and patch_queries is not None:
            _fill_patches(self._settled(found, patch_queries, patch_rows), patch_rows)

    def _settled(self, found: PatchAnswers, queries: PatchQueries, rows: Sequence[Record]) -> PatchAnswers:
        """With a proof, or the match that was missed, for patches that have no match at tau."""
        if self._search == "exact" or self._tau is None:
            return found
        k = len(found.best) // len(rows)
        own = np.concatenate([r["p"] if r["p"] is not None else [-1.0] * k for r in rows]).astype(np.float32)
        open_ = np.flatnonzero(unresolved(np.fmax(own, found.best), found.upper, self._tau))
        if not open_.size:
            return found
        asked = PatchQueries(queries.vectors[open_], tuple(queries.concepts[i] for i in open_), "settle")
        _, proven = self._ask(Queries(patches=asked))
        assert proven is not None
        best, cells, upper = found.best.copy(), found.cells.copy(), found.upper.copy()
        ref_ids = list(found.ref_ids)
        better = (proven.best > best[open_]) | (np.isnan(best[open_]) & ~np.isnan(proven.best))
        for i in np.flatnonzero(better).tolist():
            ref_ids[open_[i]] = proven.ref_ids[i]
        best[open_[better]], cells[open_[better]] = proven.best[better], proven.cells[better]
        upper[open_] = np.fmax(proven.upper, best[open_])
        return PatchAnswers(best, ref_ids, cells, upper)


def _fill_clip(found: ClipAnswers, rows: Sequence[Record]) -> None:
    """Best other reference, and the own concept's rank: 1 + how many concepts have a higher best similarity."""
    for i, row in enumerate(rows):
        if found.ref_ids[i] is not None:
            row["other_sim"], row["other_ref_id"] = float(found.best[i]), found.ref_ids[i]
        row["own_rank"] = None if row["cra_sim"] is None else 1 + int(found.higher[i])


def _fill_patches(found: PatchAnswers, rows: Sequence[Record]) -> None:
    k = len(found.best) // len(rows)
    for i, row in enumerate(rows):
        part = slice(i * k, (i + 1) * k)
        row["p_other"], row["p_other_upper"] = found.best[part].tolist(), found.upper[part].tolist()
        row["p_other_ref_id"] = found.ref_ids[part]
        row["p_other_ref_cell"] = [None if c < 0 else c for c in found.cells[part].tolist()]


def _unproven(row: Record, tau: float) -> npt.NDArray[np.bool_]:
    """Patches of a row without a hit at tau, own or other's, that may have one."""
    other, upper = np.array(row["p_other"], np.float32), np.array(row["p_other_upper"], np.float32)
    found = other if row["p"] is None else np.fmax(other, np.array(row["p"], np.float32))
    return unresolved(found, upper, tau)
