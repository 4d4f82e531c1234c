"""A model of a disk: what may lie in a folder after a power cut, at each moment of a command's work.

A name shows what it showed when its folder was last forced to disk, or anything since; bytes that were not forced to
disk are whole, cut short, empty or blank. A call of LanceDB's native code is one step: any part of it may be missing.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iconicity.indexer.store.rows import ReferenceStore

NATIVE = ("create", "upsert", "delete", "rewrite", "compact", "drop_old_versions")
HARMS = ("whole", "empty", "cut", "blank", "hole")


@dataclass(frozen=True)
class Content:
    """What a file may hold: a copy of its bytes, and whether they were forced to disk."""

    copy: Path
    safe: bool


Fate = tuple[Content | None, str]  # what a name shows (None: nothing), and what became of its bytes


@dataclass(frozen=True)
class Moment:
    """A step of a command is done. ``names``: all that each may show after a power cut, what it shows now first."""

    step: str
    names: dict[str, tuple[Content | None, ...]]
    folders: tuple[str, ...]  # those that may be missing

    def fates(self) -> dict[str, list[Fate]]:
        """Per name what may become of it: as it is now first."""
        return {
            name: [(o, harm) for o in options for harm in (HARMS if o is not None and not o.safe else HARMS[:1])]
            for name, options in self.names.items()
        }


class Recorder:
    """Watches a folder while a command runs in this process: looks at it after each step that changes or syncs it."""

    def __init__(self, root: Path, pool: Path) -> None:
        self.root, self.pool = root, pool
        self.moments: list[Moment] = []
        self._copies: dict[tuple[int, int, int], int] = {}  # (inode, time, size) -> number of the copy
        self._safe: set[int] = set()
        self._shown: dict[str, list[int | None]] = {}  # what a name showed since its folder was synced, newest last
        self._folders: dict[str, bool] = {}  # whether it is sure to be there
        self._hooked: list[tuple[Any, str, Any]] = []
        pool.mkdir(parents=True)
        self._look()
        self._safe.update(self._copies.values())
        self._folders = dict.fromkeys(self._folders, True)
        self._shown = {name: shown[-1:] for name, shown in self._shown.items()}
        for name in ("fsync", "replace", "rename", "unlink"):
            self._hook(os, name)
        for name in NATIVE:
            self._hook(ReferenceStore, name)

    def stop(self) -> list[Moment]:
        """The moments that were seen; the process is as it was."""
        for owner, name, inner in self._hooked:
            setattr(owner, name, inner)
        return self.moments

    def _hook(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)
        self._hooked.append((owner, name, owner.__dict__[name]))

        def hooked(*args: Any, **kwargs: Any) -> Any:
            value = inner(*args, **kwargs)
            self._look()
            if name == "fsync":
                self._sync(Path(f"/proc/self/fd/{args[0]}").readlink())
            names = {
                n: tuple(
                    None if i is None else Content(self.pool / str(i), i in self._safe)
                    for i in dict.fromkeys(reversed(shown))
                )
                for n, shown in self._shown.items()
            }
            self.moments.append(Moment(name, names, tuple(f for f, sure in self._folders.items() if not sure)))
            return value

        setattr(owner, name, staticmethod(hooked) if name == "create" else hooked)

    def _look(self) -> None:
        found = set()
        for path in sorted(self.root.rglob("*"), key=lambda p: p.lstat().st_mtime_ns):  # LanceDB's names are random
            name = path.relative_to(self.root).as_posix()
            if path.is_dir():
                self._folders.setdefault(name, False)
                continue
            found.add(name)
            number = self._copy(path)
            shown = self._shown.setdefault(name, [None])
            if shown[-1] != number:
                shown.append(number)
        for name, shown in self._shown.items():
            if name not in found and shown[-1] is not None:
                shown.append(None)

    def _copy(self, path: Path) -> int:
        stat = path.stat()
        key = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if key not in self._copies:
            self._copies[key] = len(self._copies)
            shutil.copy2(path, self.pool / str(self._copies[key]))
        return self._copies[key]

    def _sync(self, path: Path) -> None:
        if not path.is_relative_to(self.root):
            return
        if path.is_file():
            self._safe.add(self._copy(path))
            return
        folder = path.relative_to(self.root)
        within = {name: shown[-1:] for name, shown in self._shown.items() if Path(name).parent == folder}
        self._shown = {n: s for n, s in (self._shown | within).items() if s != [None]}
        self._folders |= {f: True for f in self._folders if Path(f).parent == folder}


def lay(fate: dict[str, Fate], missing: Sequence[str], folder: Path, rng: random.Random) -> None:
    """Write what a power cut leaves into an empty folder."""
    for name, (content, harm) in fate.items():
        if content is None or any(name.startswith(f"{m}/") for m in missing):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_harmed(content.copy.read_bytes(), harm, rng))
        shutil.copystat(content.copy, folder / name)  # LanceDB goes by times


def _harmed(data: bytes, harm: str, rng: random.Random) -> bytes:
    """Bytes as a disk may leave them: of those that were not written the end, all, or some in the middle are missing."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    if rng.random() < 0.2:
        start = len(data) - min(len(data), rng.randrange(1, 17))  # an end that nothing reads tells nothing
    return {
        "whole": data,
        "empty": b"",
        "cut": data[:start],
        "blank": data[:start] + bytes(len(data) - start),
        "hole": data[:start] + bytes(max(0, end - start)) + data[max(start, end) :],
    }[harm]


def draw(moment: Moment, rng: random.Random) -> tuple[dict[str, Fate], list[str]]:
    """What becomes of each name, and which folders are missing. Often little is lost, sometimes nearly all."""
    share = rng.choice([0.03, 0.1, 0.3, 0.6, 0.95])
    fate = {
        name: rng.choice(fates[1:]) if len(fates) > 1 and rng.random() < share else fates[0]
        for name, fates in moment.fates().items()
    }
    return fate, [f for f in moment.folders if rng.random() < share / 10]
