"""Advice for errors of the operating system, and tests of what an index needs from its file system."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from iconicity.indexer.errors import FileSystemError

_CURES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space, or ask for a larger quota",
    errno.EACCES: "give this user the right to read and write it",
    errno.EPERM: "give this user the right to read and write it",
    errno.EROFS: "name a place that can be written to",
    errno.EMFILE: "allow more open files with 'ulimit -n 4096'",
    errno.ENFILE: "end programs that hold many files open",
    errno.ENAMETOOLONG: "use a shorter name or path",
    errno.EFBIG: "use a file system that holds larger files",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "see that each part of the path is a folder",
    errno.EISDIR: "name a file instead of a folder",
    errno.ELOOP: "remove the link that leads in a circle",
    errno.EIO: "the disk fails: look at the system's log, and go on with a copy on another disk",
    errno.ESTALE: "mount the network file system again, then run the same command again",
    errno.ENOMEM: "free memory, or lower `workers` and `batch_size`",
}
_LACKING = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
_CURES |= dict.fromkeys(_LACKING, "its file system cannot do this: use a local disk")
_NO_LOCKS = (*_LACKING, errno.EINVAL)
_NO_LINKS = (*_LACKING, errno.EPERM, errno.EMLINK)
_OS_ERROR = re.compile(r"os error (\d{1,5})\)")


def cure(number: int | None) -> str:
    """Advice on how to go on after an operating-system error, by its number."""
    return _CURES.get(number or 0, "make sure that it can be read and written")


def lacks_locks(path: Path, error: OSError) -> FileSystemError | None:
    """The error of a file system that has no locks, None where a lock was refused for another reason."""
    if error.errno not in _NO_LOCKS:
        return None
    return FileSystemError(
        f"{path.parent}: its file system has no file locks ({error.strerror}), as some network and cloud mounts; put this "
        "folder on a local disk, or an index on object storage by its URL"
    )


def _lacks_links(directory: Path, why: str | None) -> FileSystemError:
    return FileSystemError(
        f"{directory}: its file system has no hard links ({why}), which LanceDB writes each version with (exFAT, FAT, "
        "some network and cloud mounts); put the index on a local disk, or on object storage by its URL"
    )


def require_hard_links(directory: Path, file: str) -> None:
    """Raises :class:`FileSystemError` where a file of a directory cannot get a second name. The caller holds its lock."""
    second = directory / f".{file}.{os.getpid()}.tmp"
    second.unlink(missing_ok=True)
    try:
        os.link(directory / file, second)
    except OSError as e:
        if e.errno in _NO_LINKS:
            raise _lacks_links(directory, e.strerror) from e
        raise
    finally:
        second.unlink(missing_ok=True)


def cure_of_text(directory: Path, text: str) -> str | None:
    """How to go on after an error whose text alone holds the system's number; None where it holds none.

    Raises :class:`FileSystemError` where it says that there are no hard links.
    """
    found = _OS_ERROR.search(text)
    if found is None:
        return None
    number = int(found[1])
    if number in _NO_LINKS and "copy file" in text.lower():
        raise _lacks_links(directory, os.strerror(number))
    return cure(number)
