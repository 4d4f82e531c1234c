"""Parquet files of rows, read as data: columns, sizes and lists are what they should be, or it is said what is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iconicity.indexer.encode.limits import memory_limit
from iconicity.indexer.store.schema import is_sha256, parse_json

GROUP_ROWS = 1024
META = b"iconicity"
_GROUP_BYTES = 2 << 30  # more than any row group of ours takes
_NEEDED = ("model", "concept", "gen_path", "gen_relpath", "status")


def require_readable(file: pq.ParquetFile, schema: pa.Schema) -> None:
    """Raises ValueError unless the columns are those of ``schema`` and no row group has more rows than it can.

    What a footer says of single columns is not asked for: where that is damaged pyarrow ends the process.
    """
    held = file.schema_arrow
    if held.names != schema.names or held.types != schema.types:
        wrong = next((f.name for f in held if f.name not in schema.names or f.type != schema.field(f.name).type), "")
        raise ValueError(f"columns are not those of this version{f', first {wrong[:40]!r}' if wrong else ''}")
    for i in range(file.num_row_groups):
        if (rows := file.metadata.row_group(i).num_rows) > GROUP_ROWS:
            raise ValueError(f"row group {i} says that it has {rows} rows")


def read_group(file: pq.ParquetFile, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """A row group, in bounded memory: a constant takes a few bytes in a file, however often it stands there."""
    with memory_limit(_GROUP_BYTES):
        return file.read_row_group(group, columns)


def head_of(file: pq.ParquetFile) -> Any:
    """The JSON our files carry in their metadata. Raises ValueError or KeyError."""
    return parse_json((file.schema_arrow.metadata or {})[META])


def require_rows(batch: pa.Table, cells: int, reference_cells: int, model: str | None = None) -> pa.Table:
    """The rows, whose lists hold ``cells`` values each and name cells below ``reference_cells``. Raises ValueError.

    ``model``: the one all rows are of.
    """
    for name in batch.column_names:
        column = batch.column(name)
        if name in _NEEDED and column.null_count:
            raise ValueError(f"a row without {name}")
        if pa.types.is_list(column.type):
            lengths = pc.list_value_length(column).drop_null().to_numpy()
            if (lengths != cells).any():
                raise ValueError(f"a list of {name} has {lengths[lengths != cells][0]} values, the grid {cells} cells")
            if pa.types.is_integer(column.type.value_type):
                _require_cells(name, pc.list_flatten(column).drop_null().to_numpy(), reference_cells)
    if "gen_sha256" in batch.column_names:
        _require_hashes(batch.column("gen_sha256").drop_null().to_pylist())
    if (
        model is not None
        and "model" in batch.column_names
        and batch.column("model").unique().to_pylist() not in ([model], [])
    ):
        raise ValueError(f"rows of another model among those of {model}")
    return batch


def _require_cells(name: str, numbers: np.ndarray[Any, Any], cells: int) -> None:
    if numbers.size and not (numbers.min() >= -1 and numbers.max() < cells):
        raise ValueError(f"a value of {name} is no cell of the grid")


def _require_hashes(hashes: Iterable[str]) -> None:
    for text in hashes:
        if not is_sha256(text):
            raise ValueError(f"gen_sha256 {text[:40]!r} is no SHA-256")
