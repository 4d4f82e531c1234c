"""How generated images may lie on disk in folders with metadata. Each layout is a generator of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from unicodedata import normalize

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import LEADS_OUT, NOT_UTF8, is_text, shown
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.listing import Source, name_within
from iconicity.indexer.sources.metadata import FILE_NAME, KNOWN, Columns, Fields, find_metadata, open_metadata
from iconicity.indexer.sources.suffixes import UNSUPPORTED, is_image, is_read
from iconicity.indexer.sources.tables import Row, open_table
from iconicity.indexer.text import counted

_GENEVAL = ("tag", "include", "exclude")  # fields of a prompt that say nothing of its images
_NOBODY = "/"  # instead of a folder with metadata; no folder is called so


def metadata_below(root: Path) -> dict[str, Path]:
    """Metadata files of a folder, and those below it that name files: folder, as "" or "train/", -> file.

    Raises :class:`InputError` when a folder has two.
    """
    found = {}
    for below in _walk(root)[1]:
        path = find_metadata(root / below)
        if path is not None and (not below or (not is_geneval(root / below) and _names_files(path))):
            found[below] = path
    return found


def _names_files(path: Path) -> bool:
    return FILE_NAME in open_table(path, KNOWN, lambda _: None, only=True).columns


def imagefolder_images(source: Source, root: Path, metadata: Mapping[str, Path]) -> Iterator[Image]:
    """Hugging Face ``imagefolder``: the metadata file nearest above an image names it, by ``file_name``.

    ``metadata``: folder below the root -> its file. An image that has none above it belongs to its folder's concept. A
    row never reaches a file outside of its own folder, by ``..`` or an absolute path, nor by a link unless links are
    followed.
    """
    columns, base = Columns(), (root / "x").as_posix()[:-1]  # a Path for each row would take half of the time
    files = _Files(_walk(root)[0])
    owned: dict[str, set[str]] = {}  # folder with metadata -> images it is the nearest of
    for name in files.names:
        owned.setdefault(_nearest(name, metadata), set()).add(name)
    for below, path in metadata.items():
        listed: dict[str, int] = {}  # file -> line
        yield from _row_images(source, base, below, metadata, files, columns, listed)
        if unlisted := owned.get(below, set()) - listed.keys():
            verb = "it does" if len(unlisted) == 1 else "they do"
            source.tell(
                f"{path}: does not list {counted(len(unlisted), 'image')} of its folder, and {verb} not count, "
                f"first {min(unlisted)[len(below) :]}"
            )
    yield from (_image(source, base, name, Fields(), "") for name in owned.get(_NOBODY, ()))
    for line in columns.notices(metadata[min(metadata)] if len(metadata) == 1 else root):
        source.tell(line)


def _row_images(
    source: Source,
    base: str,
    below: str,
    metadata: Mapping[str, Path],
    files: _Files,
    columns: Columns,
    listed: dict[str, int],
) -> Iterator[Image]:
    """What the metadata file of one folder names; ``listed`` gets its paths. ``base``: the root as the start of a path."""
    file = str(metadata[below])
    elsewhere: list[str] = []
    table = open_metadata(metadata[below], partial(columns.fault, "delimiter"))
    columns.see(table.columns)
    for line, row in table.lines:
        where = f"{file}:{line}"
        if isinstance(row, str):
            yield Image(where, problem=row)
            continue
        try:
            name = _relative(row.get(FILE_NAME), below, files)
        except ValueError as e:
            yield Image(where, problem=str(e))
            continue
        before = listed.setdefault(name, line)
        if before != line:
            yield Image(where, problem=f"{name} is listed in line {before} already; remove one of the two")
        elif name in files.names and _nearest(name, metadata) != below:
            elsewhere.append(name)
        else:
            yield _image(source, base, name, columns.read(row, where), where, name in files.names)
    if elsewhere:
        nearer = metadata[_nearest(elsewhere[0], metadata)]
        source.tell(
            f"{file}: lists {counted(len(elsewhere), 'image')} for which a nearer metadata file counts instead, "
            f"first {elsewhere[0]} ({nearer})"
        )


def _image(source: Source, base: str, name: str, fields: Fields, where: str, on_disk: bool = True) -> Image:
    path = base + name
    concept = source.concept(fields, name.rpartition("/")[0].rpartition("/")[2])
    if not concept:
        return Image(path, prompt=fields.prompt)
    if not on_disk and not source.stays(name):
        return Image(path, concept, problem=LEADS_OUT)
    if is_image(name) and not is_read(name):
        return Image(path, concept, problem=UNSUPPORTED)
    return source.image(concept, name_within(concept, name), path, fields, where)


def _nearest(name: str, metadata: Mapping[str, Path]) -> str:
    """Folder of the metadata file nearest above a path."""
    folder = name.rpartition("/")[0]
    while folder:
        if f"{folder}/" in metadata:
            return f"{folder}/"
        folder = folder.rpartition("/")[0]
    return "" if "" in metadata else _NOBODY


def _relative(name: object, below: str, files: _Files) -> str:
    """A path below the root, as the disk itself spells it. Raises ValueError with what is wrong."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"no {FILE_NAME}")
    if below + name in files.names:
        return below + name
    if "\0" in name or not is_text(name):
        raise ValueError(f"{FILE_NAME} {name[:80]!a} is not a file name")
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    if name.strip().startswith(("/", "\\")) or ".." in parts or not parts:
        raise ValueError(f"{FILE_NAME} {name[:80]!r} leaves the folder; it must be a path below it")
    return files.spelled(below + "/".join(parts))


