"""Per model and concept: CRA, VR, VI and CRT from stored maxima, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import AT, EXACT, Finding, exact_words, interval_columns
from iconicity.scorer.measure.image_null import image_null
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, Interval, interval
from iconicity.scorer.measure.measures import at_thresholds
from iconicity.scorer.measure.metrics import Bools
from iconicity.scorer.measure.patches import reused_patches
from iconicity.scorer.measure.study import Cells, Study, Tau, brief, cells, image_values
from iconicity.scorer.text import number

AGGREGATES = ("macro", "micro")
# columns of the tables that a terminal does without
SHORT = ("skipped", "undefined", "best_cra_sim", *(f"{m}_n" for m in (
    "cra", "vr_recognised", "vr_all", "vi_recognised", "vi_all", "crt", "vr_arranged", "cra_cal", "vr_cal", "vr_strict",
)))  # fmt: skip


def summarise(
    study: Study,
    *,
    vi_scope: str = "recognised",
    aggregate: str = "macro",
    calibration: Calibration | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    concepts: bool = True,
    patches: bool = False,
) -> Finding:
    """Tables ``models``, ``concepts`` and ``missing`` (pairs of model and concept without a usable image).

    A model's value is the mean over its concepts (``aggregate`` macro), or over its images (micro: concepts weigh as
    many images as they have; of ``*_recognised`` measures as many recognised ones). CRT is the mean of the concepts'
    CRT, not the product of two means. Intervals of models resample concepts, those of concepts their images.
    A ``calibration`` adds rows at its thresholds, with ``vr_strict`` where ``iconicity calibrate`` has left its null beside
    the results; ``vr_arranged`` where the study was read with ``p_ref_cell``. ``concepts`` False leaves that table
    without intervals. ``patches`` adds a table of that name (:func:`~iconicity.scorer.measure.patches.reused_patches`).
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate {aggregate!r}: one of {', '.join(AGGREGATES)}")
    study = study.with_calibration(calibration)
    notes = list(study.notes)
    null = image_null(study)
    sets, said = at_thresholds(study, null, calibration)
    notes += said
    options = {"draws": draws, "seed": seed, "level": level}
    models: list[dict[str, Any]] = []
    by_concept: list[pd.DataFrame] = []
    for at in sets:
        kind, tau_cra, tau_vr = at.kind, at.tau_cra, at.tau_vr
        found = cells(study, tau_cra, tau_vr, vi_scope, at.further)
        judged = np.ones_like(found.images, bool)
        if kind == "calibrated":  # concepts whose number of references has no threshold are not in the row at all
            judged = ~np.isnan(found.values["cra"]) | ~np.isnan(found.values["vr_all"])
            lost = int(found.images[~judged].sum())
            if lost:
                no = "has no calibrated threshold and is" if lost == 1 else "have no calibrated threshold and are"
                of = counted(int(found.images.sum()), "image")
                notes.insert(0, f"calibrated: {lost} of {of} {no} left out")
        for m, label in enumerate(study.models):
            row = {"model": label, AT: kind} | _model(found, m, judged[m], aggregate, options)
            models.append(row)
        by_concept.append(_concepts(study, found, kind, tau_cra, tau_vr, vi_scope, options if concepts else None))
    notes += _words(models, study) + exact_words(pd.DataFrame(models))
    if concepts:
        notes += exact_words(pd.concat(by_concept, ignore_index=True), "images")
    there = found.images > 0
    missing = pd.DataFrame(
        [{"model": study.models[m], "concept": study.concepts[c]} for m, c in np.argwhere(~there)],
        columns=["model", "concept"],
    )
    if len(missing):
        notes.append(
            f"{counted(len(missing), 'pair')} of model and concept {'has' if len(missing) == 1 else 'have'} no usable image (--table missing)"
        )
    frame = pd.DataFrame(models)
    if calibration is None:
        frame = frame.drop(columns=AT)
    facts = study.facts() | {
        "vi_scope": vi_scope, "aggregate": aggregate, "draws": draws, "seed": seed, "level": level,
        **({} if calibration is None else calibration.facts()),
        **({} if null is None else {f"null_{k}": v for k, v in null.facts.items()}),
    }  # fmt: skip
    tables = {"models": frame, "concepts": pd.concat(by_concept, ignore_index=True), "missing": missing}
    if patches:
        tables["patches"], said = reused_patches(study)
        notes += said
    return Finding(tables, list(dict.fromkeys(notes)), facts, _scalars(models))


