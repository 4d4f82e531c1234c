"""Ray on this machine: the same outcomes with any number of actors, also when actors or the driver are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import CONCEPTS, DRIVER, children, kill, plan, require_same_as_local, require_same_index_and_results, tasks
from run import run
from toys import make_gen, make_refs, running, slow_toys_on, toy_encoders, toys_on

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.engine import Outcome, Plan, Runner, Task
from iconicity.indexer.encode.prepare import Job
from iconicity.indexer.encode.ray import ActorPool, Cluster, _require_reachable, local_cluster
from iconicity.indexer.errors import IndexFormatError, InputError, ModelUnavailableError
from iconicity.indexer.shards import Shard
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.shards import ClipQueries, Opening, Queries
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.scoring import score


def no_weights(plan: Plan, device: str) -> Runner:
    def load(clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
        raise ModelUnavailableError("no weights there")

    return Runner(plan, load)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray writes below these two."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'iconicity[ray]'")
    home = Path(f"/tmp/iconicity-ray-{os.getpid()}")  # sockets want short paths
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(home))
        patch.setenv("RAY_TMPDIR", str(home))
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        yield home
    subprocess.run(["rm", "-rf", str(home)], check=True)


@pytest.fixture(scope="module")
def ray(home: Path) -> Iterator[None]:
    """A cluster of this machine that has room for four actors."""
    with local_cluster(5):
        yield


@pytest.mark.parametrize("actors", [1, 3])
def test_outcomes_are_those_of_this_process(ray: None, actors: int, tmp_path: Path) -> None:
    require_same_as_local(Cluster(toys_on, ActorPool(actors, actors)), tmp_path)


def test_index_and_results_are_those_of_this_process(ray: None, tmp_path: Path) -> None:
    require_same_index_and_results(Cluster(toys_on, ActorPool(2, 2)), tmp_path)


def test_shards_live_in_actors(ray: None, tmp_path: Path) -> None:
    """Scope all gives what one universe gives, also when an actor dies in between; errors are those of this process."""
    refs, gen = make_refs(tmp_path / "refs", CONCEPTS), make_gen(tmp_path / "gen", CONCEPTS[:6])
    build_index(refs, tmp_path / "i", toy_encoders())
    score(tmp_path / "i", {"m": gen}, tmp_path / "one", ScoreOptions(scope="all"), run=running())
    cluster, cache = Cluster(toys_on, ActorPool()), VectorCache(tmp_path / "cache")
    score(
        tmp_path / "i",
        {"m": gen},
        tmp_path / "two",
        ScoreOptions(scope="all"),
        run=running(search_shards=2, engine=cluster, cache=cache),
    )
    cache.close()
    assert (tmp_path / "two" / "scores_dynamic.parquet").read_bytes() == (
        tmp_path / "one" / "scores_dynamic.parquet"
    ).read_bytes()

    index = open_index(tmp_path / "i")
    whole = Opening(index.path, index.index_id, None, "dynamic", 0.6, None, "cpu")
    served = cluster.serve([replace(whole, shard=Shard(i, 2)) for i in (1, 2)])
    rows = index.block(CONCEPTS[:3])
    asked = Queries(
        ClipQueries(rows.clip, tuple(r.concept for r in rows.references), np.ones(len(rows.clip), np.float32))
    )
    before = [a.clip.best for a in served.ask(asked)]
    assert kill(children(os.getpid(), "ray::_Servant")[:1]) == 1
    after = [a.clip.best for a in served.ask(asked)]
    np.testing.assert_array_equal(before, after)
    served.close()
    with pytest.raises(IndexFormatError, match="was built again meanwhile"):
        cluster.serve([replace(whole, index_id="0" * 64, shard=Shard(1, 2))])


def test_a_killed_actor_loses_nothing(ray: None, tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path / "refs", [f"c{i}" for i in range(80)]))
    found: list[tuple[str, Outcome]] = []
    killed = 0
    for item in Cluster(slow_toys_on, ActorPool(2, 2)).run(plan(), asked):
        if not found:
            killed = kill(children(os.getpid(), "ray::MapWorker")[:1])
        found.append(item)
    assert killed == 1
    assert sorted(k for k, _ in found) == sorted(t.key for t in asked)
    assert all(o.reason is None for _, o in found)


def test_the_simulation_makes_an_index(ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cluster that is there instead of its own."""
    from contextlib import nullcontext

    from bench import cluster

    monkeypatch.setattr(cluster, "local_cluster", lambda _cpus: nullcontext())
    figures = {f.name: f.median for f in cluster.bench_cluster(300, [2], 0.0005)}
    assert figures["2 actors: images embedded"] > 0 and figures["2 actors: against 2"] == 1.0


def test_errors_of_an_actor_are_those_of_this_process(ray: None, tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path / "refs", ["a"]))
    with pytest.raises(ModelUnavailableError, match="no weights there"):
        list(Cluster(no_weights, ActorPool(1, 1)).run(plan(), asked))


def test_a_killed_driver_keeps_what_is_written(home: Path, tmp_path: Path) -> None:
    """And no actor outlives it."""
    refs = make_refs(tmp_path / "refs", [f"c{i:03d}" for i in range(60)])
    expected = build_index(refs, tmp_path / "expected", toy_encoders())
    command = [sys.executable, "-c", DRIVER, str(refs), str(tmp_path / "i"), "4"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    versions = tmp_path / "i" / "references.lance" / "_versions"
    deadline = time.monotonic() + 240
    while len(list(versions.glob("*.manifest"))) < 3 and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.05)
    assert driver.poll() is None
    of_ray = children(driver.pid, "raylet") + children(
        driver.pid, "MapWorker"
    )  # two agents of Ray's end a minute later
    time.sleep(random.Random(0).random())
    driver.kill()
    driver.wait()
    assert of_ray
    while any(_alive(pid) for pid in of_ray) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in of_ray)
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    embedded, index_id = again.stdout.split()
    assert 0 < int(embedded) < expected.embedded
    assert index_id == expected.index_id == open_index(tmp_path / "i").index_id


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"`engine` ray needs Ray: pip install 'iconicity\[ray\]'"):
        list(Cluster(toys_on, ActorPool()).run(plan(), [Task(1, Job("x"))]))
    said = run("index", "build", "--refs", make_refs(tmp_path / "refs", ["a"]), "--index", tmp_path / "i",
               "--encoders", "offline", "--engine", "ray", code=1)  # fmt: skip
    assert "pip install 'iconicity[ray]'" in said.stderr


def test_no_cluster_at_an_address(home: Path) -> None:
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        with pytest.raises(InputError, match=r"no Ray cluster at .*127.0.0.1:9 \(Connection refused\); name one with"):
            _require_reachable(address)
    _require_reachable("auto")
