"""Fit thresholds on one half of the concepts and check them on the other; leave each image's null beside the results.

Per pair (c, d) of a generated and another concept, the share of c's images (or their patches) that reach tau over J
references of d; the false-positive rate is the mean over pairs. tau is the lowest four-decimal number whose rate on
half A is at most alpha. On half B the rate is measured anew, its interval by resampling concepts, on both sides of
the pairs at once (Owen 2007, the pigeonhole bootstrap).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from iconicity.indexer.encoders import FloatArray
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.index import Index
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.vectors import open_vectors
from iconicity.scorer.cache import VectorCache
from iconicity.scorer.findings.calibration import INDICATIVE, NOT_CALIBRATED, SETTINGS, Calibration
from iconicity.scorer.findings.null import POOL, Pool, choose, rank
from iconicity.scorer.findings.rates import Histogram, lowest_tau, pair_rate
from iconicity.scorer.findings.same_work import Pair, same_works, work_of
from iconicity.scorer.findings.specific import write_null
from iconicity.scorer.findings.statistics import DRAWS, interval
from iconicity.scorer.findings.study import FEW, Study
from iconicity.scorer.generated import cache_keys
from iconicity.scorer.metrics import Bools, Float32, Float64, Ints

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
    apply: Calibration | None = None,
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> Calibration:
    """Thresholds for a study, and the null of its images in its results directories.

    ``pool`` is how many concepts images are compared with at most. ``works``: concept -> work, for concepts that are
    the same work. ``related``: concept -> artist, series or genre; such pairs have a null of their own. ``apply``
    takes a calibration's pool and thresholds as they are and only fills in images. Vectors come from ``cache``.
    Raises :class:`InputError` when they are not there, :class:`SettingsError` when index and results do not belong
    together.
    """
    if study.settings["index_id"] != index.index_id:
        raise SettingsError(
            f"{study.sources[0].path}: scored against index {study.settings['index_id'][:12]}, {index.path} is "
            f"{index.index_id[:12]}; name that one, or score again with --update"
        )
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
        same |= same_works(index, {*study.concepts, *names} & index.concepts().keys())
    run = _Run(study, index, cache, held, same, related or {}, seed, progress)
    if apply is not None:
        for chunk in run.chunks(run.order(lambda _: True)):
            run.compare(chunk)
        found = apply
    else:
        found = run.fit(alpha, draws)
    for i, source in enumerate(study.sources):
        facts = {"index_id": index.index_id, "seed": seed, "pool": len(names), "calibration_sha256": found.digest}
        write_null(source.path, study.mode, run.null_rows(i), facts)
    return found


@dataclass
class _Run:
    """One pass over the images of a study: their nulls, and what the thresholds need."""

    study: Study
    index: Index
    cache: VectorCache
    pool: Pool
    same: set[Pair]
    related: Mapping[str, str]
    seed: int
    progress: Progress
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # image -> its null
    done: int = 0

    def __post_init__(self) -> None:
        work = work_of([*self.study.concepts, *self.pool.concepts], self.same)
        self.half = {c: "AB"[int(rank(self.seed, f"half|{w}"), 16) & 1] for c, w in work.items()}
        self.partners: dict[str, set[str]] = {}
        for a, b in self.same:
            self.partners.setdefault(a, set()).add(b)
            self.partners.setdefault(b, set()).add(a)
        kind = np.array([self.half[c] for c in self.pool.concepts])
        self.column_half = kind[self.pool.of] if len(kind) else np.empty(0, "<U1")

    def order(self, wanted: Any) -> list[int]:
        """Concepts of the study (by place) that are wanted and have references."""
        return [i for i, c in enumerate(self.study.concepts) if self.study.references[i] > 0 and wanted(c)]

    def others(self, concept: str) -> Bools:
        """Columns of the pool that an image of a concept may be compared with."""
        return self.pool.columns_of({concept, *self.partners.get(concept, ())})

    def is_related(self, concept: str) -> Bools:
        mine = self.related.get(concept)
        kin = np.array([mine is not None and self.related.get(d) == mine for d in self.pool.concepts], bool)
        return np.asarray(kin[self.pool.of], bool)

    def chunks(self, concepts: Sequence[int]) -> Iterator[_Chunk]:
        """Images of some concepts, one concept after the other."""
        clip_key, patch_key = cache_keys(self.index)
        study = self.study
        has_cra, has_vr = ~np.isnan(study.similarity), ~np.isnan(study.p).any(axis=1)
        usable = study.ok & (has_cra | has_vr)
        cells = study.p.shape[1]
        size = max(1, _BYTES // (8 * cells * max(1, self.pool.patches.shape[0] * self.pool.patches.shape[1])))
        total = int(usable.sum())
        for c in concepts:
            mine = np.flatnonzero(usable & (study.concept == c))
            for start in range(0, len(mine), size):
                rows = mine[start : start + size]
                clip_rows, patch_rows = rows[has_cra[rows]], rows[has_vr[rows]]
                clip = self._vectors(clip_rows, clip_key).reshape(len(clip_rows), -1)
                patches = self._vectors(patch_rows, patch_key).reshape(len(patch_rows), cells, -1)
                self.done += len(rows)
                self.progress("null", self.done, total)
                yield _Chunk(c, clip_rows, clip, patch_rows, patches)

    def _vectors(self, rows: Ints, key: str) -> FloatArray:
        if not len(rows):
            return np.empty((0, 1), np.float32)
        shas = self.study.table.column("gen_sha256").take(pa.array(rows)).to_pylist()
        found = self.cache.get(sorted(set(shas)), key)
        lacking = [i for i, s in enumerate(shas) if s not in found]
        if lacking:
            first = self.study.relpaths[int(rows[lacking[0]])]
            raise InputError(
                f"{self.cache.path}: has no vectors of {len(lacking)} images, first {first}; score them again with this "
                "cache ('iconicity score --cache'), or name the cache they were scored with"
            )
        return np.stack([found[s] for s in shas])

    def compare(self, chunk: _Chunk) -> tuple[Float32, Float32]:
        """Nulls of a chunk, (n, R) of images and (m * K, R) of patches; each image's own is kept in ``rows``."""
        concept = self.study.concepts[chunk.concept]
        j = int(self.study.references[chunk.concept])
        others = self.others(concept)
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
            return clip, np.empty((0, r), np.float32)
        flat = chunk.patches.reshape(n * k, dim)
        single = self.pool.patch_similarity(flat)
        patches = self.pool.patch_maxima(single)
        if at_j.any():
            reached, median = _against(patches[:, at_j], self.study.p[chunk.patch_rows].reshape(-1))
            drawn = np.isin(self.pool.of, self.pool.of[at_j]) & (self.pool.draw <= j)
            columns = np.flatnonzero(drawn)
            best = columns[single[:, columns].argmax(axis=1)]
            cell = self.pool.best_cells(flat, best)
            for i, row in enumerate(chunk.patch_rows):
                part = slice(i * k, (i + 1) * k)
                self.rows[int(row)] |= {
                    "p_reached": reached[part].tolist(), "p_median": median[part].tolist(),
                    "p_best": single[np.arange(n * k)[part], best[part]].tolist(),
                    "p_best_ref_id": [self.pool.ref_ids[b] for b in best[part]], "p_best_ref_cell": cell[part].tolist(),
                }  # fmt: skip
        return clip, patches

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
        tables = {metric: _Tables(self, alpha, draws, metric) for metric in ("cra", "vr")}
        for half in "AB":
            for c in self.order(lambda name, half=half: self.half[name] == half):
                gathered = {metric: _Concept(tables[metric], self.study.concepts[c], half) for metric in tables}
                for chunk in self.chunks([c]):
                    clip, patches = self.compare(chunk)
                    gathered["cra"].add(clip)
                    gathered["vr"].add(patches)
                for metric in tables:
                    gathered[metric].close()
            if half == "A":
                for t in tables.values():
                    t.settle()
        thresholds = [row for t in tables.values() for row in t.rows()]
        settings = {key: self.study.settings[key] for key in SETTINGS if key in self.study.settings}
        halves = {h: sorted(c for c, mine in self.half.items() if mine == h) for h in "AB"}
        return Calibration(
            alpha, self.seed, self.index.index_id, settings, self.pool.concepts, halves,
            sorted([a, b] for a, b in self.same), thresholds, self._notes(), ",".join(str(s.path) for s in self.study.sources),
        )  # fmt: skip

    def _notes(self) -> list[str]:
        counts = {h: len(self.order(lambda name, h=h: self.half[name] == h)) for h in "AB"}
        out = [note for s in self.study.sources for note in s.notes]
        if min(counts.values()) < FEW:
            out.append(
                f"{INDICATIVE}: {counts['A']} and {counts['B']} generated concepts in the halves, fewer than {FEW}"
            )
        return out


