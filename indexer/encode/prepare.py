"""Read, decode and preprocess images, in order and a bounded number ahead: in worker processes, or here.

Decoding never happens in this process: without workers the small decoder has it. A process that a file takes down is
replaced, and the file is named.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from iconicity.indexer.cores import cores
from iconicity.indexer.encode import decoder
from iconicity.indexer.encode.decode import Decoded, decode, limits, require_shape
from iconicity.indexer.encode.decoder import WALL_SECONDS, why_lost
from iconicity.indexer.encode.dedup import phash
from iconicity.indexer.encode.encoder import Encoders, Preprocess
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.encode.pool import ANSWERING, THREAD_VARIABLES, Lost, Pool, Process
from iconicity.indexer.errors import IconicityError, ImageError
from iconicity.indexer.grid import cells
from iconicity.indexer.sources.folders import read_bytes, sha256_hex
from iconicity.indexer.spec import FloatArray

if TYPE_CHECKING:
    import torch
    from PIL import Image

K = TypeVar("K")
Decode = Callable[[bytes, "Path | str", str, int], Decoded]


@dataclass(frozen=True)
class Prepared:
    """One image as network inputs: ``clip`` (3, H, W); ``patches`` (K, 3, H', W'), or (1, 3, N, N) in token mode.

    None where not wanted. ``size`` is (width, height) in pixels.
    """

    size: tuple[int, int]
    clip: torch.Tensor | None = None
    patches: torch.Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by value. Torch's own pickling passes tensors through /dev/shm, which in containers holds 64 MB."""
        return _from_arrays, (self.size, *(None if t is None else t.numpy() for t in (self.clip, self.patches)))


def _from_arrays(size: tuple[int, int], *arrays: FloatArray | None) -> Prepared:
    import torch

    return Prepared(size, *(None if a is None else torch.from_numpy(a) for a in arrays))


@dataclass(frozen=True)
class Recipe:
    """How an image becomes network inputs: everything a worker needs, and no weights."""

    clip: Preprocess
    patches: Preprocess
    rows: int
    cols: int
    token: bool
    pixels: str  # shown | published
    max_pixels: int = MAX_PIXELS
    overlapping: bool = False  # cells at half steps too

    @classmethod
    def of(
        cls,
        encoders: Encoders,
        grid: tuple[int, int],
        pixels: str,
        max_pixels: int = MAX_PIXELS,
        overlapping: bool = False,
    ) -> Recipe:
        rows, cols = grid
        token = encoders.patch_mode == "token"
        clip, dino = encoders.clip.preprocess, encoders.dino.preprocess
        return cls(clip, dino, rows, cols, token, pixels, max_pixels, overlapping)

    def prepare(
        self, image: Image.Image, clip: bool = True, patches: bool = True, path: Path | str = "image"
    ) -> Prepared:
        """Preprocess an image; its result depends on no other image.

        Raises :class:`ImageError` for one that is too narrow, or has a cell that is.
        """
        import torch

        parts = [image] if self.token else cells(image, self.rows, self.cols, self.overlapping)
        for part in (image, *parts):
            require_shape(*part.size, path)
        whole = self.clip(image) if clip else None
        if not patches:
            return Prepared(image.size, whole)
        return Prepared(image.size, whole, torch.stack([self.patches(part) for part in parts]))


@dataclass(frozen=True)
class Job:
    """A file to read, and the inputs that are wanted. ``sha256`` of the bytes it must have; None: not known."""

    path: str
    sha256: str | None = None
    clip: bool = True
    patches: bool = True
    phash: bool = False


@dataclass(frozen=True)
class Loaded:
    """Result of a job: the prepared image, or the ``reason`` why it cannot be used."""

    sha256: str = ""
    phash: str = ""
    prepared: Prepared | None = None
    reason: str | None = None
    notes: Note = Note.NONE


def open_image(recipe: Recipe, job: Job, decode: Decode) -> tuple[str, Decoded]:
    """Read, hash and decode one image: the SHA-256 of its bytes, and its pixels. Raises :class:`ImageError`."""
    data = read_bytes(job.path)
    sha = sha256_hex(data)
    if job.sha256 not in (None, sha):
        raise ImageError(job.path, "changed while it was read")
    return sha, decode(data, job.path, recipe.pixels, recipe.max_pixels)


