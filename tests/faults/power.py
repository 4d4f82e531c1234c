"""A power cut: what a command had not forced to disk is lost, in part or whole; then the plain command again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.disk import Moment, Recorder, draw, lay
from faults.forks import call
from faults.kills import Tally, judge
from faults.world import Scenario, World, command

SCENARIOS = ("merge", "build", "rebuild", "add", "remove")
_AGAIN = 0.3  # of the repairs are cut off too
_NOTES = "references.lance/_transactions"


@dataclass(frozen=True)
class _Outcome:
    """What came after a cut: the last attempt's state, None where no way led on."""

    state: Any
    attempt: str
    told: str
    again: bool  # the repair was cut off too


def _record(folder: Path, pool: Path, *args: object) -> list[Moment]:
    """The moments of a command's whole run."""
    recorder = Recorder(folder, pool)
    command(*args)
    return recorder.stop()


def _cut(moments: Sequence[Moment], folder: Path, rng: random.Random) -> str:
    """Leave what a cut at one of these moments may leave. Of fsyncs there are many alike."""
    (at,) = rng.choices(range(len(moments)), [1 if m.step == "fsync" else 5 for m in moments])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lay(*draw(moments[at], rng), folder, rng)
    return f"power cut at step {at} ({moments[at].step})"


def _recover(scenario: Scenario, folder: Path, rng: random.Random) -> _Outcome:
    """The plain command; where it says so ``index repair``, or a new first build, and the plain command again."""
    told, again = "", False
    for attempt in ("plain", "repaired", "rebuilt"):
        if attempt == "repaired":
            if "index repair" not in told:
                break
            repair = ("index", "repair", "--index", folder / "i", "--workers", 0)
            if again := rng.random() < _AGAIN:
                moments = _record(folder, folder.with_suffix(".pool"), *repair)
                _cut(moments, folder, rng) if moments else None
            told += f" repair: {command(*repair)}"
        if attempt == "rebuilt":
            if scenario.index is not None or "delete the folder" not in told:
                break
            shutil.rmtree(folder / "i")
        said, state = scenario.rerun(folder)
        if scenario.name == "remove" and "holds no" in said.stderr:  # it was gone already, and the command says so
            state = scenario.state(folder)
        told += f" {attempt}: {said}"
        if state is not None:
            return _Outcome(state, attempt, told, again)
    return _Outcome(None, "", told, again)


def _recover_all(scenario: Scenario, folders: Sequence[Path], seeds: Sequence[int]) -> list[_Outcome]:
    return [_recover(scenario, f, random.Random(s)) for f, s in zip(folders, seeds, strict=True)]


class PowerCuts:
    """Trials on one world. ``repaired`` and ``rebuilt``: how often more than the plain command was needed; ``again``:
    how often a second power cut came during the repair.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.repaired = self.rebuilt = self.again = 0
        self._moments: dict[str, list[Moment]] = {}

    def trials(self, name: str, n: int, tally: Tally) -> None:
        """n times a moment of a scenario and a loss, each in a folder of its own; one process goes on with all."""
        scenario = self.world.scenarios[name]
        expected = scenario.undisturbed()
        if name not in self._moments:
            folder = scenario.start(self.world.root / "trial")
            pool = self.world.root / "pool" / name
            self._moments[name] = call(_record, folder, pool, *scenario.args(folder)).get()
        cuts = self.world.root / "cuts"
        folders = [cuts / str(i) for i in range(n)]
        whats = [f"{name}, {_cut(self._moments[name], f, self.rng)}" for f in folders]
        ended = call(_recover_all, scenario, folders, [self.rng.randrange(1 << 32) for _ in folders], timeout=60 * n)
        shutil.rmtree(cuts)
        tally.trials += n
        if ended.error or ended.signal is not None:
            tally.failures.append(f"{', '.join(whats)}: {ended}")
            return
        for what, outcome in zip(whats, ended.value, strict=True):
            self.repaired += "repair:" in outcome.told
            self.again += outcome.again
            self.rebuilt += outcome.attempt == "rebuilt"
            if outcome.state is None:
                tally.lost += 1
                tally.failures.append(f"{what}: {outcome.told}")
            else:
                judge(_with_lost_notes(outcome.state, expected), expected, tally, f"{what}{outcome.told}")


def _with_lost_notes(state: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """LanceDB's notes of commits hold no rows: one that was lost is missed by nobody, one too many is."""
    held, wanted = state["index"]["files"].get(_NOTES, 0), expected["index"]["files"][_NOTES]
    files = state["index"]["files"] | ({_NOTES: wanted} if held < wanted else {})
    return {**state, "index": {**state["index"], "files": files}}
