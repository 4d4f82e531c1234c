"""Several devices of one machine: a process for each, with its own encoders and decoders."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

from iconicity.indexer.encode.engine import Outcome, Plan, Start, Task, Unit, in_units
from iconicity.indexer.encode.pool import SPAWN, follow_parent
from iconicity.indexer.encode.prepare import cores
from iconicity.indexer.errors import IconicityError, InputError

K = TypeVar("K")
Answer = list[tuple[int, Outcome]]
_AHEAD = 2  # units a device has before it


def device_names(text: str) -> list[str]:
    """Devices of a list; a number is a CUDA device. Raises :class:`InputError`.

    >>> device_names("0,1"), device_names("cpu,cpu")
    (['cuda:0', 'cuda:1'], ['cpu', 'cpu'])
    """
    names = [f"cuda:{n}" if n.isdecimal() else n for n in (part.strip() for part in text.split(","))]
    if not all(names):
        raise InputError(f"--devices {text}: a list of devices like 0,1 or cpu,cpu")
    return names


class Devices:
    """An engine of one process a device; a device may be named twice. A process that is killed is replaced once a unit."""

    def __init__(self, devices: Sequence[str], start: Start) -> None:
        self._devices = list(devices)
        self._start = start

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Raises :class:`IconicityError` when a device's process ends again and again."""
        return in_units(plan, tasks, partial(self._run, plan))

    def _run(self, plan: Plan, parts: list[Unit]) -> Generator[tuple[int, Outcome], None, None]:
        held = [_Device(plan, self._start, d, len(self._devices)) for d in self._devices]
        idle: SimpleQueue[_Device] = SimpleQueue()
        for device in held:
            idle.put(device)

        def run(unit: Unit) -> Answer:
            device = idle.get()
            try:
                return device.run(unit)
            finally:
                idle.put(device)

        threads = ThreadPoolExecutor(len(held), "device")
        pending: deque[Future[Answer]] = deque()
        try:
            for unit in parts:
                pending.append(threads.submit(run, unit))
                if len(pending) > _AHEAD * len(held):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for device in held:
                device.stop()
            threads.shutdown()


class _Device:
    """The process of a device, started with its first unit."""

    def __init__(self, plan: Plan, start: Start, device: str, of: int) -> None:
        self._started_with = plan, start, device, max(1, cores() // of)
        self._name = device
        self._connection: Connection | None = None
        self._stopped = False
        self._ending = Lock()  # by its own thread, and by who stops

    def run(self, unit: Unit) -> Answer:
        for last in (False, True):
            try:
                return self._ask(unit)
            except (EOFError, OSError) as e:
                self._end()
                if last or self._stopped:
                    raise IconicityError(
                        f"device {self._name}: its process ended twice (out of memory?); run the same command again with "
                        "a smaller --batch-size: what is written is kept"
                    ) from e
        raise AssertionError

    def _ask(self, unit: Unit) -> Answer:
        if self._stopped:
            raise EOFError
        if self._connection is None:
            self._connection, theirs = SPAWN.Pipe()
            self._process = SPAWN.Process(target=_serve, args=(theirs, *self._started_with))
            self._process.start()
            theirs.close()
        connection = self._connection  # who stops takes it away meanwhile
        connection.send(unit)
        answer: Answer | Exception = connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _end(self) -> None:
        with self._ending:
            if self._connection is not None:
                self._process.kill()
                self._process.join()
                self._connection.close()
                self._connection = None

    def stop(self) -> None:
        """End the process for good."""
        self._stopped = True
        self._end()


def _serve(connection: Connection, plan: Plan, start: Start, device: str, threads: int) -> None:
    """The life of a device's process."""
    import torch

    torch.set_num_threads(threads)
    follow_parent()
    runner = start(plan, device)
    while True:
        try:
            unit: Unit = connection.recv()
        except EOFError:
            return
        try:
            connection.send(list(runner.stream(unit)))
        except Exception as e:
            connection.send(e)
