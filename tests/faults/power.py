"""A power cut: a process is killed, then what it had not forced to disk is lost, in part or whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

from faults.forks import Child, call
from faults.kills import SCENARIOS, Kills, Tally, judge
from faults.world import Said, Scenario, command


def _recorded(scenario: Scenario, folder: Path, log: int, window: str, nth: int, delay: float) -> None:
    """The command, with each fsync and each rename written to a log when it is done; killed as in ``kills``."""
    from faults.kills import _Windows

    fsync, replace = os.fsync, os.replace

    def recorded_fsync(fd: int) -> None:
        fsync(fd)
        os.write(log, f"sync\t{Path(f'/proc/self/fd/{fd}').readlink()}\n".encode())

    def recorded_replace(source: Any, target: Any) -> None:
        replace(source, target)
        os.write(log, f"replace\t{target}\n".encode())

    os.fsync, os.replace = recorded_fsync, recorded_replace  # type: ignore[assignment]
    null = os.open(os.devnull, os.O_WRONLY)
    _Windows(null, window, nth, delay)
    command(*scenario.args(folder))


def lose(folder: Path, start: Path, log: list[list[str]], rng: random.Random) -> int:
    """Damage what was not synced, as a disk may: cut short, blank, or gone; renames and deletions undone. Returns how many."""
    synced = {path for what, path in log if what == "sync"}
    damaged = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in {".lock", ".readers"}):
        old = start / path.relative_to(folder)
        if str(path) in synced or (old.is_file() and old.read_bytes() == path.read_bytes()):
            continue
        last = max((i for i, (what, p) in enumerate(log) if what == "replace" and p == str(path)), default=None)
        if last is not None:  # its bytes were synced under another name: the rename alone may be lost
            if not any(what == "sync" and p == str(path.parent) for what, p in log[last:]) and rng.random() < 0.5:
                path.unlink()
                if old.is_file():
                    shutil.copyfile(old, path)
                damaged += 1
            continue
        how = rng.choice(["cut", "empty", "blank", "gone", "whole"])
        content = path.read_bytes()
        if how == "cut" and content:
            path.write_bytes(content[: rng.randrange(len(content))])
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "blank" and content:
            at = rng.randrange(len(content))
            path.write_bytes(content[:at] + bytes(len(content) - at))
        elif how == "gone":
            path.unlink()
        damaged += how != "whole"
    for old in sorted(p for p in start.rglob("*") if p.is_file()):
        path = folder / old.relative_to(start)
        if not path.exists() and str(path.parent) not in synced and rng.random() < 0.5:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old, path)
            damaged += 1
    return damaged


class PowerCuts(Kills):
    """Trials on one world. ``repaired`` and ``rebuilt``: how often more than the plain command was needed."""

    repaired = 0
    rebuilt = 0

    def trial(self, window: str, tally: Tally) -> None:
        """A kill, a loss, the plain command; ``index repair`` where the command asks for it."""
        scenario = self.world.scenarios[self.rng.choice(SCENARIOS[window])]
        expected = scenario.undisturbed()
        times = [seconds for name, seconds in self._times(scenario) if name == window]
        (nth,) = self.rng.choices(range(len(times)), times)
        start = self.world.root / "start"
        shutil.rmtree(start, ignore_errors=True)
        shutil.copytree(scenario.start(self.folder), start)
        log_path = self.world.root / "log"
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        ended = Child(_recorded, scenario, self.folder, log_fd, window, nth, self.rng.random() * times[nth]).wait()
        os.close(log_fd)
        if ended.signal != signal.SIGKILL:
            assert ended.error is None, ended.error
            return
        log = [line.split("\t", 1) for line in log_path.read_text().splitlines()]
        if not lose(self.folder / "i", start / "i", log, self.rng):
            return
        tally.trials += 1
        tally.inside += 1
        what = f"{scenario.name}, power cut in {window} {nth}"
        said = Said(0, "", "")
        for attempt in ("plain", "repaired", "rebuilt"):
            if attempt == "repaired":
                ended = call(command, "index", "repair", "--index", self.folder / "i", "--workers", 0)
                if ended.error or ended.signal is not None:
                    tally.failures.append(f"{what}: repair: {ended.error or f'signal {ended.signal}'}")
                    return
                self.repaired += 1
            if attempt == "rebuilt":
                if (start / "i").exists() or "delete the folder" not in said.stderr + ended.value.stderr:
                    tally.lost += 1
                    tally.failures.append(f"{what}: {said.stderr} repair: {ended.value}")
                    return
                self.rebuilt += 1
                shutil.rmtree(self.folder / "i")
            again = call(scenario.rerun, self.folder)
            if again.error or again.signal is not None:
                tally.failures.append(f"{what}: {attempt}: {again.error or f'signal {again.signal}'}")
                return
            said, state = again.value
            if scenario.name == "remove" and "holds no" in said.stderr:
                state = call(scenario.state, self.folder).get()
            elif said.code != 0:
                continue
            judge(_without_deletions(state), _without_deletions(expected), tally, f"{what}, {attempt}")
            return


def _without_deletions(state: dict[str, Any]) -> dict[str, Any]:
    """A state that does not count LanceDB's lists of deleted rows: they hold no rows, and a lost one may be left behind."""
    files = {name: n for name, n in state["index"]["files"].items() if not name.endswith("_deletions")}
    return {**state, "index": {**state["index"], "files": files}}
