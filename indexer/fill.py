"""Vectors of generated images: from the cache by content, else decoded and embedded, as one ordered stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.engine import Engine, Outcome, Plan, Runner, Task
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.encode.pixels import Note, named_notes, note_names
from iconicity.indexer.encode.prepare import Job
from iconicity.indexer.errors import ImageError
from iconicity.indexer.places import is_url
from iconicity.indexer.progress import Progress
from iconicity.indexer.sources.folders import hashed, hashed_ahead, read_bytes, sha256_hex
from iconicity.indexer.sources.image import Image
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import FACTS, VectorCache, stat_text
from iconicity.indexer.store.index import Index

_CHUNK = 64  # images looked up in the cache at once
_SAVE_IMAGES, _SAVE_SECONDS = 64, 5.0  # at most this much work is lost when the process is killed
Record = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which vectors an image is to get."""

    clip: bool
    patches: bool

    def __bool__(self) -> bool:
        return self.clip or self.patches


@dataclass(frozen=True)
class Facts:
    """What is known of an image's pixels: width and height, and what is to be said of them."""

    size: tuple[int, int]
    notes: Note = Note.NONE

    @classmethod
    def of_row(cls, row: Record | None) -> Facts | None:
        """Facts that a row of results holds."""
        if row is None or row["width"] is None:
            return None
        return cls((row["width"], row["height"]), named_notes(row["pixel_notes"]))

    def columns(self) -> Record:
        """The columns of a row of results."""
        return {"width": self.size[0], "height": self.size[1], "pixel_notes": note_names(self.notes)}

    def array(self) -> FloatArray:
        """As the cache keeps them beside the vectors: whole numbers far below 2^24."""
        return np.array([*self.size, int(self.notes)], np.float32)

    @classmethod
    def of_array(cls, array: FloatArray) -> Facts:
        return cls((int(array[0]), int(array[1])), Note(int(array[2])))


Need = Callable[[Image, "Record | None"], Wanted]  # of an image with its true row, None: no row


@dataclass(frozen=True)
class Lookup:
    """A file an engine reads, and its stat as text before that."""

    path: str
    stat: str


@dataclass
class Embedded:
    """A generated image on its way: its stored ``row`` if that is still true, then its vectors or the reason why not."""

    image: Image
    row: Record | None = None
    sha256: str | None = None
    reason: str | None = None
    wanted: Wanted = Wanted(False, False)
    clip: FloatArray | None = None
    patches: FloatArray | None = None
    facts: Facts | None = None
    settled: bool = False
    same: Embedded | None = None  # another image with the same bytes that is on its way before this one


def cache_keys(index: Index) -> tuple[str, str]:
    """Keys of CLIP vectors and of patch vectors in the cache: all that they depend on beside the image's bytes."""
    clip, dino = index.specs
    rows, cols = index.grid
    pixels = _pixels_key(index)
    return (
        f"clip|{clip.fingerprint}|{pixels}",
        f"patches|{dino.fingerprint}|{rows}x{cols}|{index.settings['patch_mode']}|{pixels}",
    )


def _pixels_key(index: Index) -> str:
    """The published pixels are those of exif=False, under which vectors of earlier versions lie."""
    return "exif=False" if index.settings["pixels"] == "published" else "pixels=shown"


