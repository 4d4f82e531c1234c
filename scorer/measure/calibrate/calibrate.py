"""Fit thresholds on one half of the concepts and check them on the other; leave each image's null beside the results.

Per pair (c, d) of a generated and another concept, the share of c's images (or their patches) that reach tau over J
references of d; the false-positive rate is the mean over pairs. tau is the lowest four-decimal number whose rate on
half A is at most alpha. On half B the rate is measured anew, its interval by resampling concepts, on both sides of
the pairs at once (Owen 2007, the pigeonhole bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from iconicity.indexer.cached import cache_keys
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.null.design import Design
from iconicity.indexer.null.pool import Pool, choose
from iconicity.indexer.null.same_work import same_works
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.vectors import open_vectors
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import (
    INDICATIVE,
    SETTINGS,
    Calibration,
    read_calibration,
    thresholds_finding,
)
from iconicity.scorer.measure.calibrate.compare import CRA, VR, Comparison
from iconicity.scorer.measure.calibrate.images import ImageNulls
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.measure.calibrate.thresholds import ConceptCounts, Thresholds
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.image_null import write_null
from iconicity.scorer.measure.judgement import judgements
from iconicity.scorer.measure.metrics import Bools, Ints
from iconicity.scorer.measure.study import FEW, Study

_BYTES = 1 << 28  # of products held at once


def calibrate(
    study: Study,
    index: Index,
    cache: VectorCache,
    options: CalibrationOptions = CalibrationOptions(),
    progress: Progress = no_progress,
) -> Calibration:
    """Find thresholds for a study, and write the null of its images into its results directories.

    Vectors come from ``cache``. Raises :class:`InputError` when they are not there, :class:`SettingsError` when index
    and results do not belong together.
    """
    study.require_index(index)
    names = choose((c for c, n in index.concepts().items() if n.kept), options.pool, options.seed)
    run = _Run.open(study, index, cache, names, options, progress)
    found = run.fit(options)
    run.write(found)
    return found


def apply_calibration(
    study: Study,
    index: Index,
    cache: VectorCache,
    calibration: Calibration,
    works: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write the null of a study's images with the pool of a calibration, whose thresholds stay as they are.

    ``works``: further concepts that are the same work. Raises the errors of :func:`calibrate`, and
    :class:`SettingsError` when the calibration was made with other settings or a concept of its pool is gone.
    """
    study.require_index(index)
    calibration.require_for(study.settings, str(study.sources[0].path))
    gone = set(calibration.pool) - index.concepts().keys()
    if gone:
        raise SettingsError(f"{index.path}: '{min(gone)}' of the calibration's pool is gone; calibrate anew")
    options = CalibrationOptions(seed=calibration.seed, works=works or {}, whiten=calibration.whitened)
    run = _Run.open(study, index, cache, calibration.pool, options, progress, calibration.same_work)
    for chunk in run.chunks(run.order()):
        run.compare(chunk)
    run.write(calibration)


def calibration_finding(
    study: Study, index: Index, cache: VectorCache, options: CalibrationOptions, *, apply: Path | None, to: Path, progress: Progress,
) -> Finding:  # fmt: skip
    """Calibrate, or ``apply`` the calibration of a file; the thresholds as a table, and what they mean for the study.

    A calibration that is made is written to ``to``.
    """
    if apply is not None:
        found = read_calibration(apply)
        apply_calibration(study, index, cache, found, options.works, progress)
    else:
        found = calibrate(study, index, cache, options, progress)
        found.write(to)
    finding = thresholds_finding(found)
    said = [j.sentence for j in judgements(study, found, "this calibration")]
    none = [] if any(found.taus(metric) for metric in ("cra", "vr")) else [_none_fitted(study, found)]
    return replace(finding, notes=[*none, *finding.notes, *said])


def _none_fitted(study: Study, found: Calibration) -> str:
    """Why no threshold could be fitted, how many concepts would do, and what is used instead."""
    needed, most = math.ceil(1 / found.alpha), max((int(t["pairs_fit"]) for t in found.thresholds), default=0)
    half = next(n for n in range(2, needed + 2) if n * (n - 1) >= needed)  # every concept of a half with every other
    there = counted(len(set(study.concept[study.ok].tolist())), "concept has", "concepts have")
    kept = "" if study.thresholds is None else "; the index's thresholds stay in use"
    return (
        f"no threshold could be fitted: {needed} pairs of concepts in half A are needed, and there are at most {most}; {there} "
        f"images, about {2 * half} are needed{kept}"
    )


@dataclass(frozen=True)
class _Chunk:
    """Some usable images of one concept, with their vectors where the metric was scored."""

    concept: int
    clip_rows: Ints
    clip: FloatArray  # (n, D)
    patch_rows: Ints
    patches: FloatArray  # (m, K, D')


