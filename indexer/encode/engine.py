"""Engines read, decode and embed images: in this process, on several devices, or on a cluster. All run the same code.

Tasks go in, outcomes come out: no store, no metric. What an outcome holds depends on the image's bytes and on the
references of its concept alone, so that an engine may take tasks in any order, and a lost one again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Generic, Protocol, TypeVar

from iconicity.indexer.encode.batch import Embedder, Vectors
from iconicity.indexer.encode.dedup import Deduplicator
from iconicity.indexer.encode.encoder import Encoders, reproduce
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.encode.prepare import Job, Loaded, Loader, Prepared, Recipe
from iconicity.indexer.spec import EncoderSpec

K = TypeVar("K")
LoadEncoders = Callable[[EncoderSpec, EncoderSpec], Encoders]
UNIT_IMAGES = 64  # that travel together; a concept's references always do
_MOST_UNITS = 20_000  # a cluster's driver keeps books of each


@dataclass(frozen=True)
class Task(Generic[K]):
    """An image of a concept. Where its ``phash`` is known it is read only if dedup keeps it; without a job never."""

    key: K
    job: Job | None
    concept: str = ""
    ref_id: str = ""
    phash: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of a task: why its image cannot be used, or its facts, the reference it duplicates, and its vectors."""

    reason: str | None = None
    sha256: str = ""
    phash: str = ""
    size: tuple[int, int] = (0, 0)
    dup_of: str | None = None
    dup_distance: int | None = None
    vectors: Vectors | None = None
    notes: Note = Note.NONE  # notes on how its pixels were read


@dataclass(frozen=True)
class Plan:
    """All that the vectors of an image depend on (both specs to ``pixels``), and how to compute them. Can be pickled."""

    clip: EncoderSpec
    dino: EncoderSpec
    grid: tuple[int, int]
    pixels: str
    dedup_distance: int | None = None
    max_pixels: int = MAX_PIXELS
    batch_size: int | None = None
    workers: int = 0
    overlapping: bool = False  # of references: cells at half steps too


class Engine(Protocol):
    """Runs tasks. The caller passes the tasks of one concept together, in file-name order."""

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Yield each key with its outcome, in any order. Raises :class:`IconicityError` when the engine cannot go on."""
        ...


class Runner:
    """A plan at work in one process: weights, decoders and the measured batch size stay from stream to stream."""

    def __init__(self, plan: Plan, load: LoadEncoders) -> None:
        """Weights are loaded when the first image needs them."""
        self._plan = plan
        self._load = load
        self._loader = Loader(self._recipe, plan.workers)
        self._encoders: Encoders | None = None
        self._embedder: Embedder | None = None

    def stream(self, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Each key with its outcome, in the order of the tasks."""
        return embed_images(tasks, self._loader, self._get_embedder, self._plan.dedup_distance)

    def _get_encoders(self) -> Encoders:
        if self._encoders is None:
            self._encoders = self._load(self._plan.clip, self._plan.dino)
        return self._encoders

    def _get_embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(
                self._get_encoders(), self._plan.grid, self._plan.batch_size, self._plan.overlapping
            )
        return self._embedder

    def _recipe(self) -> Recipe:
        plan = self._plan
        return Recipe.of(self._get_encoders(), plan.grid, plan.pixels, plan.max_pixels, plan.overlapping)

    def close(self) -> None:
        """End the processes that decode."""
        self._loader.close()


class Local:
    """This process, and the processes that decode for it: outcomes come in the order of the tasks."""

    def __init__(self, load: LoadEncoders) -> None:
        self._load = load

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        with closing(Runner(plan, self._load)) as runner:
            yield from runner.stream(tasks)


def embed_images(
    tasks: Iterable[Task[K]], loader: Loader, embedder: Callable[[], Embedder], dedup_distance: int | None
) -> Iterator[tuple[K, Outcome]]:
    """Yield outcomes in the order of the tasks, from bytes to vectors. Every engine runs this function."""
    loaded = loader.map((task, task.job if task.phash is None else None) for task in tasks)
    decided = _decide(loaded, loader, dedup_distance)
    for first in decided:
        if first[1] is None:
            yield first[0]
            continue
        for (key, outcome), vectors in embedder().map(chain([first], decided)):
            yield key, outcome if vectors is None else replace(outcome, vectors=vectors)


