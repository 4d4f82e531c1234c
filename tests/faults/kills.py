"""kill -9 at a random moment inside a chosen commit window, then the plain command again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.forks import Child, call
from faults.world import Scenario, World, command

import iconicity.indexer.builder as builder
import iconicity.indexer.store.files as files
import iconicity.scorer.say.derived as derived
import iconicity.scorer.say.report.build as report
import iconicity.scorer.say.report.pages as pages
import iconicity.scorer.signed as signed
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.rows import ReferenceStore

# window -> where it is entered: functions that change what is on disk, each as (owner, name)
WINDOWS: dict[str, list[tuple[Any, str]]] = {
    "rows": [(ReferenceStore, "create"), (ReferenceStore, "upsert"), (ReferenceStore, "delete")],
    "compaction": [(ReferenceStore, "compact"), (ReferenceStore, "drop_old_versions")],
    "manifest": [(ReferenceStore, "sync"), (builder, "write_manifest")],
    "results": [(signed, "sign"), (derived, "write_csv"), (derived, "write_meta"), (files, "fsync")],
    "cache": [(VectorCache, "put")],
    "report": [(pages, "write_atomically"), (report, "make_thumbnails"), (report, "drop_other_thumbnails")],
}
SCENARIOS = {
    "rows": ["build", "rebuild", "add", "remove", "merge"],
    "compaction": ["build", "rebuild", "add", "remove", "merge"],
    "manifest": ["build", "rebuild", "add", "remove", "merge"],
    "results": ["score", "rescore", "merge results"],
    "cache": ["score"],
    "report": ["report"],
    "anywhere": ["build", "rebuild", "add", "remove", "merge", "score", "rescore", "merge results", "report"],
}


@dataclass
class Tally:
    """Trials of one kind of fault."""

    trials: int = 0
    inside: int = 0  # killed between a window's first and last instruction
    survived: int = 0
    lost: int = 0
    silent: int = 0
    failures: list[str] = field(default_factory=list)


class _Windows:
    """Counts and times windows in a child; in one of them a thread sends SIGKILL after a delay."""

    def __init__(self, log: int, window: str, nth: int, delay: float) -> None:
        self.log, self.window, self.nth, self.delay = log, window, nth, delay
        self.times: list[tuple[str, float]] = []
        self.seen: Counter[str] = Counter()
        for name, places in WINDOWS.items():
            for owner, attribute in places:
                self._wrap(name, owner, attribute)

    def _wrap(self, window: str, owner: Any, attribute: str) -> None:
        inner: Callable[..., Any] = getattr(owner, attribute)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nth = self.seen[window]
            self.seen[window] += 1
            started = time.perf_counter()
            os.write(self.log, b"(")
            if (window, nth) == (self.window, self.nth):
                threading.Thread(target=self._kill, daemon=True).start()
            try:
                return inner(*args, **kwargs)
            finally:
                os.write(self.log, b")")
                self.times.append((window, time.perf_counter() - started))

        setattr(owner, attribute, staticmethod(wrapped) if attribute == "create" else wrapped)

    def _kill(self) -> None:
        time.sleep(self.delay)
        os.kill(os.getpid(), signal.SIGKILL)


def _run(scenario: Scenario, folder: Path, log: int, window: str, nth: int, delay: float) -> list[tuple[str, float]]:
    windows = _Windows(log, window, nth, delay)
    started = time.perf_counter()
    said = command(*scenario.args(folder))
    assert said.code == 0, said
    return [*windows.times, ("anywhere", time.perf_counter() - started)]


class Kills:
    """Trials on one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.folder = world.root / "trial"
        self.times: dict[str, list[tuple[str, float]]] = {}

    def _times(self, scenario: Scenario) -> list[tuple[str, float]]:
        if scenario.name not in self.times:
            null = os.open(os.devnull, os.O_WRONLY)
            self.times[scenario.name] = call(_run, scenario, scenario.start(self.folder), null, "", 0, 0.0).get()
            os.close(null)
        return self.times[scenario.name]

    def trial(self, window: str, tally: Tally) -> None:
        """One kill and what comes after it."""
        scenario = self.world.scenarios[self.rng.choice(SCENARIOS[window])]
        expected = scenario.undisturbed()
        durations = [seconds for name, seconds in self._times(scenario) if name == window]
        (nth,) = self.rng.choices(range(len(durations)), durations)  # every moment is as likely
        delay = self.rng.random() * durations[nth]
        inside = self._kill(scenario, window, nth, delay)
        if inside is None:
            return  # it was done before the signal came
        tally.trials += 1
        tally.inside += inside
        what = f"{scenario.name}, killed in {window} {nth} after {delay:.4f} s"
        seen = call(scenario.seen_by_readers, self.folder)
        if seen.value not in (scenario.before, (expected["index"]["index_id"], expected["index"]["rows"])):
            tally.silent += 1
            tally.failures.append(f"{what}: readers see {seen}")
        ended = call(scenario.rerun, self.folder)
        if ended.error or ended.signal is not None:
            tally.failures.append(f"{what}: {ended.error or f'signal {ended.signal}'}")
            return
        said, state = ended.value
        if scenario.name == "remove" and "holds no" in said.stderr:  # it was gone already, and the command says so
            said, state = None, call(scenario.state, self.folder).get()
        elif said.code != 0:
            tally.failures.append(f"{what}: exit code {said.code}: {said.stderr}")
            return
        judge(state, expected, tally, what)

    def _kill(self, scenario: Scenario, window: str, nth: int, delay: float) -> bool | None:
        """Whether the signal came inside a window; None when it came too late."""
        read, write = os.pipe()
        child = Child(_run, scenario, scenario.start(self.folder), write, window, nth, delay)
        os.close(write)
        if window == "anywhere":
            time.sleep(delay)
            child.kill()
        ended = child.wait()
        log = b""
        while part := os.read(read, 4096):
            log += part
        os.close(read)
        if ended.signal is None:
            assert ended.error is None, ended.error
            return None
        assert ended.signal == signal.SIGKILL, ended
        return log.count(b"(") > log.count(b")")


def judge(state: Any, expected: Any, tally: Tally, what: str) -> None:
    """Compare with the undisturbed run."""
    if state == expected:
        tally.survived += 1
        return
    ids, wanted = state["index"]["ids"], expected["index"]["ids"]
    tally.lost += len(set(wanted) - set(ids))
    parts = [
        f"{part}.{k}" for part in expected for k in expected[part] if state.get(part, {}).get(k) != expected[part][k]
    ]
    tally.silent += not state["index"]["problems"]
    found, wished = ([s.get(p.split(".")[0], {}).get(p.split(".", 1)[1]) for p in parts][:2] for s in (state, expected))
    tally.failures.append(f"{what}: differs in {parts}: {found}, not {wished}")
