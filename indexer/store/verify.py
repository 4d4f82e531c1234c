"""Is every byte of an index what its builder wrote, and every source image what was indexed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from iconicity.indexer.errors import CorruptIndexError, ImageError, IndexFormatError, LockedError
from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.sources.folders import read_bytes, sha256_hex
from iconicity.indexer.sources.moved import moved_references
from iconicity.indexer.store.files import LOCKS, Reading, writer_of
from iconicity.indexer.store.index import Index, damaged_files, open_index
from iconicity.indexer.store.manifest import MANIFEST, index_id, read_manifest
from iconicity.indexer.store.rows import Reference, Row, row_checksum
from iconicity.indexer.store.table import HINT
from iconicity.indexer.text import counted

NORM_TOLERANCE = {np.float32: 1e-5, np.float16: 2e-3}


def verify_index(
    path: Place | str, progress: Progress = no_progress, *, deep: bool = False, refs: Place | None = None
) -> list[str]:
    """Problems found, one line each, none when the index is whole.

    Checks the manifest's digest, the SHA-256 of every file, and per row the checksums, the norms (1 +- 1e-5; float16: 2e-3),
    NaN, and that kept rows have vectors and dropped ones none; counts and index_id against the manifest. ``deep``
    reads every source image again, where it was indexed from, or below ``refs``. Raises :class:`LockedError` while the index is built:
    its new files belong to no finished index yet.
    """
    path = place(path)
    _require_no_builder(path)
    held = isinstance(path, Path) and (path / MANIFEST).is_file()
    reading = Reading(path) if held else None  # held until all is read
    problems = list(_problems(path, progress, deep, refs))
    if problems:
        _require_no_builder(path)
    del reading
    return problems


def _require_no_builder(path: Place) -> None:
    builder = writer_of(path)
    if builder is not None:
        raise LockedError(f"{path}: {builder} is building this index; verify it when that is done")


def _problems(path: Place, progress: Progress, deep: bool, refs: Place | None) -> Iterator[str]:
    found: list[str] = []
    try:
        for problem in file_problems(path, read_manifest(path)):
            found.append(problem)
            yield problem
        index = open_index(path)
        yield from _rows(index, progress)
        references = index.references()  # this read tests the checksum of the scalar columns
        yield from _thresholds(index, references)
    except (CorruptIndexError, IndexFormatError) as e:
        if not any(f in str(e) for f in found):
            yield str(e)
        return
    if deep:
        path_of = None if refs is None else moved_references(refs)
        for i, r in enumerate(references.values()):
            progress("source images", i + 1, len(references))
            source = r.path if path_of is None else path_of(r.ref_id)
            try:
                if sha256_hex(read_bytes(source)) != r.sha256:
                    yield f"{source}: bytes differ from what was indexed as {r.ref_id}"
            except ImageError as e:
                yield f"{e}; indexed as {r.ref_id}"


def file_problems(path: Place, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Files that are gone, not of the index, or not as they were written, one line each.

    None of an index that was made on object storage, also where it was copied to a disk: it lists no files.
    """
    if isinstance(path, Remote) or not manifest["files"]:
        return
    apart = {*LOCKS, MANIFEST, HINT}
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and p.name not in apart}
    listed = manifest["files"].keys()
    for name in sorted(listed - present) if manifest["cleaned"] else ():  # else older versions' may be gone
        yield f"{path / name}: listed in the manifest, but gone"
    for name in sorted(present - listed):
        yield f"{path / name}: not listed in the manifest"
    for file in damaged_files(path, manifest, data=True):
        yield f"{file}: bytes differ from what was written"


def _rows(index: Index, progress: Progress) -> Iterator[str]:
    identities = []
    kept = 0
    counts = index.manifest["counts"]
    for row, checksum in index.store.rows_with_checksums():
        ref = row.reference
        identities.append((ref.ref_id, ref.sha256, checksum))
        progress("rows", len(identities), counts["references"])
        kept += ref.kept
        if row_checksum(ref, row.clip, row.patches) != checksum:
            yield f"{ref.ref_id}: row does not match its checksum"
        if ref.kept != (row.clip is not None) or ref.kept != (row.patches is not None):
            yield f"{ref.ref_id}: kept={ref.kept}, but its vectors say otherwise"
        elif not _of_unit_length(row, index):
            yield f"{ref.ref_id}: vectors are not of unit length"
    if (len(identities), kept) != (counts["references"], counts["kept"]):
        yield f"{index.path}: {counted(len(identities), 'row')} ({kept} kept), the manifest says {counts['references']} ({counts['kept']})"
    if len({i[0] for i in identities}) != len(identities):
        yield f"{index.path}: two rows have the same ref_id"
    if index_id(identities, [s.fingerprint for s in index.specs]) != index.index_id:
        yield f"{index.path}: the index_id of its rows is not that of the manifest"


def _thresholds(index: Index, references: Mapping[str, Reference]) -> Iterator[str]:
    """References that the thresholds were fitted on must be there: ``score`` looks for neighbours among them."""
    for ref_id in index.manifest.get("thresholds", {}).get("queries", ()):
        if ref_id not in references or not references[ref_id].kept:
            yield f"{index.path}: its thresholds were fitted on {ref_id}, which is not one of its kept references"


def _of_unit_length(row: Row, index: Index) -> bool:
    """Whether the vectors of a row have unit length. True for a dropped row, which has none; False for NaN."""
    if row.clip is None or row.patches is None:
        return True
    vectors = (row.clip[None], row.patches.reshape(index.reference_cells, -1))
    norms = np.concatenate([np.linalg.norm(v.astype(np.float64), axis=1) for v in vectors])
    return bool(np.all(np.abs(norms - 1.0) <= NORM_TOLERANCE[index.store.dtype]))
