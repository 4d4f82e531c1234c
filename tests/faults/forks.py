"""Run code in forks of one warm process: a fault trial starts in milliseconds and dies alone.

The parent must never use LanceDB itself: its threads would not survive the fork.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from select import select
from typing import Any

TIMEOUT = 120.0


@dataclass(frozen=True)
class Ended:
    """How a child ended: what its function returned, or the error it raised, or the signal that ended it."""

    value: Any = None
    error: str | None = None
    signal: int | None = None
    seconds: float = 0.0

    def get(self) -> Any:
        """The value. Fails when there is none."""
        assert self.error is None and self.signal is None, self
        return self.value


class Child:
    """A running fork. Its standard output and error go nowhere: a damaged table makes native code talk."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._started = time.monotonic()
        self._pipe, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            _be_child(write, function, args)
        os.close(write)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def wait(self, timeout: float = TIMEOUT) -> Ended:
        """Wait for the end. One that takes longer is killed, and counts as hanging: signal 0."""
        data, late = b"", False
        deadline = time.monotonic() + timeout
        while True:
            ready, _, _ = select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                late = True
                os.kill(self.pid, signal.SIGKILL)
                break
            part = os.read(self._pipe, 1 << 20)
            if not part:
                break
            data += part
        os.close(self._pipe)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._started
        if late:
            return Ended(signal=0, seconds=seconds)
        if os.WIFSIGNALED(status):
            return Ended(signal=os.WTERMSIG(status), seconds=seconds)
        value, error = pickle.loads(data)
        return Ended(value, error, None, seconds)


def call(function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> Ended:
    """Run a function in a fork and wait for it."""
    return Child(function, *args).wait(timeout)


def _be_child(pipe: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    value, error = None, None
    try:
        sink = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(sink, fd)
        warnings.simplefilter("ignore")
        value = function(*args)
    except BaseException:
        error = traceback.format_exc()
    with open(pipe, "wb") as f:
        pickle.dump((value, error), f)
    sys.stdout.flush()
    os._exit(0)
