"""Find image files in concept folders and read their bytes, the same way on both sides."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from iconicity.indexer.errors import ImageError, InputError
from iconicity.indexer.places import Item, Place, Remote, place
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.suffixes import LOOSE, NESTED, UNSUPPORTED, is_image, is_read
from iconicity.indexer.sources.tables import Tell, read_table
from iconicity.indexer.sources.tar import read_member, split
from iconicity.indexer.text import counted

LEADS_OUT = "a link out of the folder; put the file itself there, or set `follow_links`"
NOT_UTF8 = "file name is not UTF-8; rename it"
NO_CONCEPT = "the name of this folder names no concept; rename it"
CREDITS = "credits.csv"  # beside images: who made them, read by scorer/say/credits.py
CONCEPTS, CHOOSE = "concepts.csv", "choose.csv"  # beside the folders of concepts, written by data/collect
TABLES = frozenset({CREDITS, CONCEPTS, CHOOSE})
NOT_AN_IMAGE = "no image by its name"
NOT_ASKED_FOR = "a folder of a concept that was not asked for"
REQUESTS = 16  # sent at once
EMPTY = "empty file"
MAX_BYTES = 2 << 30  # bytes of a file: more than any image within the limit of pixels needs


def concept_name(folder: str) -> str:
    """Concept of a folder name: stripped, spaces to ``_``, lower case, Unicode NFC.

    >>> concept_name(" The Great Wave ")
    'the_great_wave'
    """
    return unicodedata.normalize("NFC", folder).strip().replace(" ", "_").lower()


def named_concept(cell: str) -> str:
    """Concept that a cell of a table names: that of a folder of this name, with ``_`` for ``/``; "" where none can be.

    >>> named_concept("The Scream/1893"), named_concept("..")
    ('the_scream_1893', '')
    """
    name = concept_name(cell).replace("/", "_")
    return "" if name in (".", "..") else name


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


def folder_images(root: Place, concepts: Iterable[str] | None = None, follow_links: bool = False) -> Iterator[Image]:
    """``root/<concept>/*`` as images, folder by folder and name by name; hidden files are left out, nothing is opened.

    Each concept's folder comes first, without a name. What is passed over by its name or place has the reason as its
    problem: links that lead out of ``root`` unless ``follow_links``, folders of other concepts than ``concepts``, files
    that are no images, ... Raises :class:`InputError` if ``root`` is no folder, its name is not UTF-8, or two folders
    give one concept.
    """
    wanted = None if concepts is None else set(concepts)
    if isinstance(root, Remote):
        yield from object_images(root, root.files(), wanted)
        return
    if not is_text(str(root)):
        raise InputError(f"{shown(root)}: its name is not UTF-8, so that no result could name its files; rename it")
    if root.is_file():
        raise InputError(f"{root}: a file; it must be a folder with one folder of images for each concept")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; it must hold one folder of images for each concept")
    seen: dict[str, Place] = {}
    stays = Inside(root, follow_links)
    for folder in sorted(p for p in root.iterdir() if not p.name.startswith(".") and p.name not in TABLES):
        if not folder.is_dir():
            yield _passed(folder, "", LOOSE)
        elif not is_text(folder.name):
            yield Image(shown(folder), problem=NOT_UTF8)
        else:
            image = _folder(folder, seen, wanted)
            if image.problem is None and not stays(folder.name):
                image = image._replace(problem=LEADS_OUT)
            yield image
            if image.problem is None:
                yield from _files_of(folder, image.concept, stays)


def _files_of(folder: Path, concept: str, stays: Inside) -> Iterator[Image]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            path = f"{folder}/{entry.name}"
            if entry.name.startswith(".") or entry.name == CREDITS:
                continue
            if _is_folder(entry):
                yield from (_passed(below, concept, NESTED) for below in _files_below(folder / entry.name))
            elif not is_read(entry.name):
                yield _passed(folder / entry.name, concept, UNSUPPORTED)
            elif not stays(f"{folder.name}/{entry.name}"):
                yield Image(shown(folder / entry.name), concept, problem=LEADS_OUT)
            elif not is_text(entry.name):
                yield Image(shown(folder / entry.name), concept, problem=NOT_UTF8)
            else:
                yield Image(path, concept, entry.name)


def object_images(root: Remote, items: Mapping[str, Item], concepts: Container[str] | None = None) -> Iterator[Image]:
    """:func:`folder_images` of objects that are listed already, by the same rules."""
    if not items:
        raise InputError(f"{root}: no object lies there; it must hold one folder of images for each concept")
    seen: dict[str, Place] = {}
    inside: dict[str, list[str]] = {}
    for key in sorted(items):
        folder, _, name = key.partition("/")
        if folder.startswith(".") or not folder:
            continue
        if "/" in key:
            inside.setdefault(folder, []).append(name)
        elif key not in TABLES:
            yield _passed(root / key, "", LOOSE)
    for folder, keys in sorted(inside.items()):
        image = _folder(root / folder, seen, concepts)
        yield image
        for key in keys if image.problem is None else ():
            nested, name = "/" in key, key.rpartition("/")[2]
            if not name or any(part.startswith(".") for part in key.split("/")):
                continue
            path = root / folder / key
            if nested or not is_read(name):
                yield _passed(path, image.concept, NESTED if nested else UNSUPPORTED)
            else:
                yield Image(str(path), image.concept, name, identity=items[f"{folder}/{name}"].identity)


def _folder(folder: Place, seen: dict[str, Place], wanted: Container[str] | None) -> Image:
    """The folder of a concept. Raises :class:`InputError` for the second one of a concept."""
    concept = concept_name(folder.name)
    if not concept:
        return Image(str(folder), problem=NO_CONCEPT)
    if concept in seen:
        raise InputError(f"{seen[concept]} and {folder} are both the concept '{concept}': merge or rename one")
    seen[concept] = folder
    return Image(str(folder), concept, problem=None if wanted is None or concept in wanted else NOT_ASKED_FOR)


def _passed(path: Place, concept: str, reason: str) -> Image:
    """A file that is passed over; ``reason`` is why an image is."""
    return Image(shown(path), concept, problem=reason if is_image(path.name) else NOT_AN_IMAGE)


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

    ``needed``: columns -> the parameter that names each; the first holds the concepts. ``optional``: columns that may be
    there. ``tell`` gets a line on what a user should know. Raises :class:`InputError` if the file or a column is missing.
    """
    table = read_table(path, needed, optional, tell)
    key = next(iter(needed))
    named = [(concept_name(row[key]), row) for _, row in table.rows]
    lines = [line for (line, _), (concept, _) in zip(table.rows, named, strict=True) if not concept]
    if lines:
        rows, are = counted(len(lines), "row names", "rows name"), "is" if len(lines) == 1 else "are"
        tell(f"{path}: {rows} no concept and {are} not used, first line {lines[0]}")
    return [(concept, row) for concept, row in named if concept]


def read_concepts(path: Path, slug_col: str, tell: Tell = warnings.warn) -> list[str]:
    """Concepts named in the column ``slug_col`` of a table, in file order; one that is named twice is there twice.

    Raises :class:`InputError` if the file or the column is missing, or nothing is named.
    """
    rows = read_concept_rows(path, {slug_col: "`slug_col`"}, tell=tell)
    if not rows:
        raise InputError(f"{path}: column '{slug_col}' names no concept; fill it, or name another with `slug_col`")
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


def hashed(path: str) -> str | ImageError:
    """SHA-256 of a file's or an object's bytes, or why they cannot be read."""
    try:
        return sha256_hex(read_bytes(path))
    except ImageError as e:
        return e


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
