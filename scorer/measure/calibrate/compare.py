"""Compare vectors of one concept's images with references of concepts that have nothing to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from iconicity.indexer.null.design import Design
from iconicity.indexer.null.pool import Pool, products
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.vectors import AllVectors
from iconicity.scorer.measure.calibrate.csls import Neighbours
from iconicity.scorer.measure.calibrate.whiten import Whitening
from iconicity.scorer.measure.metrics import Float32, Float64

# What a threshold is found for: CLIP similarity, patch similarity, and the two conditions of VR strict, of which the
# first is "vr" itself unless vectors are whitened.
CRA, VR, CSLS, WHITENED = "cra", "vr", "vr_csls", "vr_whitened"


@dataclass(frozen=True)
class Compared:
    """What the n images of one concept are compared with, R references of other concepts.

    ``nulls``: metric -> similarities, (n, R) of images or (n * K, R) of patches; column r holds the best of a draw.
    ``single``: best similarity of each patch to each single reference, (n * K, R). ``own``: ``p_csls`` and
    ``p_whitened``, the similarity of each patch to its own concept, (n * K,).
    """

    nulls: Mapping[str, Float32]
    single: Float32
    own: Mapping[str, Float32]


class Comparison:
    """The pool of unrelated references, and how vectors are compared with it.

    ``whiten``: VR strict is found of whitened vectors. ``metrics`` says what a comparison gives.
    """

    def __init__(self, pool: Pool, vectors: AllVectors, design: Design, static: bool, whiten: bool = False) -> None:
        self.pool, self.design = pool, design
        self.whitening: Whitening | None = None
        strict_pool = pool
        if whiten and len({design.work(c) for c in pool.concepts}) >= Neighbours.FEWEST:
            try:
                self.whitening = Whitening.of(pool.patches)
                strict_pool = replace(pool, patches=self.whitening(pool.patches))
            except ValueError:  # all cells of the pool are the same
                pass
        self._near = Neighbours(strict_pool, vectors, design, static, self.whitening)

    @property
    def metrics(self) -> tuple[str, ...]:
        whitened = () if self.whitening is None else (WHITENED,)
        return (CRA, VR, *whitened, *((CSLS,) if self._near.enough else ()))

    def compare(self, concept: str, clip: FloatArray, patches: FloatArray) -> Compared:
        """Compare images of one concept: CLIP vectors (n, D) and patch vectors (m, K, D'), of which either may be empty."""
        r = len(self.pool.draw)
        nulls = {CRA: self.pool.clip_maxima(clip) if len(clip) else np.empty((0, r), np.float32)}
        if not len(patches):
            return Compared(nulls, np.empty((0, r), np.float32), {})
        flat = patches.reshape(-1, patches.shape[2])
        each = self.pool.cell_similarity(flat)
        single = each.max(axis=2)
        nulls[VR] = self.pool.patch_maxima(single)
        own: dict[str, Float32] = {}
        strict: FloatArray | Float64 = flat
        best = single
        if self.whitening is not None:
            strict = self.whitening(flat)
            each = self._near.pool.cell_similarity(strict)
            best = each.max(axis=2)
            nulls[WHITENED] = self._near.pool.patch_maxima(best)
            own["p_whitened"] = products(strict, self._near.own(concept)[0]).max(axis=1)
        if self._near.enough:
            nulls[CSLS], own["p_csls"] = self._near.csls(strict, each, best, concept)
        return Compared(nulls, single, own)
