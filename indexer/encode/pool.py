"""Processes that answer questions: the one way in which this package uses others than its own.

Decoders, workers that decode and preprocess, and devices all live in a :class:`Process`. It is a plain interpreter behind
a socket: it opens no file of ours and inherits nothing, and starts as fast as what it imports.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from iconicity.indexer.cores import QUIET

P = TypeVar("P")
T = TypeVar("T")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_READY = b"ready"
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from iconicity.indexer.encode.pool import live; live(int(sys.argv[1]), sys.argv[3])"
)
# Signals by which a library that met bad data, or a limit set there, ends the process. Others come from outside.
_BY_ITSELF = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGPROF}
_END_SECONDS = 30.0  # for a process whose connection is closed to end


class Lost(Exception):
    """A process ended, or was ended, while it was asked. ``exitcode`` None: it took too long."""

    def __init__(self, exitcode: int | None, started: bool = True) -> None:
        self.exitcode = exitcode
        self.started = started  # whether it got as far as to be asked
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else 0
        self.by_itself = exitcode is None or self.signal in _BY_ITSELF
        name = signal.Signals(self.signal).name if self.signal in set(signal.Signals) else f"exit code {exitcode}"
        super().__init__(name)


class Process:
    """A process that is started when it is first asked, and again after it was lost. Threads take turns to ask.

    ``answers`` names what answers there: ``module:function``, called with the first message and giving a function from
    one message to the next. ``seconds``: the most that an answer may take, None: any time.
    """

    def __init__(
        self,
        answers: str,
        first: bytes = b"",
        environment: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> None:
        self._answers, self._first, self._seconds = answers, first, seconds
        self._environment = environment or {}
        self._lock = threading.Lock()
        self.given_up = False  # the last question, by another thread
        self._stopped = False
        self._popen: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return None if self._popen is None else self._popen.pid

    @property
    def busy(self) -> bool:
        """Whether a thread waits for an answer."""
        return self._lock.locked()

    def ask(
        self, message: bytes, again: Callable[[Lost], bool] = lambda lost: lost.started and not lost.by_itself
    ) -> bytes:
        """Return the answer to a message. When the process is lost, ``again`` decides whether to send it once more.

        Raises :class:`Lost`, and OSError when no process can be started.
        """
        with self._lock:
            self.given_up = self._stopped
            try:
                return self._ask(message)
            except Lost as e:
                if self.given_up or not again(e):
                    raise
            return self._ask(message)

    def call(self, question: Any, again: Callable[[Lost], bool] | None = None) -> Any:
        """Return what :func:`answering` returns in the process. Raises its errors here, and those of :meth:`ask`."""
        message = pickle.dumps(question)
        answer = pickle.loads(self.ask(message) if again is None else self.ask(message, again))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, message: bytes) -> bytes:
        connection = self._connection or self._start()
        try:
            connection.send_bytes(message)
            if self._seconds is None or connection.poll(self._seconds):
                return connection.recv_bytes()
            ended = None
        except (EOFError, OSError):
            ended = self._ended()
        except BaseException:  # a stop between question and answer: the next answer would be this one's
            self._close()
            raise
        self._close()
        raise Lost(ended)

    def _ended(self) -> int:
        """The exit code of a process that closed its connection. Raises TimeoutExpired for one that lives on."""
        assert self._popen is not None
        return self._popen.wait(_END_SECONDS)

    def _start(self) -> Connection:
        if self._stopped:
            raise Lost(-signal.SIGKILL, started=False)
        here, there = socket.socketpair()
        with there:
            command = [sys.executable, "-P", "-c", _BOOT, str(there.fileno()), json.dumps(sys.path), self._answers]
            try:  # in a group of its own: Ctrl-C is the parent's to handle. What libraries print is for nobody.
                self._popen = subprocess.Popen(
                    command,
                    pass_fds=[there.fileno()],
                    process_group=0,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**QUIET, **os.environ, **self._environment},
                )
            except OSError:
                here.close()
                raise
        self._connection = Connection(here.detach())
        try:
            if self.given_up:
                self._popen.kill()
            self._connection.send_bytes(self._first)
            if self._connection.recv_bytes() == _READY:
                return self._connection
        except (EOFError, OSError):
            pass
        except BaseException:
            self._close()
            raise
        ended = self._ended()
        self._close()
        raise Lost(ended, started=False)

    def give_up(self) -> None:
        """End the process if a thread waits for its answer; that thread gets :class:`Lost`."""
        popen = self._popen
        if self.busy and popen is not None:
            self.given_up = True
            popen.kill()

    def stop(self) -> None:
        """End the process for good."""
        self._stopped = self.given_up = True
        self.give_up()
        self.close()

    def close(self) -> None:
        """End the process; it is started again when it is asked again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Pool(Generic[P]):
    """Some workers, each asked by one thread at a time. ``stop`` ends one of them."""

    def __init__(self, workers: Sequence[P], stop: Callable[[P], None]) -> None:
        self.workers = list(workers)
        self._stop = stop
        self._threads = ThreadPoolExecutor(len(self.workers), "worker")
        self._idle: SimpleQueue[P] = SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)

    def submit(self, use: Callable[[P], T]) -> Future[T]:
        """Run a function with the next idle worker."""
        return self._threads.submit(self._run, use)

    def _run(self, use: Callable[[P], T]) -> T:
        worker = self._idle.get()
        try:
            return use(worker)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers. Questions that were not begun are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            self._stop(worker)
        self._threads.shutdown()


def live(fd: int, answers: str) -> None:
    """The life of a process: answer until the parent closes its end, or ends."""
    threading.Thread(target=_end_with_parent, args=(fd,), daemon=True).start()
    connection = Connection(fd)
    module, _, function = answers.partition(":")
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        answer = getattr(import_module(module), function)(connection.recv_bytes())
        connection.send_bytes(_READY)
        while True:
            connection.send_bytes(answer(connection.recv_bytes()))


def _end_with_parent(fd: int) -> None:
    """End this process when its parent is gone: a parent that is killed cannot end its processes itself."""
    watched = select.poll()
    watched.register(fd, getattr(select, "POLLRDHUP", 0))  # a closed end is told in any case, by POLLHUP
    watched.poll()
    os._exit(1)


def answering(first: bytes) -> Callable[[bytes], bytes]:
    """Answers for :meth:`Process.call`: the first message is a pickled function that makes another one, which answers."""
    answer = pickle.loads(first)()

    def one(message: bytes) -> bytes:
        try:
            return pickle.dumps(answer(pickle.loads(message)))
        except Exception as e:
            return pickle.dumps(e)

    return one


ANSWERING = f"{__name__}:{answering.__name__}"
