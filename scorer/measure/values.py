"""Measures of the images, concepts and models of a study, at given and at calibrated thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iconicity.indexer.grid import overlaps
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.image_null import ImageNull, image_null
from iconicity.scorer.measure.judgement import HELD
from iconicity.scorer.measure.measures import CRA, CRT, DECIDED, VR, Measure, of_concepts, of_images
from iconicity.scorer.measure.metrics import Bools, Float64, Ints
from iconicity.scorer.measure.study import Study

CELL_COLUMN = "p_ref_cell"  # of the scores, that measures of arrangement need
GIVEN, AT_CALIBRATED = "given", "calibrated"


@dataclass(frozen=True)
class Inputs:
    """What the measures of a study are computed from at one kind of thresholds: arrays by name, a row an image."""

    kind: str
    usable: Bools  # (n,)
    arrays: Mapping[str, Any]

    @property
    def calibrated(self) -> bool:
        return self.kind == AT_CALIBRATED

    def has(self, measure: Measure) -> bool:
        """Whether the measure can be computed, and says something that it does not say at the given thresholds."""
        there = all(name in self.arrays for name in measure.needs)
        return there and (measure.thresholded or not self.calibrated)

    def known(self, needs: Sequence[str]) -> Bools:
        """Images (n,) that could be used and of which all these arrays are known."""
        out = self.usable.copy()
        for values in (self.arrays[n] for n in needs if isinstance(self.arrays[n], np.ndarray)):
            lacking = np.isnan(values)
            out &= ~(lacking.any(axis=1) if values.ndim == 2 else lacking)
        return out

    def of(self, measure: Measure) -> Float64:
        """Value of each image (n,), nan where something is not known."""
        known = self.known(measure.needs)
        out = np.full(len(known), np.nan)
        if known.any():
            arrays = (self.arrays[n] for n in measure.needs)
            out[known] = measure.function(*(a[known] if isinstance(a, np.ndarray) else a for a in arrays))
        return out


def inputs_of(study: Study, calibration: Calibration | None = None) -> tuple[list[Inputs], list[str]]:
    """What measures are computed from at the given thresholds and at those of a calibration, and notes on what lacks.

    Raises :class:`SettingsError` for a calibration that was made with other settings.
    """
    arrays: dict[str, Any] = {"similarity": study.similarity, "p": study.p}
    if CELL_COLUMN in study.table.column_names:
        cell, _ = patch_matrix(study.table, CELL_COLUMN)
        arrays |= {"cell": cell, "grid": (*study.settings["grid"], overlaps(study.settings))}
    given = {f"tau_{m}": _each(study, study.tau[m]) for m in ("cra", "vr")}
    given |= _own_thresholds(study) if calibration is None else {}
    given |= _decided(study.with_calibration(calibration))
    out = [Inputs(GIVEN, study.ok, arrays | given)]
    if calibration is None:
        return out, []
    notes = calibration.notes_for(study)
    more: dict[str, Any] = {f"tau_{m}": _each(study, calibration.tau(study, m)) for m in ("cra", "vr")}
    null = image_null(study)
    if null is not None and null.facts.get("calibration_sha256") == calibration.digest:
        more |= _strict(study, null, calibration)
    elif null is not None:
        notes.append(
            "VR strict is left out: the null beside the results is another calibration's; 'iconicity calibrate --apply' takes "
            "this one"
        )
    return [*out, Inputs(AT_CALIBRATED, study.ok, arrays | more)], notes


def _own_thresholds(study: Study) -> dict[str, Any]:
    """What the measures need that are taken at the thresholds that the results hold."""
    held = study.thresholds
    if held is None:
        return {}
    cra, vr, csls = (held.each(metric, study.references)[study.concept] for metric in ("cra", "vr", "vr_csls"))
    own, _ = patch_matrix(study.table, "p_csls")
    out: dict[str, Any] = {
        "tau_cra_cal": cra,
        "tau_vr_cal": vr,
        "strict_p": study.p,
        "tau_strict": vr,
        "csls": own,
        "tau_csls": csls,
    }
    return {name: values for name, values in out.items() if not np.isnan(values).all()}


def _decided(study: Study) -> dict[str, Any]:
    """What is recognised and reused at the thresholds that decide, where some do."""
    found = decide(study)
    values = {"recognised": found.recognised, "reused": found.reused} if study.decides else {}
    return {name: each for name, each in values.items() if not np.isnan(each).all()}


def _strict(study: Study, null: ImageNull, calibration: Calibration) -> dict[str, Any]:
    (first, metric), (csls, other) = null.strict(study.p)
    return {
        "strict_p": first, "tau_strict": calibration.tau(study, metric)[study.concept],
        "csls": csls, "tau_csls": calibration.tau(study, other)[study.concept],
    }  # fmt: skip


def _each(study: Study, tau: float | Float64 | None) -> Float64:
    """Threshold of each image (n,), nan where there is none. ``tau``: one for all, or one a concept (C,)."""
    array = np.asarray(np.nan if tau is None else tau, np.float64)
    return np.full(len(study.model), float(array)) if array.ndim == 0 else array[study.concept]


@dataclass(frozen=True)
class Cells:
    """Values per model and concept: (M, C) arrays, nan where undefined or not scored.

    ``images`` could be used, ``skipped`` could not; ``values`` has the measures of concepts by key, ``of_images`` the
    values of the images (n,) they are means of, ``weights`` the number of images behind each.
    """

    images: Ints
    skipped: Ints
    recognised: Ints
    hit: Float64  # (n,) 1 where an image is recognised
    best_similarity: Float64
    values: Mapping[str, Float64]
    of_images: Mapping[str, Float64]
    weights: Mapping[str, Ints]


def cells(study: Study, inputs: Inputs, vi_scope: str = "recognised") -> Cells:
    """Values of each model and concept.

    The value of a concept is the mean over all of its images, or over the recognised ones. It is undefined where one of
    its images has no value. Raises :class:`ValueError` for another ``vi_scope`` than recognised and all.
    """
    images, skipped = _sum(study, study.ok), _sum(study, ~study.ok)
    known = inputs.known(CRA.needs)
    hit = np.nan_to_num(inputs.of(CRA))
    whole_cra = (images > 0) & (_sum(study, study.ok & ~known) == 0)
    recognised = np.where(whole_cra, _sum(study, hit == 1.0), 0)
    values: dict[str, Float64] = {}
    of_each: dict[str, Float64] = {}
    weights: dict[str, Ints] = {}
    for measure in (m for m in of_concepts(vi_scope) if inputs.has(m)):
        each = of_each[measure.key] = inputs.of(measure)
        whole = (images > 0) & (_sum(study, study.ok & np.isnan(each)) == 0)
        use = np.nan_to_num(each)
        only = measure.over == "recognised"
        n = recognised if only else images
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = _sum(study, hit == 1.0 if only else study.ok, use) / n
        if measure.complement:
            mean = 1.0 - values[measure.complement]
        values[measure.key] = np.where(whole & (n > 0) & (whole_cra | (not only)), mean, np.nan)
        weights[measure.key] = n
    for measure in (m for m in of_concepts(vi_scope) if m.times and m.key in values):
        values[measure.key] = values[measure.key] * values[measure.times]
    best = np.full(images.shape, -np.inf)
    np.fmax.at(best, (study.model, study.concept), study.similarity.astype(np.float64))
    best[np.isinf(best)] = np.nan
    return Cells(images, skipped, recognised, hit, best, values, of_each, weights)


def _sum(study: Study, which: Bools, values: Float64 | None = None) -> npt.NDArray[Any]:
    """Number of images that are so, or the sum of their values: (M, C)."""
    shape = (len(study.models), len(study.concepts))
    code = study.model[which] * shape[1] + study.concept[which]
    weights = None if values is None else values[which]
    return np.bincount(code, weights, minlength=shape[0] * shape[1]).reshape(shape)


@dataclass(frozen=True)
class Compared:
    """A measure's values per model and concept (M, C), and what each image (n,) adds to them.

    ``factor``: the other side of each image, where a concept's value is a product of two means.
    """

    measure: Measure
    cells: Float64
    images: Float64
    factor: Float64 | None = None


def compared_values(
    study: Study, vi_scope: str = "recognised", calibration: Calibration | None = None
) -> tuple[dict[str, Compared], list[str]]:
    """The measures that are compared between models, by name, with notes on what was left out.

    The values are those of ``summary``. Where the thresholds that the results hold decide, the measures at these take the
    place of those at thresholds that mean nothing. A ``calibration`` adds those at its thresholds.
    """
    sets, notes = inputs_of(study, calibration)
    instead = instead_of(study.with_calibration(calibration))
    out: dict[str, Compared] = {}
    for inputs in sets:
        found = cells(study, inputs, vi_scope)
        for plain in of_concepts(vi_scope):
            measure = plain if inputs.calibrated else instead.get(plain.key, plain)
            if plain.compared and measure.key in found.values and (inputs.calibrated or not measure.calibrated_only):
                factor = found.of_images[measure.times] if measure.times else None
                values = Compared(measure, found.values[measure.key], found.of_images[measure.key], factor)
                out[measure.name(inputs.calibrated)] = values
    return out, notes


def instead_of(study: Study) -> dict[str, Measure]:
    """Key of a measure at thresholds that mean nothing -> the measure at those that the results hold and that decide."""
    held = [m for m, basis in study.deciding.items() if basis.kind == HELD]
    if not held or not study.decides:
        return {}
    void = [CRT, *({"cra": CRA, "vr": VR}[metric] for metric in held)]
    return {m.key: DECIDED[m.key] for m in void}


def image_values(study: Study, calibration: Calibration | None = None) -> dict[str, Float64]:
    """The measures of images by name: (n,) values, nan where undefined. A ``calibration`` adds those at its thresholds."""
    sets, _ = inputs_of(study, calibration)
    return {
        str(measure.image_name(inputs.calibrated)): inputs.of(measure)
        for inputs in sets for measure in of_images() if inputs.has(measure)
    }  # fmt: skip
