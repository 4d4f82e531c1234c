"""What every engine must do: the tests of each one call these."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from toys import draw, make_gen, make_refs, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.encode.engine import Engine, Local, Outcome, Plan, Task
from iconicity.indexer.encode.prepare import Job
from iconicity.indexer.options import Run
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.results import require_results
from iconicity.scorer.scoring import score

# Builds an index with two slow actors, some rows a commit; started, killed and started again by those who test that.
DRIVER = """
import sys
from pathlib import Path
from toys import slow_toys_on, toy_encoders
import iconicity.indexer.builder as builder
from iconicity.indexer.build import build_index
from iconicity.indexer.encode.ray import ActorPool, Cluster
from iconicity.indexer.options import Run
builder.COMMIT_IMAGES = int(sys.argv[3])
report = build_index(Path(sys.argv[1]), Path(sys.argv[2]), toy_encoders(), run=Run(engine=Cluster(slow_toys_on, ActorPool(2, 2))))
print(report.embedded, report.index_id)
"""
CONCEPTS = [f"concept{i:02d}" for i in range(24)]


def plan(**changes: Any) -> Plan:
    encoders = toy_encoders()
    return Plan(encoders.clip.spec, encoders.dino.spec, (2, 2), "shown", **{"dedup_distance": 18, **changes})


def tasks(refs: Path) -> list[Task[str]]:
    """A task for each file; one is no image, one was read before, one is known and needs no job."""
    files = sorted(p for p in refs.rglob("*") if p.is_file())
    found = [Task(p.as_posix(), Job(str(p), phash=True), p.parent.name, f"{p.parent.name}/{p.name}") for p in files]
    known = Outcome(phash="0" * 16).phash
    return [*found, Task("known", None, "other", "other/1", known), Task("same", None, "other", "other/2", known)]


def require_same_as_local(engine: Engine, tmp_path: Path) -> None:
    """Every outcome is bit for bit that of this process."""
    refs = make_refs(tmp_path / "refs", CONCEPTS)
    (refs / CONCEPTS[3] / "01.png").write_bytes(b"no image")
    asked = tasks(refs)
    here = dict(Local(lambda _c, _d: toy_encoders()).run(plan(), asked))
    there = list(engine.run(plan(), asked))
    assert Counter(k for k, _ in there) == Counter(t.key for t in asked)
    reasons = Counter(o.reason for o in here.values())
    assert reasons.pop("not an image of a known format") == 1 and set(reasons) == {None}
    assert sum(o.dup_of is not None for o in here.values()) == len(CONCEPTS) + 1
    for key, outcome in there:
        expected = here[key]
        for name in ("reason", "sha256", "phash", "size", "dup_of", "dup_distance"):
            assert getattr(outcome, name) == getattr(expected, name), (key, name)
        if expected.vectors is None or outcome.vectors is None:
            assert expected.vectors is outcome.vectors
            continue
        for name in ("clip", "patches"):
            np.testing.assert_array_equal(getattr(outcome.vectors, name), getattr(expected.vectors, name))


def require_same_index_and_results(engine: Engine, tmp_path: Path) -> None:
    """The same index, the same results file; a second run embeds nothing; an addition only what is new."""
    refs, gen = make_refs(tmp_path / "refs", CONCEPTS), make_gen(tmp_path / "gen", CONCEPTS)
    (gen / CONCEPTS[0] / "broken.png").write_bytes(b"no image")
    local, other = tmp_path / "local", tmp_path / "other"
    built = build_index(refs, local, toy_encoders())
    again = build_index(refs, other, toy_encoders(), run=Run(engine=engine))
    assert (again.index_id, again.embedded, again.kept) == (built.index_id, built.embedded, built.kept)
    assert build_index(refs, other, toy_encoders(), run=Run(engine=engine)).embedded == 0
    write(refs / "new" / "0.png", draw(990))
    assert add_references(refs, other, run=Run(engine=engine)).embedded == 1
    add_references(refs, local, run=running())
    assert open_index(other).index_id == open_index(local).index_id

    cache = VectorCache(tmp_path / "cache")
    here = score(local, {"m": gen}, tmp_path / "here", run=running())
    there = score(other, {"m": gen}, tmp_path / "there", run=running(engine=engine, cache=cache))
    assert (there.embedded, there.forwards, there.scored) == (here.embedded, here.forwards, here.scored)
    assert [s.reason for s in there.skipped] == [s.reason for s in here.skipped] == ["not an image of a known format"]
    tables = [require_results(tmp_path / o).scores.read_bytes() for o in ("here", "there")]
    assert tables[0] == tables[1]
    once_more = score(other, {"m": gen}, tmp_path / "more", run=running(engine=engine, cache=cache))
    assert once_more.embedded == 0 and once_more.scored == here.scored
    cache.close()


def children(pid: int, name: str) -> list[int]:
    """Processes below one whose command line has a word, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = []
    for child in parents:
        above, seen = child, 0
        while above not in (0, pid) and seen < 50:
            above, seen = parents.get(above, 0), seen + 1
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if above == pid and child != pid and name in line:
            found.append(child)
    return found


def kill(pids: list[int]) -> int:
    """kill -9; how many were there."""
    n = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            n += 1
        except ProcessLookupError:
            continue
    return n
