"""Find image files in concept folders and read their bytes, the same way on both sides."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from iconicity.indexer.errors import ImageError, InputError
from iconicity.indexer.places import Item, Place, Remote, is_url, place
from iconicity.indexer.sources.suffixes import LOOSE, NESTED, UNSUPPORTED, is_image, is_read
from iconicity.indexer.sources.tables import Tell, read_table
from iconicity.indexer.sources.tar import read_member, split
from iconicity.indexer.text import counted

LEADS_OUT = "a link out of the folder; put the file itself there, or add --follow-links"
NOT_UTF8 = "file name is not UTF-8; rename it"
NO_CONCEPT = "a folder whose name names no concept; rename it"
REQUESTS = 16  # sent at once
EMPTY = "empty file"
MAX_BYTES = 2 << 30  # of a file: more than any image within the limit of pixels needs


def concept_name(folder: str) -> str:
    """Concept of a folder name: stripped, spaces to ``_``, lower case, Unicode NFC.

    >>> concept_name(" The Great Wave ")
    'the_great_wave'
    """
    return unicodedata.normalize("NFC", folder).strip().replace(" ", "_").lower()


@dataclass(frozen=True)
class ConceptFolder:
    """One ``<root>/<folder>/`` with the names of its image files, sorted."""

    concept: str
    path: Place
    names: tuple[str, ...]
    identities: tuple[str, ...] = ()  # of its objects on object storage, name by name


@dataclass(frozen=True)
class Discovery:
    """What lies under a root: concept folders in order of concept, and what was passed over."""

    root: Place
    folders: tuple[ConceptFolder, ...]
    ignored: tuple[Place, ...] = field(default=())  # no images by suffix
    passed: tuple[tuple[str, Place, str], ...] = field(default=())  # (concept, image, why it is passed over by name)
    unnamed: tuple[tuple[str, Place], ...] = field(default=())  # (concept, image file whose name is not UTF-8)
    linked: tuple[tuple[str, Place], ...] = field(default=())  # (concept, link that leads out of the root)
    unwanted: tuple[str, ...] = field(default=())  # concepts of folders that were not asked for

    def concept_set(self) -> set[str]:
        return {f.concept for f in self.folders}

    def unusable(self) -> list[tuple[str, Place, str]]:
        """(concept, path, reason) of what cannot be used by its name or place."""
        return [
            *((c, p, NOT_UTF8) for c, p in self.unnamed),
            *((c, p, LEADS_OUT) for c, p in self.linked),
            *self.passed,
        ]


class Inside:
    """Whether a path below a root leads to a place below it, links followed; each folder is looked at once."""

    def __init__(self, root: Place, follow_links: bool = False) -> None:
        self._base = f"{root}/"
        self._real = os.path.realpath(str(root))
        self._folders: dict[str, bool] = {}
        self._follow_links = follow_links or isinstance(root, Remote)  # then every path does

    def __call__(self, name: str) -> bool:
        if self._follow_links:
            return True
        folder = name.rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = self._leads_inside(folder)
        if not os.path.islink(self._base + name):  # noqa: PTH114
            return self._folders[folder]
        return self._leads_inside(name)

    def _leads_inside(self, name: str) -> bool:
        return Path(os.path.realpath(self._base + name)).is_relative_to(self._real)


def discover(root: Place, concepts: Iterable[str] | None = None, follow_links: bool = False) -> Discovery:
    """List ``root/<concept>/*`` with an image suffix; hidden files are ignored, nothing is opened.

    Images that are passed over by name or place, and links that lead out of ``root`` unless ``follow_links``, are listed
    apart. Raises :class:`InputError` if ``root`` is no folder, its name is not UTF-8, or two folders give one concept.
    """
    if isinstance(root, Remote):
        return discovery_of(root, root.files(), concepts)
    if not is_text(str(root)):
        raise InputError(f"{shown(root)}: its name is not UTF-8, so that no result could name its files; rename it")
    if root.is_file():
        raise InputError(f"{root}: a file; it must be a folder with one folder of images for each concept")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; it must hold one folder of images for each concept")
    found = _Found(concepts)
    unnamed: list[tuple[str, Path]] = []
    linked: list[tuple[str, Path]] = []
    stays = Inside(root, follow_links)
    for folder in sorted(p for p in root.iterdir() if not p.name.startswith(".")):
        if not folder.is_dir():
            found.loose(folder, folder.name)
            continue
        if not is_text(folder.name):
            unnamed.append(("", folder))
            continue
        concept = found.concept(folder, folder.name)
        if concept is None:
            continue
        if not stays(folder.name):
            linked.append((concept, folder))
            continue
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    for path in _files_below(folder / entry.name):
                        found.beside(concept, path, path.name, NESTED)
                elif not is_read(entry.name):
                    found.beside(concept, folder / entry.name, entry.name, UNSUPPORTED)
                elif not stays(f"{folder.name}/{entry.name}"):
                    linked.append((concept, folder / entry.name))
                elif is_text(entry.name):
                    names.append(entry.name)
                else:
                    unnamed.append((concept, folder / entry.name))
        found.folders.append(ConceptFolder(concept, folder, tuple(names)))
    return replace(found.discovery(root), unnamed=tuple(unnamed), linked=tuple(linked))


def discovery_of(root: Remote, items: Mapping[str, Item], concepts: Iterable[str] | None = None) -> Discovery:
    """:func:`discover` of objects that are listed already, by the same rules."""
    if not items:
        raise InputError(f"{root}: no object lies there; it must hold one folder of images for each concept")
    found = _Found(concepts)
    inside: dict[str, list[str]] = {}
    for key in sorted(items):
        folder, _, name = key.partition("/")
        if folder.startswith(".") or not folder:
            continue
        if "/" in key:
            inside.setdefault(folder, []).append(name)
        else:
            found.loose(root / key, key)
    for folder, keys in sorted(inside.items()):
        path = root / folder
        concept = found.concept(path, folder)
        if concept is None:
            continue
        names = []
        for key in keys:
            nested, name = "/" in key, key.rpartition("/")[2]
            if not name or any(part.startswith(".") for part in key.split("/")):
                continue
            if nested or not is_read(name):
                found.beside(concept, path / key, name, NESTED if nested else UNSUPPORTED)
            else:
                names.append(name)
        identities = tuple(items[f"{folder}/{name}"].identity for name in names)
        found.folders.append(ConceptFolder(concept, path, tuple(names), identities))
    return found.discovery(root)


class _Found:
    """What lies under a root, as it is found."""

    def __init__(self, concepts: Iterable[str] | None) -> None:
        self.folders: list[ConceptFolder] = []
        self._wanted = None if concepts is None else set(concepts)
        self._seen: dict[str, Place] = {}
        self._ignored: list[Place] = []
        self._passed: list[tuple[str, Place, str]] = []
        self._unwanted: list[str] = []

    def concept(self, folder: Place, name: str) -> str | None:
        """The concept of a folder, None where it is not wanted or names none. Raises :class:`InputError`."""
        concept = concept_name(name)
        if not concept:
            self._passed.append(("", folder, NO_CONCEPT))
            return None
        if concept in self._seen:
            raise InputError(
                f"{self._seen[concept]} and {folder} are both the concept '{concept}': merge or rename one"
            )
        self._seen[concept] = folder
        if self._wanted is None or concept in self._wanted:
            return concept
        self._unwanted.append(concept)
        return None

    def loose(self, path: Place, name: str) -> None:
        """A file beside the concept folders."""
        self.beside("", path, name, LOOSE)

    def beside(self, concept: str, path: Place, name: str, reason: str) -> None:
        """A file that is not listed."""
        if is_image(name):
            self._passed.append((concept, path, reason))
        else:
            self._ignored.append(path)

    def discovery(self, root: Place) -> Discovery:
        folders = sorted(self.folders, key=lambda f: f.concept)
        return Discovery(
            root, tuple(folders), tuple(self._ignored), tuple(self._passed), unwanted=tuple(self._unwanted)
        )


def _files_below(folder: Path) -> Iterator[Path]:
    """Files below a folder, sorted; nothing hidden, and no link to a folder is followed."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(above) / name for name in sorted(names) if not name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle; reading it says so
        return False


def has_images(folder: Place) -> bool:
    """Whether image files lie directly in a folder."""
    if isinstance(folder, Remote):
        return any(is_image(name) for name in folder.names())
    return folder.is_dir() and any(is_image(p.name) and p.is_file() for p in folder.iterdir())


def shown(path: Place) -> str:
    """A path as text that can be printed and stored, bytes that are not UTF-8 as escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_text(name: str) -> bool:
    """False for names that are not valid UTF-8 (they reach Python as lone surrogates)."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_concept_rows(
    path: Path, needed: Mapping[str, str], optional: Iterable[str] = (), tell: Tell = warnings.warn
) -> list[tuple[str, dict[str, str]]]:
    """(concept, row) of a table; rows that name no concept are left out.

    ``needed``: columns -> the option that names each; the first holds the concepts. ``optional``: columns that may be
    there. ``tell`` gets a line on what a user should know. Raises :class:`InputError` if the file or a column is missing.
    """
    table = read_table(path, needed, optional, tell)
    key = next(iter(needed))
    named = [(concept_name(row[key]), row) for _, row in table.rows]
    lines = [line for (line, _), (concept, _) in zip(table.rows, named, strict=True) if not concept]
    if lines:
        rows, count = counted(len(lines), "row names", "rows name"), "counts" if len(lines) == 1 else "count"
        tell(f"{path}: {rows} no concept and {count} for nothing, first line {lines[0]}")
    return [(concept, row) for concept, row in named if concept]


def read_concepts(path: Path, column: str, tell: Tell = warnings.warn) -> list[str]:
    """Concepts named in a column of a table, in file order; one that is named twice is there twice.

    Raises :class:`InputError` if the file or the column is missing, or nothing is named.
    """
    rows = read_concept_rows(path, {column: "--slug-col"}, tell=tell)
    if not rows:
        raise InputError(f"{path}: column '{column}' names no concept; fill it, or name another with --slug-col")
    return [concept for concept, _ in rows]


def read_bytes(path: Place | str) -> bytes:
    """Bytes of a file, of a tar's member, or of an object by its URL. Raises :class:`ImageError` when it cannot be read
    or is empty, :class:`StorageError` when no object could be.
    """
    path = place(path)
    try:
        inside = None if isinstance(path, Remote) else split(path)
        if isinstance(path, Remote):
            data = path.read_bytes()
        elif inside is not None:
            data = read_member(*inside)
        else:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait forever
                raise ImageError(path, "not a regular file")
            if found.st_size > MAX_BYTES:
                raise ImageError(path, f"a file of {found.st_size / 1e9:.1f} GB; an image has at most 2")
            data = path.read_bytes()
    except OSError as e:
        raise ImageError(str(path), f"cannot be read: {e.strerror or e}") from e
    if not data:
        raise ImageError(str(path), EMPTY)
    return data


def hashed_ahead(paths: Iterable[str]) -> dict[str, str | ImageError]:
    """SHA-256 of those that are URLs, or why they cannot be read: a request takes long, and many are sent at once."""
    urls = [path for path in paths if is_url(path)]
    if not urls:
        return {}
    with ThreadPoolExecutor(REQUESTS) as threads:
        return dict(zip(urls, threads.map(hashed, urls), strict=True))


def hashed(path: str) -> str | ImageError:
    """SHA-256 of a file's or an object's bytes, or why they cannot be read."""
    try:
        return sha256_hex(read_bytes(path))
    except ImageError as e:
        return e


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
