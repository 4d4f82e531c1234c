"""Mend an index: go back to the last whole version of its table, or keep the right rows and embed the others again."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iconicity.indexer.builder import Builder, manifest_or_none, seal, skipped_files
from iconicity.indexer.errors import CorruptIndexError, ImageError, IndexFormatError
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.sources.folders import read_bytes, sha256_hex
from iconicity.indexer.sources.image import stored_image
from iconicity.indexer.store.files import lock, replacing
from iconicity.indexer.store.index import damaged_files
from iconicity.indexer.store.manifest import MANIFEST, encoder_specs, index_id
from iconicity.indexer.store.rows import Reference, ReferenceStore, Row
from iconicity.indexer.store.table import SET_ASIDE, ends_well, is_table, sweep_table, versions_folder, versions_of
from iconicity.indexer.store.verify import file_problems
from iconicity.indexer.text import counted

_PART = 256  # rows read at once; where that fails halves are, until single rows are left
Manifest = Mapping[str, Any]
Lost = Reference | None  # a row that is not right: its scalar columns, where these are


@dataclass
class Repair:
    """Report of a repair, one line for each step. ``lost`` names rows that only a build can bring back."""

    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    embedded: int = 0
    unfinished: bool = False  # the table is that of an unfinished build, which has to be run again


def repair_index(
    index: Place | str,
    *,
    run: Run = Run(),
) -> Repair:
    """Make a damaged index whole, and say what could not be saved.

    A whole version of its table is taken back as it is. Where there is none, rows that match their checksums are
    kept, and the others embedded again from their files if these are as they were indexed. Raises
    :class:`IndexFormatError` or :class:`CorruptIndexError` when there is nothing to go by, :class:`LockedError`
    while a build runs.
    """
    index = place(index)
    if isinstance(index, Remote):
        raise IndexFormatError(
            f"{index}: an index on object storage cannot be mended in place; run 'iconicity index build' again, or copy it to a disk"
        )
    if not is_table(index):
        raise IndexFormatError(f"{index}: holds no table of references; make one with 'iconicity index build'")
    repair = Repair()
    with lock(index, "building this index"):
        manifest = manifest_or_none(index)
        if manifest is not None:
            _restore_version_file(index, manifest, repair)
        for path in index.rglob(f"_versions/*{SET_ASIDE}"):  # left by a repair that was killed
            path.rename(path.with_suffix(".manifest"))
        sweep_table(index)
        version, lost = _best_version(index, manifest, repair)
        old = ReferenceStore.require(index, version)
        if manifest is not None and version == manifest["table_version"] and not lost:
            lost = _doubled(old)
            if (
                not lost
                and index_id(old.identities(), [s.fingerprint for s in encoder_specs(old.settings)])
                != manifest["index_id"]
            ):
                repair.lost.append(
                    f"its {counted(old.count(), 'row is', 'rows are')} not the {manifest['counts']['references']} that were written"
                )
        if not lost and ends_well(versions_of(index)[version]):
            _take_back(index, version, manifest, repair)
            return repair
        bad = {r.ref_id for r in lost if r is not None}
        store = old.rewrite([row for row in rows if row.reference.ref_id not in bad] for rows, _ in _parts(old))
        store.sync()
        if lost:
            repair.done.append(
                f"{counted(store.count(), 'row is right and was kept', 'rows are right and were kept')}, {counted(len(lost), 'was', 'were')} not"
            )
        else:
            repair.done.append(
                f"version {version}: its file is cut off; its {counted(store.count(), 'row was', 'rows were')} written anew"
            )
        _drop_versions(index, {store.version, None if manifest is None else manifest["table_version"]}, repair)
        if not _is_finished(index, version, manifest):
            repair.unfinished = True  # the build embeds them again
            return repair
        images = [stored_image(r.path, r.concept, r.ref_id, r.sha256) for r in store.references().values()]
        again = {r.ref_id: r for r in (_as_indexed(row, repair) for row in lost) if r is not None}
        images += [stored_image(r.path, r.concept, r.ref_id, None)._replace(stored=False) for r in again.values()]
        skipped = skipped_files(manifest) if manifest is not None else []
        report = Builder(index, store, run, "repair").run(images, skipped)
        repair.embedded = report.embedded
        repair.done.append(f"{counted(report.embedded, 'image')} embedded again")
    return repair


def _restore_version_file(index: Path, manifest: Manifest, repair: Repair) -> None:
    """Restore the file that a table version needs, from its copy in the manifest."""
    name, content = manifest["version_file"]["name"], base64.b64decode(manifest["version_file"]["base64"])
    path = versions_folder(index) / name
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as tmp:
            tmp.write_bytes(content)
        repair.done.append(f"{path}: restored from its copy in {MANIFEST}")


def _best_version(index: Path, manifest: Manifest | None, repair: Repair) -> tuple[int, list[Lost]]:
    """The newest whole version of the table, else the best of the others with its bad rows. Newer ones are dropped.

    Work that was not finished counts only where all is well with what was; of a first build, the version with the
    most rows that are right. A version that does not open hides those before it, and is set aside.
    """
    sealed = None if manifest is None else int(manifest["table_version"])
    finished_is_whole = (
        manifest is not None
        and all((index / name).is_file() for name in manifest["files"])
        and not any(True for _ in damaged_files(index, manifest, data=True))
    )
    first = not (index / MANIFEST).is_file()
    best: tuple[int, list[Lost]] | None = None
    right = -1  # rows of the best
    aside: dict[int, Path] = {}
    for version, path in reversed(versions_of(index).items()):
        try:
            store = ReferenceStore.require(index, version)
        except IndexFormatError:
            aside[version] = path.rename(path.with_suffix(SET_ASIDE))
            continue
        if sealed is not None and version > sealed and not finished_is_whole:
            continue
        if first and store.count() <= right:
            continue
        lost = [r for _, bad in _parts(store) for r in bad]
        if best is None or not lost or version == sealed or (first and store.count() - len(lost) > right):
            best, right = (version, lost), store.count() - len(lost)
        if not lost or version == sealed:
            break
    if best is None:
        for path in aside.values():
            path.rename(path.with_suffix(".manifest"))
        raise CorruptIndexError(f"{index}: no version of its table can be opened; delete the folder and build it again")
    newer = {v: path for v, path in (versions_of(index) | aside).items() if v > best[0]}
    for path in newer.values():
        path.unlink()
    if newer:
        later = counted(len(newer), "later one")
        repair.done.append(f"went back to version {best[0]}: {later} of a build that did not finish dropped")
    for version, path in aside.items():
        if version not in newer:
            path.rename(path.with_suffix(".manifest"))
    _drop_versions(index, {best[0], sealed}, repair)
    return best


def _drop_versions(index: Path, kept: set[int | None], repair: Repair) -> None:
    """Earlier versions that are not whole would stop every cleaning; others may have readers."""
    for version, path in versions_of(index).items():
        if version not in kept and not (ends_well(path) and _opens(index, version)):
            path.unlink()
            repair.done.append(f"{path}: an earlier version that is not whole, dropped")


def _opens(index: Path, version: int) -> bool:
    try:
        ReferenceStore.require(index, version)
    except IndexFormatError:
        return False
    return True


def _is_finished(index: Path, version: int, manifest: Manifest | None) -> bool:
    """Whether a version is what a build left at its end; where the manifest is damaged that cannot be told, and is taken so."""
    return (index / MANIFEST).is_file() if manifest is None else bool(manifest["table_version"] == version)


def _take_back(index: Path, version: int, manifest: Manifest | None, repair: Repair) -> None:
    """Keep a version whose rows are all right, and mend the manifest and the files beside it."""
    store = ReferenceStore.require(index)
    assert store.version == version
    if not _is_finished(index, version, manifest):
        repair.unfinished = True
    elif manifest is None:
        seal(index, store, [], {"command": "repair"})
        repair.done.append(
            f"{index / MANIFEST}: written anew; its lists of unusable files and of creators are lost, and 'iconicity index build' makes them again"
        )
    else:
        problems = list(file_problems(index, manifest))
        if problems:
            seal(index, store, manifest["skipped"], {"command": "repair"})
            repair.done += [f"{p}: mended" for p in problems]


def _doubled(store: ReferenceStore) -> list[Lost]:
    """Rows whose ref_id stands in more than one: a deletion was forgotten, and which one is true the file must tell."""
    held = [reference for start in range(0, store.count(), _PART) for reference, _ in store.references_at(start, _PART)]
    n = Counter(r.ref_id for r in held)
    return [r for r in held if n[r.ref_id] > 1]


def _parts(store: ReferenceStore) -> Iterator[tuple[list[Row], list[Lost]]]:
    """Yield the right rows and the bad rows, a few hundred at once."""
    for start in range(0, store.count(), _PART):
        rows: list[Row] = []
        lost: list[Lost] = []
        _read(store, start, min(_PART, store.count() - start), rows, lost)
        yield rows, lost


def _read(store: ReferenceStore, start: int, n: int, rows: list[Row], lost: list[Lost]) -> None:
    try:
        found = store.rows_at(start, n)
        if len(found) != n:
            raise CorruptIndexError(f"{store.directory}: {len(found)} of {counted(n, 'row')}")
    except CorruptIndexError:
        if n > 1:
            _read(store, start, n // 2, rows, lost)
            _read(store, start + n // 2, n - n // 2, rows, lost)
        else:
            lost.append(_scalars(store, start))
        return
    for i, (row, right) in enumerate(found):
        if right:
            rows.append(row)
        else:
            lost.append(_scalars(store, start + i))


def _scalars(store: ReferenceStore, position: int) -> Lost:
    try:
        found = store.references_at(position, 1)
    except CorruptIndexError:
        return None
    return found[0][0] if found and found[0][1] else None


def _as_indexed(reference: Lost, repair: Repair) -> Reference | None:
    """Return the reference of a bad row if its file is unchanged. Otherwise report why it is lost."""
    if reference is None:
        repair.lost.append("a row whose name cannot be read")
        return None
    try:
        if sha256_hex(read_bytes(reference.path)) == reference.sha256:
            return reference
        repair.lost.append(f"{reference.ref_id}: {reference.path} has changed since it was indexed")
    except ImageError as e:
        repair.lost.append(f"{reference.ref_id}: {e}")
    return None
