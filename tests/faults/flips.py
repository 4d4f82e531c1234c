"""One byte changed in any file of an index, of what is derived from it, of the cache, of results."""

from __future__ import annotations

import random
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.forks import call
from faults.world import Said, World, command, results_state, rows

from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.files import LOCKS
from iconicity.indexer.store.verify import verify_index
from iconicity.scorer.verify import verify_results

KINDS = ("table data", "table metadata", "manifest and derived files", "cache and results")


@dataclass
class Flips:
    """Trials of one kind. ``silent``: no test tells, or a command took the damage for truth."""

    trials: int = 0
    detected: int = 0  # a test names the file
    harmless: int = 0  # no test tells; all rows and scores are bit for bit the same
    silent: int = 0
    refused: int = 0  # of all: scoring ended with an error in a line
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What is seen of a damaged folder."""

    problems: list[str]  # of the tests of all three: index, cache, results
    rows: Any  # of the index, or why they cannot be read
    scored: Said
    results: Any  # of a new scoring run, None where it refused
    again: Said
    held: Any  # of the results directory after the same command, None where it refused


def look(folder: Path, world: World) -> Seen:
    """Test everything, then read and score as if nothing were known."""
    try:
        cache_problems = VectorCache(folder / "c").problems()
    except Exception as e:
        cache_problems = [str(e)]
    problems = [*verify_index(folder / "i"), *cache_problems, *verify_results(folder / "o")]
    try:
        held: Any = rows(folder / "i")
    except Exception as e:
        held = str(e)
    scored = command(*world.score_args(folder / "i", folder / "new", "all", ["m1"], folder / "c"))
    again = command(*world.score_args(folder / "i", folder / "o", "all", ["m1"], folder / "c"))
    return Seen(
        problems,
        held,
        scored,
        results_state(folder / "new") if scored.code == 0 else None,
        again,
        results_state(folder / "o") if again.code == 0 else None,
    )


class FlipTrials:
    """Trials on a folder with an index that has a deletion file, results of scope all, a cache and derived files."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.whole = world.root / "whole"
        self.folder = world.root / "trial"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(world.root / "base", self.folder / "i")
        for args in (
            ("index", "remove", "--index", self.folder / "i", "--ref", "beta/03_dup.png", "--workers", 0),
            world.score_args(self.folder / "i", self.folder / "o", "all", ["m1"], self.folder / "c"),
        ):
            said = call(command, *args).get()
            assert said.code == 0, said
        call(lambda: VectorCache(self.folder / "c").close()).get()  # the last one to close moves all into one file
        shutil.move(self.folder, self.whole)
        self._restore()
        self.expected: Seen = call(look, self.folder, world).get()
        assert self.expected.problems == [] and self.expected.scored.code == self.expected.again.code == 0, (
            self.expected
        )
        self.places = {kind: self._places(kind) for kind in KINDS}

    def _restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.whole, self.folder)

    def _places(self, kind: str) -> list[tuple[Path, range]]:
        """Files of a kind, relative, and the bytes of each that count."""
        files = [p for p in sorted(self.whole.rglob("*")) if p.is_file() and p.stat().st_size and p.name not in LOCKS]
        out = []
        for path in files:
            size, relative = path.stat().st_size, path.relative_to(self.whole)
            if path.suffix == ".lance":
                start = struct.unpack("<Q", path.read_bytes()[-40:-32])[0]  # of the columns' metadata
                part = {"table data": range(start), "table metadata": range(start, size)}.get(kind)
            elif relative.parts[0] == "i":
                manifest = path.name == "manifest.json"
                mine = kind == ("manifest and derived files" if manifest else "table metadata")
                part = range(size) if mine else None
            else:
                derived = relative.parts[:2] == ("c", "vectors")
                part = (
                    range(size) if kind == ("manifest and derived files" if derived else "cache and results") else None
                )
            if part:
                out.append((relative, part))
        return out

    def trial(self, kind: str, tally: Flips) -> None:
        """One byte, in a file drawn evenly among those of its kind."""
        relative, part = self.rng.choice(self.places[kind])
        self._restore()
        path = self.folder / relative
        content = bytearray(path.read_bytes())
        at = self.rng.choice(part)
        content[at] ^= self.rng.randrange(1, 256)
        path.write_bytes(content)
        tally.trials += 1
        what = f"{relative} byte {at} of {len(content)}"
        ended = call(look, self.folder, self.world)
        if ended.error or ended.signal is not None:
            tally.failures.append(f"{what}: {ended.error or f'signal {ended.signal}'}")
            return
        judge(ended.value, self.expected, str(path), tally, what)


def judge(seen: Seen, expected: Seen, path: str, tally: Flips, what: str) -> None:
    """Detected, harmless, or silent."""
    wrong = [
        name
        for name, said, state, wanted in (
            ("scores", seen.scored, seen.results, expected.results),
            ("results", seen.again, seen.held, expected.held),
        )
        if said.code == 0 and state != wanted
    ]
    tally.refused += seen.scored.code != 0
    for said in (seen.scored, seen.again):
        if said.code not in {0, 1} or (
            said.code == 1 and not said.stderr.strip().splitlines()[-1].startswith("error: ")
        ):
            tally.failures.append(f"{what}: exit code {said.code}: {said.stderr}")
    named = any(path in problem for problem in seen.problems)
    same = seen.rows == expected.rows and seen.scored.code == 0 and seen.again.code == 0 and not wrong
    if wrong:
        tally.silent += 1
        tally.failures.append(f"{what}: {wrong} differ, problems {seen.problems[:2]}")
    elif named:
        tally.detected += 1
    elif same:
        tally.harmless += 1
    elif seen.problems:
        tally.failures.append(f"{what}: found, but not named: {seen.problems[:2]}")
    else:
        tally.silent += seen.rows != expected.rows
        tally.failures.append(f"{what}: no test tells; {seen.scored.stderr or seen.again.stderr or 'rows differ'}")
