"""Per model and concept: the measures from stored maxima, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import AT, EXACT, Finding, exact_words, interval_columns
from iconicity.scorer.measure.image_null import image_null
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, Interval, interval
from iconicity.scorer.measure.judgement import HELD
from iconicity.scorer.measure.measures import (
    CALIBRATED,
    CRA,
    CRA_CAL,
    CRT,
    CRT_DECIDED,
    SIMILARITY,
    STRICT,
    VI,
    VI_RECOGNISED,
    VR,
    VR_CAL,
    Measure,
    of_concepts,
)
from iconicity.scorer.measure.metrics import Bools, Float64
from iconicity.scorer.measure.patches import reused_patches
from iconicity.scorer.measure.study import Study, brief
from iconicity.scorer.measure.values import AT_CALIBRATED, GIVEN, Cells, Inputs, cells, inputs_of, instead_of
from iconicity.scorer.text import number

AGGREGATES = ("macro", "micro")
BEST = f"best_{SIMILARITY.key}"  # column of the highest similarity of a model


@dataclass(frozen=True)
class SummaryOptions:
    """How measures are put together, and how intervals are drawn.

    ``vi_scope``: the images whose VI enters CRT, recognised or all. ``aggregate`` macro: a model's value is the mean
    over its concepts; micro: over its images. ``concepts`` False leaves the table of concepts without intervals, and
    ``patches`` adds a table of the reused patches.
    """

    vi_scope: str = "recognised"
    aggregate: str = "macro"
    draws: int = DRAWS
    seed: int = 0
    level: float = LEVEL
    concepts: bool = True
    patches: bool = False

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"aggregate {self.aggregate!r}: one of {', '.join(AGGREGATES)}")

    @property
    def intervals(self) -> dict[str, Any]:
        """Keywords of :func:`interval`."""
        return {"draws": self.draws, "seed": self.seed, "level": self.level}


def summarise(study: Study, calibration: Calibration | None = None, **options: Any) -> Finding:
    """Tables ``models``, ``concepts`` and ``missing`` (pairs of model and concept without a usable image).

    ``options``: of :class:`SummaryOptions`. CRT is the mean of the concepts' CRT, not the product of two means. In micro
    means a concept weighs as many images as it has; of measures of the recognised, as many recognised ones. Intervals
    of models resample concepts, those of concepts their images. A ``calibration`` adds rows at its thresholds, with VR
    strict where ``iconicity calibrate`` has left its null beside the results. Raises the errors of :func:`inputs_of`.
    """
    chosen = SummaryOptions(**options)
    study = study.with_calibration(calibration)
    sets, said = inputs_of(study, calibration)
    lost: list[str] = []
    models: list[dict[str, Any]] = []
    by_concept: list[pd.DataFrame] = []
    for inputs in sets:
        found = cells(study, inputs, chosen.vi_scope)
        judged = np.ones_like(found.images, bool)
        if inputs.calibrated:  # concepts whose number of references has no threshold are not in the row at all
            judged = ~np.isnan(found.values[CRA.key]) | ~np.isnan(found.values[VR.key])
            lost += _left_out(found, judged)
        models += [
            {"model": label, AT: inputs.kind} | _model(found, m, judged[m], chosen)
            for m, label in enumerate(study.models)
        ]
        by_concept.append(_concepts(study, inputs, found, chosen))
    concepts = pd.concat(by_concept, ignore_index=True)
    there = found.images > 0
    missing = pd.DataFrame(
        [{"model": study.models[m], "concept": study.concepts[c]} for m, c in np.argwhere(~there)],
        columns=["model", "concept"],
    )
    frame = pd.DataFrame(models)
    notes = [*study.caveats, *lost, *_words(models, study), *study.background, *said, *exact_words(frame)]
    notes += exact_words(concepts, "images") if chosen.concepts else []
    if len(missing):
        has = "has" if len(missing) == 1 else "have"
        notes.append(
            f"{counted(len(missing), 'pair')} of model and concept {has} no usable image (`table` missing)"
        )  # fmt: skip
    if calibration is None:
        frame = frame.drop(columns=AT)
    tables = {"models": frame, "concepts": concepts, "missing": missing}
    if chosen.patches:
        tables["patches"], of_patches = reused_patches(study)
        notes = [*of_patches, *notes]
    null = image_null(study)
    facts = study.facts() | {
        "vi_scope": chosen.vi_scope, "aggregate": chosen.aggregate, **chosen.intervals,
        **({} if calibration is None else calibration.facts()),
        **({} if null is None else {f"null_{k}": v for k, v in null.facts.items()}),
    }  # fmt: skip
    shown = {
        "models": ["model", AT, "images", "concepts", *_shown(frame, chosen.vi_scope, study)],
        "concepts": ["model", "concept", AT, "references", "images", *_shown(concepts, chosen.vi_scope, study)],
    }
    return Finding(tables, list(dict.fromkeys(notes)), facts, _scalars(models), shown)


def _shown(frame: pd.DataFrame, vi_scope: str, study: Study) -> list[str]:
    """Measures of the default table: those that have a value, CRT last. None at a threshold that means nothing, where
    another decides."""
    kinds = [part for _, part in frame.groupby(AT)] if AT in frame else [frame]
    there = vi_scope == "recognised" and all(part[VI_RECOGNISED.key].notna().any() for part in kinds)
    vi = VI_RECOGNISED if there else VI
    ours = [CRA, CRA_CAL, VR, VR_CAL, STRICT, vi, CRT]
    known = {VI, *ours}
    if CRA_CAL.key in frame and vi is VI:  # no room for what is 1 - VR
        ours.remove(VI)
    if instead := instead_of(study):
        ours = [m for m in ours if m is not vi and m.key not in instead] + [CRT_DECIDED]
    added = [m for m in of_concepts() if m.shown and m.key not in {k.key for k in (*known, VI_RECOGNISED)}]
    return [m.key for m in (*ours, *added) if m.key in frame and frame[m.key].notna().any()]


def _left_out(found: Cells, judged: Bools) -> list[str]:
    lost = int(found.images[~judged].sum())
    if not lost:
        return []
    no = "has no calibrated threshold and is" if lost == 1 else "have no calibrated threshold and are"
    return [f"calibrated: {lost} of {counted(int(found.images.sum()), 'image')} {no} left out"]


def _model(found: Cells, m: int, judged: Bools, options: SummaryOptions) -> dict[str, Any]:
    mine = (found.images[m] > 0) & judged
    row: dict[str, Any] = {
        "images": int(found.images[m, mine].sum()), "skipped": int(found.skipped[m].sum()), "concepts": int(mine.sum()),
        "recognised": int(found.recognised[m].sum()),
    }  # fmt: skip
    for measure in (x for x in of_concepts() if x.key in found.values):
        name = measure.key
        value = found.values[name][m, mine][:, None]
        weight = np.ones_like(value)
        if options.aggregate == "micro":
            weight = found.weights[name][m, mine][:, None].astype(np.float64)
        ends = interval(value * weight, weight, bounds=measure.bounds, symmetric=measure.bounds[0] < 0.0, **options.intervals)  # fmt: skip
        row |= {c: each[0].item() for c, each in interval_columns(name, ends).items()}
        row[f"{name}_n"] = int(ends.n[0])
    best = found.best_similarity[m, mine]
    row[BEST] = float(np.nanmax(best)) if not np.isnan(best).all() else float("nan")
    row["undefined"] = ",".join(_undefined(row))
    return row


def _undefined(row: Mapping[str, Any]) -> list[str]:
    out = []
    if np.isnan(row[CRA.key]):
        out.append("cra_undefined")
    elif row["recognised"] == 0:
        out.append("none_recognised")
    if np.isnan(row[VR.key]):
        out.append("vr_undefined")
    return out


def _words(rows: Sequence[Mapping[str, Any]], study: Study) -> list[str]:
    """What a reader must know of the models' rows, those alike in one line."""
    out: list[str] = []
    for kind in dict.fromkeys(r[AT] for r in rows):
        mine = [r for r in rows if r[AT] == kind]
        given = kind == GIVEN
        tau = f"the CRA threshold {study.tau['cra']}" if given else "the calibrated threshold"
        at = "" if given else "calibrated: "
        lacking = "was not scored, or the index has no references for the concepts"
        no_tau = given and study.tau["vr"] is None
        if not given:
            lacking = "has no calibrated threshold for the concepts' numbers of references, or was not scored"

        def named(reason: str, mine: Sequence[Mapping[str, Any]] = mine) -> list[Mapping[str, Any]]:
            return [r for r in mine if reason in r["undefined"].split(",")]

        # what is at a threshold that means nothing
        unsaid = given and any(b.kind == HELD for b in study.deciding.values())
        if not unsaid and (none := named("none_recognised")):
            best = brief([f"{r['model']} {number(r[BEST])}" for r in none])
            so = f"{VI_RECOGNISED.label} does not exist"
            so += "" if all(np.isnan(r[CRT.key]) for r in none) else " and CRT is 0"
            out.append(f"{at}no image reaches {tau} (highest {SIMILARITY.key}: {best}), so {so}")
        for name, reason in (("CRA", "cra_undefined"), ("VR", "vr_undefined")):
            if undefined := named(reason):
                why = "has no threshold: name one with `tau_vr`" if name == "VR" and no_tau else lacking
                out.append(f"{at}{name} of {brief([r['model'] for r in undefined])} {why}")
        nothing = "not scored, or no references" if given else "no calibrated threshold, or not scored"
        behind = (
            (CRA, "concepts", nothing), (VR, "concepts", nothing), (VI_RECOGNISED, f"{CRA.key}_n", "no recognised image"),
            (STRICT, f"{VR.key}_n", "no threshold, or scored since 'iconicity calibrate'"),
        )  # fmt: skip
        for measure, of, why in behind:
            column = f"{measure.key}_n"
            known = [r for r in mine if column in r and r[of] and r[column]]
            part = [f"{r['model']} {r[column]} of {r[of]}" for r in known if r[column] < r[of]]
            if part and not (unsaid and measure is VI_RECOGNISED):
                out.append(f"{at}concepts behind {measure.label}: {brief(part)} (in the others: {why})")
    return out


