"""Parquet files of rows, read as data: columns, sizes and lists are what they should be, or it is said what is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.untrusted import is_sha256, parse_json

GROUP_ROWS = 1024
_META = b"iconicity"
_GROUP_BYTES = 1 << 30  # of a row group, unpacked
_NEEDED = ("model", "concept", "gen_path", "gen_relpath", "status")


def require_readable(file: pq.ParquetFile, schema: pa.Schema, cells: int) -> None:
    """Raises ValueError unless the columns are those of ``schema`` and no row group is larger than it can be.

    ``cells``: values a list holds.
    """
    held = file.schema_arrow
    if held.names != schema.names or held.types != schema.types:
        wrong = next((f.name for f in held if f.name not in schema.names or f.type != schema.field(f.name).type), "")
        raise ValueError(f"columns are not those of this version{f', first {wrong[:40]!r}' if wrong else ''}")
    for i in range(file.num_row_groups):
        group = file.metadata.row_group(i)
        columns = [group.column(c) for c in range(group.num_columns)]
        values = max(c.num_values for c in columns)
        if group.num_rows > GROUP_ROWS or values > GROUP_ROWS * max(1, cells):
            raise ValueError(f"row group {i} says that it has {group.num_rows} rows and {values} values")
        if sum(c.total_uncompressed_size for c in columns) > _GROUP_BYTES:
            raise ValueError(f"row group {i} unpacks to more than {_GROUP_BYTES >> 20} MB")


def head_of(file: pq.ParquetFile) -> Any:
    """The JSON our files carry in their metadata. Raises ValueError or KeyError."""
    return parse_json((file.schema_arrow.metadata or {})[_META])


def require_rows(batch: pa.Table, cells: int, model: str | None = None) -> pa.Table:
    """The rows, whose lists hold ``cells`` values each and whose cells are numbered below it. Raises ValueError.

    ``model``: the one all rows are of.
    """
    for name in batch.column_names:
        column = batch.column(name)
        if name in _NEEDED and column.null_count:
            raise ValueError(f"a row without {name}")
        if pa.types.is_list(column.type):
            lengths = pa.compute.list_value_length(column).drop_null().to_numpy()
            if (lengths != cells).any():
                raise ValueError(f"a list of {name} has {lengths[lengths != cells][0]} values, the grid {cells} cells")
            if pa.types.is_integer(column.type.value_type):
                _require_cells(name, pa.compute.list_flatten(column).drop_null().to_numpy(), cells)
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