def load(recipe: Recipe, job: Job, opened: Callable[[], tuple[str, Decoded]]) -> Loaded:
    """Prepare one image; an :class:`ImageError` becomes the reason why it cannot be used."""
    try:
        sha, decoded = opened()
        image = decoded.image
        prepared = recipe.prepare(image, job.clip, job.patches, job.path)
    except ImageError as e:
        return Loaded(reason=e.reason)
    return Loaded(sha, phash(image) if job.phash else "", prepared, notes=decoded.notes)


class Worker:
    """A process that reads, decodes and preprocesses. One that a file takes down is replaced, and the file is named.

    It has one torch, OpenMP and BLAS thread: the small tensor operations of preprocessing fight over threads with the
    forward pass.
    """

    def __init__(self, recipe: Recipe) -> None:
        one_thread = dict.fromkeys(THREAD_VARIABLES, "1")  # libraries read these once, when they are loaded
        self.process = Process(ANSWERING, pickle.dumps(partial(loading, recipe)), one_thread, WALL_SECONDS)

    def load(self, job: Job) -> Loaded:
        """Return the result of a job. A file cannot be used if it crashed the process, or the process was lost twice.

        Raises :class:`IconicityError` when no process can be started.
        """
        try:
            loaded: Loaded = self.process.call(job)
        except Lost as e:
            if e.started or self.process.given_up:
                return Loaded(reason=why_lost(e))
            raise IconicityError(f"a worker process cannot be started ({e}); run again with `workers` 0") from None
        return loaded


def loading(recipe: Recipe) -> Callable[[Job], Loaded]:
    """Return the function that loads images in a worker's process."""
    import torch

    torch.set_num_threads(1)
    return lambda job: load(recipe, job, partial(open_image, recipe, job, _within_limits))


def _within_limits(data: bytes, path: Path | str, pixels: str, max_pixels: int) -> Decoded:
    with limits(max_pixels):
        return decode(data, path, pixels, max_pixels)


class Loader:
    """Runs jobs in ``workers`` processes; 0: in this one, but for the decoding. They start with the first job."""

    def __init__(self, recipe: Callable[[], Recipe], workers: int = 0) -> None:
        self._recipe = recipe
        self._workers = workers
        self._pool: Pool[Worker] | None = None
        self._opener: ThreadPoolExecutor | None = None

    def map(self, items: Iterable[tuple[K, Job | None]]) -> Iterator[tuple[K, Loaded | None]]:
        """Yield each key with the result of its job, in order. A key without a job passes through."""
        ahead = 2 * max(1, self._workers)
        pending: deque[tuple[K, Callable[[], Loaded] | None]] = deque()
        for key, job in items:
            pending.append((key, None if job is None else self._submit(job)))
            while pending and (len(pending) > ahead or pending[0][1] is None):
                yield self._take(*pending.popleft())
        while pending:
            yield self._take(*pending.popleft())

    @staticmethod
    def _take(key: K, result: Callable[[], Loaded] | None) -> tuple[K, Loaded | None]:
        return key, None if result is None else result()

    def load(self, job: Job) -> Loaded:
        """Do one job in this process."""
        recipe = self._recipe()
        return load(recipe, job, lambda: open_image(recipe, job, decoder.shared().decode))

    def _submit(self, job: Job) -> Callable[[], Loaded]:
        if self._workers:
            if self._pool is None:
                recipe = self._recipe()
                workers = [Worker(recipe) for _ in range(self._workers)]
                self._pool = Pool(workers, lambda worker: worker.process.stop())
            return self._pool.submit(partial(Worker.load, job=job)).result
        recipe = self._recipe()
        if self._opener is None:  # decodes while this thread prepares and embeds
            self._opener = ThreadPoolExecutor(1, "decode")
        opened = self._opener.submit(open_image, recipe, job, decoder.shared().decode)
        return lambda: load(recipe, job, opened.result)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._opener is not None:
            self._opener.shutdown(wait=False, cancel_futures=True)
            decoder.shared().process.give_up()
            self._opener.shutdown()
            self._opener = None


def default_workers(images: int) -> int:
    """Worker processes for a number of images.

    None for a few, where starting one costs more than it saves.
    """
    return 0 if images < 256 else max(1, min(8, cores() // 2))
