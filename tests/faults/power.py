"""A power cut: what a command had not forced to disk is lost, in part or whole; then the plain command again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from faults.disk import Moment, Recorder, draw, lay
from faults.forks import Ended, call
from faults.kills import Tally, judge
from faults.world import Said, World, command

SCENARIOS = ("merge", "build", "rebuild", "add", "remove")
_AGAIN = 0.3  # of the repairs are cut off too
_NOTES = "references.lance/_transactions"


def _record(folder: Path, pool: Path, *args: object) -> list[Moment]:
    """The moments of a command's whole run."""
    shutil.rmtree(pool, ignore_errors=True)
    recorder = Recorder(folder, pool)
    command(*args)
    return recorder.moments


class PowerCuts:
    """Trials on one world. ``repaired`` and ``rebuilt``: how often more than the plain command was needed; ``again``:
    how often a second power cut came during the repair.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.folder = world.root / "trial"
        self.repaired = self.rebuilt = self.again = 0
        self._moments: dict[str, list[Moment]] = {}

    def trial(self, name: str, tally: Tally) -> None:
        """A moment of a scenario, a loss, the plain command; ``index repair`` where the command asks for it."""
        scenario = self.world.scenarios[name]
        expected = scenario.undisturbed()
        folder = scenario.start(self.folder)
        if name not in self._moments:
            self._moments[name] = self._record(name, *scenario.args(folder))
        what = f"{name}, {self._cut(self._moments[name])}"
        tally.trials += 1
        said, told = Said(0, "", ""), ""
        for attempt in ("plain", "repaired", "rebuilt"):
            if attempt == "repaired":
                if "index repair" not in said.stderr:
                    break
                ended = self._repair()
                told = str(ended)
                if ended.error or ended.signal is not None:
                    break
            if attempt == "rebuilt":
                if scenario.index is not None or "delete the folder" not in said.stderr + told:
                    break
                self.rebuilt += 1
                shutil.rmtree(self.folder / "i")
            again = call(scenario.rerun, self.folder)
            if again.error or again.signal is not None:
                told = f"{again} {told}"
                break
            said, state = again.value
            if name == "remove" and "holds no" in said.stderr:  # it was gone already, and the command says so
                state = call(scenario.state, self.folder).get()
            elif said.code != 0:
                continue
            judge(_with_lost_notes(state, expected), expected, tally, f"{what}, {attempt} {told}")
            return
        tally.lost += 1
        tally.failures.append(f"{what}: {said.stderr} {told}")

    def _record(self, name: str, *args: object) -> list[Moment]:
        moments: list[Moment] = call(_record, self.folder, self.world.root / "pool" / name, *args).get()
        return moments

    def _cut(self, moments: list[Moment]) -> str:
        """Leave what a cut at one of these moments may leave. Of fsyncs there are many alike."""
        (at,) = self.rng.choices(range(len(moments)), [1 if m.step == "fsync" else 5 for m in moments])
        shutil.rmtree(self.folder / "i", ignore_errors=True)
        lay(*draw(moments[at], self.rng), self.folder, self.rng)
        return f"power cut at step {at} ({moments[at].step})"

    def _repair(self) -> Ended:
        """``index repair``, in some trials cut off itself and run again."""
        args = ("index", "repair", "--index", self.folder / "i", "--workers", 0)
        self.repaired += 1
        if self.rng.random() < _AGAIN and (moments := self._record("repair", *args)):
            self.again += 1
            self._cut(moments)
        return call(command, *args)


def _with_lost_notes(state: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """LanceDB's notes of commits hold no rows: one that was lost is missed by nobody, one too many is."""
    held, wanted = state["index"]["files"].get(_NOTES, 0), expected["index"]["files"][_NOTES]
    files = state["index"]["files"] | ({_NOTES: wanted} if held < wanted else {})
    return {**state, "index": {**state["index"], "files": files}}
