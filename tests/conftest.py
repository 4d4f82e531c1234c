"""Every test has its own cache and its own working directory."""

from pathlib import Path

import pytest
from toys import make_gen, make_refs


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICONICITY_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    return make_refs(tmp_path / "refs")


@pytest.fixture
def gen(tmp_path: Path) -> Path:
    return make_gen(tmp_path / "gen" / "m1")
