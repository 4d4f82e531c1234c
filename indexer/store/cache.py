"""Vectors of generated images, kept by content, so that no later question costs a forward pass.

One SQLite file: transactions, crash safety and several processes at once are SQLite's work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from iconicity.indexer.errors import IconicityError
from iconicity.indexer.places import is_url, local
from iconicity.indexer.sources.tar import on_disk
from iconicity.indexer.spec import FloatArray

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
  sha256 TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, checksum BLOB NOT NULL, created REAL NOT NULL,
  PRIMARY KEY (sha256, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known_files (
  path TEXT PRIMARY KEY, stat TEXT NOT NULL, sha256 TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID;
"""
_CHUNK = 500
FACTS = "facts|"  # first part of the key of an image's facts (size, notes), which are stored beside its vectors
_IS_VECTOR = f"key NOT LIKE '{FACTS}%'"


def default_directory() -> Path:
    """``$ICONICITY_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("ICONICITY_CACHE") or platformdirs.user_cache_dir("iconicity"))


class VectorCache:
    """Vectors by (SHA-256 of the image's bytes, key); the key names encoder, grid, patch mode and pixels."""

    def __init__(self, directory: Path | str) -> None:
        """Open or make the cache. Raises :class:`IconicityError` when it cannot be used."""
        directory = local(directory)
        self.directory = directory  # files derived from indexes lie here too, in folders of their own
        self.path = directory / "vectors.sqlite3"
        self._files: list[tuple[str, str, str]] = []
        self._read_only = False
        self.damaged = 0  # rows that did not match their checksum and are computed again
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=120)
            self._db.execute("PRAGMA trusted_schema=OFF")  # a schema from somebody else calls no function
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as e:
            raise self._unusable(e) from e

    @classmethod
    def for_reading(cls, directory: Path) -> VectorCache | None:
        """Open an existing cache without writing to it. None where there is no cache."""
        held = cls.__new__(cls)
        held._read_only = True
        held.directory, held.path, held._files, held.damaged = directory, directory / "vectors.sqlite3", [], 0
        if not held.path.is_file():
            return None
        busy = held.path.with_name(f"{held.path.name}-wal").exists()  # the newest rows are in it
        try:
            uri = f"{held.path.absolute().as_uri()}?mode=ro{'' if busy else '&immutable=1'}"
            held._db = sqlite3.connect(uri, uri=True, timeout=120)
        except sqlite3.Error as e:
            raise held._unusable(e) from e
        return held

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Raise :class:`IconicityError` for an error of SQLite within the block."""
        try:
            yield
        except sqlite3.Error as e:
            raise self._unusable(e) from e

    def _unusable(self, error: Exception) -> IconicityError:
        return IconicityError(
            f"{self.path}: the cache cannot be used ({error}); name another with `cache`, work without one, or delete it if it is damaged"
        )

    def known_sha256(self, path: Path | str, stat: str) -> str | None:
        """SHA-256 of a file whose stat (see :func:`stat_text`) is as it was when it was read; empty: not known."""
        with self._in_use():
            row = self._db.execute(
                "SELECT sha256, checksum FROM known_files WHERE path = ? AND stat = ?", (_key(path), stat)
            ).fetchone()
        return str(row[0]) if row and _matches(row[0], _key(path), stat.encode(), row[1]) else None

    def remember_file(self, path: Path | str, stat: str, sha256: str) -> None:
        """A file just read, its stat taken before; written with the next ``put``, unless the cache is only read."""
        if not self._read_only:
            self._files.append((_key(path), stat, sha256))

    def get(self, sha256s: Sequence[str], key: str, size: int) -> dict[str, FloatArray]:
        """Yield the cached vectors, float32 (size,). A row that fails its checksum counts as absent."""
        found: dict[str, FloatArray] = {}
        for i in range(0, len(sha256s), _CHUNK):
            part = list(sha256s[i : i + _CHUNK])
            marks = ",".join("?" * len(part))
            with self._in_use():
                rows = self._db.execute(
                    f"SELECT sha256, data, checksum FROM vectors WHERE key = ? AND sha256 IN ({marks})", [key, *part]
                ).fetchall()
            for sha, data, checksum in rows:
                if isinstance(data, bytes) and len(data) == 4 * size and _matches(sha, key, data, checksum):
                    found[sha] = np.frombuffer(data, np.float32)
                else:
                    self.damaged += 1
        return found

    def holds(self, sha256: str, key: str) -> bool:
        """Whether vectors are cached. Their checksum is not tested."""
        with self._in_use():
            return bool(
                self._db.execute("SELECT 1 FROM vectors WHERE sha256 = ? AND key = ?", (sha256, key)).fetchone()
            )

    def put(self, rows: Iterable[tuple[str, str, FloatArray]]) -> None:
        """Write (sha256, key, vectors), and the files remembered since the last call, in one transaction."""
        now = time.time()
        values = []
        for sha, key, array in rows:
            data = np.ascontiguousarray(array, np.float32).tobytes()
            values.append((sha, key, data, _checksum(sha, key, data), now))
        files = [(path, stat, sha, _checksum(sha, path, stat.encode())) for path, stat, sha in self._files]
        if not values and not files:
            return
        with self._in_use(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", values)
            self._db.executemany("INSERT OR REPLACE INTO known_files VALUES (?, ?, ?, ?)", files)
        self._files = []

    def info(self) -> dict[str, float]:
        """How many vectors and files are kept, bytes on disk, and the oldest vector's age in days."""
        with self._in_use():
            n, size, oldest = self._db.execute(
                f"SELECT count(*), sum(length(data)), min(created) FROM vectors WHERE {_IS_VECTOR}"
            ).fetchone()
            files = self._db.execute("SELECT count(*) FROM known_files").fetchone()[0]
        derived = sum(p.stat().st_size for p in (self.directory / "vectors").rglob("*") if p.is_file())
        age = 0.0 if oldest is None else (time.time() - oldest) / 86400
        return {"vectors": n, "vector_bytes": size or 0, "files": files, "derived_bytes": derived, "oldest_days": age}

    def clear(self, older_than_days: float = 0.0) -> int:
        """Forget vectors, and derived files of indexes, made at least so many days ago. Returns how many vectors went."""
        limit = time.time() - older_than_days * 86400
        with self._in_use():
            with self._db:
                gone = self._db.execute(f"DELETE FROM vectors WHERE created <= ? AND {_IS_VECTOR}", (limit,)).rowcount
                self._db.execute("DELETE FROM vectors WHERE created <= ?", (limit,))
                self._db.execute("DELETE FROM known_files WHERE sha256 NOT IN (SELECT sha256 FROM vectors)")
            self._db.execute("VACUUM")
        for folder in (self.directory / "vectors").glob("*"):
            if folder.stat().st_mtime <= limit:
                shutil.rmtree(folder, ignore_errors=True)
        return int(gone)

    def problems(self) -> list[str]:
        """List rows that changed since they were written, one line each: SQLite's own test, then every checksum.

        A damaged row is never used: it is computed again.
        """
        found: list[str] = []
        try:
            found += [str(r[0]) for r in self._db.execute("PRAGMA integrity_check").fetchall() if r[0] != "ok"]
            for sha, key, data, checksum in self._db.execute("SELECT sha256, key, data, checksum FROM vectors"):
                if not _matches(sha, key, data, checksum):
                    found.append(f"vectors of {sha}: do not match their checksum")
            for path, stat, sha, checksum in self._db.execute("SELECT path, stat, sha256, checksum FROM known_files"):
                if not _matches(sha, path, str(stat).encode(), checksum):
                    found.append(f"file {path}: does not match its checksum")
        except sqlite3.Error as e:
            found.append(str(e))
        return [f"{self.path}: {line}" for line in found]

    def close(self) -> None:
        self.put([])
        self._db.close()


def stat_text(path: Path | str) -> str:
    """Size, mtime, ctime and inode as one text, for a tar's member the tar's; empty when it cannot be looked at.

    Of an object it is empty too: its listing says what it is, and asking for each would be a request each.
    """
    if is_url(str(path)):
        return ""
    try:
        s = on_disk(Path(path)).stat()
    except OSError:
        return ""
    return f"{s.st_size}/{s.st_mtime_ns}/{s.st_ctime_ns}/{s.st_ino}"


def _key(path: Path | str) -> str:
    return str(path) if is_url(str(path)) else str(Path(path).absolute())


def _matches(sha: str, key: str, data: object, checksum: object) -> bool:
    """Whether a stored row is as it was put; damage may give it other types."""
    return isinstance(data, bytes) and _checksum(sha, key, data) == checksum


def _checksum(sha: str, key: str, data: bytes) -> bytes:
    return hashlib.sha256(f"{sha}|{key}|".encode() + data).digest()
