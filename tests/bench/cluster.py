"""What a cluster's engine costs an image: actors that only sleep, as long as an encoder would take, and a real index.

Everything but the sleep is as in ``index build --engine ray``: the driver lists, hands out, takes vectors of true size
back, commits and seals.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.report import Figure
from iconicity.indexer.build import build_index
from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.engine import UNIT_IMAGES, Engine, Outcome, Plan, Task
from iconicity.indexer.encode.ray import ActorPool, Cluster, local_cluster
from iconicity.indexer.options import IndexOptions, Run
from iconicity.indexer.spec import EncoderSpec, FloatArray

K = TypeVar("K")
PER_CONCEPT = 50
CLIP_DIM, DINO_DIM, CELLS = 512, 768, 16  # the paper's encoders: 51 kB an image


@dataclass(frozen=True)
class Named:
    """Encoders that are never run: a spec each."""

    spec: EncoderSpec
    device: str = "cpu"

    def preprocess(self, image: Any) -> Any:
        raise AssertionError("nothing is encoded here")

    def forward(self, batch: Any) -> Any:
        raise AssertionError("nothing is encoded here")


def named_encoders() -> Encoders:
    """An encoder of each kind with the paper's dimensions."""
    return Encoders(*(Named(EncoderSpec("sleep", "sleep", "0" * 64, {}, "all", dim)) for dim in (CLIP_DIM, DINO_DIM)))


class Sleeper:
    """Takes a fixed time for each image, and gives unit vectors that depend on its name."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        rng = np.random.default_rng(0)
        self._bank: FloatArray = rng.standard_normal((4096, DINO_DIM)).astype(np.float32)
        self._bank /= np.linalg.norm(self._bank, axis=1, keepdims=True)
        self._clip: FloatArray = self._bank[:, :CLIP_DIM] / np.linalg.norm(
            self._bank[:, :CLIP_DIM], axis=1, keepdims=True
        )

    def stream(self, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """One sleep for all: a hundred short ones would take longer than they say."""
        listed = list(tasks)
        time.sleep(self._seconds * len(listed))
        for task in listed:
            sha = hashlib.sha256(task.ref_id.encode()).hexdigest()
            at = int(sha[:8], 16) % (len(self._bank) - CELLS)
            vectors = Vectors(self._clip[at], self._bank[at : at + CELLS])
            yield task.key, Outcome(None, sha, sha[:16], (768, 768), None, None, vectors)


@dataclass(frozen=True)
class StartSleeper:
    """Starts sleepers in actors."""

    seconds: float

    def __call__(self, plan: Plan, device: str) -> Sleeper:
        return Sleeper(self.seconds)


class Watched:
    """An engine that notes when its first and its last outcome came, and this process's time on the processor by then."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.first = self.last = self.processor = 0.0

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        for item in self._engine.run(plan, tasks):
            self.last = time.perf_counter()
            self.first = self.first or self.last
            self.processor = time.process_time()
            yield item


def bench_cluster(images: int, actors: Sequence[int], seconds: float) -> list[Figure]:
    """Build an index of so many images with each number of actors that take ``seconds`` an image."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as root, local_cluster(max(actors) + 1):
        refs = Path(root) / "refs"
        for i in range(images):
            folder = refs / f"c{i // PER_CONCEPT:06d}"
            if i % PER_CONCEPT == 0:
                folder.mkdir(parents=True)
            (folder / f"{i % PER_CONCEPT:02d}.png").touch()
        alone = None
        for n in actors:
            engine = Watched(Cluster(StartSleeper(seconds), ActorPool(n, n)))
            with tempfile.TemporaryDirectory() as out:
                before, started = time.process_time(), time.perf_counter()
                report = build_index(
                    refs,
                    Path(out) / "index",
                    named_encoders(),
                    IndexOptions(dedup_distance=None),
                    run=Run(engine=engine),
                )
                ended = time.perf_counter()
            assert report.embedded == images
            # what came together with the first outcome was made before the clock ran
            rate = max(1, images - UNIT_IMAGES) / (engine.last - engine.first)
            alone = alone or rate
            ideal = n / seconds
            figures += [
                Figure(f"{n} actors: images embedded", [rate], "images/s"),
                Figure(f"{n} actors: of what their sleep allows", [rate / ideal], "ratio"),
                Figure(f"{n} actors: against {actors[0]}", [rate / alone], "ratio"),
                Figure(f"{n} actors: engine and store, an image", [1e3 * (n / rate - seconds)], "ms of an actor"),
                Figure(f"{n} actors: first outcome", [engine.first - started], "s"),
                Figure(f"{n} actors: compact, test and seal", [ended - engine.last], "s"),
                Figure(f"{n} actors: driver's processor, an image", [1e3 * (engine.processor - before) / images], "ms"),
            ]
    return figures
