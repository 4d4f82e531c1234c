"""CRA, VR and CRT over a grid of thresholds, from stored maxima."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding, exact_words, interval_columns
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, interval
from iconicity.scorer.measure.measures import CRA, CRT, VR, measures
from iconicity.scorer.measure.metrics import Float64, passes, visual_reuse
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.values import compared_values

STEP = 0.01
LEAST_STEP = 0.005  # the table of both thresholds grows with the square


def grid(step: float = STEP, low: float = 0.0, high: float = 1.0) -> Float64:
    """Thresholds from low to high, both included, as the decimal numbers a user would type.

    The last step is shorter where ``step`` does not divide the range.

    >>> grid(0.3).tolist()
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    n = math.ceil(round((high - low) / step, 9))
    return np.append(np.round(low + np.arange(n) * step, 10), high)


@dataclass(frozen=True)
class ModelGrid:
    """One model's concepts (C) at every tau_cra (A) and tau_vr (V); nan where not scored."""

    cra: Float64  # (C, A)
    vr_all: Float64  # (C, V)
    crt: Float64  # (C, A, V)

    def macro(self) -> ModelGrid:
        """Means over the concepts, nan where none is defined: (A,), (V,) and (A, V)."""
        return ModelGrid(*(_mean_over_concepts(values) for values in (self.cra, self.vr_all, self.crt)))


def _mean_over_concepts(values: Float64) -> Float64:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0), np.float64)


def model_grids(
    study: Study, taus_cra: Float64, taus_vr: Float64, vi_scope: str = "recognised"
) -> Iterator[tuple[str, ModelGrid]]:
    """Each model with its concepts' values at all thresholds, equal to those of ``summary`` there."""
    for m, label in enumerate(study.models):
        mine = np.flatnonzero((study.model == m) & study.ok)
        starts = np.flatnonzero(np.diff(study.concept[mine], prepend=-1))
        parts = [_concept(study, rows, taus_cra, taus_vr, vi_scope) for rows in np.split(mine, starts[1:]) if len(rows)]
        if parts:
            yield label, ModelGrid(*(np.stack([p[i] for p in parts]) for i in range(3)))


def _concept(
    study: Study, rows: Any, taus_cra: Float64, taus_vr: Float64, vi_scope: str
) -> tuple[Float64, Float64, Float64]:
    s, p = study.similarity[rows], study.p[rows]
    recognised = passes(s[None, :], taus_cra[:, None]).astype(np.float64)  # (A, n)
    vr = np.stack([visual_reuse(p, t) for t in taus_vr])  # (V, n)
    if np.isnan(s).any():
        recognised = np.full_like(recognised, np.nan)
    if np.isnan(p).any():
        vr = np.full_like(vr, np.nan)
    cra, vr_all = recognised.mean(axis=1), vr.mean(axis=1)
    if vi_scope == "all":
        unknown = np.isnan(vr_all)[None, :]
        return cra, vr_all, np.where((cra[:, None] == 0.0) & ~unknown, 0.0, cra[:, None] * (1.0 - vr_all))
    return cra, vr_all, recognised @ (1.0 - vr).T / len(rows)  # CRA x mean VI of the recognised