def _against(null: Float32, own: Float32) -> tuple[Float32, Float32]:
    """Share of the draws (columns) that reach each row's own value, and their median."""
    reached = (null >= own[:, None]).mean(axis=1)
    return reached.astype(np.float32), np.median(null, axis=1).astype(np.float32)


class _Tables:
    """Of one metric: histograms of half A for each null and J, and the pair shares of half B and of all concepts."""

    def __init__(self, run: _Run, alpha: float, draws: int, metric: str) -> None:
        self.run, self.alpha, self.draws, self.metric = run, alpha, draws, metric
        self.js = int(run.pool.draw.max(initial=0))
        nulls = ("unrelated", "related") if run.related else ("unrelated",)
        self.nulls = nulls
        self.histograms = {null: Histogram(self.js + 1) for null in nulls}
        self.everything = Histogram(1)  # null "all": the best of all other concepts
        self.tau: dict[str, Float64] = {}
        self.tau_all = float("nan")
        self.concepts: list[tuple[str, str]] = []  # (concept, half) in the order of the shares
        self.allowed: dict[str, list[Bools]] = {null: [] for null in nulls}
        self.shares: dict[str, list[Float64]] = {name: [] for name in (*nulls, "given")}
        self.best_shares: list[tuple[str, str, float, float, int]] = []  # all: concept, half, at tau, at given tau, J

    def settle(self) -> None:
        """Thresholds from half A."""
        for null in self.nulls:
            taus = [lowest_tau(self.histograms[null].rate(j), self.alpha) for j in range(self.js + 1)]
            self.tau[null] = np.array(taus, np.float64)
        self.tau_all = lowest_tau(self.everything.rate(0), self.alpha)

    def rows(self) -> Iterable[dict[str, Any]]:
        for null in self.nulls:
            for j in range(1, self.js + 1):
                yield self._row(null, j)
        if self.best_shares:
            yield self._row_all()

    def _row(self, null: str, j: int) -> dict[str, Any]:
        at = self.run.pool.draw == j
        tau = float(self.tau[null][j])
        a, b, every = (self._pairs(null, half, at) for half in ("A", "B", "AB"))
        given = self.run.study.tau[self.metric]
        row: dict[str, Any] = {
            "null": null, "metric": self.metric, "references": j, "tau": None if np.isnan(tau) else tau,
            "concepts_fit": a.sides[0], "other_concepts_fit": a.sides[1], "pairs_fit": a.pairs,
            "rate_fit": _number(self.histograms[null].rate_at(j, tau)),
            "concepts_check": b.sides[0], "other_concepts_check": b.sides[1], "pairs_check": b.pairs,
        }  # fmt: skip
        for name, pairs, shares in (("rate_check", b, null), ("rate_given", every, "given")):
            found = (
                pair_rate(*pairs.arrays(self.shares[shares]), self.draws, self.run.seed)
                if pairs.pairs
                else (np.nan,) * 3
            )
            row |= {name: _number(found[0]), f"{name}_low": _number(found[1]), f"{name}_high": _number(found[2])}
        row["tau_given"] = given
        row["status"] = _status(a.pairs, self.alpha, min(*a.sides, *b.sides))
        return row if row["status"] != NOT_CALIBRATED else row | {"tau": None}

    def _row_all(self) -> dict[str, Any]:
        a, b = ([s for s in self.best_shares if s[1] == half] for half in "AB")
        row: dict[str, Any] = {
            "null": "all", "metric": self.metric, "references": int(np.median([s[4] for s in a or b])),
            "tau": _number(self.tau_all), "concepts_fit": len(a), "other_concepts_fit": None, "pairs_fit": len(a),
            "rate_fit": _number(self.everything.rate_at(0, self.tau_all)), "concepts_check": len(b),
            "other_concepts_check": None, "pairs_check": len(b),
        }  # fmt: skip
        for name, shares in (("rate_check", [s[2] for s in b]), ("rate_given", [s[3] for s in self.best_shares])):
            found = interval(np.array(shares, np.float64)[:, None], draws=self.draws, seed=self.run.seed)
            row |= {
                name: _number(found.value[0]),
                f"{name}_low": _number(found.low[0]),
                f"{name}_high": _number(found.high[0]),
            }
        row["tau_given"] = self.run.study.tau[self.metric]
        row["status"] = _status(len(a), self.alpha, min(len(a), len(b)))
        return row if row["status"] != NOT_CALIBRATED else row | {"tau": None}

    def _pairs(self, null: str, half: str, at: Bools) -> _Pairs:
        chosen = [i for i, (_, h) in enumerate(self.concepts) if h in half]
        # within a half both sides of a pair lie in it
        allowed = np.array([self.allowed[null][i] & at & (self.run.column_half == h if len(half) == 1 else True)
                            for i in chosen for h in [self.concepts[i][1]]], bool).reshape(len(chosen), len(at))  # fmt: skip
        columns = np.flatnonzero(allowed.any(axis=0))
        return _Pairs(
            [self.concepts[i][0] for i in chosen], [self.run.pool.concepts[self.run.pool.of[c]] for c in columns],
            chosen, columns, allowed[:, columns],
        )  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """Pairs of concepts that count for a rate."""

    generated: Sequence[str]
    others: Sequence[str]
    rows: Sequence[int]
    columns: Ints
    allowed: Bools

    @property
    def pairs(self) -> int:
        return int(self.allowed.sum())

    @property
    def sides(self) -> tuple[int, int]:
        """Generated and other concepts that occur in a pair."""
        return int(self.allowed.any(axis=1).sum()), len(self.others)

    def arrays(self, shares: Sequence[Float64]) -> tuple[Float64, Bools, Sequence[str], Sequence[str]]:
        chosen = np.stack([shares[i][self.columns] for i in self.rows])
        return chosen, self.allowed, self.generated, self.others


