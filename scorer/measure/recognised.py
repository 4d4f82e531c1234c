"""How many concepts a model recognises and what it reuses, at the thresholds that mean something for the encoders that ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iconicity.scorer.measure.intervals import Interval, clopper_pearson, interval
from iconicity.scorer.measure.measures import CRA, STRICT, VR, VR_RECOGNISED
from iconicity.scorer.measure.metrics import Bools
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.values import Inputs, cells, inputs_of

MOST = 0.5  # share of a concept's images from which on the concept counts as recognised
GIVEN, FITTED = "given", "fitted"


@dataclass(frozen=True)
class Recognition:
    """What one model does: ``recognised`` of ``concepts``, with a Clopper-Pearson interval of their share.

    A concept is recognised where at least half of its images are. ``without``: concepts whose number of references has
    no threshold. ``images`` are recognised; ``reuse`` is the mean VR of these over concepts, None where no VR threshold
    means something.
    """

    model: str
    recognised: int
    concepts: int
    low: float
    high: float
    without: int
    images: int
    reuse: Interval | None


@dataclass(frozen=True)
class Found:
    """What the models do, and where the thresholds are from: ``cra`` and ``vr`` are given, fitted or None.

    ``first``: place of the recognised image with the most reused patches, else of the most similar image; ``patches``:
    how many of its patches are reused, None where that is not known.
    """

    models: Sequence[Recognition]
    cra: str | None
    vr: str | None
    first: int
    patches: int | None


def recognition(study: Study) -> Found:
    """What each model recognises and reuses.

    Thresholds at a known false-positive rate come before those that the results were scored at; these are taken only
    where they mean something.
    """
    inputs, basis = _inputs(study)
    found = cells(study, inputs)
    models = []
    for m, label in enumerate(study.models):
        share = found.values[CRA.key][m]
        known = ~np.isnan(share)
        n, k = int(known.sum()), int((share[known] >= MOST).sum())
        low, high = clopper_pearson(k, n)
        reuse = interval(found.values[VR_RECOGNISED.key][m][:, None]).shown() if basis["vr"] else None
        without = int(((found.images[m] > 0) & ~known).sum())
        models.append(Recognition(label, k, n, low, high, without, int(found.recognised[m].sum()), reuse))
    first, patches = _first(study, inputs, found.hit == 1.0)
    return Found(models, basis["cra"], basis["vr"], first, patches)


def recognised_rows(study: Study) -> Bools:
    """Which images (n,) are recognised, at the thresholds of :func:`recognition`."""
    return np.asarray(_inputs(study)[0].of(CRA) == 1.0)


def _inputs(study: Study) -> tuple[Inputs, dict[str, str | None]]:
    """What the measures are computed from at the thresholds that mean something, and where these are from."""
    (given, *_), _ = inputs_of(study)
    arrays, basis = dict(given.arrays), dict[str, str | None]()
    for metric in ("cra", "vr"):
        name = f"tau_{metric}"
        judged = study.judged.get(metric)
        fitted = arrays.get(f"{name}_cal")
        basis[metric] = FITTED if fitted is not None else GIVEN if judged is not None and judged.holds else None
        arrays[name] = fitted if fitted is not None else arrays[name]
        if basis[metric] is None:
            arrays[name] = np.full(len(study.model), np.nan)
    return Inputs(given.kind, given.usable, arrays), basis


def _first(study: Study, inputs: Inputs, hit: Bools) -> tuple[int, int | None]:
    """The image to look at first, and how many of its patches are reused."""
    similarity = np.nan_to_num(study.similarity, nan=-1.0).astype(np.float64)
    mean_p = np.nan_to_num(study.p, nan=-1.0).mean(axis=1).astype(np.float64)
    reuse = inputs.of(VR)
    strict = inputs.of(STRICT) if inputs.has(STRICT) else np.zeros_like(reuse)
    found = (np.nan_to_num(strict, nan=-1.0), np.nan_to_num(reuse, nan=-1.0)) if hit.any() else (similarity,)
    keys = (mean_p, *found[::-1], hit, study.ok)  # the last decides first
    first = int(np.lexsort(keys)[-1])
    return first, None if np.isnan(reuse[first]) else round(float(reuse[first]) * study.p.shape[1])
