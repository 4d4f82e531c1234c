"""All kept vectors of an index, or of one shard of it, as arrays sorted by concept: derived once, then memory-mapped.

Derived files lie in a cache folder of their own, named by the index's identity and the shard; what does not match it is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iconicity.indexer.errors import CorruptIndexError, mending
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.columns import StoredArray
from iconicity.indexer.store.files import are_derived, note_derived, turn
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Row

FORMAT = 1
_DONE = "done.json"
_FILES = ("clip.npy", "patches.npy", "references.parquet")


@dataclass(frozen=True)
class AllVectors:
    """Kept references sorted by ref_id, so that a concept's rows are contiguous.

    ``clip`` (n, D) and ``patches`` (n, K, D') are arrays or maps in the stored number type; concept i has the
    rows ``offsets[i]`` to ``offsets[i + 1]``. ``folder`` is where derived files may be kept, None: nowhere.
    """

    index_id: str
    ref_ids: pa.Array
    concepts: tuple[str, ...]
    order: Mapping[str, int]  # concept -> its place in ``concepts``
    offsets: npt.NDArray[np.int64]
    clip: StoredArray
    patches: StoredArray
    folder: Path | None

    def rows_of(self, concept: str) -> tuple[int, int]:
        """First row and the row after the last of a concept; (0, 0) when it has none."""
        i = self.order.get(concept)
        if i is None:
            return 0, 0
        return int(self.offsets[i]), int(self.offsets[i + 1])

    def concept_of(self, row: int) -> str:
        return self.concepts[int(np.searchsorted(self.offsets, row, side="right")) - 1]


def open_vectors(
    index: Index, cache: Path | None, progress: Progress = no_progress, shard: Shard | None = None
) -> AllVectors:
    """All kept vectors, or those of a shard's concepts: from ``cache`` where they are as they should be, else read
    from the index and put there.

    ``cache`` None: in memory. Raises :class:`CorruptIndexError` when a row does not match its checksum.
    """
    concepts = None if shard is None else {c for c in index.concepts() if c in shard}
    kept = sum(n.kept for c, n in index.concepts().items() if concepts is None or c in concepts)
    if cache is None or not kept:  # an empty file cannot be memory-mapped
        return _read(index, None, concepts, kept, progress)
    name = index.index_id if shard is None else f"{index.index_id}-{shard.number}-of-{shard.of}"
    folder = cache / "vectors" / name
    with turn(folder.with_suffix(".lock")):
        found = _open_derived(index, kept, folder)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _read(index, folder, concepts, kept, progress)
            found = _open_derived(index, kept, folder)
    if found is None:
        raise CorruptIndexError(
            f"{folder}: the file just written cannot be read; free space there, or work without a cache"
        )
    return found


def _shapes(index: Index, n: int) -> dict[str, tuple[int, ...]]:
    cells = index.reference_cells
    return {"clip": (n, index.store.clip_dim), "patches": (n, cells, index.store.patches_len // cells)}


def _facts(index: Index, rows: int) -> dict[str, Any]:
    return {"format": FORMAT, "index_id": index.index_id, "rows": rows}


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES]


def _read(index: Index, folder: Path | None, concepts: set[str] | None, kept: int, progress: Progress) -> AllVectors:
    """Copy rows into arrays. Raises :class:`CorruptIndexError` when there are not ``kept`` rows."""
    ref_ids, concept = index.store.kept_ids(concepts) if kept else (pa.array([], pa.string()),) * 2
    shapes, dtype = _shapes(index, len(ref_ids)), index.store.dtype
    arrays: dict[str, Any] = {
        name: np.empty(shape, dtype)
        if folder is None
        else np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, shape in shapes.items()
    }
    position = pd.Index(ref_ids.to_numpy(zero_copy_only=False))
    done = 0
    for rows in _chunks(index, concepts) if kept else ():
        done += len(rows)
        progress("vectors of the index", done, len(ref_ids))
        at = position.get_indexer([r.reference.ref_id for r in rows])
        arrays["clip"][at] = np.stack([r.clip for r in rows if r.clip is not None])
        arrays["patches"][at] = np.stack([r.patches for r in rows if r.patches is not None]).reshape(
            -1, *shapes["patches"][1:]
        )
    if not done == len(ref_ids) == kept:
        raise CorruptIndexError(f"{index.path}: {done} of {kept} kept references are there; {mending(index.path)}")
    if folder is not None:
        pq.write_table(pa.table({"ref_id": ref_ids, "concept": concept}), folder / "references.parquet")
        for array in arrays.values():
            array.flush()
        note_derived(folder / _DONE, _files(folder), _facts(index, len(ref_ids)))
    return _assemble(index.index_id, ref_ids, concept, arrays["clip"], arrays["patches"], folder)


def _chunks(index: Index, concepts: set[str] | None, size: int = 256) -> Iterator[list[Row]]:
    rows: list[Row] = []
    for row in index.store.kept_rows(concepts):
        rows.append(row)
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows


def _open_derived(index: Index, kept: int, folder: Path) -> AllVectors | None:
    """The derived files. None when they are damaged or belong to another index."""
    if not are_derived(folder / _DONE, _files(folder), _facts(index, kept)):
        return None
    try:
        table = pq.read_table(folder / "references.parquet")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("clip", "patches")}
    except (OSError, ValueError, EOFError, pa.ArrowException):
        return None
    shapes = _shapes(index, kept)
    if any(a.shape != shapes[n] or a.dtype != index.store.dtype for n, a in arrays.items()):
        return None
    ref_ids, concept = (table.column(c).combine_chunks() for c in ("ref_id", "concept"))
    return _assemble(index.index_id, ref_ids, concept, arrays["clip"], arrays["patches"], folder)


def _assemble(
    index_id: str, ref_ids: pa.Array, concept: pa.Array, clip: StoredArray, patches: StoredArray, folder: Path | None
) -> AllVectors:
    runs = pc.run_end_encode(concept)
    ends = runs.run_ends.to_numpy()
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    concepts = tuple(runs.values.to_pylist())
    order = {c: i for i, c in enumerate(concepts)}
    return AllVectors(index_id, ref_ids, concepts, order, offsets, clip, patches, folder)
