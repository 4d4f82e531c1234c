"""kill -9 of actors, of devices' processes and of drivers at random moments: ``python tests/faults/engines.py --help``.

Each trial builds the same index and compares it with one that nothing disturbed: a killed actor or device must not
stop the build, a killed driver loses at most one commit, and the same command again embeds what is missing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from iconicity.indexer.options import Run

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import DRIVER, children, kill
from faults.kills import Tally
from toys import make_refs, slow_toys_on, toy_encoders

import iconicity.indexer.builder as builder
from iconicity.indexer.build import build_index
from iconicity.indexer.encode.devices import Devices
from iconicity.indexer.encode.engine import Engine
from iconicity.indexer.encode.ray import ActorPool, Cluster, local_cluster
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.verify import verify_index

COMMIT = 8


class Engines:
    """Trials on an index of some hundred images."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)
        self._refs = make_refs(root / "refs", [f"c{i:03d}" for i in range(60)])
        self._expected = build_index(self._refs, root / "expected", toy_encoders())
        builder.COMMIT_IMAGES = COMMIT

    def _same(self, index: Path, tally: Tally, what: str) -> None:
        """The index is the undisturbed one, and no row is there twice."""
        held = open_index(index)
        ids = [i for i, _, _ in held.store.identities()]
        right = held.index_id == self._expected.index_id and len(ids) == len(set(ids)) and not verify_index(index)
        tally.survived += right
        tally.lost += len(set(r[0] for r in open_index(self._root / "expected").store.identities()) - set(ids))
        tally.silent += not right
        if not right:
            tally.failures.append(f"{what}: another index")
        shutil.rmtree(index)

    def worker(self, engine: Engine, name: str, tally: Tally) -> None:
        """A process whose command line has a word is killed once images come back."""
        index, pids = self._root / "i", []
        delay = self._random.random()

        def later() -> None:
            time.sleep(delay)
            pids.extend(children(os.getpid(), name))
            tally.inside += kill([self._random.choice(pids)] if pids else [])

        class Killing:
            def run(self, plan: Any, tasks: Any) -> Any:
                for i, item in enumerate(engine.run(plan, tasks)):
                    if i == 0:
                        threading.Thread(target=later).start()
                    yield item

        tally.trials += 1
        build_index(self._refs, index, toy_encoders(), run=Run(engine=Killing()))
        self._same(index, tally, name)

    def driver(self, tally: Tally) -> None:
        """The driver is killed after a random number of commits."""
        index = self._root / "i"
        command = [sys.executable, "-c", DRIVER, str(self._refs), str(index), str(COMMIT)]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        versions, wanted = index / "references.lance" / "_versions", self._random.randint(2, 20)
        while first.poll() is None and len(list(versions.glob("*.manifest"))) < wanted:
            time.sleep(0.01)
        tally.trials += 1
        tally.inside += first.poll() is None
        first.kill()
        first.wait()
        kept = ReferenceStore.open(index)
        assert kept is not None
        written = kept.count()
        again = build_index(self._refs, index, toy_encoders(), run=Run(engine=None))
        if again.embedded > self._expected.embedded - (wanted - 2) * COMMIT * 3 // 4 or written == 0:
            tally.failures.append(f"driver: {written} rows were written, and {again.embedded} images embedded again")
        self._same(index, tally, "driver")


def main() -> int:
    """Print a table; exit code 1 where anything failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--actors", type=int, default=30)
    parser.add_argument("--devices", type=int, default=30)
    parser.add_argument("--drivers", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets want short paths
    (root / "home").mkdir()
    os.environ |= {k: str(root / "home") for k in ("HOME", "TMPDIR", "RAY_TMPDIR")}
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    tallies = {name: Tally() for name in ("actor", "device", "driver")}
    try:
        trials = Engines(root, args.seed)
        with local_cluster(3):
            for _ in range(args.actors):
                trials.worker(Cluster(slow_toys_on, ActorPool(2, 2)), "ray::MapWorker", tallies["actor"])
        for _ in range(args.devices):
            trials.worker(Devices(["cpu", "cpu"], slow_toys_on), "answering", tallies["device"])
        for _ in range(args.drivers):
            trials.driver(tallies["driver"])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print("| kill -9 of | trials | while it worked | same index | lost rows | other index |\n|---|---|---|---|---|---|")
    for name, t in tallies.items():
        print(f"| {name} | {t.trials} | {t.inside} | {t.survived} | {t.lost} | {t.silent} |")
    failures = [f for t in tallies.values() for f in t.failures]
    print(*failures, sep="\n", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
