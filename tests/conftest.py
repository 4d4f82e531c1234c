"""Every test has its own cache and its own working directory."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objects import Storage, serving
from toys import Study, make_gen, make_refs, toy_encoders
from warm import Subprocesses

from iconicity.indexer.build import build_index

# Files that take longest, the longest first: what one process does last should be short.
LONG = (
    "test_readme", "encode/test_ray", "test_golden", "test_faults", "validate/test_run", "report/test_report", "app/test_pages",
    "calibrate/test_calibrate", "test_cli", "test_places", "encode/test_devices",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        path = item.path.with_suffix("").as_posix()
        return next((i for i, name in enumerate(LONG) if path.endswith(f"/{name}")), len(LONG))

    items.sort(key=turn)
    gc.freeze()  # the libraries stay: every collection of garbage would walk through all of them, half a second long


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICONICITY_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def warm_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and devices do not load torch for seconds: they are forks. Not in tests that are marked ``cold``."""
    if request.node.get_closest_marker("cold") is None:
        monkeypatch.setattr("iconicity.indexer.encode.pool.subprocess", Subprocesses)


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    return make_refs(tmp_path / "refs")


@pytest.fixture
def gen(tmp_path: Path) -> Path:
    return make_gen(tmp_path / "gen" / "m1")


@pytest.fixture
def study(refs: Path, tmp_path: Path) -> Study:
    """A toy index of ``refs``, and a place to score against it."""
    build_index(refs, tmp_path / "i", toy_encoders())
    return Study(tmp_path / "i", tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    """An S3 server on loopback, for the tests of a file."""
    with serving() as storage:
        yield storage


@pytest.fixture
def storage(server: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """That server, named by the environment as a user would."""
    server.gate.open()
    monkeypatch.setattr("iconicity.indexer.places._reached", set())
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; a test that asks for it skips where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with api.sync_playwright() as p:
        running = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()