class _Files:
    """Image files below a root by their paths, as the disk spells them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self._forms: dict[str, str] = {}

    def spelled(self, name: str) -> str:
        """The path on the disk that differs from ``name`` in the form of Unicode at most; else ``name``."""
        if name not in self.names and not self._forms:
            self._forms = {normalize("NFC", n): n for n in self.names}
        return name if name in self.names else self._forms.get(normalize("NFC", name), name)


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Relative paths of image files below a folder, and of the folders, as "" or "train/": no links, nothing hidden."""
    images: list[str] = []
    folders = [""]
    for below in folders:
        with os.scandir(root / below) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.is_symlink() or not is_text(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(f"{below}{entry.name}/")
                elif is_image(entry.name):
                    images.append(below + entry.name)
    return images, folders


def is_geneval(folder: Path) -> bool:
    """Whether a folder is one prompt's folder of GenEval."""
    return (folder / "metadata.jsonl").is_file() and (folder / "samples").is_dir()


def geneval_images(source: Source, folders: Sequence[Path]) -> Iterator[Image]:
    """GenEval: a folder for each prompt, with a ``metadata.jsonl`` of one object, and images in ``samples``."""
    columns, others = Columns(_GENEVAL), []
    for folder in folders:
        if not is_geneval(folder):
            others.append(folder)
            continue
        metadata = folder / "metadata.jsonl"
        if not all(map(source.stays, (folder.name, f"{folder.name}/metadata.jsonl", f"{folder.name}/samples"))):
            yield Image(shown(folder), problem=LEADS_OUT)
            continue
        row = _first_object(metadata)
        if row is None or not is_text(str(folder)):
            yield Image(shown(metadata), problem="holds no JSON object" if row is None else "its path is not UTF-8")
            continue
        yield from _samples(source, folder, row, columns)
    for line in columns.notices(source.root):
        source.tell(line)
    if others:
        source.tell(
            f"{source.root}: {counted(len(others), 'folder')} without metadata.jsonl beside samples/ {'was' if len(others) == 1 else 'were'} "
            f"ignored, first {shown(others[0])}"
        )


def _samples(source: Source, folder: Path, row: Row, columns: Columns) -> Iterator[Image]:
    """The images of one prompt's folder."""
    where, seeds = str(folder / "metadata.jsonl"), row.get("seed")
    common = columns.read({**row, "seed": None}, where)
    names = sorted(p.name for p in (folder / "samples").iterdir() if is_image(p.name))
    for i, name in enumerate(n for n in names if not n.startswith(".")):
        path = folder / "samples" / name
        concept = source.concept(common, None)
        if not concept:
            yield Image(shown(path), prompt=common.prompt)
        elif not is_text(name) or not source.stays(f"{folder.name}/samples/{name}"):
            yield Image(shown(path), concept, problem=LEADS_OUT if is_text(name) else NOT_UTF8)
        elif not is_read(name):
            yield Image(path.as_posix(), concept, problem=UNSUPPORTED)
        else:
            number = int(path.stem) if path.stem.isdecimal() and len(path.stem) < 10 else i
            seed = (seeds[number] if number < len(seeds) else None) if isinstance(seeds, list) else seeds
            fields = common._replace(seed=columns.seed(seed, where))
            yield source.image(concept, f"{folder.name}/{name}", path.as_posix(), fields, where)


def _first_object(path: Path) -> Row | None:
    try:
        _, row = next(open_table(path, KNOWN).lines, (0, ""))
    except InputError:
        return None
    return None if isinstance(row, str) else row
