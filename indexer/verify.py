"""Is every byte of an index what its builder wrote?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iconicity.indexer.errors import CorruptIndexError, IndexFormatError
from iconicity.indexer.files import LOCK, file_sha256
from iconicity.indexer.index import open_index
from iconicity.indexer.manifest import MANIFEST, index_id
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.store import row_checksum

NORM_TOLERANCE = {np.float32: 1e-5, np.float16: 2e-3}


def verify_index(path: Path, progress: Progress = no_progress) -> list[str]:
    """Problems found, one line each, none when the index is whole.

    Checks the manifest's digest, the SHA-256 of every file, and per row the checksum, the norms (1 +- 1e-5; float16: 2e-3),
    NaN, and that kept rows have vectors and dropped ones none; counts and index_id against the manifest.
    """
    problems: list[str] = []
    try:
        index = open_index(path)
    except (CorruptIndexError, IndexFormatError) as e:
        return [str(e)]
    listed: dict[str, str] = dict(index.manifest["files"])
    present = {
        p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file() and p.name not in {LOCK, MANIFEST}
    }
    for name in sorted(listed.keys() - present.keys()):
        problems.append(f"{path / name}: listed in the manifest, but gone")
    for name in sorted(present.keys() - listed.keys()):
        problems.append(f"{path / name}: not listed in the manifest")
    for name in sorted(present.keys() & listed.keys()):
        if file_sha256(present[name]) != listed[name]:
            problems.append(f"{path / name}: bytes differ from what was written")
    try:
        identities = []
        kept = 0
        for row, checksum in index.store.rows_with_checksums():
            ref = row.reference
            identities.append((ref.ref_id, ref.sha256, checksum))
            progress("rows", len(identities), index.manifest["counts"]["references"])
            kept += ref.kept
            if row_checksum(ref, row.clip, row.patches) != checksum:
                problems.append(f"{ref.ref_id}: row does not match its checksum")
            if ref.kept != (row.clip is not None) or ref.kept != (row.patches is not None):
                problems.append(f"{ref.ref_id}: kept={ref.kept}, but its vectors say otherwise")
            elif row.clip is not None and row.patches is not None:
                vectors = (row.clip[None], row.patches.reshape(index.grid[0] * index.grid[1], -1))
                norms = np.concatenate([np.linalg.norm(v.astype(np.float64), axis=1) for v in vectors])
                if not np.all(np.abs(norms - 1.0) <= NORM_TOLERANCE[index.store.dtype]):
                    problems.append(f"{ref.ref_id}: vectors are not of unit length")
    except CorruptIndexError as e:
        return [*problems, str(e)]
    counts = index.manifest["counts"]
    if (len(identities), kept) != (counts["references"], counts["kept"]):
        problems.append(
            f"{path}: {len(identities)} rows ({kept} kept), the manifest says {counts['references']} ({counts['kept']})"
        )
    if len({i[0] for i in identities}) != len(identities):
        problems.append(f"{path}: some ref_id stands in more than one row")
    if index_id(identities, [s.fingerprint for s in index.specs]) != index.index_id:
        problems.append(f"{path}: rows do not add up to the manifest's index_id")
    return problems
