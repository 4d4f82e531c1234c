"""The ``references`` table in LanceDB: rows in, rows out. Knows no model and no metric.

LanceDB checks no bytes, syncs no file and doubles rows without a declared primary key; so every row has a
checksum, and another of its scalar columns for reads that leave the vectors out; the key is declared at creation,
writes are upserts, and files are synced here; table.py knows where they lie. Its native code may panic on damaged bytes: such errors are of any class.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from iconicity.indexer.errors import CorruptIndexError, IconicityError, IndexFormatError, mending
from iconicity.indexer.grid import cell_count, overlaps
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.spec import FloatArray, canonical_json, digest_of
from iconicity.indexer.store.columns import SETTINGS, StoredArray, fixed_size_list, schema, vectors
from iconicity.indexer.store.files import fsync
from iconicity.indexer.store.schema import SettingsShape, is_sha256, parse_json, require_shape
from iconicity.indexer.store.table import (
    HINT,
    TABLE,
    connect,
    first_line,
    see_storage,
    versions_folder,
    versions_of,
    writing,
)

_CHUNK = 1000  # keys in one filter expression
_BATCH_ROWS = 1024  # rows read at once


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
_TESTED_SCALARS = (*SCALARS, "reference_checksum")
_TESTED_ROW = (*SCALARS, "clip", "patches", "checksum")


@dataclass(frozen=True)
class Row:
    """A reference with its vectors: ``clip`` (D,) and ``patches`` (K, D'), both None when dropped.

    Read rows hold the stored number type and flat patches; written ones are cast to it.
    """

    reference: Reference
    clip: StoredArray | None
    patches: StoredArray | None


@dataclass(frozen=True)
class ConceptCount:
    """How many references a concept has, and how many dedup kept."""

    total: int
    kept: int


@dataclass(frozen=True)
class VectorBlock:
    """Kept references sorted by ref_id: ``clip`` (n, D) and ``patches`` (n, K, D') as contiguous arrays."""

    references: tuple[Reference, ...]
    clip: FloatArray
    patches: FloatArray


def row_checksum(reference: Reference, clip: StoredArray | None, patches: StoredArray | None) -> str:
    """SHA-256 over every column but ``indexed_at`` (a clock's reading, not content); vectors as stored."""
    h = hashlib.sha256(canonical_json(asdict(reference)).encode())
    for vector in (clip, patches):
        h.update(b"|null" if vector is None else b"|" + np.ascontiguousarray(vector).tobytes())
    return h.hexdigest()


def reference_checksum(reference: Reference) -> str:
    """SHA-256 over the scalar columns."""
    return digest_of(asdict(reference))


class ReferenceStore:
    """The table of one index directory, or of one on object storage. Writers hold the builder's lock; readers pin a version."""

    def __init__(self, directory: Place, table: Any) -> None:
        self.directory = directory
        self._table = table
        self._schema: pa.Schema = table.schema
        self.settings: dict[str, Any] = parse_json((self._schema.metadata or {}).get(SETTINGS, b"{}"))
        self.clip_dim = int(self._schema.field("clip").type.list_size)
        self.patches_len = int(self._schema.field("patches").type.list_size)
        half = pa.types.is_float16(self._schema.field("clip").type.value_type)
        self.dtype: type[np.float16] | type[np.float32] = np.float16 if half else np.float32
        self._pinned_count: int | None = None  # rows of a version never change

    @classmethod
    def create(cls, directory: Place, settings: Mapping[str, Any], clip_dim: int, patches_len: int) -> ReferenceStore:
        """Make an empty table; its schema carries the settings that never change."""
        try:
            table = connect(directory).create_table(TABLE, schema=schema(clip_dim, patches_len, settings))
        except (RuntimeError, OSError, ValueError) as e:
            see_storage(directory)
            # Another builder may have made the table meanwhile.
            if isinstance(directory, Remote) and (made := cls.open(directory)) is not None:
                return made
            raise IconicityError(f"{directory}: no table can be made there ({first_line(e)}); free space") from e
        return cls(directory, table)

    @classmethod
    def open(cls, directory: Place, version: int | None = None) -> ReferenceStore | None:
        """The table as it is now, or as it was at a version; None when there is none.

        Raises :class:`IndexFormatError` when it cannot be opened.
        """
        if not versions_folder(directory).is_dir():
            return None
        try:
            table = connect(directory).open_table(TABLE)
            _require_own_schema(table.schema)
            if version is None:
                return cls(directory, table)
            table.checkout(version)
            store = cls(directory, table)
            store._pinned_count = int(table.count_rows())
            return store
        except Exception as e:  # a damaged table raises anything, panics of the library's native code included
            see_storage(directory)
            at = "" if version is None else f" at version {version}"
            raise IndexFormatError(
                f"{directory}: its table cannot be opened{at} ({first_line(e)}); {mending(directory)}"
            ) from e

    @classmethod
    def require(cls, directory: Place, version: int | None = None) -> ReferenceStore:
        """The table that must be there. Raises :class:`IndexFormatError`, also when there is none."""
        store = cls.open(directory, version)
        if store is None:
            raise IndexFormatError(f"{directory}: its table is gone; run 'iconicity index build' again")
        return store

    @property
    def version(self) -> int:
        return int(self._table.version)

    def count(self) -> int:
        return int(self._table.count_rows()) if self._pinned_count is None else self._pinned_count

    def _read(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        return pa.Table.from_batches(self._batches(columns, where), pa.schema([self._schema.field(c) for c in columns]))

    def _batches(
        self, columns: Sequence[str], where: str | None = None, span: tuple[int, int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Batches of some columns, in no order that may be relied on. Raises :class:`CorruptIndexError`."""
        try:
            query = self._table.search()
            if where is not None:
                query = query.where(where)
            start, n = span or (0, self.count())
            query = query.select(list(columns)).limit(max(1, n)).offset(start)
            for batch in query.to_batches(_BATCH_ROWS):
                yield batch.select(list(columns))
        except Exception as e:  # LanceDB raises errors of any class here, too
            see_storage(self.directory)
            raise CorruptIndexError(
                f"{self.directory}: rows cannot be read ({first_line(e)}); {mending(self.directory)}"
            ) from e

    def references(self, concepts: Iterable[str] | None = None) -> dict[str, Reference]:
        """The scalar columns of some concepts' rows (None: of all) by ref_id, sorted, each tested.

        Raises :class:`CorruptIndexError`.
        """
        rows: list[Reference] = []
        for where in _within(concepts):
            for stored in self._read(_TESTED_SCALARS, where).to_pylist():
                checksum = stored.pop("reference_checksum")
                rows.append(self._reference(stored))
                if reference_checksum(rows[-1]) != checksum:
                    raise self._damaged(rows[-1])
        return {r.ref_id: r for r in sorted(rows, key=lambda r: r.ref_id)}

    def _reference(self, row: Mapping[str, Any]) -> Reference:
        reference = Reference(**row)
        if not reference.ref_id.startswith(f"{reference.concept}/") or not is_sha256(reference.sha256):
            raise CorruptIndexError(
                f"{self.directory}: the row of {reference.ref_id} was not written by iconicity; restore the index from a copy"
            )
        return reference

    def identities(self) -> list[tuple[str, str, str]]:
        """Sorted (ref_id, sha256, checksum) of every row."""
        t = self._read(["ref_id", "sha256", "checksum"])
        return sorted(zip(*(t.column(c).to_pylist() for c in ("ref_id", "sha256", "checksum")), strict=True))

    def rows(self, ref_ids: Sequence[str] | None = None) -> list[Row]:
        """Rows with their vectors, each tested against its checksum. Raises :class:`CorruptIndexError`."""
        return list(self.tested_rows(ref_ids))

    def tested_rows(self, ref_ids: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield what :meth:`rows` returns, with one batch in memory at a time."""
        return self._tested(self.rows_with_checksums(ref_ids))

    def concepts(self) -> dict[str, ConceptCount]:
        """Each concept's number of references, by name; read by column."""
        groups = self._read(["concept", "kept"]).group_by("concept").aggregate([("kept", "count"), ("kept", "sum")])
        columns = (groups.column(c).to_pylist() for c in ("concept", "kept_count", "kept_sum"))
        return {c: ConceptCount(n, k) for c, n, k in sorted(zip(*columns, strict=True))}

    def rows_with_checksums(self, ref_ids: Sequence[str] | None = None) -> Iterator[tuple[Row, str]]:
        """Rows with the checksum stored beside them, untested, a batch in memory at a time. Raises :class:`CorruptIndexError`."""
        filters = [None] if ref_ids is None else list(_filters("ref_id", ref_ids))
        for where in filters:
            yield from self._rows(where)

    def rows_at(self, start: int, n: int) -> list[tuple[Row, bool]]:
        """Rows by position, and whether each matches its checksum. Raises :class:`CorruptIndexError`."""
        rows = self._rows(span=(start, n))
        return [(row, row_checksum(row.reference, row.clip, row.patches) == checksum) for row, checksum in rows]

    def references_at(self, start: int, n: int) -> list[tuple[Reference, bool]]:
        """As :meth:`rows_at`, of the scalar columns."""
        stored = [row for b in self._batches(_TESTED_SCALARS, span=(start, n)) for row in b.to_pylist()]
        checksums = [row.pop("reference_checksum") for row in stored]
        references = [Reference(**row) for row in stored]
        return [(r, reference_checksum(r) == checksum) for r, checksum in zip(references, checksums, strict=True)]

    def _rows(self, where: str | None = None, span: tuple[int, int] | None = None) -> Iterator[tuple[Row, str]]:
        """Rows with the checksum stored beside them, a batch in memory at a time."""
        for batch in self._batches(_TESTED_ROW, where, span):
            table = pa.Table.from_batches([batch])
            scalars = table.select(list(SCALARS)).to_pylist()
            clip = vectors(table, "clip", self.clip_dim)
            patches = vectors(table, "patches", self.patches_len)
            for i, (scalar, checksum) in enumerate(zip(scalars, table.column("checksum").to_pylist(), strict=True)):
                yield Row(self._reference(scalar), clip(i), patches(i)), checksum

    def block(self, concepts: Iterable[str], cells: int) -> VectorBlock:
        """Kept references of some concepts, tested against their checksums."""
        rows: list[Row] = []
        for where in _filters("concept", sorted(set(concepts))):
            rows += self._tested(self._rows(f"kept = true AND {where}"))
        rows.sort(key=lambda r: r.reference.ref_id)
        n = len(rows)
        clip, patches = np.empty((n, self.clip_dim), np.float32), np.empty((n, self.patches_len), np.float32)
        for i, row in enumerate(rows):
            clip[i], patches[i] = row.clip, row.patches
        return VectorBlock(tuple(r.reference for r in rows), clip, patches.reshape(n, cells, self.patches_len // cells))

    def _tested(self, rows: Iterable[tuple[Row, str]]) -> Iterator[Row]:
        for row, checksum in rows:
            if row_checksum(row.reference, row.clip, row.patches) != checksum:
                raise self._damaged(row.reference)
            yield row

    def _damaged(self, reference: Reference) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self.directory}: the row of {reference.ref_id} does not match its checksum; {mending(self.directory)}"
        )

    def kept_ids(self, concepts: Iterable[str] | None = None) -> tuple[pa.Array, pa.Array]:
        """(ref_id, concept) of the kept references of some concepts (None: of all), sorted by ref_id, as arrow arrays."""
        columns = ["ref_id", "concept", "kept"]
        table = pa.concat_tables(self._read(columns, where) for where in _within(concepts))
        table = table.filter(table.column("kept")).sort_by("ref_id").combine_chunks()
        return tuple(table.column(c).combine_chunks() for c in ("ref_id", "concept"))

    def kept_rows(self, concepts: Iterable[str] | None = None) -> Iterator[Row]:
        """Every kept row (of some concepts), tested, in no particular order, a batch in memory at a time."""
        for where in _within(concepts):
            yield from self._tested(self._rows("kept = true" if where is None else f"kept = true AND {where}"))

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows by key in one commit: all of them or none."""
        if not rows:
            return
        batch = self._to_arrow(rows)
        merge = self._table.merge_insert("ref_id").when_matched_update_all().when_not_matched_insert_all()
        with writing(self.directory):
            merge.execute(batch, on_bad_vectors="null")  # LanceDB calls the nulls of dropped rows bad

    def _to_arrow(self, rows: Sequence[Row]) -> pa.Table:
        now = datetime.now(UTC)
        columns: dict[str, list[Any]] = {name: [getattr(r.reference, name) for r in rows] for name in SCALARS}
        columns["clip"] = [None if r.clip is None else r.clip.astype(self.dtype) for r in rows]
        columns["patches"] = [None if r.patches is None else r.patches.reshape(-1).astype(self.dtype) for r in rows]
        stored = zip(rows, columns["clip"], columns["patches"], strict=True)
        columns["checksum"] = [row_checksum(r.reference, clip, patches) for r, clip, patches in stored]
        columns["reference_checksum"] = [reference_checksum(r.reference) for r in rows]
        columns["indexed_at"] = [now] * len(rows)
        arrays = [
            fixed_size_list(columns[f.name], f.type)
            if pa.types.is_fixed_size_list(f.type)
            else pa.array(columns[f.name], f.type)
            for f in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def rewrite(self, parts: Iterable[Sequence[Row]]) -> ReferenceStore:
        """Commit a version that holds these rows and no other, as a whole; older versions stay as they are."""
        batches = (batch for rows in parts if rows for batch in self._to_arrow(rows).to_batches())
        reader = pa.RecordBatchReader.from_batches(self._schema, batches)
        with writing(self.directory):
            table = connect(self.directory).create_table(
                TABLE, reader, self._schema, "overwrite", on_bad_vectors="null"
            )
        return ReferenceStore(self.directory, table)

    def delete(self, ref_ids: Sequence[str]) -> None:
        for where in _filters("ref_id", ref_ids):
            with writing(self.directory):
                self._table.delete(where)

    def compact(self) -> None:
        """Merge small files into large ones, and go on with the newest version; old ones stay readable."""
        with writing(self.directory):
            self._table.optimize(cleanup_older_than=timedelta(days=36500))
            self._table.checkout_latest()

    def drop_old_versions(self, age: timedelta = timedelta(0)) -> None:
        """Delete the files that only older versions need: of any age, or where others may write or read, of some."""
        alone = isinstance(self.directory, Path)  # elsewhere an unknown file may be of a commit that is on its way
        with warnings.catch_warnings(), writing(self.directory):
            warnings.simplefilter("ignore", UserWarning)
            self._table.optimize(cleanup_older_than=age, delete_unverified=alone)

    def version_file(self) -> Place:
        """The small file that lists the files of this version."""
        return versions_of(self.directory)[self.version]

    def files(self) -> list[Path]:
        """Every file of a local table that is written once, sorted; none on object storage, which tests its own bytes."""
        if isinstance(self.directory, Remote):
            return []
        root = self.directory / f"{TABLE}.lance"
        return sorted(p for p in root.rglob("*") if p.is_file() and p.name != HINT)

    def sync(self) -> None:
        """fsync every file and directory of the table: LanceDB syncs none. A put to object storage needs none."""
        if isinstance(self.directory, Remote):
            return
        root = self.directory / f"{TABLE}.lance"
        for path in [*self.files(), *(p for p in root.rglob("*") if p.is_dir()), root, self.directory]:
            fsync(path)


def _require_own_schema(held: pa.Schema) -> None:
    """Check the columns of a table against its settings. Raises ValueError where they differ."""
    settings = parse_json((held.metadata or {}).get(SETTINGS, b"{}"))
    require_shape(settings, SettingsShape)
    rows, cols = settings["grid"]
    patches = cell_count(rows, cols, overlaps(settings)) * settings["dino"]["dim"]
    expected = schema(settings["clip"]["dim"], patches, settings)
    if held.names != expected.names or held.types != expected.types:
        raise ValueError("its columns are not those of its settings")


def _within(concepts: Iterable[str] | None) -> list[str | None]:
    return [None] if concepts is None else [*_filters("concept", sorted(set(concepts)))]


def _filters(column: str, values: Sequence[str]) -> Iterator[str]:
    """SQL ``column IN (...)`` a chunk of values at a time, quotes doubled: names are data, never code."""
    for start in range(0, len(values), _CHUNK):
        quoted = ", ".join("'" + v.replace("'", "''") + "'" for v in values[start : start + _CHUNK])
        yield f"{column} IN ({quoted})"