def _model(found: Cells, m: int, judged: Bools, aggregate: str, options: Mapping[str, Any]) -> dict[str, Any]:
    mine = (found.images[m] > 0) & judged
    names = list(found.values)
    value = np.stack([found.values[name][m, mine] for name in names], axis=1)
    weight = np.ones_like(value)
    if aggregate == "micro":
        weight = np.stack([found.weights[name][m, mine] for name in names], axis=1).astype(np.float64)
    row: dict[str, Any] = {
        "images": int(found.images[m, mine].sum()), "skipped": int(found.skipped[m].sum()), "concepts": int(mine.sum()),
        "recognised": int(found.recognised[m].sum()),
    }  # fmt: skip
    for i, name in enumerate(names):
        column = slice(i, i + 1)
        found_ = interval(
            value[:, column] * weight[:, column], weight[:, column], **options
        )  # fmt: skip
        row |= {c: each[0].item() for c, each in interval_columns(name, found_).items()}
        row[f"{name}_n"] = int(found_.n[0])
    best = found.best_similarity[m, mine]
    row["best_cra_sim"] = float(np.nanmax(best)) if not np.isnan(best).all() else float("nan")
    row["undefined"] = ",".join(_undefined(row))
    return row


def _undefined(row: Mapping[str, Any]) -> list[str]:
    out = []
    if np.isnan(row["cra"]):
        out.append("cra_undefined")
    elif row["recognised"] == 0:
        out.append("none_recognised")
    if np.isnan(row["vr_all"]):
        out.append("vr_undefined")
    return out


def _words(rows: Sequence[Mapping[str, Any]], study: Study) -> list[str]:
    """What a reader must know of the models' rows, those alike in one line."""
    out: list[str] = []
    for kind in dict.fromkeys(r[AT] for r in rows):
        mine = [r for r in rows if r[AT] == kind]
        given = kind == "given"
        tau = f"the CRA threshold {study.tau['cra']}" if given else "the calibrated threshold"
        at = "" if given else "calibrated: "
        lacking = "was not scored, or the index has no references for the concepts"
        no_tau = given and study.tau["vr"] is None
        if not given:
            lacking = "has no calibrated threshold for the concepts' numbers of references, or was not scored"

        def named(reason: str, mine: Sequence[Mapping[str, Any]] = mine) -> list[Mapping[str, Any]]:
            return [r for r in mine if reason in r["undefined"].split(",")]

        if none := named("none_recognised"):
            best = brief([f"{r['model']} {number(r['best_cra_sim'])}" for r in none])
            so = "VI rec. does not exist" + ("" if all(np.isnan(r["crt"]) for r in none) else " and CRT is 0")
            out.append(f"{at}no image reaches {tau} (highest cra_sim: {best}), so {so}")
        for name, reason in (("CRA", "cra_undefined"), ("VR", "vr_undefined")):
            if undefined := named(reason):
                why = "has no threshold: name one with --patch-tau" if name == "VR" and no_tau else lacking
                out.append(f"{at}{name} of {brief([r['model'] for r in undefined])} {why}")
        nothing = "not scored, or no references" if given else "no calibrated threshold, or not scored"
        behind = (
            ("CRA", "cra_n", "concepts", nothing), ("VR", "vr_all_n", "concepts", nothing),
            ("VI rec.", "vi_recognised_n", "cra_n", "no recognised image"),
            ("VR strict", "vr_strict_n", "vr_all_n", "no threshold, or scored since 'iconicity calibrate'"),
        )  # fmt: skip
        for name, column, of, why in behind:
            known = [r for r in mine if column in r and r[of] and r[column]]
            part = [f"{r['model']} {r[column]} of {r[of]}" for r in known if r[column] < r[of]]
            if part:
                out.append(f"{at}concepts behind {name}: {brief(part)} (in the others: {why})")
    return out


