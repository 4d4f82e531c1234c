"""Thresholds of one metric: counts of half A give them, shares of half B check them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iconicity.indexer.null.design import Design
from iconicity.indexer.null.rates import Histogram, lowest_tau, pair_rate
from iconicity.scorer.measure.calibrate.calibration import INDICATIVE, NOT_CALIBRATED, NULL_EDGES
from iconicity.scorer.measure.intervals import interval
from iconicity.scorer.measure.metrics import Bools, Float32, Float64, Ints
from iconicity.scorer.measure.study import FEW


class Thresholds:
    """Of one metric: histograms of half A for each null and J, and the pair shares of half B and of all concepts."""

    def __init__(
        self,
        design: Design,
        metric: str,
        tau_given: float | None,
        alpha: float,
        draws: int,
        seed: int,
        tau_index: Mapping[int, float] | None = None,
    ) -> None:
        """``tau_given``: the results' one threshold. ``tau_index``: those of the index for each J."""
        self.design, self.metric, self.tau_given = design, metric, tau_given
        self.alpha, self.draws, self.seed = alpha, draws, seed
        self.js = int(design.pool.draw.max(initial=0))
        nulls = ("unrelated", "related") if design.related else ("unrelated",)
        self.nulls = nulls
        self.histograms = {null: Histogram(self.js + 1) for null in nulls}
        self.everything = Histogram(1)  # null "all": the best of all other concepts
        self.tau_index = np.array([(tau_index or {}).get(j, np.nan) for j in range(self.js + 1)], np.float64)
        self.tau: dict[str, Float64] = {}
        self.tau_all = float("nan")
        self.concepts: list[tuple[str, str]] = []  # (concept, half) in the order of the shares
        self.allowed: dict[str, list[Bools]] = {null: [] for null in nulls}
        self.shares: dict[str, list[Float64]] = {name: [] for name in (*nulls, "given", "index")}
        self.best_shares: list[tuple[str, str, float, float, int]] = []  # all: concept, half, at tau, at given tau, J

    def settle(self) -> None:
        """Thresholds from half A."""
        for null in self.nulls:
            taus = [lowest_tau(self.histograms[null].rate(j), self.alpha) for j in range(self.js + 1)]
            self.tau[null] = np.array(taus, np.float64)
        self.tau_all = lowest_tau(self.everything.rate(0), self.alpha)

    def rows(self) -> Iterator[dict[str, Any]]:
        for null in self.nulls:
            for j in range(1, self.js + 1):
                yield self._row(null, j)
        if self.best_shares:
            yield self._row_all()

    def null_curves(self) -> Iterator[dict[str, Any]]:
        """The null of each J at the similarities a calibration keeps, where half A has any pair."""
        for j in range(1, self.js + 1):
            rates = self.histograms["unrelated"].rate_at_each(j, NULL_EDGES)
            if not np.isnan(rates).any():
                yield {"metric": self.metric, "references": j, "reached": np.round(rates, 6).tolist()}

    def _row(self, null: str, j: int) -> dict[str, Any]:
        at = self.design.pool.draw == j
        tau = float(self.tau[null][j])
        a, b, every = (self._pairs(null, half, at) for half in ("A", "B", "AB"))
        row: dict[str, Any] = {
            "null": null, "metric": self.metric, "references": j, "tau": None if np.isnan(tau) else tau,
            "concepts_fit": a.sides[0], "other_concepts_fit": a.sides[1], "pairs_fit": a.pairs,
            "rate_fit": _number(self.histograms[null].rate_at(j, tau)),
            "concepts_check": b.sides[0], "other_concepts_check": b.sides[1], "pairs_check": b.pairs,
        }  # fmt: skip
        there = {null: True, "given": self.tau_given is not None, "index": not np.isnan(self.tau_index[j])}
        rates = (("rate_check", b, null), ("rate_given", every, "given"), ("rate_index", every, "index"))
        for name, pairs, shares in rates:
            known = pairs.pairs and there[shares]
            found = pair_rate(*pairs.arrays(self.shares[shares]), self.draws, self.seed) if known else (np.nan,) * 3
            row |= _rate(name, *found)
        row["tau_index"] = _number(float(self.tau_index[j]))
        return self._judged(row, a.pairs, min(*a.sides, *b.sides))

    def _row_all(self) -> dict[str, Any]:
        a, b = ([s for s in self.best_shares if s[1] == half] for half in "AB")
        row: dict[str, Any] = {
            "null": "all", "metric": self.metric, "references": int(np.median([s[4] for s in a or b])),
            "tau": _number(self.tau_all), "concepts_fit": len(a), "other_concepts_fit": None, "pairs_fit": len(a),
            "rate_fit": _number(self.everything.rate_at(0, self.tau_all)), "concepts_check": len(b),
            "other_concepts_check": None, "pairs_check": len(b),
        }  # fmt: skip
        for name, shares in (("rate_check", [s[2] for s in b]), ("rate_given", [s[3] for s in self.best_shares])):
            given = np.nan if name == "rate_given" and self.tau_given is None else 1.0
            found = interval(np.array(shares, np.float64)[:, None] * given, draws=self.draws, seed=self.seed).shown()
            row |= _rate(name, found.value[0], found.low[0], found.high[0])
        return self._judged(row, len(a), min(len(a), len(b)))

    def _judged(self, row: dict[str, Any], pairs: int, concepts: int) -> dict[str, Any]:
        """A row with its status: fewer pairs than 1 / alpha cannot show such a rate, and then there is no tau."""
        row |= {"tau_given": self.tau_given, "status": INDICATIVE if concepts < FEW else "ok"}
        return row | {"tau": None, "status": NOT_CALIBRATED} if pairs * self.alpha < 1.0 else row

    def _pairs(self, null: str, half: str, at: Bools) -> _Pairs:
        chosen = [i for i, (_, h) in enumerate(self.concepts) if h in half]
        # within a half both sides of a pair lie in it
        allowed = np.array(
            [
                self.allowed[null][i] & at & (self.design.column_half == h if len(half) == 1 else True)
                for i in chosen
                for h in [self.concepts[i][1]]
            ],
            bool,
        ).reshape(len(chosen), len(at))
        columns = np.flatnonzero(allowed.any(axis=0))
        return _Pairs(
            [self.concepts[i][0] for i in chosen],
            [self.design.pool.concepts[self.design.pool.of[c]] for c in columns],
            chosen,
            columns,
            allowed[:, columns],
        )


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


