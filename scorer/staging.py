"""Results directories on object storage: fetched into a local folder, worked on there, and what changed put back.

Order of the puts: meta files, scores, then the rest. A meta file has the digest of its CSV file, so that a directory of
which only a part was put does not verify; every number comes from the scores, which change as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.command_line import TakesUrls
from iconicity.indexer.errors import IconicityError, LockedError
from iconicity.indexer.places import Item, Remote, place, stands_for
from iconicity.indexer.store.files import hold, write_atomically

_OURS = re.compile(r"(scores|results)_[a-z_]+\.(parquet|csv|meta\.json)|calibration\.json")
_ORDER = (".meta.json", ".parquet")  # then the rest
_AT_ONCE = 64  # commands that use one URL at the same time


@dataclass
class Staged:
    """A results directory's URL, the local folder that stands for it, and both as they were when it was fetched."""

    remote: Remote
    folder: Path
    lock: int  # held by this process for as long as it uses the folder
    items: Mapping[str, Item] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)  # name -> size and time

    @classmethod
    def claim(cls, remote: Remote, cache: Path) -> Staged:
        """A folder in the cache that no other process uses."""
        stem = cache / "results" / hashlib.sha256(remote.url.encode()).hexdigest()[:32]
        stem.parent.mkdir(parents=True, exist_ok=True)
        for i in range(_AT_ONCE):
            folder = stem.with_name(f"{stem.name}-{i}")
            lock = hold(folder.with_suffix(".lock"))
            if lock is not None:
                folder.mkdir(exist_ok=True)
                stands_for(folder, remote.url)
                return cls(remote, folder, lock)
        raise IconicityError(f"{remote}: {_AT_ONCE} commands use it on this machine; wait for one")

    def fetch(self) -> None:
        """Make the folder hold what lies there, and nothing else; what is known to be the same is not read again.

        Raises :class:`StorageError`.
        """
        self.items = _listed(self.remote)
        try:
            known = json.loads(self._state.read_bytes())
        except (OSError, ValueError):
            known = {}
        held = _local(self.folder)
        for name in held.keys() - self.items.keys():
            (self.folder / name).unlink()
        for name, item in self.items.items():
            if known.get(name) != [item.identity, held.get(name)]:
                (self.remote / name).download(self.folder / name)
        self._remember()

    def put(self) -> None:
        """Put back what changed. Raises :class:`LockedError` when the scores changed there meanwhile, and
        :class:`StorageError`.
        """
        now = _local(self.folder)
        changed = [name for name in sorted(now, key=_rank) if now[name] != self.local.get(name)]
        if not changed:
            return
        there = _listed(self.remote)
        for name in sorted(n for n in {*there, *self.items} if n.endswith(".parquet")):
            if there.get(name) != self.items.get(name):
                raise LockedError(
                    f"{self.remote / name}: changed meanwhile, and nothing was put there; run the same command again"
                )
        for name in changed:
            (self.remote / name).upload(self.folder / name)
        self.items = _listed(self.remote)
        self._remember()

    @property
    def _state(self) -> Path:
        return self.folder.with_suffix(".json")

    def _remember(self) -> None:
        self.local = _local(self.folder)
        both = self.items.keys() & self.local.keys()
        write_atomically(self._state, json.dumps({n: [self.items[n].identity, self.local[n]] for n in both}))


_staged: dict[str, Staged] = {}


class _Results(TakesUrls):
    """A results directory of this machine as it is, also by the folder of its study; one on object storage as the folder
    that stands for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        given = place(value)
        if isinstance(given, Path):
            from iconicity.scorer.results import results_in

            return results_in(given)
        from iconicity.indexer.store.cache import default_directory

        if given.url not in _staged:
            _staged[given.url] = Staged.claim(given, default_directory())
        _staged[given.url].fetch()
        return _staged[given.url].folder


RESULTS = _Results()


def put_back() -> None:
    """Put what a command that ended well has changed in results directories back to where they lie."""
    for staged in _staged.values():
        staged.put()


def let_go() -> None:
    """End the use of every local folder that stands for a URL."""
    for staged in _staged.values():
        os.close(staged.lock)
    _staged.clear()


def _listed(remote: Remote) -> dict[str, Item]:
    """Our files of a results directory: others that lie there are not fetched."""
    return {name: item for name, item in remote.files().items() if _OURS.fullmatch(name)}


def _local(folder: Path) -> dict[str, str]:
    """Our files in a folder, with what tells whether they have changed."""
    files = (p for p in folder.iterdir() if _OURS.fullmatch(p.name) and p.is_file())
    return {p.name: f"{p.stat().st_size}/{p.stat().st_mtime_ns}" for p in files}


def _rank(name: str) -> tuple[int, str]:
    return next((i for i, end in enumerate(_ORDER) if name.endswith(end)), len(_ORDER)), name
