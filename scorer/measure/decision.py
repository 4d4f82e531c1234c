"""What each image and patch is called, at the thresholds that decide (:func:`.judgement.deciding`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.judgement import GIVEN, NAMED, Basis
from iconicity.scorer.measure.metrics import Bools, Float64, Ints, passes
from iconicity.scorer.measure.study import Study

# Values (n, ...) and the threshold (n,) that each row must reach.
Condition = tuple[np.ndarray, Float64]


@dataclass(frozen=True)
class Decision:
    """Of n images: 1 where so, 0 where not, nan where it is not decided.

    ``recognised`` (n,), ``reused`` (n, K) patch by patch. ``tau_cra``, ``tau_vr`` (n,): the thresholds of the
    similarity of the image and of its patches; of VR strict the one of the cosine.
    """

    recognised: Float64
    reused: Float64
    tau_cra: Float64
    tau_vr: Float64

    @property
    def vr(self) -> Float64:
        """Share of reused patches (n,)."""
        return np.asarray(self.reused.mean(axis=1), np.float64)


def decide(study: Study) -> Decision:
    """Decide on all images of a study; of a metric of which no threshold means anything, say what reaches the own one."""
    conditions: Mapping[str, list[Condition]] = {m: _conditions(study, m, study.deciding.get(m)) for m in ("cra", "vr")}
    recognised = _reach(study, study.similarity[:, None], conditions["cra"])[:, 0]
    tau_cra, tau_vr = (c[0][1] if c else np.full(len(recognised), np.nan) for c in conditions.values())
    return Decision(recognised, _reach(study, study.p, conditions["vr"]), tau_cra, tau_vr)


def thresholds(study: Study, metric: str, references: Ints) -> Float64:
    """The thresholds that decide on similarities to a concept, by its number of references (n,); nan where there is none."""
    basis = study.deciding.get(metric)
    if basis is None or basis.kind == GIVEN:
        tau = study.tau[metric]
        return np.full(len(references), np.nan if tau is None else tau, np.float64)
    if basis.kind == NAMED:
        assert study.named is not None
        return study.named.each(metric, references)
    assert study.thresholds is not None
    return study.thresholds.each(metric, references)


def _conditions(study: Study, metric: str, basis: Basis | None) -> list[Condition]:
    """All that an image (a patch) must reach. Empty: there is no threshold."""
    values = study.similarity[:, None] if metric == "cra" else study.p
    if study.tau[metric] is None and (basis is None or basis.kind == GIVEN):
        return []
    out = [(values, thresholds(study, metric, study.references)[study.concept])]
    if basis is not None and basis.strict:
        held = study.thresholds
        assert held is not None
        csls, _ = patch_matrix(study.table, "p_csls")
        out.append((csls, held.each("vr_csls", study.references)[study.concept]))
    return out


def _reach(study: Study, values: np.ndarray, conditions: list[Condition]) -> Float64:
    """1 where all conditions are met, 0 where one is not, nan in rows of which something is not known."""
    if not conditions:
        return np.full(values.shape, np.nan)
    known: Bools = study.ok.copy()
    hit: Bools = np.ones(values.shape, bool)
    for each, tau in conditions:
        known &= ~(np.isnan(each).any(axis=1) | np.isnan(tau))
        hit &= passes(each, tau[:, None])
    return np.where(known[:, None], hit.astype(np.float64), np.nan)
