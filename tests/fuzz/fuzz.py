"""Spoiled files of every format through the reading of images, with good ones between them: ``make fuzz``.

Nothing may escape as an exception, every refusal has a reason, and good files stay what they are. What a file took is
what its process used: seconds of the clock, and the most memory it held.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fuzz.mutate import SUFFIXES, bombs, good, mutated
from toys import toy_encoders

from iconicity.indexer.encode.decoder import Decoder
from iconicity.indexer.encode.prepare import Job, Loaded, Recipe, load, open_image
from iconicity.scorer.text import table

GOOD_EACH = 20  # a good file after so many spoiled ones


@dataclass
class Tally:
    """What became of the files of one format."""

    files: int = 0
    decoded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0  # bytes

    def row(self, name: str) -> list[str]:
        crashed = sum(n for reason, n in self.refused.items() if "crashes" in reason)
        slow = sum(n for reason, n in self.refused.items() if "takes more" in reason)
        counts = (self.files, self.decoded, self.refused.total(), crashed, slow)
        return [name, *map(str, counts), f"{self.slowest:.2f}", f"{self.largest / 1e6:.0f}"]


def _kind(reason: str) -> str:
    return "narrower than 1:500" if "narrower" in reason else reason.partition(":")[0]


class Fuzz:
    """Loads files one by one and keeps count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._decoder = Decoder()
        self._recipe = Recipe.of(toy_encoders(), (2, 2), "shown")
        self.files = good()
        self._good = [data for kind in self.files.values() for data in kind]
        self._expected = [self._load(data, ".png") for data in self._good]
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.failures: list[str] = []
        self.checked = 0

    def _load(self, data: bytes, suffix: str) -> Loaded:
        path = self._folder / f"file{suffix}"
        path.write_bytes(data)
        job = Job(str(path), phash=True)
        return load(self._recipe, job, partial(open_image, self._recipe, job, self._decoder.decode))

    def take(self, kind: str, data: bytes, what: str, suffix: str = ".png") -> None:
        """One spoiled file."""
        tally = self.tallies[kind]
        tally.files += 1
        self._reset_peak()
        started = time.perf_counter()
        try:
            found = self._load(data, suffix)
        except Exception as e:
            self.failures.append(f"{kind} {what}: {type(e).__name__}: {e}")
            return
        tally.slowest = max(tally.slowest, time.perf_counter() - started)
        tally.largest = max(tally.largest, self._peak())
        if found.prepared is not None:
            tally.decoded += 1
        elif found.reason:
            tally.refused[_kind(found.reason)] += 1
        else:
            self.failures.append(f"{kind} {what}: refused without a reason")

    def check_good(self, i: int) -> None:
        """A good file gives what it gave before all the spoiled ones."""
        i %= len(self._good)
        found, expected = self._load(self._good[i], ".jpg"), self._expected[i]
        self.checked += 1
        assert expected.prepared is not None and expected.prepared.patches is not None
        same = (found.sha256, found.phash, found.reason) == (expected.sha256, expected.phash, expected.reason)
        if not same or found.prepared is None or found.prepared.patches is None:
            self.failures.append(f"good file {i}: {found.reason}")
        elif not torch.equal(found.prepared.patches, expected.prepared.patches):
            self.failures.append(f"good file {i}: other pixels")

    def _reset_peak(self) -> None:
        refs = Path(f"/proc/{self._decoder.pid}/clear_refs")
        if refs.exists():
            refs.write_text("5")

    def _peak(self) -> int:
        status = Path(f"/proc/{self._decoder.pid}/status")
        if not status.exists():  # it was lost with this file
            return 0
        return int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1]) << 10

    def close(self) -> None:
        self._decoder.close()

    def text(self) -> str:
        header = ("format", "files", "decoded", "refused", "crashes", "too slow", "slowest s", "largest MB")
        reasons: Counter[str] = Counter()
        for tally in self.tallies.values():
            reasons.update(tally.refused)
        lines = [table(header, [t.row(kind) for kind, t in sorted(self.tallies.items())])]
        lines += [f"{n:6d}  {reason}" for reason, n in reasons.most_common()]
        lines.append(f"{self.checked} good files between them, {len(self.failures)} failures")
        return "\n".join([*lines, *self.failures[:20]])


def run(folder: Path, files: int, seed: int, seconds: float, with_bombs: bool = True) -> Fuzz:
    """``files`` spoiled files, formats in turn, for at most so many seconds."""
    rng = np.random.default_rng(seed)
    fuzz = Fuzz(folder)
    kinds = sorted(fuzz.files)
    end = time.monotonic() + seconds
    if with_bombs:
        for kind, what, data in bombs():
            fuzz.take(f"{kind} bombs", data, what)
    for i in range(files):
        if time.monotonic() > end:
            break
        kind = kinds[i % len(kinds)]
        fuzz.take(kind, mutated(rng, fuzz.files, kind), f"seed {seed} file {i}", str(rng.choice(SUFFIXES)))
        if i % GOOD_EACH == 0:
            fuzz.check_good(i // GOOD_EACH)
    fuzz.close()
    return fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = run(Path(folder), args.files, args.seed, args.seconds)
    print(fuzz.text())
    sys.exit(bool(fuzz.failures))


if __name__ == "__main__":
    main()
