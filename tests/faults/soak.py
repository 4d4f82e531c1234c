"""Hours of use in minutes: build, add, remove, score, verify in one process, with random sizes."""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from pathlib import Path
from typing import Any

from faults.world import cache_state, command, index_state, results_state
from toys import draw, make_gen, write

from iconicity.indexer.store.files import LOCKS


def _resident() -> int:
    """Bytes of memory in use now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _done(*args: object) -> None:
    said = command(*args)
    assert said.code == 0, said


def soak(root: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Run for so many seconds. Every check of the index, the results and the disk fails loudly.

    Returns counts, the highest number of files and bytes an index had beside what its rows need, and memory (bytes)
    after the first and the last quarter.
    """
    rng = random.Random(seed)
    index, refs, gen = root / "i", root / "refs", make_gen(root / "gen", ["c0", "c1", "c2"], each=2)
    # a pool of drawn images: drawing is most of the work, and no part of what is tested
    pool = [write(root / "pool" / f"{i:03d}.png", draw(i, (48, 40))) for i in range(160)]
    counts = dict.fromkeys(("steps", "build", "add", "remove", "score", "fresh"), 0)
    memory: list[int] = []
    most_files, most_factor, n = 0, 0.0, 0

    def put(folder: Path, number: int) -> None:
        nonlocal n
        for _ in range(number):
            n += 1
            target = folder / f"c{rng.randrange(6)}" / f"{n:06d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(rng.choice(pool), target)

    put(refs, 20)
    for c in range(3):
        target = refs / f"c{c}" / "000000.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pool[c], target)
    _done("index", "build", "--refs", refs, "--index", index, "--workers", 0)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        counts["steps"] += 1
        files = sorted(refs.rglob("*.png"))
        kind = rng.choice(["build", "add", "remove", "score"])
        counts[kind] += 1
        if kind == "build":
            put(refs, rng.randrange(1, 12))
            for path in rng.sample(files, rng.randrange(min(8, len(files)))):
                if path.name != "000000.png":
                    path.unlink()
            _done("index", "build", "--refs", refs, "--index", index, "--workers", 0, "--prune")
        elif kind == "add":
            put(refs, rng.randrange(1, 12))
            _done("index", "add", "--refs", refs, "--index", index, "--workers", 0)
        elif kind == "remove":
            gone = [p for p in rng.sample(files, min(6, len(files))) if p.name != "000000.png"]
            if not gone:
                continue
            names = [a for p in gone for a in ("--ref", f"{p.parent.name}/{p.name}")]
            _done("index", "remove", "--index", index, *names, "--workers", 0)
            for path in gone:
                path.unlink()
        else:
            out = root / f"o{counts['score'] % 2}"
            _done(
                "score", "--index", index, "--gen", f"m={gen}", "--out", out, "--update", "--scope", "all",
                "--cache", root / "c", "--workers", 0,
            )  # fmt: skip
            assert results_state(out)["problems"] == []
            assert cache_state(root / "c")["n"] == 12
        state = index_state(index)
        assert state["problems"] == [], state["problems"]
        held = [p for p in index.rglob("*") if p.is_file() and p.name not in LOCKS]
        most_files = max(most_files, len(held))
        need = state["counts"]["references"] * 400 + state["counts"]["kept"] * (16 + 16 * 24) * 4 + 20_000
        most_factor = max(most_factor, sum(p.stat().st_size for p in held) / need)
        if counts["steps"] % 10 == 0:
            counts["fresh"] += 1
            fresh = root / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            _done("index", "build", "--refs", refs, "--index", fresh, "--workers", 0)
            other = index_state(fresh)
            assert {k: other[k] for k in ("rows", "index_id", "counts")} == {
                k: state[k] for k in ("rows", "index_id", "counts")
            }
        memory.append(_resident())
        files = sorted(refs.rglob("*.png"))
        if len(files) > 150:
            for path in files[:80]:
                if path.name != "000000.png":
                    path.unlink()
            _done("index", "build", "--refs", refs, "--index", index, "--workers", 0, "--prune")
        shutil.rmtree(root / "c" / "vectors", ignore_errors=True)  # of indexes that are no more
    quarter = max(1, len(memory) // 4)
    return {
        **counts,
        "files": most_files,
        "bytes_to_need": round(most_factor, 2),
        "memory_first": max(memory[:quarter]),
        "memory_last": max(memory[-quarter:]),
        "seconds": round(time.monotonic() - started),
    }