@dataclass
class _Run:
    """One pass over the images of a study: their nulls, and what the thresholds need."""

    study: Study
    index: Index
    cache: VectorCache
    comparison: Comparison
    same: Sequence[Sequence[str]]
    progress: Progress
    nulls: ImageNulls
    notes: list[str]
    done: int = 0

    @classmethod
    def open(
        cls,
        study: Study,
        index: Index,
        cache: VectorCache,
        names: Sequence[str],
        options: CalibrationOptions,
        progress: Progress,
        same: Sequence[Sequence[str]] = (),
    ) -> _Run:
        """Open the vectors of the concepts ``names``. ``same``: pairs that are known to be the same work already."""
        static = study.mode == "static"
        vectors = open_vectors(index, cache.directory, progress)
        pool = Pool.open(vectors, names, options.seed, static)
        pairs = {(a, b) for a, b in same}
        pairs |= same_works(index, {*study.concepts, *names} & index.concepts().keys(), options.works)
        design = Design(study.concepts, pool, pairs, options.related, options.seed)
        comparison = Comparison(pool, vectors, design, static, options.whiten)
        lacking = options.whiten and comparison.whitening is None
        notes = ["not whitened: the pool has fewer than three works, or all of its cells are the same"] * lacking
        return cls(
            study,
            index,
            cache,
            comparison,
            sorted([a, b] for a, b in pairs),
            progress,
            ImageNulls(study, comparison),
            notes,
        )

    def order(self, halves: str = "AB") -> list[int]:
        """Concepts of the study (by place) in some halves that have references."""
        half = self.comparison.design.half
        return [i for i, c in enumerate(self.study.concepts) if self.study.references[i] > 0 and half[c] in halves]

    def chunks(self, concepts: Sequence[int]) -> Iterator[_Chunk]:
        """Images of some concepts, one concept after the other."""
        clip_key, patch_key = cache_keys(self.index)
        study, pool = self.study, self.comparison.pool
        has_cra: Bools = ~np.isnan(study.similarity)
        has_vr = np.asarray(~np.isnan(study.p).any(axis=1))
        usable = np.asarray(study.ok & (has_cra | has_vr))
        references, reference_cells, dim = pool.patches.shape
        cells = math.prod(self.index.grid)
        size = max(1, _BYTES // (8 * cells * max(1, references * reference_cells)))
        total = int(usable.sum())
        for c in concepts:
            mine: Ints = np.flatnonzero(usable & (study.concept == c))
            for start in range(0, len(mine), size):
                rows = mine[start : start + size]
                clip_rows, patch_rows = rows[has_cra[rows]], rows[has_vr[rows]]
                clip = self._vectors(clip_rows, clip_key, (pool.clip.shape[1],))
                patches = self._vectors(patch_rows, patch_key, (cells, dim))
                self.done += len(rows)
                self.progress("null", self.done, total)
                yield _Chunk(c, clip_rows, clip, patch_rows, patches)

    def _vectors(self, rows: Ints, key: str, shape: tuple[int, ...]) -> FloatArray:
        if not len(rows):
            return np.empty((0, *shape), np.float32)
        shas = self.study.table.column("gen_sha256").take(pa.array(rows)).to_pylist()
        stored = self.cache.get(sorted(set(shas)), key, math.prod(shape))
        lacking = [i for i, s in enumerate(shas) if s not in stored]
        if lacking:
            first = self.study.relpaths[int(rows[lacking[0]])]
            raise InputError(
                f"{self.cache.path}: has no vectors of {counted(len(lacking), 'image')}, first {first}; score again with this "
                "cache ('iconicity score --cache'), or name the cache they were scored with"
            )
        return np.stack([stored[s].reshape(shape) for s in shas])

    def compare(self, chunk: _Chunk) -> Mapping[str, FloatArray]:
        """Compare a chunk and keep the null of each of its images. Returns the nulls by metric."""
        compared = self.comparison.compare(self.study.concepts[chunk.concept], chunk.clip, chunk.patches)
        self.nulls.add(chunk.concept, chunk.clip_rows, chunk.patch_rows, chunk.patches, compared)
        return compared.nulls

    def fit(self, options: CalibrationOptions) -> Calibration:
        """Find thresholds on half A and check them on half B."""
        study, design = self.study, self.comparison.design
        index = {} if study.thresholds is None else study.thresholds.tau
        tables = {
            m: Thresholds(
                design,
                m,
                study.tau.get(m),
                options.alpha,
                options.draws,
                options.seed,
                index.get(m) if m in (CRA, VR) else None,
            )
            for m in self.comparison.metrics
        }
        for half in "AB":
            for c in self.order(half):
                gathered = {metric: ConceptCounts(tables[metric], study.concepts[c], half) for metric in tables}
                for chunk in self.chunks([c]):
                    for metric, null in self.compare(chunk).items():
                        gathered[metric].add(null)
                for metric in tables:
                    gathered[metric].close()
            if half == "A":
                for t in tables.values():
                    t.settle()
        return Calibration(
            alpha=options.alpha,
            seed=options.seed,
            index_id=self.index.index_id,
            settings={key: study.settings[key] for key in SETTINGS if key in study.settings},
            pool=list(self.comparison.pool.concepts),
            halves={h: sorted(c for c, mine in design.half.items() if mine == h) for h in "AB"},
            same_work=self.same,
            thresholds=[row for t in tables.values() for row in t.rows()],
            nulls=[null for m in ("cra", "vr") for null in tables[m].null_curves()],
            notes=self._notes(),
        )

    def _notes(self) -> list[str]:
        counts = {h: len(self.order(h)) for h in "AB"}
        design = self.comparison.design
        out = [note for s in self.study.sources for note in s.notes] + self.notes
        if design.related and not set(design.related) & {*self.study.concepts, *self.comparison.pool.concepts}:
            out.append("`related` names no concept of these results or of the index")
        if min(counts.values()) < FEW:
            out.append(
                f"{INDICATIVE}: {counts['A']} and {counts['B']} generated concepts in the halves, fewer than {FEW}"
            )
        return out

    def write(self, calibration: Calibration) -> None:
        """Write the nulls into each results directory of the study."""
        facts = {
            "index_id": self.index.index_id,
            "seed": calibration.seed,
            "pool": len(calibration.pool),
            "calibration_sha256": calibration.digest,
        }
        for i, source in enumerate(self.study.sources):
            write_null(source.path, self.study.mode, self.nulls.rows_of(i), facts)
