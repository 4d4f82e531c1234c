"""Columns of the ``references`` table, and vectors to and from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from iconicity.indexer.spec import canonical_json

_KEY = {"lance-schema:unenforced-primary-key:position": "1"}
SETTINGS = b"iconicity"
StoredArray = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def schema(clip_dim: int, patches_len: int, settings: Mapping[str, Any]) -> pa.Schema:
    """Every column and the key; the settings that never change are metadata."""
    number = pa.float16() if settings.get("vectors") == "float16" else pa.float32()
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
            pa.field("clip", pa.list_(number, clip_dim)),
            pa.field("patches", pa.list_(number, patches_len)),
            pa.field("checksum", pa.string(), nullable=False),
            pa.field("reference_checksum", pa.string(), nullable=False),
            pa.field("indexed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        ],
        metadata={SETTINGS: canonical_json(settings).encode()},
    )


def vectors(table: pa.Table, column: str, dim: int) -> Callable[[int], StoredArray | None]:
    """Row number to its vector or None. ``flatten`` leaves null rows out, so positions are counted."""
    array = table.column(column).combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    matrix = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    position = np.cumsum(valid) - 1
    return lambda i: matrix[position[i]] if valid[i] else None


def fixed_size_list(rows: Sequence[StoredArray | None], kind: pa.DataType) -> pa.Array:
    """Vectors as a column; None is null."""
    dim = kind.list_size
    flat = np.zeros((len(rows), dim), kind.value_type.to_pandas_dtype())
    mask = np.array([v is None for v in rows], dtype=bool)
    for i, v in enumerate(rows):
        if v is not None:
            flat[i] = v
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), dim, mask=pa.array(mask))
