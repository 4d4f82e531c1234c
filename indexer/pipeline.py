"""Read, decode and preprocess images in worker processes, in order and a bounded number ahead.

The small tensor operations of preprocessing fight over threads with the forward pass, so that every worker has
one torch, OpenMP and BLAS thread.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from iconicity.indexer.dedup import phash
from iconicity.indexer.encoders import Encoders, Preprocess
from iconicity.indexer.errors import IconicityError, ImageError
from iconicity.indexer.images import decode, read_bytes, sha256_hex
from iconicity.indexer.patches import cells

if TYPE_CHECKING:
    import torch
    from PIL import Image

K = TypeVar("K")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Prepared:
    """One image as network inputs: ``clip`` (3, H, W); ``patches`` (K, 3, H', W'), or (1, 3, N, N) in token mode.

    None where not wanted. ``size`` is (width, height) in pixels.
    """

    size: tuple[int, int]
    clip: torch.Tensor | None = None
    patches: torch.Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """How an image becomes network inputs: everything a worker needs, and no weights."""

    clip: Preprocess
    patches: Preprocess
    rows: int
    cols: int
    token: bool
    exif: bool

    @classmethod
    def of(cls, encoders: Encoders, grid: tuple[int, int], exif: bool) -> Recipe:
        rows, cols = grid
        token = encoders.patch_mode == "token"
        return cls(encoders.clip.preprocess, encoders.dino.preprocess, rows, cols, token, exif)

    def prepare(self, image: Image.Image, clip: bool = True, patches: bool = True) -> Prepared:
        """Preprocess an image; its result depends on no other image."""
        import torch

        whole = self.clip(image) if clip else None
        if not patches:
            return Prepared(image.size, whole)
        parts = [image] if self.token else cells(image, self.rows, self.cols)
        return Prepared(image.size, whole, torch.stack([self.patches(part) for part in parts]))


@dataclass(frozen=True)
class Job:
    """A file to read, and what is wanted of it. ``sha256``: the bytes it must have, None when not known."""

    path: str
    sha256: str | None = None
    clip: bool = True
    patches: bool = True
    phash: bool = False


@dataclass(frozen=True)
class Loaded:
    """What became of a job: the prepared image, or the ``reason`` why it cannot be used."""

    sha256: str = ""
    phash: str = ""
    prepared: Prepared | None = None
    reason: str | None = None


def load(recipe: Recipe, job: Job) -> Loaded:
    """Read, hash, decode and prepare one image."""
    path = Path(job.path)
    try:
        data = read_bytes(path)
        sha = sha256_hex(data)
        if job.sha256 not in (None, sha):
            raise ImageError(path, "changed while it was read")
        image = decode(data, path, recipe.exif)
    except ImageError as e:
        return Loaded(reason=e.reason)
    return Loaded(sha, phash(image) if job.phash else "", recipe.prepare(image, job.clip, job.patches))


class Loader:
    """Runs jobs in ``workers`` processes (0: in this one). Processes start with the first job, not before."""

    def __init__(self, recipe: Callable[[], Recipe], workers: int = 0) -> None:
        self._recipe = recipe
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, items: Iterable[tuple[K, Job | None]]) -> Iterator[tuple[K, Loaded | None]]:
        """Each key with what became of its job, in order; a key without a job passes through.

        Raises :class:`IconicityError` when a worker process dies.
        """
        ahead = 2 * self._workers
        pending: deque[tuple[K, Future[Loaded] | None]] = deque()
        for key, job in items:
            pending.append((key, None if job is None else self._submit(job)))
            while pending and (len(pending) > ahead or pending[0][1] is None):
                yield self._take(*pending.popleft())
        while pending:
            yield self._take(*pending.popleft())

    @staticmethod
    def _take(key: K, future: Future[Loaded] | None) -> tuple[K, Loaded | None]:
        try:
            return key, None if future is None else future.result()
        except BrokenProcessPool as e:
            raise IconicityError(
                "a worker process was killed, most likely for want of memory; run again with --workers 0"
            ) from e

    def load(self, job: Job) -> Loaded:
        """One job, in this process."""
        return load(self._recipe(), job)

    def _submit(self, job: Job) -> Future[Loaded]:
        if self._workers == 0:
            done: Future[Loaded] = Future()
            done.set_result(self.load(job))
            return done
        if self._pool is None:
            self._pool = _start(self._recipe(), self._workers)
        return self._pool.submit(_work, job)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(recipe: Recipe, workers: int) -> ProcessPoolExecutor:
    # spawn: a forked child would inherit the locks of threads it does not have (torch, LanceDB)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _initialise, (recipe,))
    with _one_thread():  # libraries read these once, when they are loaded
        for _ in range(workers):
            pool.submit(worker_threads)
    return pool


@contextmanager
def _one_thread() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_worker_recipe: Recipe | None = None  # of this worker process


def _initialise(recipe: Recipe) -> None:
    import torch

    global _worker_recipe
    _worker_recipe = recipe
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells nobody; its workers must not live on."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def worker_threads() -> tuple[int, ...]:
    """Threads of this process: torch's, then what the environment grants OpenMP and BLAS."""
    import torch

    return (torch.get_num_threads(), *(int(os.environ.get(name, 0)) for name in THREAD_VARIABLES))


def _work(job: Job) -> Loaded:
    assert _worker_recipe is not None
    return load(_worker_recipe, job)


def default_workers(images: int) -> int:
    """Worker processes for a number of images.

    None for a few, where starting one costs more than it saves.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if images < 256 else max(1, min(8, cores // 2))
