"""The files of an index's table, on a disk or on object storage, and what LanceDB's errors about it mean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from iconicity.indexer.errors import IconicityError, LockedError, typed
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.store.disks import cure_of_text
from iconicity.indexer.store.files import sweep

TABLE = "references"
HINT = "latest_version_hint.json"  # written again by each commit, and only a hint
SET_ASIDE = ".damaged"  # ends the name of a version that does not open, while other versions are tried
_MAGIC = b"LANC"  # at the end of each of LanceDB's files
PlaceT = TypeVar("PlaceT", Path, Remote, Place)


def connect(directory: Place) -> Any:
    """LanceDB's connection; credentials for object storage are the environment's."""
    import lancedb  # costs more than all else that a command on results alone imports

    return lancedb.connect(directory if isinstance(directory, Path) else directory.url)


def see_storage(directory: Place, writing: bool = False) -> None:
    """Ask object storage whether it answers: errors of LanceDB do not tell. Raises :class:`StorageError` if not."""
    if isinstance(directory, Remote):
        directory.probe(writing)


def _not_written(directory: Remote, error: Exception) -> IconicityError:
    """The error to raise for a commit that failed. Raises :class:`StorageError` where object storage is the cause."""
    if any(word in str(error).lower() for word in ("conflict", "contention")):
        return another_wrote(directory)
    see_storage(directory, writing=True)
    return IconicityError(
        f"{directory}: cannot be written ({first_line(error)}); run the same command again: what is written is kept"
    )


def another_wrote(directory: Place) -> LockedError:
    """The error for two builders at once. Object storage has no locks, so it is found after the write."""
    return LockedError(f"{directory}: another builder wrote to it at the same time; run the same command again")


def is_table(directory: Place) -> bool:
    """Whether a directory has the folder of a table, which may be damaged."""
    return (directory / f"{TABLE}.lance").is_dir()


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def writing(directory: Place) -> Iterator[None]:
    """Turn errors of a commit into :class:`IconicityError`, or :class:`StorageError` on object storage."""
    try:
        yield
    except Exception as e:  # a damaged table raises anything, panics of the library's native code included
        if isinstance(directory, Remote):
            raise _not_written(directory, e) from e
        way = cure_of_text(directory, str(e)) or "free space, allow writing"
        raise IconicityError(
            f"{directory}: cannot be written ({first_line(e)}); {way}, or mend it with "
            f"'iconicity index repair --index {typed(directory)}', then run the same command again: what is written is kept"
        ) from e


def versions_folder(directory: PlaceT) -> PlaceT:
    """Folder that lists the table's versions."""
    return directory / f"{TABLE}.lance" / "_versions"


def versions_of(directory: PlaceT) -> dict[int, PlaceT]:
    """Version number -> its file, oldest first. Lance counts down in 20 digits, so that the newest is listed first."""
    folder = versions_folder(directory)
    names = folder.names() if isinstance(folder, Remote) else [p.name for p in folder.glob("*.manifest")]
    numbers = [n.removesuffix(".manifest") for n in names if n.endswith(".manifest")]
    found = {int(n) if len(n) < 20 else 2**64 - 1 - int(n): folder / f"{n}.manifest" for n in numbers if n.isdigit()}
    return dict(sorted(found.items()))


def ends_well(version_file: Path) -> bool:
    """Whether the file of a version has its last bytes. LanceDB opens one without, and then no cleaning gets past it."""
    with version_file.open("rb") as f:
        f.seek(-min(len(_MAGIC), version_file.stat().st_size), os.SEEK_END)
        return f.read() == _MAGIC


def sweep_table(directory: Place) -> None:
    """Remove what killed writers and repairs leave, and a table directory without a first version.

    Not on object storage, where another may be writing: there old versions' dropping does it after some days.
    """
    if isinstance(directory, Remote):
        return
    sweep(directory)
    root = directory / f"{TABLE}.lance"
    left = ("**/.tmp*", "**/*#*", f"_versions/*{SET_ASIDE}")  # Lance writes NAME#1, then renames it
    for path in chain.from_iterable(root.glob(pattern) for pattern in left):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if root.is_dir() and not any((root / "_versions").glob("*.manifest")):
        shutil.rmtree(root)
