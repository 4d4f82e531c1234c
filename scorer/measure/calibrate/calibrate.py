"""Fit thresholds on one half of the concepts and check them on the other; leave each image's null beside the results.

Per pair (c, d) of a generated and another concept, the share of c's images (or their patches) that reach tau over J
references of d; the false-positive rate is the mean over pairs. tau is the lowest four-decimal number whose rate on
half A is at most alpha. On half B the rate is measured anew, its interval by resampling concepts, on both sides of
the pairs at once (Owen 2007, the pigeonhole bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.fill import cache_keys
from iconicity.indexer.null.design import Design
from iconicity.indexer.null.pool import POOL, Pool, choose, products
from iconicity.indexer.null.same_work import Pair, same_works
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.vectors import AllVectors, open_vectors
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import INDICATIVE, SETTINGS, Calibration
from iconicity.scorer.measure.calibrate.csls import Neighbours
from iconicity.scorer.measure.calibrate.thresholds import ConceptCounts, Thresholds
from iconicity.scorer.measure.calibrate.whiten import Whitening
from iconicity.scorer.measure.intervals import DRAWS
from iconicity.scorer.measure.metrics import Bools, Float32, Ints
from iconicity.scorer.measure.specific import write_null
from iconicity.scorer.measure.study import FEW, Study

ALPHA = 0.01
_BYTES = 1 << 28  # of products held at once


@dataclass(frozen=True)
class _Chunk:
    """Some usable images of one concept, with their vectors where the metric was scored."""

    concept: int
    clip_rows: Ints
    clip: FloatArray  # (n, D)
    patch_rows: Ints
    patches: FloatArray  # (m, K, D')


def calibrate(
    study: Study,
    index: Index,
    cache: VectorCache,
    *,
    alpha: float = ALPHA,
    seed: int = 0,
    pool: int = POOL,
    works: Mapping[str, str] | None = None,
    related: Mapping[str, str] | None = None,
    whiten: bool = False,
    apply: Calibration | None = None,
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> Calibration:
    """Thresholds for a study, and the null of its images in its results directories.

    ``pool`` is how many concepts images are compared with at most. ``works``: concept -> work, for concepts that are
    the same work. ``related``: concept -> artist, series or genre; such pairs have a null of their own. ``whiten``:
    thresholds of whitened vectors (whiten.py) too. ``apply`` takes a calibration's pool and thresholds as they are and
    only fills in images. Vectors come from ``cache``.
    Raises :class:`InputError` when they are not there, :class:`SettingsError` when index and results do not belong
    together.
    """
    study.require_index(index)
    if apply is not None:
        apply.require_for(study.settings, str(study.sources[0].path))
        seed, names = apply.seed, tuple(apply.pool)
        gone = set(names) - index.concepts().keys()
        if gone:
            raise SettingsError(f"{index.path}: '{min(gone)}' of the calibration's pool is gone; calibrate anew")
    else:
        names = choose((c for c, n in index.concepts().items() if n.kept), pool, seed)
    vectors = open_vectors(index, cache.directory, progress)
    held = Pool.open(vectors, names, seed, study.mode == "static")
    if apply is None:
        same = same_works(index, {*study.concepts, *names} & index.concepts().keys(), works)
    else:
        same = {(a, b) for a, b in apply.same_work}
        same |= same_works(index, {*study.concepts, *names} & index.concepts().keys(), works)
    design = Design(study.concepts, held, same, related or {}, seed)
    near = Neighbours(held, vectors, design, study.mode == "static")
    white, notes = None, []
    if whiten if apply is None else bool(apply.taus("vr_whitened")):
        if near.enough:
            white = _whitened(held, vectors, design, study.mode == "static")
        if white is None:
            notes.append("not whitened: the pool has fewer than three works, or all of its cells are the same")
    run = _Run(study, index, cache, held, design, near, white, same, seed, progress, notes)
    if apply is not None:
        for chunk in run.chunks(run.order()):
            run.compare(chunk)
        found = apply
    else:
        found = run.fit(alpha, draws)
    for i, source in enumerate(study.sources):
        facts = {"index_id": index.index_id, "seed": seed, "pool": len(names), "calibration_sha256": found.digest}
        write_null(source.path, study.mode, run.null_rows(i), facts)
    return found


def _whitened(pool: Pool, vectors: AllVectors, design: Design, static: bool) -> Neighbours | None:
    """The pool's vectors whitened, and their neighbours; None where the pool's cells are all the same."""
    try:
        whitening = Whitening.of(pool.patches)
    except ValueError:
        return None
    return Neighbours(replace(pool, patches=whitening(pool.patches)), vectors, design, static, whitening)


@dataclass
class _Run:
    """One pass over the images of a study: their nulls, and what the thresholds need."""

    study: Study
    index: Index
    cache: VectorCache
    pool: Pool
    design: Design
    near: Neighbours
    white: Neighbours | None  # of whitened vectors
    same: set[Pair]
    seed: int
    progress: Progress
    notes: Sequence[str] = ()
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # image -> its null
    done: int = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        whitened = () if self.white is None else ("vr_whitened", "vr_whitened_csls")
        return ("cra", "vr", *(("vr_csls",) if self.near.enough else ()), *whitened)

    def order(self, halves: str = "AB") -> list[int]:
        """Concepts of the study (by place) in some halves that have references."""
        return [
            i
            for i, c in enumerate(self.study.concepts)
            if self.study.references[i] > 0 and self.design.half[c] in halves
        ]

    def chunks(self, concepts: Sequence[int]) -> Iterator[_Chunk]:
        """Images of some concepts, one concept after the other."""
        clip_key, patch_key = cache_keys(self.index)
        study = self.study
        has_cra: Bools = ~np.isnan(study.similarity)
        has_vr = np.asarray(~np.isnan(study.p).any(axis=1))
        usable = np.asarray(study.ok & (has_cra | has_vr))
        references, reference_cells, dim = self.pool.patches.shape
        cells = math.prod(self.index.grid)
        size = max(1, _BYTES // (8 * cells * max(1, references * reference_cells)))
        total = int(usable.sum())
        for c in concepts:
            mine: Ints = np.flatnonzero(usable & (study.concept == c))
            for start in range(0, len(mine), size):
                rows = mine[start : start + size]
                clip_rows, patch_rows = rows[has_cra[rows]], rows[has_vr[rows]]
                clip = self._vectors(clip_rows, clip_key, (self.pool.clip.shape[1],))
                patches = self._vectors(patch_rows, patch_key, (cells, dim))
                self.done += len(rows)
                self.progress("null", self.done, total)
                yield _Chunk(c, clip_rows, clip, patch_rows, patches)

    def _vectors(self, rows: Ints, key: str, shape: tuple[int, ...]) -> FloatArray:
        if not len(rows):
            return np.empty((0, *shape), np.float32)
        shas = self.study.table.column("gen_sha256").take(pa.array(rows)).to_pylist()
        found = self.cache.get(sorted(set(shas)), key, math.prod(shape))
        lacking = [i for i, s in enumerate(shas) if s not in found]
        if lacking:
            first = self.study.relpaths[int(rows[lacking[0]])]
            raise InputError(
                f"{self.cache.path}: has no vectors of {counted(len(lacking), 'image')}, first {first}; score again with this "
                "cache ('iconicity score --cache'), or name the cache they were scored with"
            )
        return np.stack([found[s].reshape(shape) for s in shas])

    def compare(self, chunk: _Chunk) -> dict[str, Float32]:
        """Nulls of a chunk: cra (n, R) of images, all others (m * K, R) of patches; each image's own is kept in ``rows``."""
        concept = self.study.concepts[chunk.concept]
        j = int(self.study.references[chunk.concept])
        others = self.design.others(concept)
        at_j = others & (self.pool.draw == j)
        for row in (*chunk.clip_rows, *chunk.patch_rows):
            self.rows[int(row)] = {"draws": int(at_j.sum())}
        r = len(self.pool.draw)
        clip = self.pool.clip_maxima(chunk.clip) if len(chunk.clip) else np.empty((0, r), np.float32)
        if at_j.any() and len(clip):
            reached, median = _against(clip[:, at_j], self.study.similarity[chunk.clip_rows])
            for row, share, middle in zip(chunk.clip_rows, reached, median, strict=True):
                self.rows[int(row)] |= {"cra_reached": share, "cra_median": middle}
        n, k, dim = chunk.patches.shape
        if n == 0:
            return {"cra": clip}
        flat = chunk.patches.reshape(n * k, dim)
        each = self.pool.cell_similarity(flat)
        single = each.max(axis=2)
        patches = self.pool.patch_maxima(single)
        out = {"cra": clip, "vr": patches}
        own: dict[str, Float32] = {}
        if self.near.enough:
            out["vr_csls"], own["p_csls"] = self.near.csls(flat, each, single, concept)
        if self.white is not None and self.white.whitening is not None:
            white = self.white.whitening(flat)
            each = self.white.pool.cell_similarity(white)
            best = each.max(axis=2)
            out["vr_whitened"] = self.white.pool.patch_maxima(best)
            own["p_whitened"] = products(white, self.white.own(concept)[0]).max(axis=1)
            out["vr_whitened_csls"], own["p_whitened_csls"] = self.white.csls(white, each, best, concept)
        for name, values in own.items():
            for row, mine in zip(chunk.patch_rows, values.reshape(n, k), strict=True):
                self.rows[int(row)][name] = mine
        if at_j.any():
            reached, median = _against(patches[:, at_j], self.study.p[chunk.patch_rows].reshape(-1))
            drawn = np.isin(self.pool.of, self.pool.of[at_j]) & (self.pool.draw <= j)
            columns = np.flatnonzero(drawn)
            best = columns[single[:, columns].argmax(axis=1)]
            cell = self.pool.best_cells(flat, best)
            for i, row in enumerate(chunk.patch_rows):
                part = slice(i * k, (i + 1) * k)
                self.rows[int(row)] |= {
                    "p_reached": reached[part], "p_median": median[part],
                    "p_best": single[np.arange(n * k)[part], best[part]],
                    "p_best_ref_id": [self.pool.ref_ids[b] for b in best[part]], "p_best_ref_cell": cell[part].astype(np.int16),
                }  # fmt: skip
        return out

    def null_rows(self, source: int) -> Iterator[dict[str, Any]]:
        """Rows of the null file of one results directory."""
        from_source = self.study.table.column("source").to_numpy() == source
        keys = ("model", "gen_relpath", "gen_sha256")
        for i in np.flatnonzero(from_source):
            if int(i) in self.rows:
                values = {name: self.study.table.column(name)[int(i)].as_py() for name in keys}
                yield {
                    **values,
                    **{c: None for c in ("cra_reached", "cra_median", "p_reached", "p_median")},
                    **self.rows[int(i)],
                }

    def fit(self, alpha: float, draws: int) -> Calibration:
        """Half A, then half B."""
        tables = {m: Thresholds(self.design, m, self.study.tau.get(m), alpha, draws, self.seed) for m in self.metrics}
        for half in "AB":
            for c in self.order(half):
                gathered = {metric: ConceptCounts(tables[metric], self.study.concepts[c], half) for metric in tables}
                for chunk in self.chunks([c]):
                    for metric, null in self.compare(chunk).items():
                        gathered[metric].add(null)
                for metric in tables:
                    gathered[metric].close()
            if half == "A":
                for t in tables.values():
                    t.settle()
        thresholds = [row for t in tables.values() for row in t.rows()]
        settings = {key: self.study.settings[key] for key in SETTINGS if key in self.study.settings}
        halves = {h: sorted(c for c, mine in self.design.half.items() if mine == h) for h in "AB"}
        return Calibration(
            alpha, self.seed, self.index.index_id, settings, list(self.pool.concepts), halves,
            sorted([a, b] for a, b in self.same), thresholds,
            [null for m in ("cra", "vr") for null in tables[m].null_curves()], self._notes(),
        )  # fmt: skip

    def _notes(self) -> list[str]:
        counts = {h: len(self.order(h)) for h in "AB"}
        out = [note for s in self.study.sources for note in s.notes] + list(self.notes)
        if self.design.related and not set(self.design.related) & {*self.study.concepts, *self.pool.concepts}:
            out.append("--related names no concept of these results or of the index")
        if min(counts.values()) < FEW:
            out.append(
                f"{INDICATIVE}: {counts['A']} and {counts['B']} generated concepts in the halves, fewer than {FEW}"
            )
        return out


def _against(null: Float32, own: Float32) -> tuple[Float32, Float32]:
    """Share of the draws (columns) that reach each row's own value, and their median."""
    reached = (null >= own[:, None]).mean(axis=1)
    return reached.astype(np.float32), np.median(null, axis=1).astype(np.float32)