class _Concept:
    """What one concept adds to the tables of one metric: counts over its images (or patches), then shares."""

    def __init__(self, tables: _Tables, concept: str, half: str) -> None:
        run = tables.run
        self.tables, self.concept, self.half = tables, concept, half
        others, kin = run.others(concept), run.is_related(concept)
        self.allowed = {"unrelated": others & ~kin, "related": others & kin}
        in_half = run.column_half == half
        self.inside = {null: np.flatnonzero(self.allowed[null] & in_half) for null in tables.nulls}
        self.parts = {null: Histogram(tables.js + 1) for null in tables.nulls}
        self.best = Histogram(1)
        self.n = 0
        r = len(run.pool.draw)
        self.reached = {name: np.zeros(r, np.int64) for name in (*tables.nulls, "given")}
        self.best_reached = np.zeros(2, np.int64)

    def add(self, null: Float32) -> None:
        """Values (n, R) of some images or patches."""
        if not len(null):
            return
        tables, draw = self.tables, self.tables.run.pool.draw
        self.n += len(null)
        unrelated = self.inside["unrelated"]
        best = null[:, unrelated].max(axis=1) if len(unrelated) else None
        given = tables.run.study.tau[tables.metric]
        if given is not None:
            self.reached["given"] += (null >= np.float32(given)).sum(axis=0)
        if best is not None and given is not None:
            self.best_reached[1] += int((best >= np.float32(given)).sum())
        if self.half == "A":
            for kind, columns in self.inside.items():
                self.parts[kind].count(null[:, columns], draw[columns])
            if best is not None:
                self.best.count(best[:, None], np.zeros(1, np.int64))
            return
        for kind in tables.nulls:
            tau = tables.tau[kind][draw].astype(np.float32)
            self.reached[kind] += (null >= tau).sum(axis=0)
        if best is not None:
            self.best_reached[0] += int((best >= np.float32(tables.tau_all)).sum())

    def close(self) -> None:
        """Hand the shares over."""
        if self.n == 0:
            return
        tables = self.tables
        tables.concepts.append((self.concept, self.half))
        for null in tables.nulls:
            tables.allowed[null].append(self.allowed[null])
            if self.half == "A":
                pairs = np.bincount(tables.run.pool.draw[self.inside[null]], minlength=tables.js + 1)
                tables.histograms[null].add(self.parts[null], self.n, pairs)
        for name, counts in self.reached.items():
            tables.shares[name].append(counts / self.n)
        unrelated = self.inside["unrelated"]
        if len(unrelated):
            if self.half == "A":
                tables.everything.add(self.best, self.n, np.ones(1, np.int64))
            at_tau, at_given = self.best_reached / self.n
            tables.best_shares.append((self.concept, self.half, at_tau, at_given, len(unrelated)))


def _status(pairs: int, alpha: float, concepts: int) -> str:
    """Fewer pairs than 1 / alpha cannot show a rate of alpha; fewer than 30 concepts on a side only indicate it."""
    if pairs * alpha < 1.0:
        return NOT_CALIBRATED
    return INDICATIVE if concepts < FEW else "ok"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
