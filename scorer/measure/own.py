"""Best match of an image within its own concept: exact, a few concepts' references in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from iconicity.indexer.null.neighbours import IndexNeighbours
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import ConceptCount
from iconicity.scorer.measure.highest import highest_cosine
from iconicity.scorer.measure.metrics import Float64

_AHEAD = 16  # concepts read at once


@dataclass(frozen=True)
class ConceptReferences:
    """A concept's references as the mode sees them: static keeps the first alone. Unit rows as float64."""

    ref_ids: Sequence[str]
    clip: Float64  # (J, D)
    patches: Float64  # (J * K, D')
    cells: int  # K


class OwnConcept:
    """References of one concept after the other. ``concepts`` is the order in which they will be asked for.

    ``near``: what CSLS compares with; None: it is left out.
    """

    def __init__(
        self,
        index: Index,
        counts: Mapping[str, ConceptCount],
        mode: str,
        concepts: Sequence[str],
        near: IndexNeighbours | None = None,
    ) -> None:
        self._index = index
        self._near = near
        self._counts = counts
        self._mode = mode
        self._order = [c for c in concepts if c in counts]
        self._position = {c: i for i, c in enumerate(self._order)}
        self._blocks: dict[str, tuple[Sequence[str], FloatArray, FloatArray]] = {}
        self._current: tuple[str, ConceptReferences] | None = None
        # After a product BLAS threads spin for a while, and take a tenth of the processor from the forward pass.
        self._blas = ThreadpoolController()

    def references(self, concept: str) -> ConceptReferences | None:
        """References of a concept, None when the index has none. Raises :class:`CorruptIndexError`."""
        if self._current is not None and self._current[0] == concept:
            return self._current[1]
        if concept not in self._position:
            return None
        if concept not in self._blocks:
            self._read(concept)
        ref_ids, clip, patches = self._blocks[concept]
        j, k, dim = patches.shape
        flat = patches.reshape(j * k, dim).astype(np.float64)
        self._current = concept, ConceptReferences(ref_ids, clip.astype(np.float64), flat, k)
        return self._current[1]

    def _read(self, concept: str) -> None:
        at = self._position[concept]
        names = self._order[at : at + _AHEAD]
        block = self._index.block(names)
        self._blocks = {}
        held = np.array([r.concept for r in block.references])
        for name in names:
            rows = np.flatnonzero(held == name)  # sorted by ref_id: a concept is contiguous
            part = slice(int(rows[0]), int(rows[0]) + (1 if self._mode == "static" else rows.size))
            self._blocks[name] = [r.ref_id for r in block.references[part]], block.clip[part], block.patches[part]

    def columns(self, concept: str, clip: FloatArray | None, patches: FloatArray | None) -> dict[str, Any]:
        """The row's columns of an image of a concept: counts, and the maxima of the vectors that are given."""
        count = self._counts.get(concept, ConceptCount(0, 0))
        out: dict[str, Any] = {
            "n_ref_before": count.total, "n_ref_kept": count.kept, "n_ref_dups_removed": count.total - count.kept,
        }  # fmt: skip
        own = self.references(concept) if clip is not None or patches is not None else None
        if own is None:
            return out
        with self._blas.limit(limits=1, user_api="blas"):
            out |= self._maxima(own, clip, patches)
            if patches is not None and self._near is not None:
                out["p_csls"] = self._near.csls(concept, own.patches, patches).tolist()
            return out

    @staticmethod
    def _maxima(own: ConceptReferences, clip: FloatArray | None, patches: FloatArray | None) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if clip is not None:
            similarity, best = highest_cosine(clip[None], [(0, own.clip)], exact=True)
            out |= {"cra_sim": float(similarity[0]), "cra_ref_id": own.ref_ids[int(best[0])]}
        if patches is not None:
            similarity, best = highest_cosine(patches, [(0, own.patches)], exact=True)
            out["p"] = similarity.tolist()
            out["p_ref_id"] = [own.ref_ids[b // own.cells] for b in best.tolist()]
            out["p_ref_cell"] = [b % own.cells for b in best.tolist()]
        return out
