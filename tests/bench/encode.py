"""Does the pipeline keep the network busy? Images/s of the whole pipeline over those of the raw forward passes."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from bench.images import sources, write_study
from bench.report import Figure
from iconicity.indexer.encode.batch import Embedder
from iconicity.indexer.encode.encoder import Encoder, Encoders
from iconicity.indexer.encode.prepare import Job, Loader, Recipe


def bench_encode(
    encoders: Encoders, images: Path | None, n: int, batch_size: int, workers: int, repeat: int
) -> list[Figure]:
    """Pipeline (read, decode, preprocess, both encoders) against raw forward passes of the same tensors in memory.

    Same encoder objects, batch size, threads and precision; the workers are started before the clock is.
    """
    raw: list[float] = []
    piped: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        _, gen = write_study(Path(folder), sources(images), 1, 0, n)
        files = sorted(gen.rglob("*.jpg"))
        recipe = Recipe.of(encoders, (4, 4), "shown")
        with closing(Loader(lambda: recipe, workers)) as loader:
            prepared = [loaded.prepared for _, loaded in loader.map((f, Job(str(f))) for f in files) if loaded]
            clips = [p.clip for p in prepared if p is not None and p.clip is not None]
            crops = [crop for p in prepared if p is not None and p.patches is not None for crop in p.patches]
            _raw(encoders.dino, crops[:batch_size], batch_size)
            for _ in range(repeat):
                started = time.perf_counter()
                _raw(encoders.clip, clips, batch_size)
                _raw(encoders.dino, crops, batch_size)
                raw.append(n / (time.perf_counter() - started))
                started = time.perf_counter()
                loaded_images = loader.map((f, Job(str(f))) for f in files)
                embedder = Embedder(encoders, (4, 4), batch_size)
                done = sum(1 for _ in embedder.map((k, v.prepared if v else None) for k, v in loaded_images))
                piped.append(n / (time.perf_counter() - started))
                assert done == n
    return [
        Figure("raw forward passes", raw, "images/s"),
        Figure("pipeline", piped, "images/s"),
        Figure("pipeline / raw", [p / r for p, r in zip(piped, raw, strict=True)], "ratio"),
    ]


def _raw(encoder: Encoder, inputs: list[torch.Tensor], batch_size: int) -> None:
    for i in range(0, len(inputs), batch_size):
        encoder.forward(torch.stack(inputs[i : i + batch_size]))