def sweep(
    study: Study,
    *,
    step: float = STEP,
    vi_scope: str = "recognised",
    calibration: Calibration | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Finding:
    """Tables ``curves``, ``grid`` and ``flips``, all macro means over concepts.

    ``curves``: each measure along one threshold, the other as the results have it, with bands. ``grid``: CRA, VR and
    CRT at each pair of thresholds. ``flips``: where the order of two models changes as a threshold rises.
    A ``calibration`` adds rows to ``curves`` at its thresholds, ``along`` "calibrated", as ``summary`` shows them; their
    ``tau`` is empty, since a concept's threshold depends on its number of references.
    """
    study = study.with_calibration(calibration)
    if study.tau["cra"] is None or study.tau["vr"] is None:
        raise InputError(f"{study.sources[0].path}: has no VR threshold; name one with `tau_vr`")
    if not LEAST_STEP <= step <= 1.0:
        raise InputError(f"`step` {step}: a step of a threshold is at least {LEAST_STEP} and at most 1")
    if not study.ok.any():
        raise InputError(
            f"{study.sources[0].path}: no image of it could be used; 'iconicity summary' names the reasons"
        )
    taus = grid(step)
    # the results' own thresholds are on the curves too
    axis = {m: np.unique(np.append(taus, t)) for m, t in study.tau.items() if t is not None}
    at = {m: int(np.searchsorted(axis[m], t)) for m, t in study.tau.items() if t is not None}
    options: dict[str, Any] = {"draws": draws, "seed": seed, "level": level}
    curves: list[pd.DataFrame] = []
    grids: list[pd.DataFrame] = []
    for label, g in model_grids(study, axis["cra"], axis["vr"], vi_scope):
        for measure, along, values in (
            (CRA.key, "cra", g.cra), (VR.key, "vr", g.vr_all),
            (CRT.key, "cra", g.crt[:, :, at["vr"]]), (CRT.key, "vr", g.crt[:, at["cra"], :]),
        ):  # fmt: skip
            band = interval(values, **options)
            curves.append(
                pd.DataFrame(
                    {"model": label, "measure": measure, "along": f"tau_{along}", "tau": axis[along],
                     **interval_columns("value", band), "value_n": band.n}
                )
            )  # fmt: skip
        grids.append(_grid_table(label, g, axis["cra"], axis["vr"]))
    curve = pd.concat(curves, ignore_index=True)
    flipped = flips(curve, study.models)
    facts = study.facts() | {"vi_scope": vi_scope, "step": step, "draws": draws, "seed": seed, "level": level}
    scalars = {f"flips/{m}": int((flipped.measure == m).sum()) for m in (CRA.key, VR.key, CRT.key)}
    facts |= {} if calibration is None else calibration.facts()
    said: list[str] = []
    if calibration is not None:
        rows, said = _calibrated(study, calibration, vi_scope, options)
        curve = pd.concat([curve, rows], ignore_index=True).astype({"tau": "Float64"})
    notes = [*study.notes, *said, *_flip_words(flipped), *exact_words(curve)]
    return Finding(
        {"curves": curve, "grid": pd.concat(grids, ignore_index=True), "flips": flipped}, notes, facts, scalars
    )


def _calibrated(
    study: Study, calibration: Calibration, vi_scope: str, options: dict[str, Any]
) -> tuple[pd.DataFrame, list[str]]:
    """Each model's measures at the thresholds of a calibration, as rows of ``curves``, and notes on what was left out."""
    values, notes = compared_values(study, vi_scope, calibration)
    given = {m.key for m in measures() if not m.calibrated_only}
    images = study.images_of()
    rows = []
    for m, label in enumerate(study.models):
        for name, each in values.items():
            if name in given or not images[m].any():
                continue
            found = interval(each.cells[m, images[m] > 0][:, None], **options)
            ends = {column: each[0] for column, each in interval_columns("value", found).items()}
            rows.append({"model": label, "measure": name, "along": "calibrated", **ends, "value_n": found.n[0]})
    return pd.DataFrame(rows), notes


def _grid_table(label: str, g: ModelGrid, taus_cra: Float64, taus_vr: Float64) -> pd.DataFrame:
    a, v = np.meshgrid(np.arange(len(taus_cra)), np.arange(len(taus_vr)), indexing="ij")
    mean = g.macro()
    return pd.DataFrame(
        {"model": label, "tau_cra": taus_cra[a.ravel()], "tau_vr": taus_vr[v.ravel()], CRA.key: mean.cra[a.ravel()],
         VR.key: mean.vr_all[v.ravel()], CRT.key: mean.crt.ravel()}
    )  # fmt: skip


def flips(curves: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Where one of two models passes the other along a curve: the last threshold of the old order, the first of the new."""
    found: list[dict[str, Any]] = []
    for (measure, along), part in curves.groupby(["measure", "along"], sort=False):
        wide = part.pivot(index="tau", columns="model", values="value")
        taus = wide.index.to_list()
        for a, b in combinations([m for m in models if m in wide], 2):
            ahead = np.sign(np.round((wide[a] - wide[b]).to_numpy(), 12))
            decided = np.flatnonzero((ahead != 0) & ~np.isnan(ahead))
            for i, j in pairwise(decided):
                if ahead[i] != ahead[j]:
                    before, after = (a, b) if ahead[i] > 0 else (b, a)
                    found.append({"measure": measure, "along": along, "first": before, "then": after,
                                  "last_tau": taus[i], "tau": taus[j]})  # fmt: skip
    return pd.DataFrame(found, columns=["measure", "along", "first", "then", "last_tau", "tau"])


def _flip_words(flipped: pd.DataFrame) -> list[str]:
    if flipped.empty:
        return ["no two models change places along a curve"]
    return [f"{counted(len(flipped), 'time')} two models change places along a curve (`table` flips)"]
