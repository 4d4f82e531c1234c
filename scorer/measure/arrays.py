"""Columns of results as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def patch_matrix(batch: pa.Table, column: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """A list column as (n, K) float32, nan where null, and (n,) whether a row has values."""
    array = batch.column(column).combine_chunks()
    has = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.flatten().to_numpy(zero_copy_only=False)
    k = len(flat) // int(has.sum()) if has.any() else 1
    out = np.full((len(has), k), np.nan, np.float32)
    out[has] = flat.reshape(-1, k)
    return out, has