def _concepts(
    study: Study,
    found: Cells,
    kind: str,
    tau_cra: Tau,
    tau_vr: Tau,
    vi_scope: str,
    options: Mapping[str, Any] | None,
) -> pd.DataFrame:
    m, c = np.nonzero(found.images + found.skipped)
    frame = pd.DataFrame(
        {
            "model": np.array(study.models)[m], "concept": np.array(study.concepts)[c], AT: kind,
            "references": study.references[c], "images": found.images[m, c], "skipped": found.skipped[m, c],
            "recognised": found.recognised[m, c],
        }
    )  # fmt: skip
    for name, value in found.values.items():
        frame[name] = value[m, c]
    if options is not None:
        ends = _image_intervals(study, m, c, tau_cra, tau_vr, vi_scope, options)
        for name, found_ in ends.items():
            at = frame.columns.get_loc(name)
            assert isinstance(at, int)
            defined = frame[name].notna().to_numpy()
            columns = interval_columns(name, found_)
            frame.insert(at + 1, f"{name}_low", np.where(defined, columns[f"{name}_low"], np.nan))
            frame.insert(at + 2, f"{name}_high", np.where(defined, columns[f"{name}_high"], np.nan))
            frame.insert(at + 3, f"{name}{EXACT}", defined & columns[f"{name}{EXACT}"])
    return frame


def _image_intervals(
    study: Study, m: Any, c: Any, tau_cra: Tau, tau_vr: Tau, vi_scope: str, options: Mapping[str, Any]
) -> dict[str, Interval]:
    """Intervals of each (model, concept), its usable images resampled."""
    recognised, _, vr, _ = image_values(study, tau_cra, tau_vr)
    code = study.model * len(study.concepts) + study.concept
    wanted = m * len(study.concepts) + c
    rows = np.flatnonzero(study.ok)
    rows = rows[np.argsort(code[rows], kind="stable")]
    start = np.searchsorted(code[rows], wanted)
    size = np.searchsorted(code[rows], wanted, side="right") - start
    ends: dict[str, Interval] = {}
    for n in np.unique(size[size > 0]):  # those with as many images are taken at once
        at = np.flatnonzero(size == n)
        images = rows[start[at][None, :] + np.arange(n)[:, None]]  # (n, groups)
        r, v = recognised[images].astype(np.float64), vr[images]
        parts = {
            "cra": interval(r, **options),
            "vr_recognised": interval(r * np.nan_to_num(v), np.where(np.isnan(v), np.nan, r), **options),
            "vr_all": interval(v, **options),
            "crt": interval(r * (1.0 - v), **options)
            if vi_scope == "recognised"
            else interval(r, 1.0 - v, kind="product", **options),
        }
        for name, part in parts.items():
            held = ends.setdefault(name, _undefined_interval(len(m)))
            for field in fields(Interval):
                getattr(held, field.name)[at] = getattr(part, field.name)
    for name in ("vr_recognised", "vr_all"):
        if name in ends:
            vr_ = ends[name]
            ends[name.replace("vr", "vi")] = Interval(1.0 - vr_.value, 1.0 - vr_.high, 1.0 - vr_.low, vr_.n, vr_.exact)
    return ends


def _undefined_interval(m: int) -> Interval:
    value, low, high = np.full((3, m), np.nan)
    return Interval(value, low, high, np.zeros(m, np.int64), np.zeros(m, np.bool_))


def _scalars(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``<model>/<measure>`` -> number; at calibrated thresholds ``<model>/<measure>_cal``."""
    out: dict[str, Any] = {}
    for row in models:
        for name, value in row.items():
            if name not in ("model", AT) and not name.endswith(EXACT):
                out[f"{row['model']}/{name}{'' if row[AT] == 'given' else '_cal'}"] = value
    return out
