"""Workers give what this process gives, in order, with one thread each, and end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toys import draw, toy_encoders, write

from iconicity.indexer import pipeline
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.images import sha256_hex
from iconicity.indexer.pipeline import Job, Loaded, Loader, Recipe, default_workers, worker_threads


def recipe() -> Recipe:
    return Recipe.of(toy_encoders(), (2, 2), True)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [write(tmp_path / f"{i}.png", draw(i)) for i in range(5)]
    paths[2].write_bytes(b"no image")
    return paths


def run(loader: Loader, files: list[Path]) -> list[tuple[int, Loaded | None]]:
    jobs = [(i, Job(str(p), phash=True)) for i, p in enumerate(files)]
    with loader:
        return list(loader.map([*jobs[:3], (99, None), *jobs[3:]]))


def test_workers_give_the_same_in_the_same_order(files: list[Path]) -> None:
    here, there = run(Loader(recipe), files), run(Loader(recipe, 2), files)
    assert [k for k, _ in here] == [k for k, _ in there] == [0, 1, 2, 99, 3, 4]
    for (_, a), (_, b) in zip(here, there, strict=True):
        if a is None or b is None:
            assert a is b
            continue
        assert (a.sha256, a.phash, a.reason) == (b.sha256, b.phash, b.reason)
        if a.prepared is None or b.prepared is None:
            assert a.prepared is b.prepared and a.reason == "not an image of a known format"
            continue
        assert a.prepared.clip is not None and b.prepared.clip is not None
        assert a.prepared.patches is not None and b.prepared.patches is not None
        assert torch.equal(a.prepared.clip, b.prepared.clip)
        assert torch.equal(a.prepared.patches, b.prepared.patches) and a.prepared.patches.shape[0] == 4


def test_each_worker_has_one_thread() -> None:
    before = dict(os.environ)
    pool = pipeline._start(recipe(), 2)
    try:
        assert dict(os.environ) == before
        assert {pool.submit(worker_threads).result() for _ in range(8)} == {(1, 1, 1, 1)}
        assert len(pool._processes) == 2
    finally:
        pool.shutdown()


def test_bytes_that_change_are_told(files: list[Path]) -> None:
    assert Loader(recipe).load(Job(str(files[0]), sha256_hex(files[0].read_bytes()))).reason is None
    assert Loader(recipe).load(Job(str(files[0]), "0" * 64)).reason == "changed while it was read"


def test_jobs_run_a_bounded_number_ahead(files: list[Path]) -> None:
    taken = 0

    def jobs() -> Iterator[tuple[int, Job | None]]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i, Job(str(files[0]))

    with Loader(recipe, 1) as loader:
        next(loader.map(jobs()))
        assert taken <= 4


def test_a_worker_that_is_killed_is_an_error(files: list[Path]) -> None:
    with Loader(recipe, 1) as loader:
        stream = loader.map((i, Job(str(files[0]))) for i in range(100))
        next(stream)
        assert loader._pool is not None
        for pid in list(loader._pool._processes):
            os.kill(pid, 9)
        with pytest.raises(IconicityError, match="--workers 0"):
            list(stream)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import os\nfrom toys import toy_encoders\nfrom iconicity.indexer import pipeline\n"
        "if __name__ == '__main__':\n"
        "    pool = pipeline._start(pipeline.Recipe.of(toy_encoders(), (2, 2), True), 1)\n"
        "    pool.submit(pipeline.worker_threads).result()\n"
        "    print(*pool._processes, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.1)
    assert not alive(pid)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def test_few_images_are_not_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, images, workers in ((1, 10_000, 1), (8, 3, 0), (8, 10_000, 4), (64, 10_000, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)), raising=False)
        assert default_workers(images) == workers