def _decide(
    loaded: Iterable[tuple[Task[K], Loaded | None]], loader: Loader, dedup_distance: int | None
) -> Iterator[tuple[tuple[K, Outcome], Prepared | None]]:
    """Dedup each concept in file-name order. Images that are kept are prepared for the encoders."""
    for _concept, group in groupby(loaded, key=lambda item: item[0].concept):
        dedup = Deduplicator(dedup_distance)
        for task, found in group:
            if found is not None and found.prepared is None:
                yield (task.key, Outcome(reason=found.reason or "")), None
                continue
            phash = task.phash if found is None else found.phash
            dup_of, distance = dedup.offer(task.ref_id, phash or "") if phash else (None, None)
            if found is None and task.job is not None and dup_of is None:
                found = loader.load(task.job)
                if found.prepared is None:
                    yield (task.key, Outcome(reason=found.reason or "")), None
                    continue
            if found is None or found.prepared is None:
                yield (task.key, Outcome(dup_of=dup_of, dup_distance=distance)), None
            else:
                outcome = Outcome(
                    None, found.sha256, phash or "", found.prepared.size, dup_of, distance, notes=found.notes
                )
                wanted = dup_of is None and (found.prepared.clip is not None or found.prepared.patches is not None)
                yield (task.key, outcome), found.prepared if wanted else None


class Streams(Protocol):
    """Runs the tasks of one unit. A :class:`Runner`, except in measurements and tests."""

    def stream(self, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]: ...


Start = Callable[[Plan, str], Streams]  # in another process, for one of its devices; can be pickled


@dataclass(frozen=True)
class Restart:
    """Starts a runner in another process or on another machine, which loads the plan's encoders from where ``moved`` says."""

    moved: EncoderOptions

    def __call__(self, plan: Plan, device: str) -> Runner:
        """Start the runner. Its streams raise :class:`ModelUnavailableError`, or :class:`SettingsError` for other weights."""
        return Runner(plan, lambda clip, dino: reproduce(clip, dino, self.moved, device))


def in_units(
    plan: Plan, tasks: Iterable[Task[K]], run: Callable[[list[Unit]], Generator[tuple[int, Outcome], None, None]]
) -> Iterator[tuple[K, Outcome]]:
    """Yield each key with its outcome from ``run``, which gets numbered units. It is not called when nothing is to be read."""
    listed = []
    for task in tasks:
        if task.job is None and not task.concept:  # nothing is to be done, not even to be compared
            yield task.key, Outcome()
        else:
            listed.append(task)
    if all(task.job is None for task in listed):  # they are only compared, and no process is started for it
        yield from Local(_no_encoders).run(plan, listed)
        return
    with closing(run(list(units(listed)))) as outcomes:  # a caller that stops early ends the processes
        for i, outcome in outcomes:
            yield listed[i].key, outcome


def _no_encoders(clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
    raise AssertionError("no task has a job")


Unit = list[Task[int]]


def units(tasks: Sequence[Task[K]]) -> Iterator[Unit]:
    """Tasks in parts of about ``UNIT_IMAGES``, whole concepts each; a task's key becomes its place among the tasks.

    Tasks without a concept of their own (generated images) are cut anywhere.
    """
    size = max(UNIT_IMAGES, -(-len(tasks) // _MOST_UNITS))
    unit: Unit = []
    numbered = [Task(i, task.job, task.concept, task.ref_id, task.phash) for i, task in enumerate(tasks)]
    for concept, group in groupby(numbered, key=lambda t: t.concept):
        for task in group:
            if len(unit) >= size and (not concept or unit[-1].concept != concept):
                yield unit
                unit = []
            unit.append(task)
    if unit:
        yield unit