class GeneratedEmbedder:
    """Looks vectors up and computes the missing ones; weights are loaded when the first one is missing."""

    def __init__(
        self,
        index: Index,
        load: Callable[[], Encoders],
        cache: VectorCache | None,
        *,
        rehash: bool = False,
        batch_size: int | None = None,
        workers: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._cache = cache
        self._rehash = rehash
        clip, dino = index.specs
        self._cells = index.grid[0] * index.grid[1]
        self._clip_dim, self._dino_dim = clip.dim, dino.dim
        self._clip_key, self._patch_key = cache_keys(index)
        self._facts_key = f"{FACTS}{_pixels_key(index)}"
        plan = Plan(
            clip, dino, index.grid, index.settings["pixels"], max_pixels=max_pixels, batch_size=batch_size, workers=workers
        )  # fmt: skip
        self._plan = plan
        self._runner = Runner(plan, lambda _clip, _dino: load())
        self._filled = self._filled_forwards = 0
        self._on_the_way: dict[str, Embedded] = {}
        self._unsaved: list[tuple[str, str, FloatArray]] = []
        self._saved_at = time.monotonic()

    @property
    def embedded(self) -> int:
        """Images that went through a forward pass."""
        return self._filled + self._runner.images

    @property
    def forwards(self) -> int:
        """Network inputs that went through a forward pass."""
        return self._filled_forwards + self._runner.forwards

    def close(self) -> None:
        """Save what is computed and end the workers."""
        self._save()
        self._runner.close()

    def fill(self, engine: Engine, requests: Iterable[tuple[Image, Record | None, Need]], progress: Progress) -> None:
        """Have an engine embed what the cache lacks, and put it there, where :meth:`stream` finds it.

        Files that the cache does not know are read by the engine alone. One that cannot be used is left to the stream.
        """
        assert self._cache is not None
        tasks = list(self._missing(requests))
        for done, (lookup, outcome) in enumerate(engine.run(self._plan, tasks), 1):
            vectors = outcome.vectors
            if vectors is not None:
                self._filled += 1
                if lookup.stat:
                    self._cache.remember_file(lookup.path, lookup.stat, outcome.sha256)
                crops = 1 if self._plan.dino.pool == "token" else self._cells
                self._filled_forwards += (vectors.clip is not None) + crops * (vectors.patches is not None)
                self._keep(outcome.sha256, vectors, Facts(outcome.size, outcome.notes))
            progress("embed", done, len(tasks))
        self._save()

    def _missing(self, requests: Iterable[tuple[Image, Record | None, Need]]) -> Iterator[Task[Lookup]]:
        """What an engine is to embed: no file is read here."""
        assert self._cache is not None
        for image, row, wanted in requests:
            if image.problem is not None:
                continue
            sha, stat = image.sha256, ""
            if not image.stored:
                stat = image.identity or stat_text(image.path)
                sha = self._known(image, stat)
            need = wanted(image, _true(row, sha))
            if sha is not None:
                held = (self._cache.holds(sha, key) for key in (self._clip_key, self._patch_key))
                need = Wanted(*(want and not has for want, has in zip((need.clip, need.patches), held, strict=True)))
            if need:
                yield Task(Lookup(image.path, stat), Job(image.path, sha, need.clip, need.patches))

    def stream(
        self,
        requests: Iterable[tuple[Image, Record | None]],
        wanted: Need,
    ) -> Iterator[Embedded]:
        """Images with their stored rows to images with their vectors, in order.

        A row whose image has changed is dropped. ``wanted`` says what an image with a row (None: no row) still needs.
        """
        tasks = (Task(item, job) for item, job in self._looked_up(requests, wanted))
        for item, outcome in self._runner.stream(tasks):
            self._settle(item, outcome)
            yield item
        self._save()

    def _looked_up(
        self,
        requests: Iterable[tuple[Image, Record | None]],
        wanted: Need,
    ) -> Iterator[tuple[Embedded, Job | None]]:
        iterator = iter(requests)
        while chunk := list(islice(iterator, _CHUNK)):
            self._on_the_way = {sha: item for sha, item in self._on_the_way.items() if not item.settled}
            urls = (i for i, _ in chunk if not i.stored and is_url(i.path))
            ahead = hashed_ahead(i.path for i in urls if self._known(i, i.identity or "") is None)
            items = [self._identify(image, row, ahead) for image, row in chunk]
            for item in items:
                item.wanted = wanted(item.image, item.row) if item.reason is None else item.wanted
            self._from_cache(items)
            for item in items:
                yield item, self._job(item)

    def _known(self, image: Image, stat: str) -> str | None:
        return None if self._cache is None or self._rehash else self._cache.known_sha256(image.path, stat)

    def _identify(self, image: Image, row: Record | None, ahead: Mapping[str, str | ImageError]) -> Embedded:
        """The image's SHA-256, without reading a file that has not changed; else the reason."""
        if image.stored:
            row = row if image.problem is None else None
            return Embedded(image, row, image.sha256, image.problem, facts=Facts.of_row(row))
        stat = image.identity or stat_text(image.path)
        sha = self._known(image, stat)
        if sha is None:
            try:
                found = ahead.get(image.path) or sha256_hex(read_bytes(image.path))
            except ImageError as e:
                found = e
            if isinstance(found, ImageError):
                return Embedded(image, reason=found.reason)
            sha = found
            if self._cache is not None and stat:
                self._cache.remember_file(image.path, stat, sha)
        row = _true(row, sha)
        return Embedded(image, row, sha, facts=Facts.of_row(row))

    def _from_cache(self, items: list[Embedded]) -> None:
        if self._cache is None:
            return
        self._save()
        clip_shas = sorted({i.sha256 for i in items if i.wanted.clip and i.sha256})
        patch_shas = sorted({i.sha256 for i in items if i.wanted.patches and i.sha256})
        clips = self._cache.get(clip_shas, self._clip_key, self._clip_dim)
        blocks = self._cache.get(patch_shas, self._patch_key, self._cells * self._dino_dim)
        facts = self._cache.get(sorted({i.sha256 for i in items if i.sha256}), self._facts_key, 3)
        for item in items:
            if item.facts is None and item.sha256 in facts:
                item.facts = Facts.of_array(facts[item.sha256])
            if item.wanted.clip and item.sha256 in clips:
                item.clip = clips[item.sha256]
            if item.wanted.patches and item.sha256 in blocks:
                item.patches = blocks[item.sha256].reshape(-1, self._dino_dim)

    def _job(self, item: Embedded) -> Job | None:
        need = Wanted(item.wanted.clip and item.clip is None, item.wanted.patches and item.patches is None)
        if item.reason is not None or not (need or item.facts is None):
            return None
        assert item.sha256 is not None
        before = self._on_the_way.get(item.sha256)
        if before is not None and before.wanted == item.wanted and before.reason is None:
            item.same = before
            return None
        self._on_the_way[item.sha256] = item
        return Job(item.image.path, item.sha256, need.clip, need.patches)

    def _settle(self, item: Embedded, outcome: Outcome) -> None:
        item.reason = item.reason or outcome.reason
        if item.same is not None:
            item.reason = item.same.reason
            item.clip = item.clip if item.clip is not None else item.same.clip
            item.patches = item.patches if item.patches is not None else item.same.patches
            item.facts = item.facts or item.same.facts
            item.same = None
        item.settled = True
        if outcome.size != (0, 0):
            item.facts = Facts(outcome.size, outcome.notes)
        vectors = outcome.vectors or Vectors(None, None)
        if item.facts is None or item.sha256 is None:
            return
        item.clip = item.clip if vectors.clip is None else vectors.clip
        item.patches = item.patches if vectors.patches is None else vectors.patches
        if outcome.size != (0, 0):
            self._keep(item.sha256, vectors, item.facts)

    def _keep(self, sha256: str, vectors: Vectors, facts: Facts) -> None:
        """Vectors and facts for the cache, which gets some at once."""
        kept = ((self._clip_key, vectors.clip), (self._patch_key, vectors.patches), (self._facts_key, facts.array()))
        for key, array in kept:
            if array is not None:
                self._unsaved.append((sha256, key, array))
        if len(self._unsaved) >= 3 * _SAVE_IMAGES or time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        if self._cache is not None:
            self._cache.put(self._unsaved)
        self._unsaved = []
        self._saved_at = time.monotonic()


def missing_vectors(
    index: Index, cache: VectorCache | None, requests: Iterable[tuple[Image, Record | None, Need]]
) -> int:
    """Images that would go through a forward pass. Files are read where the cache does not know them."""
    keys = cache_keys(index)
    missing = set[str]()
    for image, row, wanted in requests:
        sha = image.sha256
        if sha is None and image.problem is None:
            sha = None if cache is None else cache.known_sha256(image.path, image.identity or stat_text(image.path))
            found = sha or hashed(image.path)
            sha = found if isinstance(found, str) else None
        if sha is not None:
            need = wanted(image, _true(row, sha))
            if any(
                want and (cache is None or not cache.holds(sha, key))
                for want, key in zip((need.clip, need.patches), keys, strict=True)
            ):
                missing.add(sha)
    return len(missing)


def _true(row: Record | None, sha256: str | None) -> Record | None:
    """A stored row if it is of an image with these bytes."""
    true = row is not None and row["status"] == "ok" and sha256 is not None and row["gen_sha256"] == sha256
    return row if true else None
