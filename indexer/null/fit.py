"""Fit thresholds on references alone, from the similarities of unrelated works.

Each concept's first kept reference is a query, as if a model had generated it. It is compared with every other concept
of its half that is another work, and by another creator where these are known. A draw at J is the best of the first J
references of **one** other concept. The threshold at a false-positive rate alpha is the lowest four-decimal number that
at most alpha of the comparisons in one half reach; the rate is then measured in the other half.

Where too few concepts have J references, J is split into parts of J0 references: a query reaches a threshold with
one of J references at most as often as with all parts of J0 taken together (the union bound), so that the threshold at
alpha / ceil(J / J0) for J0 references holds for J.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from iconicity.indexer.arrays import Bools, Float32, Float64, Ints
from iconicity.indexer.null.neighbours import Neighbours, csls_of_draws
from iconicity.indexer.null.pool import products
from iconicity.indexer.null.rates import STEP, pair_rate
from iconicity.indexer.null.sample import SEED, Sample, draw
from iconicity.indexer.null.thresholds import ALPHA, CRA, CSLS, DYNAMIC, FORMAT, STATIC, STRICT, VR, IndexThresholds
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.schema import IndexThresholdShape, NullRatesShape

FEW = 30  # concepts of a half below which a threshold is called indicative
LEAST = 10  # concepts of a half that must have J0 references
DRAWS = 2000  # bootstrap samples of a rate's interval
_CHUNK = 1024  # cells compared at once


def fit_store(
    store: ReferenceStore, alpha: float = ALPHA, creators: Mapping[str, str] = MappingProxyType({})
) -> IndexThresholds:
    """Thresholds of the references in a table. Without rows where there are too few concepts.

    ``creators``: concept -> who made it; works of one creator are not compared.
    Reads the vectors of at most 1 200 references (of a 4 x 4 grid), however many there are. Raises
    :class:`CorruptIndexError`.
    """
    sample, made_by = draw(store, creators), dict(creators)
    if sample is None or sample.pairs * alpha < 1.0:
        concepts = [] if sample is None else list(sample.concepts)
        return IndexThresholds(alpha, SEED, FORMAT, concepts, [], [], [], made_by)
    references = {n.kept for n in store.concepts().values() if n.kept}
    rows = fit(sample, references, alpha)
    works, queries = (sample.work.tolist(), list(sample.query_ids)) if rows else ([], [])
    return IndexThresholds(alpha, SEED, FORMAT, list(sample.concepts), works, queries, rows, made_by)


@dataclass(frozen=True)
class Compared:
    """Similarities of the n queries to the concepts of a sample. Draws that a concept is too small for are nan.

    Of a metric an array (n queries, P patches, n concepts, 1 + J): at 0 of the last axis the concept's first reference
    by name (static mode), at J its draw at J. CRA has one "patch".
    """

    values: dict[str, Float32]
    allowed: Bools  # (n, n) unrelated pairs of one half


def compare(sample: Sample) -> Compared:
    """Compare the queries of a sample with all of its references."""
    n = len(sample.concepts)
    near = Neighbours(sample.queries, sample.work)  # the queries of other works
    flat = sample.queries.reshape(-1, sample.patches.shape[2])
    single = np.empty((len(flat), len(sample.ref_ids)), np.float32)
    lessened = np.empty_like(single)
    of = _concept_of(sample)
    cells = sample.patches.shape[1]
    size = max(1, _CHUNK // cells)
    for start in range(0, len(sample.ref_ids), size):
        part = slice(start, start + size)
        block = sample.patches[part].reshape(-1, flat.shape[1])
        each = products(flat, block)
        single[:, part] = each.reshape(len(flat), -1, cells).max(axis=2)
        if near.enough:
            r = near.best_elsewhere(each.T, np.repeat(sample.work[of[part]], cells))
            lessened[:, part] = (each - r / 2).reshape(len(flat), -1, cells).max(axis=2)
    patches = len(sample.cells)
    shape = (n, patches, len(sample.ref_ids))
    values = {
        CRA: _draws(sample, products(sample.clip[sample.first], sample.clip)[:, None, :]),
        VR: _draws(sample, single.reshape(shape)),
    }
    if near.enough:
        best = _draws(sample, lessened.reshape(shape))
        values[CSLS] = csls_of_draws(best, near, sample.work)
    allowed = ~sample.related & (sample.fit[:, None] == sample.fit)
    return Compared(values, allowed)


def _concept_of(sample: Sample) -> Ints:
    """Return the number of each reference's concept: (R,)."""
    place = {c: i for i, c in enumerate(sample.concepts)}
    return np.array([place[ref_id.split("/", 1)[0]] for ref_id in sample.ref_ids], np.int64)


