"""Processes that read, decode and preprocess images. One that a file takes down is replaced, and the file is named.

The small tensor operations of preprocessing fight over threads with the forward pass, so that every worker has
one torch, OpenMP and BLAS thread.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from iconicity.indexer.encode.decode import Decoded, decode, limits
from iconicity.indexer.encode.decoder import WALL_SECONDS, Lost
from iconicity.indexer.errors import IconicityError

if TYPE_CHECKING:
    from iconicity.indexer.encode.prepare import Job, Loaded, Recipe

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SPAWN = get_context("spawn")  # a forked child would inherit the locks of threads it does not have (torch, LanceDB)
_starting = threading.Lock()
_END_SECONDS = 30.0  # for a process whose connection is closed to end


class Worker:
    """One process at a time, asked by one thread at a time."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._connection, theirs = SPAWN.Pipe()
        with _starting, _one_thread():  # libraries read these once, when they are loaded
            self.process = SPAWN.Process(target=_serve, args=(theirs, self._recipe), daemon=True)
            self.process.start()
        theirs.close()
        self.threads: tuple[int, ...] = ()  # what it says when it is ready, see _threads

    def load(self, job: Job) -> Loaded:
        """What became of a job. A process that ends meanwhile is replaced: a file that ended it, by itself or twice
        in any way, cannot be used. Raises :class:`IconicityError` when no process can be started.
        """
        from iconicity.indexer.encode.prepare import Loaded

        try:
            try:
                return self._ask(job)
            except Lost as e:
                if e.by_image:
                    raise
                return self._ask(job)  # once more: what killed it came from outside
        except Lost as e:
            return Loaded(reason=str(e))

    def _ask(self, job: Job) -> Loaded:
        answer: Loaded | Exception | None = None
        ended = None
        try:
            if not self.threads:
                self.threads = self._connection.recv()
            self._connection.send(job)
            if self._connection.poll(WALL_SECONDS):
                answer = self._connection.recv()
        except (EOFError, OSError):
            self.process.join(_END_SECONDS)
            ended = self.process.exitcode
            if ended is None:
                raise  # it lives: this process is what is wrong
            if not (self.threads or self._stopped):
                raise IconicityError(
                    f"a worker process cannot be started (exit code {ended}); run again with --workers 0"
                ) from None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        if not self._stopped:
            self.close()
            self._start()
        raise Lost(ended)

    def stop(self) -> None:
        """End the process for good."""
        self._stopped = True
        self.close()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self._connection.close()


class WorkerPool:
    """Some workers, each with a thread that waits for it."""

    def __init__(self, recipe: Recipe, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers, "worker")
        self.workers = [Worker(recipe) for _ in range(workers)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)

    def submit(self, job: Job) -> Future[Loaded]:
        """A job for the next idle worker."""
        return self._threads.submit(self._run, job)

    def _run(self, job: Job) -> Loaded:
        worker = self._idle.get()
        try:
            return worker.load(job)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes; jobs that were not begun are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.stop()
        self._threads.shutdown()


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


def _serve(connection: Connection, recipe: Recipe) -> None:
    """A worker's life."""
    import torch

    from iconicity.indexer.encode.prepare import load, open_image

    torch.set_num_threads(1)
    follow_parent()
    connection.send(_threads())
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        try:
            answer: Loaded | Exception = load(recipe, job, partial(open_image, recipe, job, _within_limits))
        except Exception as e:
            answer = e
        connection.send(answer)


def _within_limits(data: bytes, path: Path | str, pixels: str, max_pixels: int) -> Decoded:
    with limits(max_pixels):
        return decode(data, path, pixels, max_pixels)


def follow_parent() -> None:
    """Of a child process: leave signals of the keyboard to its parent, print nothing, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # what image libraries print is for nobody


def _end_with_parent() -> None:
    """A parent that is killed tells nobody; its workers must not live on."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _threads() -> tuple[int, ...]:
    """Threads of this process: torch's, then what the environment grants OpenMP and BLAS."""
    import torch

    return (torch.get_num_threads(), *(int(os.environ.get(name, 0)) for name in THREAD_VARIABLES))
