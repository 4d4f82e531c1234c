"""Network inputs to vectors, batched across images: the one place where forward passes are made."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from iconicity.indexer.encode.encoder import Encoder, Encoders
from iconicity.indexer.encode.prepare import Prepared
from iconicity.indexer.grid import cell_averages, cell_count
from iconicity.indexer.spec import FloatArray

if TYPE_CHECKING:
    import torch

K = TypeVar("K")
CPU_SIZE = 8  # a CPU gains nothing from large batches, and loses where they leave its cache
GPU_SIZES = (16, 32, 64, 128, 256)
_TRIALS = 3  # of each size: the first one also pays for first use, and one may be disturbed
_MAX_WAITING = 256  # images held back for a batch to fill


@dataclass(frozen=True)
class Vectors:
    """One image's unit vectors: ``clip`` (D,), ``patches`` (K, D'); None where not wanted."""

    clip: FloatArray | None
    patches: FloatArray | None


class BatchSize:
    """Network inputs of a forward pass: as given, 8 on a CPU, else the fastest of some sizes tried on the first real inputs."""

    def __init__(self, fixed: int | None, device: str) -> None:
        self._seconds: dict[int, list[float]] = {size: [] for size in GPU_SIZES}
        self.chosen = fixed or (CPU_SIZE if device == "cpu" else None)

    def next(self) -> int:
        """Size of the next batch."""
        if self.chosen is not None:
            return self.chosen
        return next(s for s in GPU_SIZES if len(self._seconds[s]) < _TRIALS)

    def record(self, size: int, seconds: float) -> None:
        """What a batch took. A rest that is smaller than asked for tells nothing."""
        if self.chosen is not None or size != self.next():
            return
        self._seconds[size].append(seconds / size)
        if all(len(t) == _TRIALS for t in self._seconds.values()):
            self.chosen = min(GPU_SIZES, key=lambda s: min(self._seconds[s]))


@dataclass
class _Slot(Generic[K]):
    """An image on its way."""

    key: K
    prepared: Prepared | None
    clip: FloatArray | None = None
    patches: FloatArray | None = None
    missing: int = 0  # number of network outputs that are still missing


@dataclass
class _Queue:
    """Inputs of one encoder that wait for a batch, each with what to do with its output."""

    encoder: Encoder
    size: BatchSize
    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[Callable[[FloatArray], None]] = field(default_factory=list)

    def run(self, at_least: int | None = None) -> None:
        """Embed full batches. With ``at_least`` 1 also the smaller last batch."""
        import torch

        while len(self.inputs) >= (at_least or self.size.next()):
            n = min(self.size.next(), len(self.inputs))
            started = time.perf_counter()
            rows = self.encoder.forward(torch.stack(self.inputs[:n]))
            self.size.record(n, time.perf_counter() - started)
            for store, row in zip(self.outputs[:n], rows, strict=True):
                store(row)
            del self.inputs[:n], self.outputs[:n]


class Embedder:
    """Both encoders over a grid, or its ``overlapping`` cells. ``batch_size`` counts network inputs (16 crops are 16 of
    them); None: chosen by device."""

    def __init__(
        self, encoders: Encoders, grid: tuple[int, int], batch_size: int | None = None, overlapping: bool = False
    ) -> None:
        self._encoders = encoders
        self._cells = (grid[0], grid[1], overlapping)
        self._token = encoders.patch_mode == "token"
        self._clips = _Queue(encoders.clip, BatchSize(batch_size, encoders.clip.device))
        self._crops = _Queue(encoders.dino, BatchSize(batch_size, encoders.dino.device))

    def map(self, items: Iterable[tuple[K, Prepared | None]]) -> Iterator[tuple[K, Vectors | None]]:
        """Each key with its image's vectors, in order; a key without an image passes through."""
        waiting: deque[_Slot[K]] = deque()
        for key, prepared in items:
            slot = _Slot(key, prepared)
            waiting.append(slot)
            if prepared is not None:
                self._enqueue(slot, prepared)
                self._clips.run()
                self._crops.run()
            if len(waiting) > _MAX_WAITING:
                self._flush()
            yield from self._ready(waiting)
        self._flush()
        yield from self._ready(waiting)

    def _flush(self) -> None:
        self._clips.run(1)
        self._crops.run(1)

    def _enqueue(self, slot: _Slot[Any], prepared: Prepared) -> None:
        if prepared.clip is not None:
            slot.missing += 1
            self._clips.inputs.append(prepared.clip)
            self._clips.outputs.append(partial(self._store_clip, slot))
        if prepared.patches is not None:
            slot.patches = np.empty((cell_count(*self._cells), self._encoders.dino.spec.dim), np.float32)
            slot.missing += len(prepared.patches)
            for cell, tensor in enumerate(prepared.patches):
                self._crops.inputs.append(tensor)
                self._crops.outputs.append(partial(self._store_patch, slot, prepared.size, cell))
        slot.prepared = None  # tensors are large: only the queues may hold them

    @staticmethod
    def _store_clip(slot: _Slot[Any], row: FloatArray) -> None:
        slot.clip = row.copy()
        slot.missing -= 1

    def _store_patch(self, slot: _Slot[Any], size: tuple[int, int], cell: int, out: FloatArray) -> None:
        assert slot.patches is not None
        if self._token:
            slot.patches[:] = cell_averages(out, size[0], size[1], *self._cells)
        else:
            slot.patches[cell] = out
        slot.missing -= 1

    @staticmethod
    def _ready(waiting: deque[_Slot[K]]) -> Iterator[tuple[K, Vectors | None]]:
        while waiting and waiting[0].missing == 0:
            slot = waiting.popleft()
            has = slot.clip is not None or slot.patches is not None
            yield slot.key, Vectors(slot.clip, slot.patches) if has else None
