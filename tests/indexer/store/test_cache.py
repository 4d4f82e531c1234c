"""The cache: by content, tested on every read, shared by processes."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from iconicity.indexer.errors import IconicityError
from iconicity.indexer.store.cache import VectorCache, default_directory, stat_text

V = np.arange(6, dtype=np.float32)


def test_what_was_put_is_there_for_this_key_alone(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put([("a", "k", V), ("b", "k", V + 1)])
    again = VectorCache(tmp_path)
    found = again.get(["a", "b", "c"], "k", 6)
    assert sorted(found) == ["a", "b"]
    np.testing.assert_array_equal(found["b"], V + 1)
    assert again.get(["a"], "other", 6) == {}


def test_a_damaged_row_counts_as_absent(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put([("a", "k", V)])
    with sqlite3.connect(cache.path) as db:
        db.execute("UPDATE vectors SET data = ?", [(V + 1).tobytes()])
    assert cache.get(["a"], "k", 6) == {} and cache.damaged == 1


def test_damaged_rows_of_any_kind_are_found_and_not_used(tmp_path: Path) -> None:
    cache, path = VectorCache(tmp_path / "c"), tmp_path / "f.png"
    path.write_bytes(b"one")
    cache.remember_file(path, stat_text(path), "sha")
    cache.put([("a", "k", V), ("b", "k", V)])
    assert cache.problems() == [] and cache.known_sha256(path, stat_text(path)) == "sha"
    with sqlite3.connect(cache.path) as db:
        db.execute("UPDATE known_files SET sha256 = 'shb'")
        db.execute("UPDATE vectors SET data = 'text' WHERE sha256 = 'a'")
        db.execute("UPDATE vectors SET data = 7 WHERE sha256 = 'b'")
    assert cache.known_sha256(path, stat_text(path)) is None and cache.get(["a", "b"], "k", V.size) == {}
    assert len(cache.problems()) == 3 and all(str(cache.path) in p for p in cache.problems())


def test_files_are_known_until_anything_about_them_changes(tmp_path: Path) -> None:
    cache, path = VectorCache(tmp_path / "c"), tmp_path / "f.png"
    path.write_bytes(b"one")
    assert cache.known_sha256(path, stat_text(path)) is None
    cache.remember_file(path, stat_text(path), "sha")
    cache.put([])
    assert cache.known_sha256(path, stat_text(path)) == "sha"
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size and mtime: ctime still tells
    assert cache.known_sha256(path, stat_text(path)) is None
    path.unlink()
    assert cache.known_sha256(path, stat_text(path)) is None and stat_text(path) == ""


def test_an_unusable_cache_names_the_ways_on(tmp_path: Path) -> None:
    (tmp_path / "vectors.sqlite3").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(IconicityError, match="work without one"):
        VectorCache(tmp_path)


def test_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICONICITY_CACHE", "/somewhere")
    assert default_directory() == Path("/somewhere")
    monkeypatch.delenv("ICONICITY_CACHE")
    assert default_directory().name == "iconicity"
