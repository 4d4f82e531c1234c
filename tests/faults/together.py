"""Several processes at once: scorers on one index and one cache, a scorer beside a builder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from faults.forks import Child, call
from faults.kills import Tally
from faults.world import World, cache_state, command, results_state
from toys import draw, write

from iconicity.indexer.store.index import open_index


class Together:
    """Trials on one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.root / "trial"

    def _fresh(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        shutil.copytree(self.world.root / "base", self.folder / "i")
        return self.folder

    def scorers(self, n: int, tally: Tally) -> None:
        """n scorers on one index and one new cache, each with a folder of its own, against one alone."""
        folder = self._fresh()
        want = call(_score, self.world, folder / "i", folder / "alone", folder / "c0").get()
        cached = call(cache_state, folder / "c0").get()
        children = [Child(_score, self.world, folder / "i", folder / f"o{i}", folder / "c") for i in range(n)]
        for child in children:
            tally.trials += 1
            got = child.wait()
            if got.value == want:
                tally.survived += 1
            else:
                tally.silent += got.value is not None
                tally.failures.append(f"one of {n} scorers: {got}")
        if call(cache_state, folder / "c").get() != cached:
            tally.lost += 1
            tally.failures.append("the shared cache is not as one alone leaves it")

    def same_results(self, tally: Tally) -> None:
        """Scorers into one folder: one at a time, the others are refused, and nothing is mixed."""
        folder = self._fresh()
        want = call(_score, self.world, folder / "i", folder / "o", folder / "c0").get()
        shutil.rmtree(folder / "o")
        children = [
            Child(command, *self.world.score_args(folder / "i", folder / "o", "all", ["m1", "m2"], folder / "c"))
            for _ in range(3)
        ]
        ended = [child.wait() for child in children]
        tally.trials += 3
        for e in ended:
            said = e.value
            if said is not None and (said.code == 0 or (said.code == 1 and "is writing these results" in said.stderr)):
                tally.survived += 1
            else:
                tally.failures.append(f"scorers into one folder: {e}")
        got = call(_state, folder / "o").get()
        if got != want:
            tally.silent += 1
            tally.failures.append(f"scorers into one folder: {got}")

    def beside_a_builder(self, additions: int, tally: Tally) -> None:
        """Scorers while references are added: each result is that of one finished version, the one it names."""
        folder = self._fresh()
        more = folder / "more"
        wanted: dict[str, Any] = {}
        shutil.copytree(folder / "i", folder / "versions")
        for step in range(additions + 1):
            if step:
                write(more / "alpha" / f"z{step}.png", draw(3000 + step))
                call(_add, more, folder / "versions").get()
            identity = call(_index_id, folder / "versions").get()
            wanted[identity] = call(
                _score, self.world, folder / "versions", folder / f"want{step}", folder / "c0"
            ).get()
        shutil.rmtree(more)
        builder = Child(_add_all, more, folder / "i", additions)
        seen = []
        for round_ in range(100):
            children = [
                Child(_score, self.world, folder / "i", folder / f"o{round_}_{i}", folder / "c") for i in range(2)
            ]
            for child in children:
                tally.trials += 1
                ended = child.wait()
                identity = (ended.value or {}).get("index_id")
                if ended.value is not None and ended.value == wanted.get(str(identity)):
                    tally.survived += 1
                    seen.append(identity)
                else:
                    tally.silent += ended.value is not None
                    tally.failures.append(f"scorer beside a builder: {str(ended)[:2000]}")
            if seen and seen[-1] == list(wanted)[-1]:
                break
        builder.wait().get()
        if len(set(seen)) < 2:
            tally.failures.append(f"the scorers saw {len(set(seen))} versions: nothing happened at once")


def _score(world: World, index: Path, out: Path, cache: Path) -> Any:
    said = command(*world.score_args(index, out, "all", ["m1", "m2"], cache))
    assert said.code == 0, said
    return _state(out)


def _state(out: Path) -> Any:
    """Results without the names of folders; with the version of the index they name."""
    state = results_state(out)
    assert state["problems"] == [], state["problems"]
    for meta in [s for s in state.values() if isinstance(s, dict)]:
        meta["index"].pop("path")
        state["index_id"] = meta["settings"]["index_id"]
    return state


def _index_id(index: Path) -> str:
    return open_index(index).index_id


def _add(more: Path, index: Path) -> None:
    said = command("index", "add", "--refs", more, "--index", index, "--workers", 0)
    assert said.code == 0, said


def _add_all(more: Path, index: Path, additions: int) -> None:
    for step in range(1, additions + 1):
        write(more / "alpha" / f"z{step}.png", draw(3000 + step))
        _add(more, index)
