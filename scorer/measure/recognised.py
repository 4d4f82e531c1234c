"""How many concepts a model recognises and what it reuses, at the thresholds that decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iconicity.scorer.measure.decision import Decision, decide
from iconicity.scorer.measure.intervals import Interval, clopper_pearson, interval
from iconicity.scorer.measure.judgement import Basis
from iconicity.scorer.measure.metrics import Bools, Float64
from iconicity.scorer.measure.study import Study

MOST = 0.5  # share of a concept's images from which on the concept counts as recognised


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
    """What the models do, and at which thresholds: of ``cra`` None where no threshold means anything.

    ``first``: place of the recognised image with the most reused patches, else of the most similar image; ``patches``:
    how many of its patches are reused, None where that is not known.
    """

    models: Sequence[Recognition]
    cra: Basis | None
    first: int
    patches: int | None


def recognition(study: Study) -> Found:
    """What each model recognises and reuses."""
    decision = decide(study)
    hit = _recognised(study, decision)
    vr = decision.vr if "vr" in study.deciding else np.full(len(hit), np.nan)
    frame = pd.DataFrame(
        {"model": study.model, "concept": study.concept, "hit": hit, "vr": np.where(hit == 1.0, vr, np.nan)}
    )[study.ok]
    concepts = frame.groupby(["model", "concept"]).mean()
    models = []
    for m, label in enumerate(study.models):
        mine = concepts.loc[[m]] if m in concepts.index.get_level_values(0) else concepts.iloc[:0]
        share = mine.hit.dropna().to_numpy()
        k, n = int((share >= MOST).sum()), len(share)
        reuse = interval(mine.vr.to_numpy(np.float64)[:, None]).shown() if "vr" in study.deciding and n else None
        images = int((hit[study.model == m] == 1.0).sum())
        models.append(Recognition(label, k, n, *clopper_pearson(k, n), len(mine) - n, images, reuse))
    return Found(models, study.deciding.get("cra"), *_first(study, hit == 1.0, vr))


def recognised_rows(study: Study) -> Bools:
    """Which images (n,) are recognised, at the threshold that decides; none where no threshold means anything."""
    return np.asarray(_recognised(study, decide(study)) == 1.0)


def _recognised(study: Study, decision: Decision) -> Float64:
    return decision.recognised if "cra" in study.deciding else np.full(len(study.model), np.nan)


def _first(study: Study, hit: Bools, vr: Float64) -> tuple[int, int | None]:
    """The image to look at first, and how many of its patches are reused."""
    similarity = np.nan_to_num(study.similarity, nan=-1.0).astype(np.float64)
    mean_p = np.nan_to_num(study.p, nan=-1.0).mean(axis=1).astype(np.float64)
    found = np.nan_to_num(vr, nan=-1.0) if hit.any() else similarity
    first = int(np.lexsort((mean_p, found, hit, study.ok))[-1])  # the last decides first
    return first, None if np.isnan(vr[first]) else round(float(vr[first]) * study.p.shape[1])
