"""The folder that images are written to. The images say what is there; metadata.csv is made of them and lists them."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType

from iconicity.data.generate.pictures import Facts, read_png
from iconicity.data.generate.plan import Settings
from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.errors import InputError, LockedError, SettingsError
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.folders import LEADS_OUT
from iconicity.indexer.sources.metadata import FILE_NAME, GENERATED, IDENTITY, find_metadata
from iconicity.indexer.sources.tables import open_table
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.files import Reading, hold, no_readers, replacing, sweep, turn, write_atomically
from iconicity.indexer.store.schema import is_sha256, read_json

METADATA = "metadata.csv"
COLUMNS = (FILE_NAME, "concept", "variant", "seed", "prompt", *GENERATED)
_TIMES = ".generate.json"  # how long the images of the last run took
_LOCK = ".metadata.lock"  # of the process that writes metadata.csv
Sums = Mapping[tuple[str, str], str]  # file name and identity -> SHA-256 of the file


@dataclass(frozen=True)
class Held:
    """An image that is there. ``size`` of its picture, as 512x512."""

    file_name: str
    facts: Facts
    size: str


@dataclass
class There:
    """Images of a folder by their key. ``twice``: files of an image that another file holds; ``strange``: not made here."""

    images: dict[str, Held] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


def look(out: Path, before: There | None = None) -> There:
    """The images of a folder. Files that were there ``before`` are not opened again."""
    known = {} if before is None else {held.file_name: held for held in before.images.values()}
    found = There()
    for name in _names(out):
        held = known.get(name)
        if held is None and (read := read_png(out / name)) is not None:
            held = Held(name, *read)
        if held is None:
            found.strange.append(name)
        elif found.images.setdefault(held.facts.key, held) is not held:
            found.twice.append(name)
    return found


def _names(out: Path) -> Iterator[str]:
    """Paths of the PNG files of all concepts, sorted; nothing hidden, no links."""
    folders = sorted(_entries(out, folders=True)) if out.is_dir() else []
    for folder in folders:
        yield from (
            f"{folder}/{name}" for name in sorted(_entries(out / folder, folders=False)) if name.endswith(".png")
        )


def _entries(folder: Path, folders: bool) -> list[str]:
    with os.scandir(folder) as entries:
        return [
            e.name
            for e in entries
            if not e.name.startswith(".") and (e.is_dir if folders else e.is_file)(follow_symlinks=False)
        ]


def require_same(out: Path, there: There, settings: Settings) -> None:
    """Raise :class:`SettingsError` where images of a folder were made in another way, naming the first difference."""
    for held in there.images.values():
        if held.facts.settings == settings:
            continue
        name = next(n for n in Settings.model_fields if getattr(held.facts.settings, n) != getattr(settings, n))
        one, other = (_said(name, getattr(s, name)) for s in (held.facts.settings, settings))
        raise SettingsError(
            f"{out}: its images were made with {name} {one}, not {other}; ask for that, or name another folder for these"
        )


def _said(name: str, value: object) -> str:
    if name.endswith("sha256"):
        return str(value)[:12]
    return "of the model" if value is None else str(value)


@contextmanager
def working(out: Path, shard: Shard | None) -> Iterator[None]:
    """Write to a folder, which other shards may do as well. Deletes what killed processes left where nobody else works.

    Raises :class:`LockedError` where another process makes the same shard, :class:`InputError` for a folder with
    another list of images.
    """
    out.mkdir(parents=True, exist_ok=True)
    metadata = find_metadata(out)
    if metadata is not None and metadata.name != METADATA:
        raise InputError(f"{metadata}: lists images that were not made here; name another folder")
    _listed(out)
    which = "" if shard is None else f"-{shard.number}-of-{shard.of}"
    fd = hold(out / f".generate{which}.lock")
    if fd is None:
        raise LockedError(f"{out}: another process makes the same images; wait for it or stop it")
    try:
        with no_readers(out) as alone:
            for folder in (out, *(out / name for name in _entries(out, folders=True))) if alone else ():
                sweep(folder)
        reading = Reading(out)
        yield
        del reading
    finally:
        os.close(fd)


def free_name(file_name: str, taken: Container[str]) -> str:
    """``file_name``, or with a number behind it where another image has that name: a user may have renamed its file.

    >>> free_name("a/x.png", {"a/x.png", "a/x_2.png"})
    'a/x_3.png'
    """
    if file_name not in taken:
        return file_name
    stem = file_name.removesuffix(".png")
    return next(name for n in count(2) if (name := f"{stem}_{n}.png") not in taken)


def write_picture(out: Path, file_name: str, data: bytes) -> None:
    """Write an image's file: whole, or not at all. Raises :class:`InputError` where its folder is a link."""
    path = out / file_name
    if path.parent.is_symlink():
        raise InputError(f"{path.parent}: {LEADS_OUT.partition(';')[0]}; delete the link")
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as tmp:
        tmp.write_bytes(data)


