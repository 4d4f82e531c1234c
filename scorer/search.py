"""Nearest references of one image over all concepts: FAISS, exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss

from iconicity.indexer.embed import Embedder
from iconicity.indexer.encoders import EncoderChoice, Encoders, reproduce
from iconicity.indexer.images import decode, read_bytes
from iconicity.indexer.index import Index, open_index


def search_image(
    image: Path, index: Index | Path | str, k: int = 10, load: Callable[[], Encoders] | None = None
) -> dict[str, Any]:
    """The k nearest references by CLIP (``image``), and for each patch the k nearest cells (``patches``).

    Every hit has ref_id, concept, path, similarity (cosine), and for patches the cell. Raises
    :class:`ImageError` when the image cannot be read.
    """
    idx = index if isinstance(index, Index) else open_index(index)
    clip_spec, dino_spec = idx.specs
    picture = decode(read_bytes(image), image, bool(idx.settings["exif"]))
    encoders = load() if load else reproduce(clip_spec, dino_spec, EncoderChoice())
    embedder = Embedder(encoders, *idx.grid)
    found = embedder.embed([embedder.prepare(picture)])[0]
    assert found.clip is not None and found.patches is not None
    block = idx.block()
    n, cells, dim = block.patches.shape

    def hit(row: int, similarity: float) -> dict[str, Any]:
        r = block.references[row]
        return {"ref_id": r.ref_id, "concept": r.concept, "path": r.path, "similarity": float(similarity)}

    similarity, rows = faiss.knn(found.clip[None], block.clip, min(k, n), metric=faiss.METRIC_INNER_PRODUCT)
    flat = block.patches.reshape(n * cells, dim)
    p_similarity, p_rows = faiss.knn(found.patches, flat, min(k, n * cells), metric=faiss.METRIC_INNER_PRODUCT)
    return {
        "image": [hit(int(r), s) for r, s in zip(rows[0], similarity[0], strict=True)],
        "patches": [
            [{**hit(int(r) // cells, s), "cell": int(r) % cells} for r, s in zip(pr, ps, strict=True)]
            for pr, ps in zip(p_rows, p_similarity, strict=True)
        ],
    }
