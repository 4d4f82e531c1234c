"""How generated images may lie on disk, besides one plain folder a concept. Each layout fills a :class:`Listing`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from iconicity.indexer.images import LEADS_OUT, NOT_UTF8, is_text, shown
from iconicity.indexer.suffixes import UNSUPPORTED, is_image, is_read
from iconicity.indexer.tar import TarIndex, read_member, tar_index
from iconicity.scorer.listing import Listing, name_within
from iconicity.scorer.metadata import FILE_NAME, Columns, Fields, Row, clean, parse_object, read_json_lines, read_rows

_SIDECAR_BYTES = 1 << 20  # a sidecar that is larger describes no image


def list_imagefolder(listing: Listing, root: Path, metadata: Path) -> None:
    """Hugging Face ``imagefolder``: the metadata file of a folder names the images below it, by ``file_name``.

    A row never reaches a file outside of the folder, by ``..`` or an absolute path, nor by a link unless links are followed.
    """
    columns = Columns()
    base, source = (root / "x").as_posix()[:-1], str(metadata)  # a Path for each row would take half of the time
    stays = listing.stays
    on_disk = set(_image_files(root))
    listed: dict[str, int] = {}  # file -> line
    for line, row in read_rows(metadata):
        where = f"{source}:{line}"
        if isinstance(row, str):
            listing.skip(where, "", row)
            continue
        try:
            name = _relative(row.get(FILE_NAME), on_disk)
        except ValueError as e:
            listing.skip(where, "", str(e))
            continue
        before = listed.setdefault(name, line)
        if before != line:
            listing.skip(where, "", f"{name} is listed in line {before} already; remove one of the two")
            continue
        path = base + name
        fields = columns.read(row, where)
        folder = name.rpartition("/")[0].rpartition("/")[2]
        concept = listing.concept(fields, folder, path)
        if concept is None:
            continue
        if name not in on_disk and not stays(name):
            listing.skip(path, concept, LEADS_OUT)
        elif is_image(name) and not is_read(name):
            listing.skip(path, concept, UNSUPPORTED)
        else:
            listing.add(concept, (name_within(concept, name), name), path, fields, where)
    listing.notices += columns.notices()
    unlisted = on_disk - listed.keys()
    if unlisted:
        listing.notices.append(
            f"{metadata}: does not list {len(unlisted)} images of its folder, and they do not count, first {min(unlisted)}"
        )


def _relative(name: object, on_disk: set[str]) -> str:
    """A path below the folder, as the folder itself spells it. Raises ValueError with what is wrong."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"no {FILE_NAME}")
    if name in on_disk:
        return name
    if "\0" in name or not is_text(name):
        raise ValueError(f"{FILE_NAME} {name[:80]!a} is no name of a file")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts:
        raise ValueError(f"{FILE_NAME} {name[:80]!r} leaves the folder; it must be a path below it")
    return "/".join(parts)


def _image_files(root: Path) -> Iterator[str]:
    """Relative paths of the image files below a folder: no links, nothing hidden."""
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(root / below) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.is_symlink() or not is_text(entry.name):
                    continue
                if entry.is_dir():
                    pending.append(f"{below}{entry.name}/")
                elif is_image(entry.name):
                    yield below + entry.name


def is_geneval(folder: Path) -> bool:
    """Whether a folder is one prompt's folder of GenEval."""
    return (folder / "metadata.jsonl").is_file() and (folder / "samples").is_dir()


