"""Scope ``all`` over shards: each answers a batch of queries from its own references, and the answers are merged.

A shard holds whole concepts, so that maxima merge to the maximum and counts of concepts add up. Queries and
answers are plain arrays and texts, so that a shard may live in this process, in another one, or on another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from iconicity.indexer.encode.encoder import pick_device
from iconicity.indexer.errors import IndexFormatError, InputError
from iconicity.indexer.places import Place
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.shards import Shard
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.store.vectors import AllVectors, open_vectors
from iconicity.scorer.measure.highest import highest_cosine
from iconicity.scorer.measure.metrics import Float32, Ints
from iconicity.scorer.measure.nearest import LEAST, Approximate, Bound
from iconicity.scorer.measure.universe import Universe

Found = list[str | None]  # ref_ids; None: nothing was found


@dataclass(frozen=True)
class ClipQueries:
    """Images: unit rows (n, D), their concepts, and the best similarity within each (n,), nan where there is none."""

    vectors: FloatArray
    concepts: tuple[str, ...]
    own: Float32


@dataclass(frozen=True)
class PatchQueries:
    """Patches: unit rows (n, D') and their images' concepts. ``how``: exact, approximate, or settle (see :class:`Bound`)."""

    vectors: FloatArray
    concepts: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Queries:
    """What is asked of every shard at once."""

    clip: ClipQueries | None = None
    patches: PatchQueries | None = None


@dataclass(frozen=True)
class ClipAnswers:
    """Best similarity to another concept (n,), nan where there is none; its reference; how many concepts beat the own one."""

    best: Float32
    ref_ids: Found
    higher: Ints


@dataclass(frozen=True)
class PatchAnswers:
    """Best similarity that was found (n,), nan for none; reference and cell (-1: none); ``upper``: no match is better.

    ``upper`` is 1 where nothing is proven, and nan where there is no reference of another concept.
    """

    best: Float32
    ref_ids: Found
    cells: Ints
    upper: Float32


@dataclass(frozen=True)
class Answers:
    """To each of the queries."""

    clip: ClipAnswers | None = None
    patches: PatchAnswers | None = None


class Shards(Protocol):
    """Some shards that together hold every concept once, wherever they live."""

    def ask(self, queries: Queries) -> Sequence[Answers]:
        """Each shard's answers; all are asked at once."""
        ...

    def close(self) -> None:
        """End what was started for them."""
        ...


@dataclass(frozen=True)
class Opening:
    """From what a shard's search is opened, in any process that can read the index. ``shard`` None: all of it."""

    index: Place
    index_id: str
    shard: Shard | None
    mode: str
    tau: float | None
    cache: Path | None
    device: str

    def open(self, index: Index | None = None, progress: Progress = no_progress) -> ShardSearch:
        """Raises :class:`IndexFormatError` when the index has become another since, :class:`CorruptIndexError`."""
        index = index or open_index(self.index)
        if index.index_id != self.index_id:
            raise IndexFormatError(f"{self.index}: was built again meanwhile; run the same command again")
        device = self.device if self.device == "cpu" else pick_device(self.device)
        vectors = open_vectors(index, self.cache, progress, self.shard)
        return ShardSearch(vectors, self.mode == "static", self.tau, device)


class ShardSearch:
    """The search over one shard's references. An answer depends on its query and the shard alone."""

    def __init__(self, vectors: AllVectors, static: bool, tau: float | None, device: str = "cpu") -> None:
        self._universe = Universe(vectors, static)
        self._tau = tau
        self._device = device
        self._approximate: Approximate | None = None  # opened when first needed, as is the next
        self._bound: Bound | None = None

    def ask(self, queries: Queries) -> Answers:
        """Answers to a batch. ValueError for a ``how`` that is not known, and for settle without a threshold."""
        clip, patches = queries.clip, queries.patches
        return Answers(None if clip is None else self._clip(clip), None if patches is None else self._patches(patches))

    def _clip(self, queries: ClipQueries) -> ClipAnswers:
        universe = self._universe
        own = universe.own(queries.concepts)
        best, at = highest_cosine(queries.vectors, universe.clip_blocks(), own, exact=True)
        higher = universe.concepts_above(queries.vectors, own, queries.own)
        return ClipAnswers(_known(best, at), [universe.ref_id(int(a)) for a in at], higher)

    def _patches(self, queries: PatchQueries) -> PatchAnswers:
        universe = self._universe
        own = universe.own(queries.concepts) * universe.cells
        best, at, upper = self._best_patches(queries, own)
        alone = universe.n * universe.cells == own[:, 1] - own[:, 0]  # there is no other reference
        ref_ids = [universe.ref_id(int(a) // universe.cells if a >= 0 else -1) for a in at]
        cells = np.where(at >= 0, at % universe.cells, -1)
        return PatchAnswers(_known(best, at), ref_ids, cells, np.where(alone, np.float32(np.nan), upper))

    def _best_patches(self, queries: PatchQueries, own: Ints) -> tuple[Float32, Ints, Float32]:
        universe, vectors = self._universe, queries.vectors
        if queries.how not in ("exact", "approximate", "settle"):
            raise ValueError(f"a search is exact, approximate or settle, not {queries.how!r}")
        if queries.how == "exact" or not universe.n or universe.n * universe.cells < LEAST:
            best, at = highest_cosine(vectors, universe.blocks(), own, device=self._device)
            return best, at, best
        if queries.how == "approximate":
            if self._approximate is None:
                self._approximate = Approximate.open(universe)
            best, at = self._approximate.search(vectors, own)
            return best, at, np.ones_like(best)
        if self._tau is None:
            raise ValueError("a threshold is missing: what is settled is whether it is reached")
        if self._bound is None:
            self._bound = Bound(universe, vectors, self._tau)
        return self._bound.settle(vectors, own)


class LocalShards:
    """Shards in this process, asked one after the other."""

    def __init__(self, shards: Sequence[ShardSearch]) -> None:
        self._shards = shards

    def ask(self, queries: Queries) -> Sequence[Answers]:
        return [shard.ask(queries) for shard in self._shards]

    def close(self) -> None:
        self._shards = ()


@runtime_checkable
class Serves(Protocol):
    """An engine that can have shards live where it embeds."""

    def serve(self, openings: Sequence[Opening]) -> Shards: ...


def require_served(n: int, engine: object) -> None:
    """Raises :class:`InputError` for more shards than one without an engine that serves them."""
    if n > 1 and not isinstance(engine, Serves):
        raise InputError(
            f"{n} search shards need an engine that keeps them (`engine` ray); one process searches with all cores"
        )


def open_shards(
    index: Index,
    mode: str,
    tau: float | None,
    cache: Path | None,
    device: str,
    n: int = 1,
    engine: object = None,
    progress: Progress = no_progress,
) -> Shards:
    """The whole index in this process, whose threads share the work; or ``n`` shards, which the ``engine`` serves."""
    whole = Opening(index.path, index.index_id, None, mode, tau, cache, device)
    if n == 1:
        return LocalShards([whole.open(index, progress)])
    assert isinstance(engine, Serves)
    return engine.serve([replace(whole, shard=Shard(i, n)) for i in range(1, n + 1)])


def _known(best: Float32, at: Ints) -> Float32:
    return np.where(at >= 0, best, np.float32(np.nan)).astype(np.float32)


def merge_clip(answers: Sequence[ClipAnswers]) -> ClipAnswers:
    """The answers that one shard of all references gives: the best, of equal ones the first by ref_id; counts added."""
    best, ref_ids, _ = _best_of([(a.best, a.ref_ids) for a in answers])
    return ClipAnswers(best, ref_ids, np.sum([a.higher for a in answers], axis=0))


def merge_patches(answers: Sequence[PatchAnswers]) -> PatchAnswers:
    """As :func:`merge_clip`. No match is better than the largest of what each shard proved."""
    best, ref_ids, source = _best_of([(a.best, a.ref_ids) for a in answers])
    cells = np.stack([a.cells for a in answers])[source, np.arange(len(source))]
    upper = np.fmax.reduce([a.upper for a in answers])
    return PatchAnswers(best, ref_ids, cells, upper)


def _best_of(found: Sequence[tuple[Float32, Found]]) -> tuple[Float32, Found, Ints]:
    """(n,) the best similarity, its reference, and which one gave it (0 where none did)."""
    best, ref_ids = found[0][0].copy(), list(found[0][1])
    source = np.zeros(len(best), np.int64)
    for i, (values, ids) in enumerate(found[1:], 1):
        better = (values > best) | (np.isnan(best) & ~np.isnan(values))
        for q in np.flatnonzero(values == best).tolist():
            better[q] = str(ids[q]) < str(ref_ids[q])
        for q in np.flatnonzero(better).tolist():
            ref_ids[q] = ids[q]
        best[better], source[better] = values[better], i
    return best, ref_ids, source
