"""An index on object storage: kill -9 of its builder at random moments, and what work there takes beside a disk.

``python tests/faults/objects.py --kills 50``; ``--times 500`` measures builds of so many toy images. The server is
moto's, in a process of its own on loopback.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from toys import running

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from objects import BUCKET, build_there, serving
from toys import draw, make_gen, make_refs, toy_encoders, write

import iconicity.indexer.builder as builder
from iconicity.indexer.build import build_index
from iconicity.indexer.places import Place, place
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.verify import verify_index
from iconicity.scorer.scoring import score
from iconicity.scorer.staging import Staged

_SPAWN = get_context("spawn")


def _serve(connection: Connection) -> None:
    with serving() as storage:
        connection.send({**storage.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{storage.gate.behind}"})
        connection.recv()


def _rows(index: Place) -> list[tuple[str, str]]:
    """ref_id and checksum of every row: of its vectors' bytes too."""
    return [(i[0], i[2]) for i in open_index(index).store.identities()]


def kills(root: Path, trials: int, seed: int) -> int:
    """Kill builders; the plain build that follows must give the index of a disk. Returns the number of failures."""
    rng = random.Random(seed)
    refs = make_refs(root / "refs", [f"c{i}" for i in range(8)])
    local = build_index(refs, root / "i", toy_encoders())
    wanted = _rows(root / "i")
    child = _building(refs, f"s3://{BUCKET}/whole")
    started = time.monotonic()
    child.join()
    seconds = time.monotonic() - started
    killed = resumed = failures = 0
    while killed < trials:
        url = f"s3://{BUCKET}/trial {rng.random()}"
        child = _building(refs, url)
        time.sleep(rng.random() * seconds)
        child.kill()
        child.join()
        killed += child.exitcode == -9
        report = build_index(refs, place(url), toy_encoders())
        resumed += 0 < report.embedded < local.embedded
        right = _rows(place(url)) == wanted and report.index_id == local.index_id and not verify_index(place(url))
        failures += not right
    print(f"{killed} builders killed, {resumed} left a part of their rows, {failures} failures")
    return failures


def _building(refs: Path, url: str) -> BaseProcess:
    """A process that has loaded what it needs, and begins to build."""
    begin, end = _SPAWN.Pipe()
    child = _SPAWN.Process(target=_say_and_build, args=(refs, url, end))
    child.start()
    begin.recv()
    return child


def _say_and_build(refs: Path, url: str, ready: Connection) -> None:
    import_module("s3fs")
    ready.send(True)
    build_there(refs, url, 4)


def times(root: Path, images: int) -> int:
    """Print what the same work takes on a disk and there."""
    for i in range(images // 10):
        for j in range(10):
            write(root / "refs" / f"c{i:03d}" / f"{j}.png", draw(100 * i + j))
    gen = make_gen(root / "gen", [f"c{i:03d}" for i in range(images // 10)], each=2)
    url = f"s3://{BUCKET}/times {images}"
    remote = place(f"{url}/results")
    assert not isinstance(remote, Path)
    rows: list[tuple[str, float, float]] = []

    def both(what: str, work: Callable[[Any], object]) -> None:
        took: list[float] = []
        for where in (root / "index", place(f"{url}/index")):
            started = time.perf_counter()
            work(where)
            took.append(time.perf_counter() - started)
        rows.append((what, took[0], took[1]))

    build_index(make_refs(root / "warm"), root / "warm.index", toy_encoders())
    build_index(root / "warm", place(f"{url}/warm"), toy_encoders())
    both(f"build, {images} images", lambda i: build_index(root / "refs", i, toy_encoders()))
    both("build again, nothing new", lambda i: build_index(root / "refs", i, toy_encoders()))
    both("open", open_index)
    both("read 16 concepts' vectors", lambda i: open_index(i).block([f"c{k:03d}" for k in range(16)]))
    both("verify", verify_index)
    both(
        f"score {2 * (images // 10)} images",
        lambda i: score(i, {"m": gen}, root / f"o{type(i).__name__}", run=running()),
    )
    held = Staged.claim(remote, root / "cache")
    started = time.perf_counter()
    held.fetch()
    score(root / "index", {"m": gen}, held.folder, run=running())
    scored = time.perf_counter()
    held.put()
    put = time.perf_counter() - scored
    print("| work | disk, s | moto's S3, s |\n| --- | --- | --- |")
    for what, here, there in rows:
        print(f"| {what} | {here:.2f} | {there:.2f} |")
    print(f"| results: put back | | {put:.2f} |")
    builder.REMOTE_COMMIT_IMAGES = builder.COMMIT_IMAGES
    started = time.perf_counter()
    build_index(root / "refs", place(f"{url}/small commits"), toy_encoders())
    print(f"| the same build, a commit each {builder.COMMIT_IMAGES} images | | {time.perf_counter() - started:.2f} |")
    return 0


def main() -> int:
    """Exit code 1 where a trial failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="builders to kill")
    parser.add_argument("--times", type=int, help="only this: measure with so many images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="iconicity-objects-"))
    here, there = _SPAWN.Pipe()
    server = _SPAWN.Process(target=_serve, args=(there,), daemon=True)
    server.start()
    try:
        os.environ.update(here.recv())
        return int(bool(times(root, args.times) if args.times else kills(root, args.kills, args.seed)))
    finally:
        here.send(None)
        server.join(10)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