def write_metadata(out: Path, before: There, sums: Sums = MappingProxyType({})) -> There:
    """List the images of a folder in its metadata.csv; returns them. ``sums``: of files that were written meanwhile.

    Of two processes that write into a folder the later one lists the images of both. Columns that others added stay.
    """
    with turn(out / _LOCK):
        there = look(out, before)
        more, listed = _listed(out)
        lines = [csv_line([*COLUMNS, *more])]
        for held in sorted(there.images.values(), key=lambda held: held.file_name):
            row = listed.get(known := (held.file_name, held.facts.identity), {})
            sha256 = sums.get(known) or row.get("sha256", "")
            ours = _row(held, sha256 if is_sha256(sha256) else file_sha256(out / held.file_name))
            lines.append(csv_line([*ours, *(row.get(name) for name in more)]))
        write_atomically(out / METADATA, "".join(lines))
    return there


def _row(held: Held, sha256: str) -> list[object]:
    facts = held.facts.model_dump()
    facts |= facts.pop("settings") | {"negative_prompt": facts["negative"], "size": held.size, "sha256": sha256}
    facts |= {FILE_NAME: held.file_name, IDENTITY: held.facts.identity}
    return [str(value).lower() if isinstance(value := facts[name], bool) else value for name in COLUMNS]


def _listed(out: Path) -> tuple[list[str], dict[tuple[str, str], dict[str, str]]]:
    """Columns of metadata.csv that are not ours, and its rows by file name and identity.

    Raises :class:`InputError` where it lists other images.
    """
    path = out / METADATA
    if not path.is_file():
        return [], {}
    table = open_table(path, COLUMNS, lambda _: None)
    if IDENTITY not in table.columns or FILE_NAME not in table.columns:
        raise InputError(f"{path}: lists images that were not made here; name another folder")
    rows = [row for _, row in table.lines if isinstance(row, dict)]
    more = [name for name in dict.fromkeys(table.columns) if name not in COLUMNS]
    return more, {(row.get(FILE_NAME, ""), row.get(IDENTITY, "")): row for row in rows}


def write_times(out: Path, images: int, seconds: float) -> None:
    """Keep how long a run took for its images."""
    write_atomically(out / _TIMES, json.dumps({"images": images, "seconds": round(seconds, 3)}) + "\n")


def seconds_an_image(out: Path) -> float | None:
    """Seconds an image took in the last run that made any; None where that is not known."""
    try:
        held = read_json(out / _TIMES)
        return float(held["seconds"]) / int(held["images"])
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError):
        return None


def bytes_an_image(out: Path, there: There) -> int | None:
    """Mean size of the files that are there; None where there are none."""
    sizes = [(out / held.file_name).stat().st_size for held in there.images.values()]
    return round(sum(sizes) / len(sizes)) if sizes else None
