"""Several devices of one machine: a process for each, with its own encoders and decoders."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from iconicity.indexer.cores import threads as threads_allowed
from iconicity.indexer.encode.engine import Outcome, Plan, Start, Task, Unit, in_units
from iconicity.indexer.encode.pool import ANSWERING, Lost, Pool, Process
from iconicity.indexer.errors import IconicityError, InputError

K = TypeVar("K")
Answer = list[tuple[int, Outcome]]
_AHEAD = 2  # units that wait for each device


def device_names(text: str) -> list[str]:
    """Return the devices of a list; a number is a CUDA device. Raises :class:`InputError`.

    >>> device_names("0,1"), device_names("cpu,cpu")
    (['cuda:0', 'cuda:1'], ['cpu', 'cpu'])
    """
    names = [f"cuda:{n}" if n.isdecimal() else n for n in (part.strip() for part in text.split(","))]
    if not all(names):
        raise InputError(f"`devices` {text}: a list of devices like 0,1 or cpu,cpu")
    return names


class Devices:
    """An engine with one process for each device named. A process that is killed is replaced, once for each unit."""

    def __init__(self, devices: Sequence[str], start: Start) -> None:
        self._devices = list(devices)
        self._start = start

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Raises :class:`IconicityError` when a device's process ends again and again."""
        return in_units(plan, tasks, partial(self._run, plan))

    def _run(self, plan: Plan, parts: list[Unit]) -> Generator[tuple[int, Outcome], None, None]:
        threads = max(1, threads_allowed() // len(self._devices))
        pool = Pool(
            [Device(plan, self._start, d, threads) for d in self._devices], lambda device: device.process.stop()
        )
        pending: deque[Future[Answer]] = deque()
        try:
            for unit in parts:
                pending.append(pool.submit(partial(Device.run, unit=unit)))
                if len(pending) > _AHEAD * len(self._devices):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.close()


class Device:
    """The process of a device, started with its first unit."""

    def __init__(self, plan: Plan, start: Start, device: str, threads: int) -> None:
        self._name = device
        self.process = Process(ANSWERING, pickle.dumps(partial(embedding, plan, start, device, threads)))

    def run(self, unit: Unit) -> Answer:
        """Outcomes of a unit."""
        try:
            answer: Answer = self.process.call(unit, lambda _: True)
        except (Lost, OSError) as e:
            raise IconicityError(
                f"device {self._name}: its process ended twice (out of memory?); run the same command again with "
                "a smaller `batch_size`: what is written is kept"
            ) from e
        return answer


def embedding(plan: Plan, start: Start, device: str, threads: int) -> Callable[[Unit], Answer]:
    """Return the function that embeds units in a device's process."""
    import torch

    torch.set_num_threads(threads)
    runner = start(plan, device)
    return lambda unit: list(runner.stream(unit))
