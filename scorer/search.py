"""Nearest references of one image over all concepts: FAISS, exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd

from iconicity.indexer.encode.batch import Embedder
from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.prepare import Recipe
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place, Remote, local, place
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.store.vectors import open_vectors
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.scoring import encoders_of
from iconicity.scorer.thresholds import thresholds_for


def search_image(
    image: Place | str,
    index: Index | Place | str,
    k: int = 10,
    cache: Path | str | None = None,
    run: Run = Run(),
) -> dict[str, Any]:
    """The k nearest references by CLIP (``image``), and for each patch the k nearest cells (``patches``).

    Every hit has ref_id, concept, path, similarity (cosine), and for patches the cell. ``cache`` keeps the
    index's vectors as a memory map. Raises :class:`ImageError` when the image cannot be read.
    """
    where = place(image)
    image = str(where) if isinstance(where, Remote) else where
    cache = None if cache is None else local(cache)
    idx = index if isinstance(index, Index) else open_index(index)
    picture = shared().decode(read_bytes(image), image, idx.settings["pixels"], run.max_pixels).image
    encoders = encoders_of(idx, run)
    recipe = Recipe.of(encoders, idx.grid, idx.settings["pixels"])
    ((_, found),) = Embedder(encoders, idx.grid).map([(image, recipe.prepare(picture, path=image))])
    assert found is not None and found.clip is not None and found.patches is not None
    held = open_vectors(idx, cache)
    n, cells, dim = held.patches.shape
    clip = np.asarray(held.clip, np.float32)
    patches = np.asarray(held.patches, np.float32).reshape(n * cells, dim)
    similarity, rows = faiss.knn(found.clip[None], clip, min(k, n), metric=faiss.METRIC_INNER_PRODUCT)
    p_similarity, p_rows = faiss.knn(found.patches, patches, min(k, n * cells), metric=faiss.METRIC_INNER_PRODUCT)
    concepts = sorted({held.concept_of(int(r)) for r in (*rows.ravel(), *(p_rows.ravel() // cells))})
    references = idx.references(concepts)

    def hit(row: int, similarity: float) -> dict[str, Any]:
        r = references[held.ref_ids[row].as_py()]
        return {"ref_id": r.ref_id, "concept": r.concept, "path": r.path, "similarity": float(similarity)}

    return {
        "encoders": [spec.label for spec in idx.specs],
        "image": [hit(int(r), s) for r, s in zip(rows[0], similarity[0], strict=True)],
        "patches": [
            [{**hit(int(r) // cells, s), "cell": int(r) % cells} for r, s in zip(pr, ps, strict=True)]
            for pr, ps in zip(p_rows, p_similarity, strict=True)
        ],
    }


def hit_thresholds(hits: Mapping[str, Any], index: Index) -> dict[str, dict[str, tuple[float, int]]]:
    """Metric (cra, vr) -> concept of a hit -> threshold and number of references; without those that have none.

    They are those at a false-positive rate that travel with the index, else with the package, in mode dynamic.
    """
    held, _ = thresholds_for(index, "dynamic", None)
    kept = {concept: n.kept for concept, n in index.concepts().items()}
    found = {"cra": hits["image"], "vr": [hit for best in hits["patches"] for hit in best]}
    out: dict[str, dict[str, tuple[float, int]]] = {metric: {} for metric in found}
    if held is None:
        return out
    for metric, of in found.items():
        for concept in {hit["concept"] for hit in of}:
            if (tau := held.tau.get(metric, {}).get(kept[concept])) is not None:
                out[metric][concept] = tau, kept[concept]
    return out


def hits_finding(hits: Mapping[str, Any]) -> Finding:
    """Table ``hits`` of what :func:`search_image` returns: a row a hit, those of the whole image without a patch."""
    ranked: list[tuple[int | None, int, Any]] = [(None, rank, hit) for rank, hit in enumerate(hits["image"], 1)]
    ranked += [(p, rank, hit) for p, found in enumerate(hits["patches"]) for rank, hit in enumerate(found, 1)]
    rows = [{"patch": patch, "rank": rank, **hit} for patch, rank, hit in ranked]
    frame = pd.DataFrame(rows).astype({"patch": "Int64", "cell": "Int64"})
    shown = {"hits": [str(c) for c in frame if c != "path"]}
    return Finding({"hits": frame}, [f"encoders: {'; '.join(hits['encoders'])}"], shown=shown)