class ConceptCounts:
    """What one concept adds to the tables of one metric: counts over its images (or patches), then shares."""

    def __init__(self, tables: Thresholds, concept: str, half: str) -> None:
        design = tables.design
        self.tables, self.concept, self.half = tables, concept, half
        others, kin = design.others(concept), design.is_related(concept)
        self.allowed = {"unrelated": others & ~kin, "related": others & kin}
        in_half = design.column_half == half
        self.inside = {null: np.flatnonzero(self.allowed[null] & in_half) for null in tables.nulls}
        self.everyone = np.flatnonzero(others & in_half)
        self.parts = {null: Histogram(tables.js + 1) for null in tables.nulls}
        self.best = Histogram(1)
        self.n = 0
        r = len(design.pool.draw)
        self.reached = {name: np.zeros(r, np.int64) for name in (*tables.nulls, "given", "index")}
        self.best_reached = np.zeros(2, np.int64)

    def add(self, null: Float32) -> None:
        """Values (n, R) of some images or patches."""
        if not len(null):
            return
        tables, draw = self.tables, self.tables.design.pool.draw
        self.n += len(null)
        everyone = self.everyone
        best = null[:, everyone].max(axis=1) if len(everyone) else None
        given = tables.tau_given
        if given is not None:
            self.reached["given"] += (null >= np.float32(given)).sum(axis=0)
        self.reached["index"] += (null >= tables.tau_index[draw].astype(np.float32)).sum(axis=0)
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
                pairs = np.bincount(tables.design.pool.draw[self.inside[null]], minlength=tables.js + 1)
                tables.histograms[null].add(self.parts[null], self.n, pairs)
        for name, counts in self.reached.items():
            tables.shares[name].append(counts / self.n)
        everyone = self.everyone
        if len(everyone):
            if self.half == "A":
                tables.everything.add(self.best, self.n, np.ones(1, np.int64))
            at_tau, at_given = self.best_reached / self.n
            tables.best_shares.append((self.concept, self.half, at_tau, at_given, len(everyone)))


def _rate(name: str, value: float, low: float, high: float) -> dict[str, float | None]:
    """A rate and the ends of its interval as columns."""
    return {name: _number(value), f"{name}_low": _number(low), f"{name}_high": _number(high)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
