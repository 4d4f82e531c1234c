"""What makes VR better where it is weak: more cells of the references, similarities less what other concepts give.

Every variant gives each cell of a generated image a score, and has a threshold of its own that 1 % of the choosing half's
cells without reuse reach. What it is worth is said by the reporting half, beside VR's own cells under the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iconicity.indexer.decoder import shared
from iconicity.indexer.embed import Embedder
from iconicity.indexer.encoders import Encoders, FloatArray
from iconicity.indexer.images import read_bytes
from iconicity.indexer.patches import Box, cell_boxes
from iconicity.indexer.pipeline import Prepared
from iconicity.indexer.progress import Progress, no_progress
from iconicity.scorer.cache import VectorCache
from iconicity.scorer.findings.statistics import DRAWS
from iconicity.scorer.generated import cache_keys
from iconicity.scorer.metrics import Float32, Float64, best_similarity, passes
from iconicity.scorer.validate.evaluate import GROUPS, CellSums, Half, cell_sums, paired, ratio
from iconicity.scorer.validate.measure import Layer
from iconicity.scorer.validate.rungs import CELLS, GRID
from iconicity.scorer.validate.scores import tau_at

NEIGHBOURS = 10  # of CSLS, as published
BASE = "cells"
_OVERLAPPING = (2 * GRID[0] - 1) * (2 * GRID[1] - 1) - CELLS  # cells of :func:`overlapping`


def overlapping(size: tuple[int, int]) -> list[Box]:
    """Cells at half steps, those of the grid left out: 33 for a grid of 4 x 4."""
    boxes = cell_boxes(*size, *GRID)
    left, top, right, bottom = boxes[0]
    w, h = right - left, bottom - top
    rows, cols = GRID
    return [
        (x * w // 2, y * h // 2, x * w // 2 + w, y * h // 2 + h)
        for y in range(2 * rows - 1)
        for x in range(2 * cols - 1)
        if x % 2 or y % 2
    ]


def further_cells(
    layer: Layer,
    concepts: Sequence[str],
    encoders: Callable[[], Encoders],
    cache: VectorCache,
    progress: Progress = no_progress,
) -> dict[str, FloatArray]:
    """Vectors of the overlapping cells of each concept's reference: concept -> (33, D'). Kept in the cache."""
    exif = bool(layer.index.settings["exif"])
    references = {r.concept: r for r in layer.index.references(concepts).values() if r.kept}
    key = f"overlapping cells|{cache_keys(layer.index)[1]}"
    dim = layer.index.specs[1].dim
    found = cache.get([r.sha256 for r in references.values()], key, _OVERLAPPING * dim)
    for n, r in enumerate(references.values(), 1):
        if r.sha256 not in found:
            image = shared().decode(read_bytes(r.path), r.path, exif)
            crops = [image.crop(box) for box in overlapping(image.size)]
            found[r.sha256] = embed_crops(crops, encoders()).reshape(-1)
            cache.put([(r.sha256, key, found[r.sha256])])
        progress("overlapping cells", n, len(references))
    return {c: found[r.sha256].reshape(-1, dim) for c, r in references.items()}


def embed_crops(pictures: Sequence[Image.Image], encoders: Encoders) -> FloatArray:
    """Each picture as if it were a cell: (m, D') unit rows."""
    import torch

    inputs = torch.stack([encoders.dino.preprocess(p) for p in pictures])
    ((_, found),) = Embedder(encoders, (1, len(pictures))).map([(0, Prepared((1, 1), None, inputs))])
    assert found is not None and found.patches is not None
    return found.patches


@dataclass(frozen=True)
class Variant:
    """Cell scores (n, 16) in [-1, 1] of all images of the ladder."""

    name: str
    score: Float32


def variants(
    concept: Sequence[str], patches: FloatArray, own: Mapping[str, FloatArray], further: Mapping[str, FloatArray]
) -> list[Variant]:
    """All variants. concept (n,) of each image, patches (n, 16, D'); ``own``, ``further``: concept -> (16 or 33, D')."""
    names = np.array(concept, object)
    both = {c: np.concatenate([mine, further[c]]) for c, mine in own.items()}
    return [
        Variant(BASE, _best(names, patches, own)),
        Variant("overlapping", _best(names, patches, both)),
        Variant("csls", csls(names, patches, own)),
        Variant("overlapping + csls", csls(names, patches, both)),
    ]


def _best(names: Any, patches: FloatArray, cells: Mapping[str, FloatArray]) -> Float32:
    score = np.empty(patches.shape[:2], np.float32)
    for c, mine in cells.items():
        rows = np.flatnonzero(names == c)
        flat = patches[rows].reshape(-1, patches.shape[2])
        score[rows] = best_similarity(flat, mine)[0].reshape(len(rows), patches.shape[1])
    return score


def csls(names: Any, patches: FloatArray, own: Mapping[str, FloatArray]) -> Float32:
    """Cross-domain similarity local scaling of each cell and its best own cell, over 4 to lie in [-1, 1].

    2 cos(x, y) - r(x) - r(y), r the mean cosine to the 10 nearest cells of other concepts. Source: Conneau et al. (2018).
    """
    concepts = sorted(own)
    flat = np.concatenate([own[c] for c in concepts]).astype(np.float64)
    of = np.repeat(np.arange(len(concepts)), [len(own[c]) for c in concepts])
    score = np.empty(patches.shape[:2], np.float32)
    for i, c in enumerate(concepts):
        rows = np.flatnonzero(names == c)
        others, mine = flat[of != i], flat[of == i]
        queries = patches[rows].reshape(-1, flat.shape[1]).astype(np.float64)
        value = 2.0 * queries @ mine.T - _near(queries @ others.T)[:, None] - _near(mine @ others.T)[None, :]
        score[rows] = (value.max(axis=1) / 4.0).astype(np.float32).reshape(len(rows), patches.shape[1])
    return score


def _near(products: Float64) -> Float64:
    """Mean of the highest values of each row."""
    k = min(NEIGHBOURS, products.shape[1])
    return np.asarray(np.partition(products, -k, axis=1)[:, -k:].mean(axis=1), np.float64)


def threshold(score: Float32, part: Half, alpha: float) -> float:
    """What ``alpha`` of the cells without reuse reach in a half, bland adversaries left out."""
    use = (part.coverage == 0.0) & (part.truth.rung != "B").to_numpy()[:, None]
    concept = np.broadcast_to(part.concept[:, None], use.shape)
    return tau_at(score[part.rows][use].astype(np.float64), concept[use], alpha)


MEASURES = ("recall", "error")


def improvement_table(
    every: Sequence[Variant], choosing: Half, reporting: Half, alpha: float = 0.01, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Each variant in both halves: false-positive rate, and per group recall and |VR - k/16|, with the gain over VR's
    own cells paired over concepts (recall up, error down: both positive). ``r3_gain`` is the mean gain in error over R3's offsets.

    ``wins``: the choosing half prefers it, and in the reporting half the interval of its gain lies above 0 while
    that of R2's recall does not lie below.
    """
    taus = {v.name: threshold(v.score, choosing, alpha) for v in every}
    rows = []
    base: dict[tuple[str, str, str], Float64] = {}
    for v in every:
        row: dict[str, Any] = {"variant": v.name, "tau": taus[v.name]}
        for which, part in (("choosing", choosing), ("reporting", reporting)):
            hit = passes(v.score[part.rows], taus[v.name])
            plain = cell_sums(hit, part, (part.truth.rung != "B").to_numpy())
            row |= ratio(f"fpr_{which}", plain.false, plain.unused, draws, seed)
            each = {}
            for group in GROUPS:
                recall, error = _per_concept(cell_sums(hit, part, part.group(group)))
                each[group, "recall"], each[group, "error"] = recall, error
                row[f"recall_{group}_{which}"], row[f"error_{group}_{which}"] = _plain(recall), _plain(error)
            if v.name == BASE:
                base |= {(which, *k): x for k, x in each.items()}
            shifted = np.mean(
                [base[which, g, "error"] - each[g, "error"] for g in GROUPS if g.startswith("R3")], axis=0
            )
            row |= paired(f"r3_gain_{which}", shifted, draws, seed)
            row |= paired(f"r2_recall_gain_{which}", each["R2", "recall"] - base[which, "R2", "recall"], draws, seed)
            row |= paired(f"r2_gain_{which}", base[which, "R2", "error"] - each["R2", "error"], draws, seed)
        row.pop("concepts", None)
        row["wins"] = bool(
            v.name != BASE
            and row["r3_gain_choosing"] > 0
            and row["r3_gain_reporting_low"] > 0
            and row["r2_recall_gain_reporting_high"] >= 0
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _per_concept(sums: CellSums) -> tuple[Float64, Float64]:
    """Recall and |VR - k/16| of each concept (C,), nan where it has no such cell or image."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums.found / sums.reused, sums.error / sums.images


def _plain(each: Float64) -> float:
    return float(np.nanmean(each)) if not np.isnan(each).all() else float("nan")
