"""The highest cosine of each query over many references: in float64 throughout, or the same quickly from float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from iconicity.indexer.spec import FloatArray
from iconicity.scorer.measure.metrics import Float64, Ints

Blocks = Iterable[tuple[int, FloatArray | Float64]]  # (position of the first row, unit rows)
Ranges = npt.NDArray[np.int64]  # (n, 2): half-open ranges of positions
NEAR = 1e-5  # more than float32 moves a product; what is this near to another, or to a threshold, is taken in float64
_FEW = 64  # rows of a block near a query's best; where there are more (blank paper), all are taken in float64
_WIDE_ROWS = 256  # queries of which that is done at once
_PAIRS = 4096  # compared in float64 at once


def highest_cosine(
    queries: FloatArray, blocks: Blocks, outside: Ranges | None = None, *, exact: bool = False, device: str = "cpu"
) -> tuple[FloatArray, Ints]:
    """Highest cosine (n,) of each query over all rows of the blocks, in [-1, 1], and that row's position (n,).

    queries (n, d) and the blocks' rows (m, d) are unit rows. A query's rows within its range of ``outside`` (n, 2) do
    not count; where no row counts, the cosine is -1 and the position -1. Cosines are taken in float64 and rounded
    once, and of equal ones the first counts, so that neither depends on the shape of the batch or on how the rows are
    divided into blocks. ``exact`` multiplies all in float64, which suits few rows. Else all is multiplied in float32,
    on ``device`` (cuda: there), and what comes near the best again in float64: the same values, several times faster.

    >>> highest_cosine(np.eye(2, dtype=np.float32), [(0, np.float32([[0, 1], [0, 1]]))])
    (array([0., 1.], dtype=float32), array([0, 0]))
    """
    best, at = np.full(len(queries), -np.inf, np.float32), np.full(len(queries), -1, np.int64)
    everyone = np.arange(len(queries))
    close = torch_close if device.startswith("cuda") else _close
    for start, block in blocks:
        if exact:
            _take_dense(queries, block, outside, start, everyone, best, at)
            continue
        q, x, dense = close(queries, block, outside, start, best, device)
        if q.size:
            take_first(q, x + start, _cosines_of(queries, block, q, x), best, at)
        if dense.size:
            _take_dense(queries, block, outside, start, dense, best, at)
    return np.where(at >= 0, best, np.float32(-1.0)), at


def _take_dense(
    queries: FloatArray,
    block: FloatArray | Float64,
    outside: Ranges | None,
    start: int,
    some: Ints,
    best: FloatArray,
    at: Ints,
) -> None:
    """Compare some queries with a whole block in float64; improve ``best`` and ``at`` in place."""
    wide = np.asarray(block, np.float64).T
    for i in range(0, len(some), _WIDE_ROWS):
        part = some[i : i + _WIDE_ROWS]
        products = (queries[part].astype(np.float64) @ wide).astype(np.float32)
        np.clip(products, -1.0, 1.0, out=products)
        mask(products, None if outside is None else outside[part], start)
        top = products.argmax(axis=1)
        take_first(part, top + start, products[np.arange(len(part)), top], best, at)


def take_first(q: Ints, x: Ints, similarity: FloatArray, best: FloatArray, at: Ints) -> None:
    """Improve ``best`` and ``at`` of queries q (sorted) by positions x (sorted within each q), in place."""
    starts = np.flatnonzero(np.diff(q, prepend=-1))
    top = np.maximum.reduceat(similarity, starts)
    hits = np.flatnonzero(similarity == np.repeat(top, np.diff(starts, append=len(q))))
    first = hits[np.unique(q[hits], return_index=True)[1]]
    first = first[top > best[q[first]]]
    best[q[first]], at[q[first]] = similarity[first], x[first]


def _cosines_of(queries: FloatArray, block: FloatArray | Float64, q: Ints, x: Ints) -> FloatArray:
    parts = (slice(i, i + _PAIRS) for i in range(0, len(q), _PAIRS))
    return np.concatenate([cosines(queries[q[p]], block[x[p]]) for p in parts])


def cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> FloatArray:
    """Row by row products of unit rows, in float64, rounded once."""
    products = np.einsum("...d,...d->...", a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    clipped: FloatArray = np.clip(products, -1.0, 1.0)
    return clipped


def _close(
    queries: FloatArray,
    block: FloatArray | Float64,
    outside: Ranges | None,
    start: int,
    best: FloatArray,
    device: str = "cpu",
) -> tuple[Ints, Ints, Ints]:
    """Pairs (query q, row x of the block), sorted, that may be a query's best; and queries with too many to list."""
    products = queries @ block.T
    mask(products, outside, start)
    value = products.max(axis=1)
    least = np.maximum(value, best) - np.float32(NEAR)
    live = np.flatnonzero((value >= least) & (value > -np.inf) & (best < 1))  # 1 cannot be beaten
    near = (products if len(live) == len(products) else products[live]) >= least[live, None]
    few = np.count_nonzero(near, axis=1) <= _FEW
    q, x = np.nonzero(near[few])
    return live[few][q], x, live[~few]


def torch_close(
    queries: FloatArray, block: FloatArray | Float64, outside: Ranges | None, start: int, best: FloatArray, device: str
) -> tuple[Ints, Ints, Ints]:
    """As on the processor, multiplied by torch on a device: where there is a GPU, there."""
    import torch

    products = torch.from_numpy(queries).to(device) @ torch.from_numpy(block).to(device).T
    mask(products, outside, start)
    value = products.max(dim=1).values
    held = torch.from_numpy(best).to(device)
    least = torch.maximum(value, held) - NEAR
    live = torch.nonzero((value >= least) & (value > -torch.inf) & (held < 1))[:, 0]
    near = products[live] >= least[live, None]
    few = near.sum(dim=1) <= _FEW
    q, x = torch.nonzero(near[few], as_tuple=True)
    return live[few][q].cpu().numpy(), x.cpu().numpy(), live[~few].cpu().numpy()


def mask(products: Any, outside: Ranges | None, start: int) -> None:
    """Set products (n, m) with the rows from position ``start`` to -inf within each query's own range, in place."""
    if outside is None:
        return
    width = products.shape[1]
    for a, b in runs(outside):  # queries of one image stand together
        lo, hi = (min(max(int(v) - start, 0), width) for v in outside[a])
        if lo < hi:
            products[a:b, lo:hi] = -np.inf


def runs(own: Ranges) -> Iterator[tuple[int, int]]:
    """Stretches of queries with one own range."""
    edges = np.flatnonzero(np.any(own[1:] != own[:-1], axis=1)) + 1
    return zip([0, *edges.tolist()], [*edges.tolist(), len(own)], strict=True)
