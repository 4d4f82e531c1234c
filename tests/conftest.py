"""Every test has its own cache and its own working directory."""

from pathlib import Path

import pytest
from toys import Study, make_gen, make_refs, toy_encoders

from iconicity.indexer.build import build_index


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


@pytest.fixture
def study(refs: Path, tmp_path: Path) -> Study:
    """A toy index of ``refs``, and a place to score against it."""
    build_index(refs, tmp_path / "i", toy_encoders())
    return Study(tmp_path / "i", tmp_path)
