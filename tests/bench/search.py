"""Nearest patches over many references: product, approximate index, settled decisions; and matching within a concept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.images import augmented, sources
from bench.report import Figure
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.errors import InputError
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.columns import StoredArray
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.highest import highest_cosine
from iconicity.scorer.measure.metrics import Bools, Float32, Ints
from iconicity.scorer.measure.nearest import Approximate, Bound
from iconicity.scorer.measure.own import OwnConcept

CELLS = 16
_BLOCK = 1024
_GROUP = 1024  # queries at once: 64 images


class ArrayPatches:
    """Patch vectors in an array or a memory map, as the search wants them."""

    cells = CELLS
    name = "bench"

    def __init__(self, vectors: StoredArray, folder: Path | None) -> None:
        self._vectors = vectors
        self.n, self.dim = len(vectors) // CELLS, int(vectors.shape[1])
        self.folder = folder

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        for start in range(0, len(self._vectors), _BLOCK * CELLS):
            yield start, np.asarray(self._vectors[start : start + _BLOCK * CELLS], np.float32)

    def patch_rows(self, at: Ints) -> FloatArray:
        return np.asarray(self._vectors[at], np.float32)


def real_vectors(encoders: Encoders, images: Path | None, n: int) -> tuple[FloatArray, FloatArray]:
    """(n, dim) reference and (8192, dim) query vectors: patch tokens of augmented pictures, every second one a query's.

    Raises :class:`InputError` unless the encoders are in token mode.
    """
    if encoders.patch_mode != "token":
        raise InputError("bench search takes patch tokens as vectors: its encoders must be in token mode")
    import torch

    pictures = sources(images)
    out: list[FloatArray] = []
    for seed, total in ((1, n), (2, 8192)):
        vectors = np.empty((total, encoders.dino.spec.dim), np.float32)
        filled, stream = 0, augmented(pictures, seed, 512)
        while filled < total:
            batch = torch.stack([encoders.dino.preprocess(next(stream)) for _ in range(4)])
            tokens = encoders.dino.forward(batch).reshape(-1, vectors.shape[1])[: total - filled]
            vectors[filled : filled + len(tokens)] = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
            filled += len(tokens)
        out.append(vectors)
    rng = np.random.default_rng(3)
    return out[0], out[1][rng.permutation(len(out[1]))]


def synthetic_vectors(path: Path, n: int, dim: int = 384) -> tuple[StoredArray, FloatArray]:
    """(n, dim) clustered float16 vectors in a memory map, and 512 queries."""
    rng = np.random.default_rng(0)
    spectrum = np.linspace(1.0, 0.05, dim, dtype=np.float32)
    centres = rng.standard_normal((4096, dim), np.float32) * spectrum
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (n, dim))
    for start in range(0, n, 1 << 18):
        vectors[start : start + (1 << 18)] = _clustered(rng, centres, min(1 << 18, n - start), spectrum)
    vectors.flush()
    return np.load(path, mmap_mode="r"), _clustered(rng, centres, 512, spectrum)


def _clustered(rng: np.random.Generator, centres: FloatArray, n: int, spectrum: Float32) -> FloatArray:
    noise = 0.7 * rng.standard_normal((n, centres.shape[1]), np.float32) * spectrum
    v = np.asarray(centres[rng.integers(0, len(centres), n)] + noise, np.float32)
    unit: FloatArray = v / np.linalg.norm(v, axis=1, keepdims=True)
    return unit


def bench_search(vectors: StoredArray, queries: FloatArray, repeat: int, settle: bool = True) -> list[Figure]:
    """Product against index on the same queries. False negatives and settled decisions at three thresholds."""
    label = f"{len(vectors) // 1000} k patches"
    with tempfile.TemporaryDirectory() as folder:
        held = ArrayPatches(vectors, Path(folder))
        own = np.zeros((len(queries), 2), np.int64)
        groups = [slice(i, i + _GROUP) for i in range(0, len(queries), _GROUP)]
        best, plain = np.empty(len(queries), np.float32), []
        for _ in range(repeat):
            started = time.perf_counter()
            for g in groups:
                best[g], _ = highest_cosine(queries[g], held.blocks(), own[g])
            plain.append(len(queries) / (time.perf_counter() - started))
        started = time.perf_counter()
        Approximate.open(held)
        built = time.perf_counter() - started
        size = sum(p.stat().st_size for p in Path(folder).glob("*.faiss"))
        started = time.perf_counter()
        index = Approximate.open(held)
        opened = time.perf_counter() - started
        found, quick = np.empty(len(queries), np.float32), []
        for _ in range(repeat):
            started = time.perf_counter()
            for g in groups:
                found[g], _ = index.search(queries[g], own[g])
            quick.append(len(queries) / (time.perf_counter() - started))
        figures = [
            Figure(f"{label}: exact product", plain, "queries/s"),
            Figure(f"{label}: approximate, refined", quick, "queries/s"),
            Figure(f"{label}: approximate over exact", [a / b for a, b in zip(quick, plain, strict=True)], "times"),
            Figure(f"{label}: build of the index", [built], "s"),
            Figure(f"{label}: opening it", [opened], "s"),
            Figure(f"{label}: size of the index", [size / 1e6], "MB"),
        ]
        for share in (0.7, 0.5, 0.3):
            tau = float(np.quantile(best, 1 - share))
            hits = best >= np.float32(tau)
            missed = float(np.mean(found[hits] < np.float32(tau)))
            figures.append(Figure(f"{label}: false negatives, exact VR {share}", [100 * missed], "% of exact hits"))
            if settle:
                figures += _settled(
                    held, index, queries, own, groups, tau, hits, plain, repeat, f"{label}, exact VR {share}"
                )
    return figures


def _settled(
    held: ArrayPatches,
    index: Approximate,
    queries: FloatArray,
    own: Ints,
    groups: Sequence[slice],
    tau: float,
    hits: Bools,
    plain: Sequence[float],
    repeat: int,
    label: str,
) -> list[Figure]:
    limit = np.float32(tau)
    started = time.perf_counter()
    bound = Bound(held, queries[:_GROUP], tau)
    prepared = time.perf_counter() - started
    rates, equal = [], 1.0
    for _ in range(repeat):
        decided = np.empty(len(queries), bool)
        started = time.perf_counter()
        for g in groups:
            best, _ = index.search(queries[g], own[g])
            left = np.flatnonzero(best < limit)
            best[left] = np.maximum(best[left], bound.settle(queries[g][left], own[g][left])[0])
            decided[g] = best >= limit
        rates.append(len(queries) / (time.perf_counter() - started))
        equal = min(equal, float(np.mean(decided == hits)))
    return [
        Figure(f"{label}: settled over exact product", [a / b for a, b in zip(rates, plain, strict=True)], "times"),
        Figure(f"{label}: decisions equal", [100 * equal], "%"),
        Figure(f"{label}: rotation for the bound", [prepared], "s, once"),
    ]


def bench_own(index: Path, images: int, repeat: int) -> Figure:
    """ms an image of matching within its concept, store reads included: ``images`` of each concept of an index."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(repeat):
        opened = open_index(index)
        counts = opened.concepts()
        rows, cols = opened.grid
        clip = rng.standard_normal((images, opened.store.clip_dim)).astype(np.float32)
        patches = rng.standard_normal((images, rows * cols, opened.specs[1].dim)).astype(np.float32)
        clip /= np.linalg.norm(clip, axis=-1, keepdims=True)
        patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
        started = time.perf_counter()
        own = OwnConcept(opened, counts, "dynamic", list(counts))
        for concept in counts:
            for c, p in zip(clip, patches, strict=True):
                own.columns(concept, c, p)
        values.append(1000 * (time.perf_counter() - started) / (len(counts) * images))
    return Figure(f"matching within {len(counts)} concepts, {images} images each", values, "ms/image")