def _draws(sample: Sample, single: Float32) -> Float32:
    """Similarities to single references (n, P, R) as draws (n, P, n concepts, 1 + J)."""
    most = max(len(d) for d in sample.draws)
    out = np.full((*single.shape[:2], len(sample.concepts), 1 + most), np.nan, np.float32)
    out[..., 0] = single[..., sample.first]
    for i, places in enumerate(sample.draws):
        out[:, :, i, 1 : 1 + len(places)] = np.maximum.accumulate(single[..., places], axis=2)
    return out


def lowest_tau(values: Float32, alpha: float) -> float:
    """Lowest four-decimal threshold that at most alpha of the values reach.

    >>> lowest_tau(np.float32([0.1, 0.2, 0.3, 0.4]), 0.25)
    0.3001
    """
    ordered = np.sort(values.ravel())[::-1]
    may = math.floor(alpha * len(ordered) + 1e-9)
    if may >= len(ordered):
        return -1.0
    highest = ordered[may]  # must not reach the threshold
    step = max(-10_000, math.floor(float(highest) / STEP) - 1)
    while np.float32(round(step * STEP, 4)) <= highest:
        step += 1
    return round(step * STEP, 4)


def fit(sample: Sample, references: Iterable[int], alpha: float) -> list[IndexThresholdShape]:
    """Thresholds for static mode, and for each number of references J of dynamic mode.

    Empty where the half to fit on has fewer than 1 / alpha pairs of concepts, which cannot show such a rate.
    """
    compared = compare(sample)
    wanted = [(STATIC, 1), *((DYNAMIC, j) for j in sorted(set(references)))]
    return [row for mode, j in wanted for row in _at(sample, compared, mode, j, alpha)]


def _at(sample: Sample, compared: Compared, mode: str, j: int, alpha: float) -> list[IndexThresholdShape]:
    """Rows of all metrics at J references."""
    drawn = _drawn(sample, compared, j, alpha)
    if drawn is None:
        return []
    column = 0 if mode == STATIC else drawn
    fitted, checked = (_pairs(compared, column, half) for half in (sample.fit, ~sample.fit))
    hits: dict[str, Bools] = {}
    taus: dict[str, float | None] = {STRICT: None}
    for metric, values in compared.values.items():
        at = values[..., column].transpose(0, 2, 1)  # (n, n, P)
        taus[metric] = tau = lowest_tau(at[fitted], alpha / math.ceil(j / drawn))
        hits[metric] = at >= np.float32(tau)
    if CSLS in hits:
        hits[STRICT] = hits[VR] & hits[CSLS]
    return [
        {
            "mode": mode, "metric": metric, "references": j, "drawn": drawn, "tau": taus[metric],
            **_rates(sample.concepts, hit.mean(axis=2), fitted, checked),
        }
        for metric, hit in hits.items()
    ]  # fmt: skip


def _drawn(sample: Sample, compared: Compared, j: int, alpha: float) -> int | None:
    """J0: the most references, J at most, that enough concepts have; None where there are too few concepts at all.

    Enough: :data:`LEAST` concepts, and pairs to show the rate that J needs. Where no J0 has these, pairs to show alpha.
    """
    most = compared.values[CRA].shape[3] - 1
    found = {k: _pairs(compared, k, sample.fit) for k in range(min(j, most), 0, -1)}
    enough = [k for k, p in found.items() if _fewer(p) >= LEAST and p.sum() * alpha >= math.ceil(j / k)]
    return next(iter([*enough, *(k for k, p in found.items() if p.sum() * alpha >= 1.0)]), None)


def _fewer(pairs: Bools) -> int:
    """Concepts on the side of some pairs (n, n) that has fewer."""
    return int(min(pairs.any(axis=1).sum(), pairs.any(axis=0).sum()))


def _pairs(compared: Compared, column: int, half: Bools) -> Bools:
    """Pairs (n, n) of a half whose second concept has a draw in the column."""
    there = ~np.isnan(compared.values[CRA][0, 0, :, column])
    return np.asarray(compared.allowed & half[:, None] & there)


def _rates(concepts: Sequence[str], shares: Float64, fitted: Bools, checked: Bools) -> NullRatesShape:
    """The mean of shares (n, n) over the pairs of each half, in the checked one with an interval."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    if checked.any():
        rows, columns = (np.flatnonzero(checked.any(axis=axis)).tolist() for axis in (1, 0))
        part = np.ix_(rows, columns)
        names = [concepts[i] for i in rows], [concepts[i] for i in columns]
        value, low, high = (
            None if math.isnan(v) else v for v in pair_rate(shares[part], checked[part], *names, DRAWS, 0)
        )
    sides = [_fewer(p) for p in (fitted, checked)]
    return {
        "rate_fit": float(shares[fitted].mean()), "rate_check": value, "rate_check_low": low, "rate_check_high": high,
        "pairs_fit": int(fitted.sum()), "pairs_check": int(checked.sum()), "concepts_fit": sides[0],
        "concepts_check": sides[1], "status": "indicative" if min(sides) < FEW else "ok",
    }  # fmt: skip
