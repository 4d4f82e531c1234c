"""All fault trials, with a table of what came of them: ``python tests/faults/run.py --help``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.flips import KINDS, Flips, FlipTrials
from faults.forks import call
from faults.kills import WINDOWS, Kills, Tally
from faults.others import Others, can_mount
from faults.power import SCENARIOS, PowerCuts
from faults.soak import soak
from faults.together import Together
from faults.world import World


def table(head: list[str], rows: list[list[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *([str(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


class Run:
    """Trials until each kind has enough, within the time there is."""

    def __init__(self, args: argparse.Namespace, root: Path) -> None:
        self.args = args
        self.root = root
        self.world = World(root)
        self.deadline = time.monotonic() + args.minutes * 60
        self.failures: list[str] = []
        self.rows: list[list[object]] = []

    def repeat(self, what: str, n: int, trial: Callable[[Tally], object], inside: bool = False) -> Tally:
        """Until n trials (with ``inside``: kills inside a window) are made; some find nothing to do."""
        tally, started = Tally(), time.monotonic()
        for _ in range(20 * n):
            if (tally.inside if inside else tally.trials) >= n:
                break
            if time.monotonic() > self.deadline:
                break
            trial(tally)
        if tally.trials < n:
            tally.failures.append(f"only {tally.trials} of {n} trials came about")
        self._add(what, tally, time.monotonic() - started)
        return tally

    def once(self, what: str, trial: Callable[[Tally], object]) -> None:
        """A trial that makes several."""
        tally, started = Tally(), time.monotonic()
        trial(tally)
        self._add(what, tally, time.monotonic() - started)

    def _add(self, what: str, tally: Tally, seconds: float) -> None:
        self.rows.append([what, tally.trials, tally.inside or "", tally.survived, tally.lost, tally.silent])
        self._say(what, tally.failures)
        print(f"{what}: {tally.trials} trials, {tally.survived} survived, {seconds:.0f} s", file=sys.stderr, flush=True)

    def _say(self, what: str, failures: list[str]) -> None:
        self.failures += failures
        for failure in failures:
            print(f"FAILED {what}: {failure}", file=sys.stderr, flush=True)

    def _table(self) -> str:
        rows, self.rows = self.rows, []
        return table(["fault", "trials", "inside a window", "survived", "lost rows", "silent damage"], rows)

    def kills(self) -> str:
        """kill -9."""
        a = self.args
        kills = Kills(self.world, a.seed)
        for window in WINDOWS:
            self.repeat(f"kill -9 in {window}", a.kills, partial(kills.trial, window), inside=True)
        self.repeat("kill -9 anywhere", a.kills, partial(kills.trial, "anywhere"))
        return self._table()

    def cuts(self) -> str:
        """Power cuts."""
        a = self.args
        cuts = PowerCuts(self.world, a.seed)
        for name in SCENARIOS:
            self.repeat(f"power cut in {name}", a.cuts, partial(cuts.trials, name, min(10, a.cuts)))
        return self._table() + (
            f"\n{cuts.repaired} needed 'index repair', of which {cuts.again} were cut off too; "
            f"{cuts.rebuilt} first builds were made anew.\n"
        )

    def others(self) -> str:
        """Signals, full disks, rights, other places, clocks, several processes."""
        a = self.args
        others = Others(self.world, a.seed)
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.repeat(signum.name, a.others, partial(others.stop, signum))
        if can_mount(self.root):
            self.repeat("disk full", a.others, others.full_disk)
        else:
            print("disk full: skipped, no file system can be mounted here", file=sys.stderr)
        self.once("read-only, no rights", others.without_rights)
        self.once("index moved or copied", others.moved_and_copied)
        self.once("index deleted under a reader", others.deleted_under_a_reader)
        if not a.fast:
            self.once("clock moved back", others.clock_back)
        self.once("two builders at once", others.two_builders)
        together = Together(self.world)
        self.once("4 scorers, one index and cache", partial(together.scorers, 4))
        self.once("scorers into one folder", together.same_results)
        self.once("scorers beside a builder", partial(together.beside_a_builder, a.additions))
        return self._table() + f"\nSlowest stop after a signal: {others.slowest_stop:.2f} s.\n"

    def flips(self) -> str:
        """The table of flipped bytes."""
        trials = FlipTrials(self.world, self.args.seed)
        rows: list[list[object]] = []
        for kind in KINDS:
            tally = Flips()
            for _ in range(self.args.flips):
                if time.monotonic() > self.deadline:
                    self.failures.append(f"{kind}: out of time after {tally.trials} flips")
                    break
                trials.trial(kind, tally)
            rows.append([kind, tally.trials, tally.detected, tally.harmless, tally.refused, tally.silent])
            self._say(kind, tally.failures)
            print(f"flips in {kind}: {tally.trials}", file=sys.stderr, flush=True)
        return table(["flipped byte in", "trials", "detected", "harmless", "scoring refused", "silent damage"], rows)


PARTS = ["kills", "cuts", "others", "flips"]


def trials(args: argparse.Namespace, root: Path) -> list[str]:
    """Print the table of each part; what failed."""
    run = Run(args, root)
    for part in args.part:
        print(getattr(run, part)(), flush=True)
    return run.failures


def main() -> int:
    """Print the tables; exit code 1 where anything failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="kills inside each kind of window")
    parser.add_argument("--cuts", type=int, default=30, help="power cuts in each command")
    parser.add_argument("--flips", type=int, default=130, help="flipped bytes of each kind")
    parser.add_argument("--others", type=int, default=20, help="signals, full disks")
    parser.add_argument("--additions", type=int, default=6, help="additions beside scorers")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long, as a failure")
    parser.add_argument("--soak", type=float, help="then so many seconds of use; --part without a name: these alone")
    parser.add_argument("--part", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--fast", action="store_true", help="leave out the clock, which needs a process of its own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="iconicity-faults-"))
    try:
        failures = trials(args, root) if args.part else []
        if args.soak is not None:
            facts = call(soak, root / "soak", args.soak, args.seed, timeout=args.soak + 600).get()
            print(table(list(facts), [list(facts.values())]), end="")
            if facts["memory_last"] > 1.2 * facts["memory_first"] or facts["bytes_to_need"] > 3:
                failures.append("soak: more memory, or more disk, than is needed")
        print(f"{len(failures)} failures", file=sys.stderr)
        return int(bool(failures))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
