"""Methods against the truth of a ladder: tables with intervals over the concepts of the reporting half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.null.rates import pair_rate
from iconicity.scorer.measure.intervals import DRAWS, interval
from iconicity.scorer.measure.measures import MEASURES, of_images
from iconicity.scorer.measure.metrics import DEFAULT_TAU_VR, Bools, Float32, Float64, Ints, passes
from iconicity.scorer.measure.rank_correlation import Ranked
from iconicity.scorer.validate.ladder import Ladder
from iconicity.scorer.validate.layers import Layer
from iconicity.scorer.validate.methods import EMBEDDED, OURS, View
from iconicity.scorer.validate.options import REPAINTED, SCANS
from iconicity.scorer.validate.rungs import CELLS
from iconicity.scorer.validate.scores import (
    across_concepts,
    auroc,
    average_precision,
    count_cells,
    tau_at,
    within_concepts,
)

PUBLISHED = "tau 0.60"
BASE = "calibrated"  # the rule that others are compared with: VR as published, at its calibrated tau
ACHIEVED = 0.01  # false-positive rate of cells at which rules are compared with each other, whatever their thresholds
_HOW = (BASE, "strict", "whitened strict")
OPTIONS = (*_HOW, *(f"overlapping {how}" for how in _HOW))
# R0 is a plumbing check that any threshold below 1 wins, so that no separation counts it.
SEPARATIONS = {
    "copy_transformed": ("copy", "transformed"), "copy_other": ("copy", "other"), "partial_other": ("partial", "other"),
    "copy_layout": ("copy", "layout"),
}  # fmt: skip
GROUPS: dict[str, tuple[Sequence[str], float | None]] = {
    "R0": (["R0"], None), "R2": (["R2"], None), "R3 1/8": (["R3"], 1 / 8), "R3 1/4": (["R3"], 1 / 4),
    "R3 1/2": (["R3"], 1 / 2), "R4": (["R4"], None), SCANS: ([SCANS], None), **{g: ([g], None) for g in REPAINTED},
    "G": (REPAINTED, None),
}  # fmt: skip
COPIES = ("R1", SCANS, *REPAINTED)  # rungs of whole copies


@dataclass(frozen=True)
class Rule:
    """A way to call cells reused: its threshold, what it says of each cell (n, 16), and the score (n, 16) that has to reach
    the threshold, None where it asks for more than one thing."""

    tau: float
    hit: Bools
    score: Float32 | None = None


@dataclass(frozen=True)
class Half:
    """The rows of a ladder that lie in one half, and their concepts as numbers from 0."""

    truth: pd.DataFrame
    rows: Ints
    concept: Ints
    concepts: Sequence[str]
    coverage: Float64

    def labelled(self, label: str) -> Bools:
        return np.asarray((self.truth.label == label) & (self.truth.rung != "R0"), bool)

    def group(self, name: str) -> Bools:
        """Rows of one of :data:`GROUPS`: of some rungs, or of one offset of R3."""
        rungs, offset = GROUPS[name]
        mine = self.truth.rung.isin(rungs)
        return np.asarray(mine if offset is None else mine & (self.truth.offset == offset), bool)


def half(ladder: Ladder, which: str) -> Half:
    """The choosing (A) or the reporting half (B)."""
    rows = np.flatnonzero(ladder.truth.half == which)
    truth = ladder.truth.iloc[rows].reset_index(drop=True)
    concept, concepts = pd.factorize(truth.concept, sort=True)
    return Half(truth, rows, concept.astype(np.int64), list(concepts), ladder.coverage[rows])


def embedded_scores(view: View) -> dict[str, Float64]:
    """Every embedded method on every image, and the measures that other packages add: (n,), nan without a value."""
    out = {name: np.asarray(method(view), np.float64) for name, method in EMBEDDED.items()}
    inputs = view.layers["crop"].inputs()
    added = [m for m in of_images() if m not in MEASURES and all(name in inputs.arrays for name in m.needs)]
    return out | {str(m.image_key): inputs.of(m) for m in added}


def defined(scores: Mapping[str, Float64]) -> dict[str, Float64]:
    """Those that have a value for every image."""
    return {name: s for name, s in scores.items() if not np.isnan(s).any()}


def method_table(scores: Mapping[str, Float64], part: Half, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Methods x scores. ``auroc_*`` within concepts, mean over them; ``across_*`` over all pairs of two concepts, as one
    threshold for all would have it; ``ap_*`` average precision within concepts; ``rho`` Spearman's with k over R2."""
    rows = []
    for name, score in defined(scores).items():
        mine = score[part.rows]
        row: dict[str, Any] = {"method": name}
        for pair, (positive, negative) in SEPARATIONS.items():
            sides = part.labelled(positive), part.labelled(negative)
            row |= _mean(
                f"auroc_{pair}", within_concepts(auroc, mine, part.concept, *sides, len(part.concepts)), draws, seed
            )
            each = within_concepts(average_precision, mine, part.concept, *sides, len(part.concepts))
            row |= _mean(f"ap_{pair}", each, draws, seed)
            matrix = across_concepts(mine, part.concept, *sides, len(part.concepts))
            known = ~np.isnan(matrix)
            ends = (np.nan,) * 3
            if known.any():
                ends = pair_rate(np.nan_to_num(matrix), known, part.concepts, part.concepts, draws, seed)
            row |= _ends(f"across_{pair}", ends)
        row |= _ends("rho", correlation(mine, part, "R2", draws, seed))
        rows.append(row)
    return pd.DataFrame(rows)


