"""The vector cache of generated images, as :func:`iconicity.indexer.fill.fill` reads and writes it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np

from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.engine import Outcome
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.fill import Held, K, Want, Wanted, decide
from iconicity.indexer.sources.image import Image
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import FACTS, VectorCache, stat_text
from iconicity.indexer.store.index import Index

_SAVE_IMAGES, _SAVE_SECONDS = 64, 5.0  # at most this much work is lost when the process is killed


def cache_keys(index: Index) -> tuple[str, str]:
    """Cache keys of global vectors and of patch vectors: all that the vectors depend on beside the image's bytes."""
    clip, dino = index.specs
    rows, cols = index.grid
    pixels = _pixels_key(index)
    return (
        f"clip|{clip.fingerprint}|{pixels}",
        f"patches|{dino.fingerprint}|{rows}x{cols}|{index.settings['patch_mode']}|{pixels}",
    )


def _pixels_key(index: Index) -> str:
    """Part of a key that says how pixels are read. Published pixels have the key exif=False of earlier versions."""
    return "exif=False" if index.settings["pixels"] == "published" else "pixels=shown"


class CachedFiles:
    """SHA-256 of files that have not changed since they were read. With ``rehash`` every file is read again."""

    def __init__(self, cache: VectorCache | None, rehash: bool = False) -> None:
        self._cache = cache
        self._rehash = rehash
        self._stats: dict[str, str] = {}  # states of files before they are read

    def sha256(self, image: Image) -> str | None:
        """SHA-256 of a file with the size and times of the last reading, else None."""
        if self._cache is None:
            return None
        self._stats[image.path] = stat = image.identity or stat_text(image.path)
        return None if self._rehash else self._cache.known_sha256(image.path, stat)

    def remember(self, image: Image) -> None:
        """Keep the SHA-256 with the state of the file before it was read."""
        stat = self._stats.pop(image.path, "")
        if self._cache is not None and stat and image.sha256 is not None:
            self._cache.remember_file(image.path, stat, image.sha256)


class CachedVectors(CachedFiles):
    """The cache for the encoders of one index: what is known, and the sink. Without a cache no image is known.

    ``rehash``: files are read again although they look unchanged.
    """

    def __init__(self, index: Index, cache: VectorCache | None, rehash: bool = False) -> None:
        super().__init__(cache, rehash)
        clip, dino = index.specs
        self._cells = index.grid[0] * index.grid[1]
        self._crops = 1 if dino.pool == "token" else self._cells
        self._sizes = (clip.dim, self._cells * dino.dim, 3)
        self._keys = (*cache_keys(index), f"{FACTS}{_pixels_key(index)}")
        self.embedded = 0  # images that went through a forward pass
        self.forwards = 0  # network inputs that did
        self._unsaved: list[tuple[str, str, FloatArray]] = []
        self._saved_at = time.monotonic()

    def look_up(self, images: Sequence[Image], wanted: Sequence[Wanted], read: bool = True) -> list[Held]:
        """Look up the vectors and facts that are wanted. Without ``read`` only tell whether they are cached."""
        if self._cache is None:
            return [Held()] * len(images)
        self.flush()
        found: list[dict[str, FloatArray | None]] = []
        for i, (key, size) in enumerate(zip(self._keys, self._sizes, strict=True)):
            shas = sorted({im.sha256 for im, want in zip(images, wanted, strict=True) if want[i] and im.sha256})
            if read:
                found.append(dict(self._cache.get(shas, key, size)))
            else:
                found.append({sha: None for sha in shas if self._cache.holds(sha, key)})
        return [self._held(image.sha256 or "", found) for image in images]

    def _held(self, sha256: str, found: Sequence[dict[str, FloatArray | None]]) -> Held:
        has = Wanted(*(sha256 in part for part in found))
        clip, patches, facts = (part.get(sha256) for part in found)
        if patches is not None:
            patches = patches.reshape(self._cells, -1)
        vectors = None if clip is None and patches is None else Vectors(clip, patches)
        if facts is None:
            return Held(has, Outcome(vectors=vectors))
        width, height, notes = (int(v) for v in facts)
        return Held(has, Outcome(size=(width, height), vectors=vectors, notes=Note(notes)))

    def put(self, image: Image, outcome: Outcome, new: Outcome) -> None:
        """Keep the vectors and facts that were computed. Several images are written together."""
        if new.size == (0, 0) or image.sha256 is None:
            return
        self.remember(image)
        vectors = new.vectors or Vectors(None, None)
        self.embedded += new.vectors is not None
        self.forwards += (vectors.clip is not None) + self._crops * (vectors.patches is not None)
        facts = np.array([*new.size, int(new.notes)], np.float32)  # whole numbers far below 2^24
        for key, array in zip(self._keys, (vectors.clip, vectors.patches, facts), strict=True):
            if array is not None:
                self._unsaved.append((image.sha256, key, array))
        if len(self._unsaved) >= 3 * _SAVE_IMAGES or time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the vectors that were kept and not yet written."""
        if self._cache is not None:
            self._cache.put(self._unsaved)
        self._unsaved = []
        self._saved_at = time.monotonic()


class Unread:
    """The cache for callers that only ask whether it holds vectors, and do not read them."""

    def __init__(self, vectors: CachedVectors) -> None:
        self.sha256 = vectors.sha256
        self.remember = vectors.remember
        self._look_up = vectors.look_up

    def look_up(self, images: Sequence[Image], wanted: Sequence[Wanted]) -> list[Held]:
        """Tell which parts are cached. Their checksums are not tested."""
        return self._look_up(images, wanted, read=False)


def missing_vectors(index: Index, cache: VectorCache | None, images: Iterable[tuple[Image, K]], want: Want[K]) -> int:
    """Number of images that would need a forward pass. Reads files whose SHA-256 the cache does not know."""
    known = Unread(CachedVectors(index, cache))
    tasks = decide(images, want, known)
    return len({t.job.sha256 for t in tasks if t.job is not None and (t.job.clip or t.job.patches)})
