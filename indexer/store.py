"""The ``references`` table in LanceDB: rows in, rows out. Knows no model and no metric.

LanceDB checks no bytes, syncs no file and doubles rows without a declared primary key; so every row has a
checksum, the key is declared at creation, writes are upserts, and files are synced here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from iconicity.indexer.encoders import FloatArray, canonical_json
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError

TABLE = "references"
_KEY = {"lance-schema:unenforced-primary-key:position": "1"}
_SETTINGS = b"iconicity"
_CHUNK = 1000  # keys in one filter expression


@dataclass(frozen=True)
class Reference:
    """One reference image, as stored, without its vectors."""

    ref_id: str
    concept: str
    path: str
    sha256: str
    width: int
    height: int
    phash: str
    kept: bool
    dup_of: str | None
    dup_distance: int | None


SCALARS = tuple(f.name for f in fields(Reference))


@dataclass(frozen=True)
class Row:
    """A reference with its vectors: ``clip`` (D,) and ``patches`` (K, D'), both None when dropped."""

    reference: Reference
    clip: FloatArray | None
    patches: FloatArray | None


@dataclass(frozen=True)
class VectorBlock:
    """Kept references sorted by ref_id: ``clip`` (n, D) and ``patches`` (n, K, D') as contiguous arrays."""

    references: tuple[Reference, ...]
    clip: FloatArray
    patches: FloatArray


def row_checksum(reference: Reference, clip: FloatArray | None, patches: FloatArray | None) -> str:
    """SHA-256 over every column but ``indexed_at`` (a clock's reading, not content)."""
    h = hashlib.sha256(canonical_json(asdict(reference)).encode())
    for vector in (clip, patches):
        h.update(b"|null" if vector is None else b"|" + np.ascontiguousarray(vector, np.float32).tobytes())
    return h.hexdigest()


def _schema(clip_dim: int, patches_len: int, settings: Mapping[str, Any]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("ref_id", pa.string(), nullable=False, metadata=_KEY),
            pa.field("concept", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("phash", pa.string(), nullable=False),
            pa.field("kept", pa.bool_(), nullable=False),
            pa.field("dup_of", pa.string()),
            pa.field("dup_distance", pa.int32()),
            pa.field("clip", pa.list_(pa.float32(), clip_dim)),
            pa.field("patches", pa.list_(pa.float32(), patches_len)),
            pa.field("checksum", pa.string(), nullable=False),
            pa.field("indexed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        ],
        metadata={_SETTINGS: canonical_json(settings).encode()},
    )


class ReferenceStore:
    """The table of one index directory. Writers hold the builder's lock; readers pin a version."""

    def __init__(self, directory: Path, table: Any) -> None:
        self.directory = directory
        self._table = table
        self._schema: pa.Schema = table.schema
        self.settings: dict[str, Any] = json.loads((self._schema.metadata or {}).get(_SETTINGS, b"{}"))
        self.clip_dim = int(self._schema.field("clip").type.list_size)
        self.patches_len = int(self._schema.field("patches").type.list_size)

    @classmethod
    def create(cls, directory: Path, settings: Mapping[str, Any], clip_dim: int, patches_len: int) -> ReferenceStore:
        """Make an empty table; its schema carries the settings that never change."""
        table = lancedb.connect(directory).create_table(TABLE, schema=_schema(clip_dim, patches_len, settings))
        return cls(directory, table)

    @classmethod
    def open(cls, directory: Path, version: int | None = None) -> ReferenceStore | None:
        """The table as it is now, or as it was at a version; None when there is none.

        Raises :class:`IndexFormatError` when it cannot be opened.
        """
        if not (directory / f"{TABLE}.lance" / "_versions").is_dir():
            return None
        try:
            table = lancedb.connect(directory).open_table(TABLE)
            if version is not None:
                table.checkout(version)
            return cls(directory, table)
        except (RuntimeError, ValueError, OSError) as e:
            at = "" if version is None else f" at version {version}"
            raise IndexFormatError(
                f"{directory}: its table cannot be opened{at} ({_first_line(e)}); run the same 'iconicity index build' again"
            ) from e

    @property
    def version(self) -> int:
        return int(self._table.version)

    def count(self) -> int:
        return int(self._table.count_rows())

    def _read(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        try:
            query = self._table.search()
            if where is not None:
                query = query.where(where)
            return query.select(list(columns)).limit(max(1, self.count())).to_arrow()
        except (RuntimeError, ValueError, OSError) as e:
            raise CorruptIndexError(
                f"{self.directory}: rows cannot be read ({_first_line(e)}); restore it or build it again"
            ) from e

    def references(self) -> dict[str, Reference]:
        """Every row's scalar columns by ref_id, sorted. Raises :class:`CorruptIndexError`."""
        rows = [Reference(**r) for r in self._read(SCALARS).to_pylist()]
        return {r.ref_id: r for r in sorted(rows, key=lambda r: r.ref_id)}

    def identities(self) -> list[tuple[str, str, str]]:
        """Sorted (ref_id, sha256, checksum) of every row."""
        t = self._read(["ref_id", "sha256", "checksum"])
        return sorted(zip(*(t.column(c).to_pylist() for c in ("ref_id", "sha256", "checksum")), strict=True))

    def rows(self, ref_ids: Sequence[str] | None = None) -> list[Row]:
        """Rows with their vectors, each tested against its checksum. Raises :class:`CorruptIndexError`."""
        out: list[Row] = []
        for row, checksum in self.rows_with_checksums(ref_ids):
            if row_checksum(row.reference, row.clip, row.patches) != checksum:
                raise CorruptIndexError(
                    f"{self.directory}: the row of {row.reference.ref_id} does not match its checksum; "
                    "restore the index from a copy or build it again"
                )
            out.append(row)
        return out

    def rows_with_checksums(self, ref_ids: Sequence[str] | None = None) -> Iterable[tuple[Row, str]]:
        """Rows with the checksum stored beside them, untested."""
        columns = [*SCALARS, "clip", "patches", "checksum"]
        if ref_ids is None:
            yield from self._rows(self._read(columns))
            return
        for start in range(0, len(ref_ids), _CHUNK):
            yield from self._rows(self._read(columns, _in("ref_id", ref_ids[start : start + _CHUNK])))

    def _rows(self, table: pa.Table) -> Iterable[tuple[Row, str]]:
        scalars = table.select(list(SCALARS)).to_pylist()
        clip = _vectors(table, "clip", self.clip_dim)
        patches = _vectors(table, "patches", self.patches_len)
        for i, (scalar, checksum) in enumerate(zip(scalars, table.column("checksum").to_pylist(), strict=True)):
            reference = Reference(**scalar)
            yield Row(reference, clip(i), patches(i)), checksum

    def block(self, concepts: Iterable[str] | None, cells: int) -> VectorBlock:
        """Kept references of some concepts (None: all), tested against their checksums."""
        where = "kept = true"
        wanted = None if concepts is None else sorted(set(concepts))
        columns = [*SCALARS, "clip", "patches", "checksum"]
        filters = (
            [where]
            if wanted is None
            else [f"{where} AND {_in('concept', wanted[i : i + _CHUNK])}" for i in range(0, len(wanted), _CHUNK)]
        )
        tables = [self._read(columns, f) for f in filters] or [self._read(columns, "ref_id = ''")]
        table = pa.concat_tables(tables).sort_by("ref_id")
        n = table.num_rows
        clip = _matrix(table, "clip", self.clip_dim)
        patches = _matrix(table, "patches", self.patches_len)
        references = tuple(Reference(**r) for r in table.select(list(SCALARS)).to_pylist())
        for i, (reference, checksum) in enumerate(zip(references, table.column("checksum").to_pylist(), strict=True)):
            if row_checksum(reference, clip[i], patches[i]) != checksum:
                raise CorruptIndexError(
                    f"{self.directory}: the row of {reference.ref_id} does not match its checksum; "
                    "restore the index from a copy or build it again"
                )
        return VectorBlock(references, clip, patches.reshape(n, cells, self.patches_len // cells))

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows by key in one commit: all of them or none."""
        if not rows:
            return
        now = datetime.now(UTC)
        columns: dict[str, list[Any]] = {name: [getattr(r.reference, name) for r in rows] for name in SCALARS}
        columns["clip"] = [r.clip for r in rows]
        columns["patches"] = [None if r.patches is None else r.patches.reshape(-1) for r in rows]
        columns["checksum"] = [row_checksum(r.reference, r.clip, r.patches) for r in rows]
        columns["indexed_at"] = [now] * len(rows)
        arrays = [
            _fixed_size_list(columns[f.name], f.type)
            if pa.types.is_fixed_size_list(f.type)
            else pa.array(columns[f.name], f.type)
            for f in self._schema
        ]
        batch = pa.Table.from_arrays(arrays, schema=self._schema)
        merge = self._table.merge_insert("ref_id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(batch, on_bad_vectors="null")  # LanceDB calls the nulls of dropped rows bad

    def delete(self, ref_ids: Sequence[str]) -> None:
        for start in range(0, len(ref_ids), _CHUNK):
            self._table.delete(_in("ref_id", ref_ids[start : start + _CHUNK]))

    def compact(self) -> None:
        """Merge small files into large ones; old versions stay readable."""
        self._table.optimize(cleanup_older_than=timedelta(days=36500))

    def drop_old_versions(self) -> None:
        """Delete the files that only older versions need."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def files(self) -> list[Path]:
        """Every file of the table, sorted."""
        return sorted(p for p in (self.directory / f"{TABLE}.lance").rglob("*") if p.is_file())

    def sync(self) -> None:
        """fsync every file and directory of the table: LanceDB syncs none."""
        root = self.directory / f"{TABLE}.lance"
        for path in [*self.files(), *(p for p in root.rglob("*") if p.is_dir()), root, self.directory]:
            fsync(path)

    @staticmethod
    def sweep(directory: Path) -> None:
        """Remove what killed writers leave: ``data/.tmp*``, and a table directory without a first version."""
        root = directory / f"{TABLE}.lance"
        for path in root.glob("**/.tmp*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if root.is_dir() and not any((root / "_versions").glob("*.manifest")):
            shutil.rmtree(root)


def fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _in(column: str, values: Sequence[str]) -> str:
    """SQL ``column IN (...)`` with quotes doubled: names are data, never code."""
    quoted = ", ".join("'" + v.replace("'", "''") + "'" for v in values)
    return f"{column} IN ({quoted})"


def _matrix(table: pa.Table, column: str, dim: int) -> FloatArray:
    array = table.column(column).combine_chunks()
    flat: npt.NDArray[np.float32] = array.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat, np.float32).reshape(-1, dim)


def _vectors(table: pa.Table, column: str, dim: int) -> Any:
    """Row number to its vector or None. ``flatten`` leaves null rows out, so positions are counted."""
    valid = table.column(column).is_valid().to_numpy()
    matrix = _matrix(table, column, dim)
    position = np.cumsum(valid) - 1
    return lambda i: matrix[position[i]] if valid[i] else None


def _fixed_size_list(vectors: Sequence[FloatArray | None], kind: pa.DataType) -> pa.Array:
    dim = kind.list_size
    flat = np.zeros((len(vectors), dim), np.float32)
    mask = np.array([v is None for v in vectors], dtype=bool)
    for i, v in enumerate(vectors):
        if v is not None:
            flat[i] = v
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), dim, mask=pa.array(mask))
