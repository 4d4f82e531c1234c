"""Measures of each image at the given thresholds and at those of a calibration: one place for all tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from iconicity.indexer.null.thresholds import CRA, CSLS, VR
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.image_null import ImageNull, image_null
from iconicity.scorer.measure.metrics import Float32, Float64, patch_statistics, share_reaching
from iconicity.scorer.measure.study import Study, Tau, arranged, cells, image_values

OWN = ("cra_cal", "vr_cal", "vr_strict")  # at the thresholds that the results hold


@dataclass(frozen=True)
class AtThresholds:
    """Thresholds of one kind, and further measures (n,) of each image that belong to them.

    ``kind``: given, or calibrated. ``further``: ``vr_arranged``, and at calibrated thresholds ``vr_strict`` where the null
    beside the results has it.
    """

    kind: str
    tau_cra: Tau
    tau_vr: Tau
    further: Mapping[str, Float64]


def at_thresholds(
    study: Study, null: ImageNull | None, calibration: Calibration | None
) -> tuple[list[AtThresholds], list[str]]:
    """The given thresholds, and those of a calibration where there is one, with notes on what was left out.

    ``null``: of :func:`image_null`. Raises :class:`SettingsError` for a calibration that was made with other settings.
    """
    further = at_own_thresholds(study) if calibration is None else {}
    out, notes = [_with_arranged(study, "given", study.tau["cra"], study.tau["vr"], further)], []
    if calibration is not None:
        notes = calibration.notes_for(study)
        further = {}
        if null is not None and null.facts.get("calibration_sha256") == calibration.digest:
            further = {"vr_strict": _strict(study, null, calibration)}
        elif null is not None:
            notes.append(
                "VR strict is left out: the null beside the results is another calibration's; 'iconicity calibrate --apply' takes "
                "this one"
            )
        tau = {m: calibration.tau(study, m) for m in ("cra", "vr")}
        out.append(_with_arranged(study, "calibrated", tau["cra"], tau["vr"], further))
    return out, notes


def _strict(study: Study, null: ImageNull, calibration: Calibration) -> Float64:
    """VR strict of each image (n,), from the null beside the results."""
    return both_reached(*((v, calibration.tau(study, metric)[study.concept]) for v, metric in null.strict(study.p)))


def at_own_thresholds(study: Study) -> dict[str, Float64]:
    """``cra_cal`` (0 or 1), ``vr_cal`` and ``vr_strict`` of each image (n,) at the thresholds that the results hold.

    A patch is strictly reused when it reaches both the threshold of its similarity and that of its CSLS. Left out: what no
    image has.
    """
    held = study.thresholds
    if held is None:
        return {}
    taus = {metric: held.each(metric, study.references) for metric in (CRA, VR, CSLS)}
    recognised, has_cra, vr, _ = image_values(study, taus[CRA], taus[VR])
    csls, _ = patch_matrix(study.table, "p_csls")
    strict = both_reached((study.p, taus[VR][study.concept]), (csls, taus[CSLS][study.concept]))
    values = {"cra_cal": np.where(has_cra, recognised, np.nan), "vr_cal": vr, "vr_strict": strict}
    return {name: v for name, v in values.items() if not np.isnan(v).all()}


def both_reached(*parts: tuple[Float32, Float64]) -> Float64:
    """Share of the patches of each image that reach every threshold: values (n, K), thresholds (n,). nan where one lacks."""
    known = np.logical_and.reduce([~np.isnan(values).any(axis=1) & ~np.isnan(tau) for values, tau in parts])
    return np.where(known, share_reaching(*parts), np.nan)


def _with_arranged(study: Study, kind: str, tau_cra: Tau, tau_vr: Tau, further: Mapping[str, Float64]) -> AtThresholds:
    kept = arranged(study, tau_vr)
    return AtThresholds(kind, tau_cra, tau_vr, ({} if kept is None else {"vr_arranged": kept}) | dict(further))


@dataclass(frozen=True)
class Measure:
    """One measure: its value in each cell of model and concept (M, C), and what each image (n,) adds to it.

    ``factor``: of CRT over all images, a product of two means, the other side of each image.
    """

    cells: Float64
    images: Float64
    factor: Float64 | None = None


def concept_measures(
    study: Study, vi_scope: str = "recognised", calibration: Calibration | None = None
) -> tuple[dict[str, Measure], list[str]]:
    """``cra``, ``vr_all`` and ``crt`` at the given thresholds, with notes on what was left out.

    A ``calibration`` adds ``cra_cal``, ``vr_all_cal`` and ``crt_cal`` at its own, and ``vr_strict`` where the null beside
    the results is its own: the values that ``summary`` shows.
    """
    sets, notes = at_thresholds(study, None if calibration is None else image_null(study), calibration)
    out: dict[str, Measure] = {}
    for each in sets:
        calibrated = each.kind == "calibrated"
        further = {k: v for k, v in each.further.items() if (calibrated and k != "vr_arranged") or k in OWN}
        found = cells(study, each.tau_cra, each.tau_vr, vi_scope, further).values
        recognised, _, vr, _ = image_values(study, each.tau_cra, each.tau_vr)
        hit, vi, suffix = recognised.astype(np.float64), 1.0 - vr, "_cal" if calibrated else ""
        out[f"cra{suffix}"] = Measure(found["cra"], hit)
        out[f"vr_all{suffix}"] = Measure(found["vr_all"], vr)
        out[f"crt{suffix}"] = Measure(found["crt"], *((hit * vi,) if vi_scope == "recognised" else (hit, vi)))
        out |= {name: Measure(found[name], values) for name, values in further.items()}
    return out, notes


def image_measures(study: Study, calibration: Calibration | None = None) -> dict[str, Float64]:
    """Measure -> (n,) value of each image, nan where undefined.

    ``cra_cal``, ``vr_cal`` and ``vr_strict`` at the thresholds that the results hold, ``vr_arranged`` where ``study`` was read with ``p_ref_cell``. A ``calibration`` adds ``cra_cal``, ``vr_cal``,
    ``vi_cal``, ``vr_arranged_cal`` at its thresholds, and ``vr_strict`` where the null is its own.
    """
    sets, _ = at_thresholds(study, image_null(study), calibration)
    with np.errstate(invalid="ignore"):
        top, mean, p90 = patch_statistics(study.p)
    values: dict[str, Float64] = {"cra_sim": study.similarity.astype(np.float64)}
    for each in sets:
        recognised, has_cra, vr, _ = image_values(study, each.tau_cra, each.tau_vr)
        passed = np.where(has_cra, recognised, np.nan)
        if each.kind == "given":
            values |= {"cra_pass": passed, "vr": vr, "vi": 1.0 - vr, "vr_max": top, "vr_mean": mean, "vr_p90": p90}
            values |= each.further
        else:
            values |= {"cra_cal": passed, "vr_cal": vr, "vi_cal": 1.0 - vr}
            values |= {"vr_arranged_cal" if k == "vr_arranged" else k: v for k, v in each.further.items()}
    return values