def _concepts(study: Study, inputs: Inputs, found: Cells, options: SummaryOptions) -> pd.DataFrame:
    m, c = np.nonzero(found.images + found.skipped)
    columns: dict[str, Any] = {
        "model": np.array(study.models)[m], "concept": np.array(study.concepts)[c], AT: inputs.kind,
        "references": study.references[c], "images": found.images[m, c], "skipped": found.skipped[m, c],
        "recognised": found.recognised[m, c],
    }  # fmt: skip
    ends = _image_intervals(study, found, m, c, options) if options.concepts else {}
    for name, values in found.values.items():
        value = columns[name] = values[m, c]
        if name in ends:
            defined = ~np.isnan(value)
            shown = interval_columns(name, ends[name])
            for end in ("_low", "_high"):
                columns[f"{name}{end}"] = np.where(defined, shown[f"{name}{end}"], np.nan)
            columns[f"{name}{EXACT}"] = defined & shown[f"{name}{EXACT}"]
    return pd.DataFrame(columns)


def _image_intervals(study: Study, found: Cells, m: Any, c: Any, options: SummaryOptions) -> dict[str, Interval]:
    """Intervals of each (model, concept), its usable images resampled."""
    code = study.model * len(study.concepts) + study.concept
    wanted = m * len(study.concepts) + c
    rows = np.flatnonzero(study.ok)
    rows = rows[np.argsort(code[rows], kind="stable")]
    start = np.searchsorted(code[rows], wanted)
    size = np.searchsorted(code[rows], wanted, side="right") - start
    chosen = [x for x in of_concepts(options.vi_scope) if x.key in found.values]
    ends = {x.key: _undefined_interval(len(m)) for x in chosen if not x.complement}
    for n in np.unique(size[size > 0]):  # those with as many images are taken at once
        at = np.flatnonzero(size == n)
        images = rows[start[at][None, :] + np.arange(n)[:, None]]  # (n, groups)
        for measure in (x for x in chosen if not x.complement):
            part = _interval_of(measure, found, images, options)
            for field in fields(Interval):
                getattr(ends[measure.key], field.name)[at] = getattr(part, field.name)
    for measure in (x for x in chosen if x.complement):
        of = ends[measure.complement]
        ends[measure.key] = Interval(1.0 - of.value, 1.0 - of.high, 1.0 - of.low, of.n, of.exact)
    return ends


def _interval_of(measure: Measure, found: Cells, images: Any, options: SummaryOptions) -> Interval:
    """Interval of a measure over the images (n, groups) of each group."""
    value: Float64 = found.of_images[measure.key][images]
    shape = {"bounds": measure.bounds, "symmetric": measure.bounds[0] < 0.0, **options.intervals}
    if measure.times:
        return interval(value, found.of_images[measure.times][images], kind="product", **shape)
    if measure.over == "recognised":
        hit = found.hit[images]
        return interval(hit * np.nan_to_num(value), np.where(np.isnan(value), np.nan, hit), **shape)
    return interval(value, **shape)


def _undefined_interval(m: int) -> Interval:
    value, low, high = np.full((3, m), np.nan)
    return Interval(value, low, high, np.zeros(m, np.int64), np.zeros(m, np.bool_))


def _scalars(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``<model>/<measure>`` -> number; at calibrated thresholds ``<model>/<measure>_cal``."""
    out: dict[str, Any] = {}
    for row in models:
        suffix = CALIBRATED if row[AT] == AT_CALIBRATED else ""
        for name, value in row.items():
            if name not in ("model", AT) and not name.endswith(EXACT):
                out[f"{row['model']}/{name}{suffix}"] = value
    return out
