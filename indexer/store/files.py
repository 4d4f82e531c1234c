"""Write files so that they are whole or absent, also after a power cut; lock folders.

On object storage there are no locks: a build there looks whether another wrote meanwhile, see builder.py.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import socket
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from iconicity.indexer.errors import LockedError
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.store.disks import lacks_locks
from iconicity.indexer.store.schema import read_json

LOCK = ".lock"  # held by the one builder
READERS = ".readers"  # shared by all readers
_PATIENCE = 0.2  # seconds to wait: a process that tests whether a lock is free holds the lock for a moment
LOCKS = frozenset({LOCK, READERS})


def fsync(path: Path) -> None:
    """Force a file or a directory to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it, so that of two processes only the first makes a derived file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _flock(fd, fcntl.LOCK_EX, path)
        yield
    finally:
        os.close(fd)


def _crc32(path: Path) -> int:
    """CRC-32 of a file's bytes: quick enough to test a large derived file at each opening."""
    value = 0
    with path.open("rb") as f:
        while chunk := f.read(1 << 24):
            value = zlib.crc32(chunk, value)
    return value


def note_derived(note: Path, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
    """Record beside finished derived files what they were made from, and their CRC-32."""
    write_atomically(note, json.dumps({**facts, "crc32": {path.name: _crc32(path) for path in files}}) + "\n")


def are_derived(note: Path, files: Iterable[Path], facts: Mapping[str, Any]) -> bool:
    """Whether derived files exist, were made from this source, and still have the bytes that were written."""
    try:
        return bool(read_json(note) == {**facts, "crc32": {path.name: _crc32(path) for path in files}})
    except (OSError, ValueError):
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``. It replaces ``path`` when the block ends well; otherwise it is deleted."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield tmp
        fsync(tmp)
        tmp.replace(path)
        fsync(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "*") -> None:
    """Delete temporary files of :func:`replacing` that killed processes left. The caller holds a lock."""
    for left in folder.glob(f".{name}.*.tmp"):
        left.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of a file. Readers see the old or the new content, also after a power cut."""
    with replacing(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


class Reading:
    """A reader's lock: while it is held, no process deletes files that the reader may open. It ends with the process."""

    def __init__(self, directory: Place) -> None:
        if isinstance(directory, Remote):
            return
        path = directory / READERS
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
            except OSError:
                return  # a folder that cannot be written to: no process can delete files there either
        weakref.finalize(self, os.close, fd)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH)


@contextmanager
def no_readers(directory: Path) -> Iterator[bool]:
    """Yield whether no reader holds the lock. If so, new readers wait until the block ends."""
    fd = os.open(directory / READERS, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        alone = _try_lock(fd, directory / READERS)
        if not alone:
            gc.collect()  # unused reader locks of this process may still be alive in reference cycles
            alone = _try_lock(fd, directory / READERS)
        yield alone
    finally:
        os.close(fd)


def hold(path: Path) -> int | None:
    """The descriptor of a lock file that is held until it is closed; None when another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        if _try_lock(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _try_lock(fd: int, path: Path) -> bool:
    try:
        _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, path)
    except BlockingIOError:
        return False
    return True


def _flock(fd: int, operation: int, path: Path) -> None:
    """Raises :class:`FileSystemError` where the file system has no locks."""
    try:
        fcntl.flock(fd, operation)
    except OSError as e:
        raise lacks_locks(path, e) or e from e


def writer_of(directory: Place) -> str | None:
    """Name the process that holds a directory's lock. None when no process holds it, or the holder cannot be told."""
    if isinstance(directory, Remote):
        return None
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(fd)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(fd)
    return None


def _owner(fd: int) -> str:
    return os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"


@contextmanager
def lock(directory: Place, doing: str) -> Iterator[None]:
    """Hold a directory's lock; the system frees it when the process ends, however it ends. On object storage nothing
    is held: it is only seen whether it may be written to, by two at once.

    Raises :class:`LockedError` naming the process that holds it, :class:`FileSystemError`, :class:`StorageError`.
    """
    if isinstance(directory, Remote):
        directory.probe(writing=True)
        yield
        return
    made = [path for path in (directory, *directory.parents) if not path.is_dir()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in made:
        fsync(path.parent)
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # its target would be cut to nothing
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(fd, directory / LOCK):
            if time.monotonic() > deadline:
                raise LockedError(f"{directory}: {_owner(fd)} is {doing}; wait for it or stop it")
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
