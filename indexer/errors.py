"""One exception family. Each message names the file, the fact and the fix, in one line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iconicity.indexer.places import Remote


def typed(at: object) -> str:
    """Return a location as one types it in a shell, in commands that a message names.

    >>> typed("a/b"), typed("my study")
    ('a/b', '"my study"')
    """
    text = str(at)
    quoted = shlex.quote(text)
    # double quotes, where these do: the command stands in single ones
    return quoted if quoted == text or set(text) & set('"$`\\!') else f'"{text}"'


class IconicityError(Exception):
    """Base of every error this package raises on purpose; the command line prints it and exits with 1."""


class ImageError(IconicityError):
    """A file that cannot be used as an image. ``reason`` is short enough for a table cell."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class InputError(IconicityError):
    """The folders or tables the user named do not hold what the command needs."""


class IndexFormatError(IconicityError):
    """A directory is not an index, is unfinished, or is of another format version."""


class LockedError(IconicityError):
    """Another process is writing the same index or results directory."""


class StorageError(IconicityError):
    """Object storage cannot be reached, refuses, lacks a bucket, or cannot be written to by two at once."""


class FileSystemError(IconicityError):
    """A folder lies on a file system that lacks what is needed there: file locks, or hard links."""


class CorruptIndexError(IconicityError):
    """Stored rows do not match their checksums, or files do not match the manifest."""


def mending(directory: Path | Remote) -> str:
    """How to go on with a damaged index: the last part of each message about one."""
    if not isinstance(directory, Path):  # object storage tests its own bytes: it is another's purge rather than damage
        return (
            "run the same command again; if that does not help, restore it from a copy, or delete it and build it again"
        )
    return (
        f"mend it with 'iconicity index repair --index {typed(directory)}', restore it from a copy, or delete the folder and "
        "build it again"
    )


class ModelUnavailableError(IconicityError):
    """Model weights cannot be loaded: not on disk, hub unreachable, refused, or not matching the architecture."""


class SettingsError(IconicityError):
    """The settings asked for differ from those an index or a results directory was made with."""


class NetworkError(IconicityError):
    """A server of the web cannot be reached, refuses, or asks to wait for longer than a run can."""


class AnswerError(IconicityError):
    """A server's answer that cannot be used. ``reason`` is short enough for a table cell; ``status``: that of HTTP, if any."""

    def __init__(self, at: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"{at}: {reason}")
        self.reason = reason
        self.status = status