def list_geneval(listing: Listing, folders: Sequence[Path]) -> None:
    """GenEval: a folder for each prompt, with a ``metadata.jsonl`` of one object, and images in ``samples``."""
    columns, others = Columns(), []
    for folder in folders:
        if not is_geneval(folder):
            others.append(folder)
            continue
        metadata = folder / "metadata.jsonl"
        if not all(map(listing.stays, (folder.name, f"{folder.name}/metadata.jsonl", f"{folder.name}/samples"))):
            listing.skip(shown(folder), "", LEADS_OUT)
            continue
        row = _first_object(metadata)
        if row is None or not is_text(str(folder)):
            listing.skip(shown(metadata), "", "holds no JSON object" if row is None else "its path is not UTF-8")
            continue
        seeds = row.get("seed")
        common = columns.read({**row, "seed": None}, str(metadata))
        names = sorted(p.name for p in (folder / "samples").iterdir() if is_image(p.name))
        for i, name in enumerate(n for n in names if not n.startswith(".")):
            path = folder / "samples" / name
            concept = listing.concept(common, None, shown(path))
            if concept is None:
                continue
            if not is_text(name) or not listing.stays(f"{folder.name}/samples/{name}"):
                listing.skip(shown(path), concept, LEADS_OUT if is_text(name) else NOT_UTF8)
                continue
            if not is_read(name):
                listing.skip(path.as_posix(), concept, UNSUPPORTED)
                continue
            number = int(path.stem) if path.stem.isdecimal() and len(path.stem) < 10 else i
            seed = (seeds[number] if number < len(seeds) else None) if isinstance(seeds, list) else seeds
            fields = common._replace(seed=columns.seed(seed, str(metadata)))
            listing.add(concept, (f"{folder.name}/{name}",), path.as_posix(), fields, str(metadata))
    listing.notices += columns.notices()
    if others:
        listing.notices.append(
            f"{listing.root}: {len(others)} folders have no metadata.jsonl beside samples/ and were ignored, first {shown(others[0])}"
        )


def _first_object(path: Path) -> Row | None:
    try:
        _, row = next(read_json_lines(path), (0, ""))
    except OSError:
        return None
    return None if isinstance(row, str) else row


def list_webdataset(listing: Listing, tars: Sequence[Path]) -> None:
    """WebDataset: members of a tar that share a key (the path up to the first dot of its last part) are one sample.

    A sample's image is listed by a path through the tar. Its ``.json`` gives the fields, its ``.txt`` the prompt.
    """
    columns = Columns()
    for tar in tars:
        if tar != listing.root and not listing.stays(tar.name):
            listing.skip(shown(tar), "", LEADS_OUT)
            continue
        try:
            index = tar_index(tar)
        except OSError as e:
            listing.skip(shown(tar), "", f"cannot be read: {e.strerror or e}")
            continue
        if index.damage is not None:
            listing.skip(shown(tar), "", index.damage)
        if index.others:
            listing.notices.append(f"{tar}: {index.others} links, devices or sparse files in it were ignored")
        for member in index.members:
            folder, _, base = member.rpartition("/")
            if base.startswith(".") or not is_image(base):
                continue
            path = f"{tar.as_posix()}/{member}"
            if not is_text(path):
                listing.skip(shown(Path(path)), "", "its name is not UTF-8; rename it")
                continue
            if not is_read(base):
                listing.skip(path, "", UNSUPPORTED)
                continue
            key = member[: len(member) - len(base)] + base.partition(".")[0]
            fields = _sidecars(tar, index, key, columns)
            concept = listing.concept(fields, folder.rpartition("/")[2], path)
            if concept is None:
                continue
            # a label must stay one wherever it is used to name a file
            label = "/".join("__" if part == ".." else part for part in name_within(concept, member).split("/"))
            name = label if tar == listing.root else f"{tar.name}/{label}"
            listing.add(concept, (name,), path, fields, f"{tar}/{key}")
    listing.notices += columns.notices()


def _sidecars(tar: Path, index: TarIndex, key: str, columns: Columns) -> Fields:
    fields = Fields()
    if (data := _sidecar(tar, index, f"{key}.json", columns)) is not None:
        row = parse_object(data)
        if row is None:
            columns.fault("json", f"{tar}/{key}.json: no JSON object, and was passed over")
        else:
            fields = columns.read(row, f"{tar}/{key}.json")
    if fields.prompt is None and (data := _sidecar(tar, index, f"{key}.txt", columns)) is not None:
        fields = fields._replace(prompt=clean(data.decode("utf-8", "replace")) or None)
    return fields


def _sidecar(tar: Path, index: TarIndex, member: str, columns: Columns) -> bytes | None:
    found = index.members.get(member)
    if found is None:
        return None
    if found[1] > _SIDECAR_BYTES:
        columns.fault("large", f"{tar}/{member}: {found[1]} bytes are too many for a sidecar; it was passed over")
        return None
    return read_member(tar, member)
