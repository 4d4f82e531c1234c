"""Workers give what this process gives, in order, with one thread each, and end with it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from toys import draw, toy_encoders, write

from iconicity.indexer.encode import decoder, pool, prepare
from iconicity.indexer.encode.prepare import Job, Loaded, Loader, Recipe, default_workers
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.sources.folders import sha256_hex


def recipe() -> Recipe:
    return Recipe.of(toy_encoders(), (2, 2), "shown")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [write(tmp_path / f"{i}.png", draw(i)) for i in range(5)]
    paths[2].write_bytes(b"no image")
    return paths


def run(loader: Loader, files: list[Path]) -> list[tuple[int, Loaded | None]]:
    jobs = [(i, Job(str(p), phash=True)) for i, p in enumerate(files)]
    with closing(loader):
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


def test_prepared_images_travel_without_shared_memory(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a tensor goes through /dev/shm, which holds 64 MB in a container")

    monkeypatch.setattr("torch.multiprocessing.reductions.storage_from_cache", refuse)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", refuse)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    with closing(Loader(recipe)) as loader:
        sent = loader.load(Job(str(files[0])))
    received = pickle.loads(pickle.dumps(sent))
    assert isinstance(received, Loaded) and sent.prepared is not None and received.prepared is not None
    assert received.prepared.size == sent.prepared.size
    for name in ("clip", "patches"):
        assert torch.equal(getattr(received.prepared, name), getattr(sent.prepared, name)), name


class Threads:
    """A preprocessing that says how many threads its process has: torch's, then what the environment grants."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        granted = (float(os.environ.get(name, 0)) for name in pool.THREAD_VARIABLES)
        return torch.tensor([float(torch.get_num_threads()), *granted])


@pytest.mark.cold
def test_each_worker_has_one_thread(files: list[Path]) -> None:
    before = dict(os.environ)
    with closing(Loader(lambda: Recipe(Threads(), Threads(), 1, 1, False, "shown"), 2)) as loader:
        for _, found in loader.map((i, Job(str(files[0]))) for i in range(4)):
            assert found is not None and found.prepared is not None and found.prepared.clip is not None
            assert found.prepared.clip.tolist() == [1, 1, 1, 1]
    assert dict(os.environ) == before


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

    with closing(Loader(recipe, 1)) as loader:
        next(loader.map(jobs()))
        assert taken <= 4


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(files: list[Path]) -> None:
    with closing(Loader(recipe, 1)) as loader:
        stream = loader.map((i, Job(str(files[0]))) for i in range(20))
        first = next(stream)[1]
        assert loader._pool is not None and first is not None
        os.kill(loader._pool.workers[0].process.pid or 0, signal.SIGKILL)
        assert [(k, found.reason, found.sha256) for k, found in stream if found is not None] == [
            (i, None, first.sha256) for i in range(1, 20)
        ]


@pytest.mark.parametrize("with_workers", [0, 1])
def test_a_file_that_crashes_the_library_is_named_and_the_others_are_whole(
    files: list[Path], with_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process gets the signal a crash would send, while it works on one file."""
    files[2].write_bytes(files[0].read_bytes())
    asked: list[str] = []

    def while_asked(process: Callable[[], int | None], ask: Callable[..., Any]) -> Callable[..., Any]:
        def crash(self: Any, request: Any) -> Any:
            asked.append(str(request)[:200])
            if len(asked) == 4:  # the third file, after the first was decoded once before
                os.kill(process() or 0, signal.SIGSTOP)
                threading.Timer(0.1, lambda: os.kill(process() or 0, signal.SIGSEGV)).start()
                threading.Timer(0.2, lambda: os.kill(process() or 0, signal.SIGCONT)).start()
            return ask(self, request)

        return crash

    with closing(Loader(recipe, with_workers)) as loader:
        next(loader.map([(0, Job(str(files[0])))]))
        if with_workers:
            assert loader._pool is not None
        process = loader._pool.workers[0].process if loader._pool is not None else decoder.shared().process
        pid = process.pid
        monkeypatch.setattr(pool.Process, "_ask", while_asked(lambda: pid, pool.Process._ask))
        found = [f for _, f in loader.map((i, Job(str(p))) for i, p in enumerate(files)) if f is not None]
    crashed = [i for i, f in enumerate(found) if f.reason is not None]
    assert [found[i].reason for i in crashed] == ["decoding it crashes the image library (SIGSEGV)"]
    alone = [Loader(recipe).load(Job(str(p))) for p in files]
    assert [f.sha256 for i, f in enumerate(found) if i not in crashed] == [
        f.sha256 for i, f in enumerate(alone) if i not in crashed
    ]


def test_a_worker_that_cannot_start_is_an_error_that_says_so(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "ANSWERING", "os:abort")  # takes no arguments: the process ends at once
    with closing(Loader(recipe, 1)) as loader, pytest.raises(IconicityError, match="cannot be started"):
        list(loader.map([(0, Job(str(files[0])))]))


class Broken:
    """A preprocessing that fails as a lost connection would."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        raise ConnectionResetError("a bug, not a lost process")


def test_a_bug_in_a_worker_is_raised_here(files: list[Path]) -> None:
    broken = Recipe(Broken(), Broken(), 2, 2, False, "shown")
    with closing(Loader(lambda: broken, 1)) as loader, pytest.raises(ConnectionResetError, match="a bug"):
        list(loader.map([(0, Job(str(files[0])))]))


def test_a_stop_does_not_wait_for_an_image(tmp_path: Path) -> None:
    slow = write(tmp_path / "slow.png", Image.new("L", (12000, 12000)))
    started = threading.Event()
    loader = Loader(recipe)
    decode = decoder.shared().decode

    def seen(*args: Any) -> Any:
        started.set()
        return decode(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder.shared(), "decode", seen)
        loader._submit(Job(str(slow)))
    assert started.wait(60)
    while not decoder.shared().process.busy:
        time.sleep(0.001)
    loader.close()
    assert decoder.shared().pid is None  # given up, not waited for


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import os\nfrom toys import toy_encoders\nfrom iconicity.indexer.encode.decoder import shared\n"
        "from iconicity.indexer.encode.prepare import Job, Recipe, Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(Recipe.of(toy_encoders(), (2, 2), 'shown'))\n"
        "    worker.load(Job('none'))\n"
        "    shared().process._start()\n"
        "    print(worker.process.pid, shared().pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    pids = [int(pid) for pid in done.stdout.split()]
    for _ in range(100):
        if not any(map(alive, pids)):
            break
        time.sleep(0.1)
    assert len(pids) == 2 and not any(map(alive, pids))


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def test_few_images_are_not_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, images, expected in ((1, 10_000, 1), (8, 3, 0), (8, 10_000, 4), (64, 10_000, 8)):
        monkeypatch.setattr("iconicity.indexer.encode.prepare.cores", lambda cores=cores: cores)
        assert default_workers(images) == expected