def difference_table(scores: Mapping[str, Float64], part: Half, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """AUROC within concepts of each of our methods less that of each other method, paired over concepts."""
    held = defined(scores)
    rows = []
    for pair, (positive, negative) in SEPARATIONS.items():
        sides = part.labelled(positive), part.labelled(negative)
        each = {
            n: within_concepts(auroc, s[part.rows], part.concept, *sides, len(part.concepts)) for n, s in held.items()
        }
        for ours in (m for m in OURS if m in held):
            for other in (m for m in held if m not in OURS):
                rows.append(
                    {"separation": pair, "ours": ours, "baseline": other}
                    | paired("difference", each[ours] - each[other], draws, seed)
                )
    return pd.DataFrame(rows)


def correlation(
    score: Float64, part: Half, group: str, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's rho of a score (over the half's rows) with k, concepts drawn whole; 0 for a constant score, nan without
    images, or where all have one k or none."""
    at = part.group(group)
    if part.truth.k[at].nunique() < 2:
        return (float("nan"),) * 3
    if np.ptp(score[at]) == 0:
        return 0.0, float("nan"), float("nan")
    columns = np.stack([score[at], part.truth.k.to_numpy(np.float64)[at]], axis=1)
    _, clusters = np.unique(part.concept[at], return_inverse=True)
    found = Ranked(columns, draws, seed, clusters=clusters.astype(np.int64)).spearman(0, 1)
    return found.value, found.low, found.high


def decisions(layers: Mapping[str, Layer]) -> dict[str, Rule]:
    """Rules that call a cell reused by name: its layer, if not crop, and how."""
    out: dict[str, Rule] = {}
    for name in (n for n in ("crop", "overlapping", "token") if n in layers):
        layer, tau = layers[name], layers[name].tau()
        prefix = "" if name == "crop" else f"{name} "
        if name == "crop":
            out[PUBLISHED] = Rule(DEFAULT_TAU_VR, passes(layer.p, DEFAULT_TAU_VR))
        if np.isnan(tau):
            continue
        out[f"{prefix}{BASE}"] = Rule(tau, passes(layer.p, tau), layer.p)
        for how, calibrated in (("strict", layer.plain), ("whitened strict", layer.whitened)):
            parts = () if calibrated is None else calibrated.null.strict(layer.p)
            taus = [calibrated.tau(metric) for _, metric in parts] if calibrated else []
            if taus and not np.isnan(taus).any():
                hit = np.logical_and.reduce([passes(values, t) for (values, _), t in zip(parts, taus, strict=True)])
                out[f"{prefix}{how}"] = Rule(taus[0], hit)
    return out


def copy_table(scores: Mapping[str, Float64], part: Half, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Methods x rungs of whole copies: AUROC within concepts against the pictures that show nothing of the reference."""
    other = part.labelled("other")
    present = [rung for rung in COPIES if (part.truth.rung == rung).any()]
    rows = []
    for name, score in defined(scores).items():
        row: dict[str, Any] = {"method": name}
        for rung in present:
            copies = np.asarray(part.truth.rung == rung, bool)
            each = within_concepts(auroc, score[part.rows], part.concept, copies, other, len(part.concepts))
            row |= _mean(f"auroc_{rung}", each, draws, seed)
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class CellSums:
    """Sums over some images of each concept (C,): cells as in :class:`CellCounts`, |VR - k/16|, and the images that have a k."""

    found: Float64
    false: Float64
    reused: Float64
    unused: Float64
    error: Float64
    images: Float64


def cell_sums(hit: Bools, part: Half, at: Bools) -> CellSums:
    """What decisions (n, 16) over a half's rows come to, of the rows ``at``."""
    counts = count_cells(hit[at], part.coverage[at])
    k = part.truth.k.to_numpy(np.float64)[at]
    error = np.abs(hit[at].mean(axis=1) - k / CELLS)
    each = {**vars(counts), "error": np.nan_to_num(error), "images": (~np.isnan(k)).astype(np.float64)}
    return CellSums(**{n: by_concept(v, part.concept[at], len(part.concepts)) for n, v in each.items()})


def cell_table(rules: Mapping[str, Rule], part: Half, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Rules x groups: precision, recall, IoU and false-positive rate of cells, |VR - k/16| and Spearman's rho with k.

    ``*_achieved``: at the lowest threshold that at most :data:`ACHIEVED` of the group's own cells without reuse reach. It
    compares scores, not what a user would get: nobody knows it without the truth. Its interval takes it as given.
    """
    rows = []
    for name, rule in rules.items():
        hit = rule.hit[part.rows]
        vr = hit.mean(axis=1)
        for group in GROUPS:
            at = part.group(group)
            if not at.any():
                continue
            sums = cell_sums(hit, part, at)
            row: dict[str, Any] = {"rule": name, "tau": rule.tau, "group": group, "images": int(at.sum())}
            row |= _rates(sums, "", draws, seed) | ratio("fpr", sums.false, sums.unused, draws, seed)
            row |= ratio("vr_error", sums.error, sums.images, draws, seed)
            row |= _ends("rho", correlation(vr, part, group, draws, seed))
            if rule.score is not None:
                score = rule.score[part.rows]
                achieved = tau_at(score[at][part.coverage[at] == 0.0], ACHIEVED)
                if not np.isnan(achieved):
                    row["tau_achieved"] = achieved
                    row |= _rates(cell_sums(passes(score, achieved), part, at), "_achieved", draws, seed)
            rows.append(row)
    return pd.DataFrame(rows)


def _rates(sums: CellSums, suffix: str, draws: int, seed: int) -> dict[str, float]:
    """Precision, recall and IoU of cells."""
    return (
        ratio(f"precision{suffix}", sums.found, sums.found + sums.false, draws, seed)
        | ratio(f"recall{suffix}", sums.found, sums.reused, draws, seed)
        | ratio(f"iou{suffix}", sums.found, sums.reused + sums.false, draws, seed)
    )


def rung_table(scores: Mapping[str, Float64], part: Half, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Mean of some methods for every manipulation, over concepts. For what shares no cell, VR is the false-positive rate."""
    rows = []
    for (rung, name), mine in part.truth.groupby(["rung", "name"]):
        at = mine.index.to_numpy()
        row: dict[str, Any] = {"rung": rung, "name": name, "label": mine.label.iloc[0], "images": len(at),
                               "true_vr": float(mine.k.mean()) / CELLS}  # fmt: skip
        for method, score in scores.items():
            each = by_concept(score[part.rows][at], part.concept[at], len(part.concepts))
            images = np.bincount(part.concept[at], minlength=len(part.concepts)).astype(np.float64)
            row |= ratio(method, each, images, draws, seed, bounds=(-2.0, 2.0) if score.min() < 0 else (0.0, 1.0))
        rows.append(row)
    return pd.DataFrame(rows)


def by_concept(values: Float64, concept: Ints, concepts: int) -> Float64:
    """Sum over the rows of each concept."""
    return np.bincount(concept, values, minlength=concepts).astype(np.float64)


def _ends(name: str, found: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, found), strict=True))


def _mean(name: str, each: Float64, draws: int, seed: int) -> dict[str, float]:
    found = interval(each[:, None], draws=draws, seed=seed)
    return _ends(name, (found.value[0], found.low[0], found.high[0]))


def ratio(
    name: str, top: Float64, bottom: Float64, draws: int, seed: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> dict[str, float]:
    """Sum over sum, units are concepts."""
    found = interval(top[:, None], bottom[:, None], bounds=bounds, draws=draws, seed=seed)
    return _ends(name, (found.value[0], found.low[0], found.high[0]))


def paired(name: str, differences: Float64, draws: int, seed: int) -> dict[str, float]:
    """Mean of paired differences in [-1, 1] over concepts."""
    found = interval(differences[:, None], bounds=(-1.0, 1.0), symmetric=True, draws=draws, seed=seed)
    return {**_ends(name, (found.value[0], found.low[0], found.high[0])), "concepts": int(found.n[0])}
