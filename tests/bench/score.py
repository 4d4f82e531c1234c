"""What an index saves: scoring against it, and a plain loop that embeds the references again for every image."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from toys import running

from bench.images import sources, write_study
from bench.report import Figure
from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.grid import cell_averages, cells
from iconicity.indexer.options import IndexOptions, Run
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.metrics import visual_reuse
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.results import require_results
from iconicity.scorer.scoring import score

TAU = 0.6


def bench_score(
    encoders: Encoders,
    images: Path | None,
    references: Sequence[int],
    n: int,
    batch_size: int,
    workers: int,
    repeat: int,
) -> list[Figure]:
    """VR of ``n`` images of one concept with R references: ``score`` against the loop over some of them.

    The loop takes as many images as make about as many forward passes, at least two; rates are compared per image. The loop's VR must equal the scorer's, and its forward passes are counted.
    """
    pictures = sources(images)
    figures: list[Figure] = []
    per_image = 1 if encoders.patch_mode == "token" else 16
    for r in references:
        n_loop = min(n, max(2, n // (r + 1)))
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            refs, gen = write_study(root, pictures, 1, r, n)
            started = time.perf_counter()
            build_index(
                refs,
                root / "index",
                encoders,
                IndexOptions(dedup_distance=None),
                run=Run(batch_size=batch_size, workers=workers),
            )
            built = time.perf_counter() - started
            speedups, loop_seconds, score_seconds, rescores = [], [], [], []
            for _ in range(repeat):
                started = time.perf_counter()
                counted, expected = _loop(encoders, root / "index", gen, n_loop, batch_size)
                loop_seconds.append((time.perf_counter() - started) / n_loop)
                assert counted == per_image * n_loop * (r + 1)
                for name in ("out", "cache"):
                    shutil.rmtree(root / name, ignore_errors=True)
                cache = VectorCache(root / "cache")
                seconds, forwards = _score(encoders, root, gen, cache, TAU, batch_size, workers)
                assert forwards == per_image * n
                score_seconds.append(seconds / n)
                ours = [
                    visual_reuse(np.array(row["p"], np.float32), TAU) for row in require_results(root / "out").rows("m")
                ]
                assert np.allclose(np.array(ours[:n_loop]), expected, atol=1 / 16 + 1e-9)
                speedups.append(loop_seconds[-1] / score_seconds[-1])
                rescore, forwards = _score(encoders, root, gen, cache, 0.5, batch_size, workers)
                assert forwards == 0
                rescores.append(rescore)
                cache.close()
        name = f"R={r}"
        saved = [a - b for a, b in zip(loop_seconds, score_seconds, strict=True)]
        figures += [
            Figure(f"{name}: loop that embeds references again", loop_seconds, "s/image"),
            Figure(f"{name}: score, index built", score_seconds, "s/image"),
            Figure(f"{name}: score against loop", speedups, "times"),
            Figure(f"{name}: build of the index", [built], "s"),
            Figure(f"{name}: images until the build has paid", [built / s for s in saved], "images"),
            Figure(f"{name}: score again, new tau", rescores, f"s for {n} images"),
        ]
    return figures


def _score(
    encoders: Encoders, root: Path, gen: Path, cache: VectorCache, tau: float, batch_size: int, workers: int
) -> tuple[float, int]:
    started = time.perf_counter()
    report = score(
        root / "index",
        {"m": gen},
        root / "out",
        ScoreOptions(metrics=("vr",), tau_vr=tau, k_gen=10**6),
        run=running(encoders, cache=cache, batch_size=batch_size, workers=workers),
    )
    return time.perf_counter() - started, report.forwards


def _loop(encoders: Encoders, index: Path, gen: Path, n: int, batch_size: int) -> tuple[int, list[float]]:
    """The published way, written plainly: for every image, embed it and every kept reference of its concept."""
    kept = [r.path for r in open_index(index).references().values() if r.kept]
    forwards, shares = 0, []
    for path in sorted(gen.rglob("*.jpg"))[:n]:
        query, made = _patches(encoders, path, batch_size)
        best = np.full(16, -1.0, np.float32)
        forwards += made
        for reference in kept:
            vectors, made = _patches(encoders, Path(reference), batch_size)
            forwards += made
            best = np.maximum(best, (query @ vectors.T).max(axis=1))
        shares.append(float(visual_reuse(best, TAU)))
    return forwards, shares


def _patches(encoders: Encoders, path: Path, batch_size: int) -> tuple[FloatArray, int]:
    image = decode(read_bytes(path), path).image
    dino = encoders.dino
    if encoders.patch_mode == "token":
        return cell_averages(dino.forward(dino.preprocess(image)[None])[0], *image.size, 4, 4), 1
    inputs = [dino.preprocess(c) for c in cells(image, 4, 4)]
    rows = [dino.forward(torch.stack(inputs[i : i + batch_size])) for i in range(0, 16, batch_size)]
    return np.concatenate(rows), 16
