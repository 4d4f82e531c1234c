"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iconicity.indexer.errors import LockedError

LOCK = ".lock"


def fsync(path: Path) -> None:
    """Force a file or a directory to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it: what two processes would make at once is made by the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def file_crc32(path: Path) -> int:
    """CRC-32 of a file's bytes: quick enough to test a large derived file at each opening."""
    value = 0
    with path.open("rb") as f:
        while chunk := f.read(1 << 24):
            value = zlib.crc32(chunk, value)
    return value


def file_sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to. It takes ``path``'s place when the block ends well, else it goes."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield tmp
        fsync(tmp)
        tmp.replace(path)
        fsync(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by new text: readers see the old or the new one, also after a power cut."""
    with replacing(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


@contextmanager
def lock(directory: Path, doing: str) -> Iterator[None]:
    """Hold a directory's lock; the system frees it when the process ends, however it ends.

    Raises :class:`LockedError` naming the process that holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # its target would be cut to nothing
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            owner = os.read(fd, 200).decode(errors="replace").strip() or "another process"
            raise LockedError(f"{directory}: {owner} is {doing}; wait for it or stop it") from e
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
