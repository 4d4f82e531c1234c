"""Rank correlations of CRA, VR and CRT with attributes of the concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.attributes import Attributes
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, benjamini_hochberg
from iconicity.scorer.measure.measures import label as label_of
from iconicity.scorer.measure.measures import measures
from iconicity.scorer.measure.rank_correlation import FEWEST, UNDEFINED, Estimate, Ranked
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.values import compared_values

KINDS = ("spearman", "kendall", "partial")
SHOWN = (
    "model", "measure", "attribute", "n", "missing", "spearman", "spearman_q", "kendall", "partial", "partial_q",
)  # fmt: skip
_TAKEN = {"model", "concept", "references"}
_RARE = 0.95  # share of draws in which a coefficient should exist
_SHOWN = 3  # names in a note


def correlate(
    study: Study,
    attributes: Attributes,
    *,
    controls: Sequence[str] = (),
    vi_scope: str = "recognised",
    calibration: Calibration | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Finding:
    """Tables ``pairs`` (model x measure x attribute) and ``values`` (model x concept: what was correlated).

    The ``columns`` of the attributes are correlated; ``controls``, further columns or the same, are held constant. The
    partial correlation always holds constant J, the number of references a concept's images were compared with: the
    maximum over J references grows with J. A concept without references is left out, and one without a value of the
    measure or the attribute, or for the partial of a control. ``missing`` counts concepts that have the measure and
    not the attribute. q: Benjamini-Hochberg over all rows, for each kind of p apart.

    A ``calibration`` adds the measures at its thresholds (:func:`compared_values`).
    Intervals are percentile ones, concepts resampled; a model's use its own concepts alone.
    Raises :class:`InputError` for names that are taken or not there.
    """
    controls = list(dict.fromkeys(controls))
    study = study.with_calibration(calibration)
    values_of, said = compared_values(study, vi_scope, calibration)
    images = study.images_of()
    _require(attributes, controls, {*_TAKEN, *values_of})
    frame, names = attributes.values, attributes.columns
    scored = [m for m, each in values_of.items() if not np.isnan(each.cells).all()]
    if not scored:
        raise InputError(
            f"{study.sources[0].path}: CRA and VR are undefined for all concepts; score images into it first"
        )
    by_place = frame.reindex(list(study.concepts))
    rows: list[dict[str, Any]] = []
    values: list[pd.DataFrame] = []
    for m, label in enumerate(study.models):
        mine = np.flatnonzero((images[m] > 0) & (study.references > 0))
        table = pd.DataFrame(
            {"model": label, "concept": np.array(study.concepts)[mine], "references": study.references[mine],
             **{name: values_of[name].cells[m, mine] for name in scored}}
        )  # fmt: skip
        table = pd.concat([table, by_place.iloc[mine].reset_index(drop=True)], axis=1)
        rows += _model(label, table, scored, names, controls, draws, seed, level)
        values.append(table)
    pairs = pd.DataFrame(rows)
    notes = [
        *study.notes,
        *said,
        *attributes.notes,
        *_concept_words(study, frame),
        *_words(pairs, values, list(values_of), scored, controls),
    ]
    for kind in KINDS if rows else ():
        at = pairs.columns.get_loc(f"{kind}_p")
        assert isinstance(at, int)
        pairs.insert(at + 1, f"{kind}_q", benjamini_hochberg(pairs[f"{kind}_p"].to_numpy(np.float64)))
    facts = study.facts() | dict(attributes.facts) | {
        "given": ",".join(["references", *controls]), "vi_scope": vi_scope, "draws": draws, "seed": seed, "level": level,
    }  # fmt: skip
    facts |= {} if calibration is None else calibration.facts()
    scalars = {
        f"{r['model']}/{r['measure']}/{r['attribute']}/{name}": value
        for r in pairs.to_dict("records")
        for name, value in r.items()
        if name not in ("model", "measure", "attribute", "given") and not str(name).endswith("_defined")
    }
    pairs = pairs.drop(columns=[f"{k}_defined" for k in KINDS], errors="ignore")
    return Finding(
        {"pairs": pairs, "values": pd.concat(values, ignore_index=True)}, notes, facts, scalars, {"pairs": SHOWN}
    )


def _require(attributes: Attributes, controls: Sequence[str], names: set[str]) -> None:
    frame, where = attributes.values, attributes.facts.get("attributes") or "attributes"
    if not attributes.columns:
        raise InputError(
            f"{where}: no column of numbers or dates; name some with `AttributeFiles.columns`, or give `captions`"
        )
    if taken := [c for c in frame.columns if c in names]:
        raise InputError(f"{where}: column '{taken[0]}' has the name of a column of the result; rename it")
    numbers = list(frame.select_dtypes("number").columns)
    for name in [*attributes.columns, *controls]:
        if name not in numbers:
            raise InputError(f"{where}: no attribute '{name}' (there are: {', '.join(numbers)}); change `controls`")


def _model(
    label: str, table: pd.DataFrame, measures: Sequence[str], names: Sequence[str], controls: Sequence[str],
    draws: int, seed: int, level: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of one model. Pairs over the same concepts share the ranks of all columns they need."""
    place = {c: i for i, c in enumerate(dict.fromkeys([*measures, "references", *names, *controls]))}
    numbers = table[list(place)].to_numpy(np.float64)
    has = ~np.isnan(numbers)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    # (concepts) -> what to compute over them: measure, attribute, and what is held constant, None: nothing
    wanted: dict[bytes, list[tuple[str, str, list[str] | None]]] = {}
    for measure in measures:
        for name in names:
            given = ["references", *(c for c in controls if c != name)]
            both = has[:, place[measure]] & has[:, place[name]]
            whole = both & has[:, [place[c] for c in given]].all(axis=1)
            wanted.setdefault(both.tobytes(), []).append((measure, name, None))
            wanted.setdefault(whole.tobytes(), []).append((measure, name, given))
            found[measure, name] = {
                "model": label, "measure": measure, "attribute": name,
                "n": int(both.sum()), "missing": int((has[:, place[measure]] & ~has[:, place[name]]).sum()),
                "given": ",".join(given), "partial_n": int(whole.sum()),
            }  # fmt: skip
    for key, jobs in wanted.items():
        use = np.frombuffer(key, bool)
        needed = list(dict.fromkeys(c for measure, name, held in jobs for c in (measure, name, *(held or ()))))
        at = {c: i for i, c in enumerate(needed)}
        ranked = Ranked(numbers[use][:, [place[c] for c in needed]], draws, seed, level)
        for measure, name, held in jobs:
            pair = at[measure], at[name]
            row = found[measure, name]
            if held is None:
                row |= _cells("spearman", ranked.spearman(*pair)) | _cells("kendall", ranked.kendall(*pair))
            else:
                row |= _cells("partial", ranked.partial(*pair, [at[c] for c in held]))
    order = ["model", "measure", "attribute", "n", "missing"]
    order += [c for k in ("spearman", "kendall") for c in _cells(k, UNDEFINED)]
    order += ["given", "partial_n", *_cells("partial", UNDEFINED)]
    return [{c: row[c] for c in order} for row in found.values()]


def _cells(kind: str, e: Estimate) -> dict[str, float]:
    names = {"value": kind} | {f.name: f"{kind}_{f.name}" for f in fields(e) if f.name != "value"}
    return {column: getattr(e, name) for name, column in names.items()}


def _concept_words(study: Study, frame: pd.DataFrame) -> list[str]:
    out = []
    lacks = [c for c in study.concepts if c not in frame.index]
    if lacks:
        out.append(f"concepts of the results that the attributes lack: {len(lacks)} (first: {lacks[0]})")
    unknown = sorted(set(frame.index) - set(study.concepts))
    if unknown:
        out.append(f"concepts of the attributes that the results lack: {len(unknown)} (first: {unknown[0]})")
    none = [c for c, j in zip(study.concepts, study.references, strict=True) if j == 0]
    if none:
        out.append(f"concepts without references, left out: {len(none)} (first: {none[0]})")
    return out


def _words(
    pairs: pd.DataFrame,
    values: Sequence[pd.DataFrame],
    names: Sequence[str],
    scored: Sequence[str],
    controls: Sequence[str],
) -> list[str]:
    """What a reader must know of the pairs."""
    out = [f"partial: Spearman with J (number of references){''.join(f', {c}' for c in controls)} held constant"]
    if absent := [m for m in names if m not in scored]:
        own = {m.key for m in measures() if not m.calibrated_only}
        given, calibrated = ([label_of(m) for m in absent if (m in own) is kind] for kind in (True, False))
        out += [f"not scored, so left out: {', '.join(given)}"] if given else []
        out += [f"not scored, or no calibrated threshold, so left out: {', '.join(calibrated)}"] if calibrated else []
    lacking = {m: sum(int(v[m].isna().sum()) for v in values) for m in scored}
    if any(lacking.values()):
        counts = ", ".join(f"{label_of(m)} {n}" for m, n in lacking.items() if n)
        out.append(f"model-concept pairs whose measure is undefined, left out: {counts}")
    if constant := [v.model.iloc[0] for v in values if len(v) and v.references.nunique() == 1]:
        out.append(
            f"all concepts have as many references (J) for {', '.join(constant)}: there holding J constant changes nothing, "
            "and a partial correlation without other controls is the plain one"
        )
    if pairs.empty:
        return out
    reason = f"fewer than {FEWEST} concepts, or one side has a single value"
    out += _named("no correlation", reason, pairs, pairs.spearman.isna())
    reason = "too few concepts, or what is held constant leaves nothing of one side"
    out += _named("no partial correlation", reason, pairs, pairs.partial.isna() & pairs.spearman.notna())
    for kind in KINDS:
        known = pairs[kind].notna()
        out += _named(f"no interval of {kind}", "all draws agree", pairs, known & pairs[f"{kind}_low"].isna())
    for kind in ("spearman", "partial"):  # Kendall's tau exists where Spearman's rho does
        rare = pairs[kind].notna() & (pairs[f"{kind}_defined"] < _RARE)
        why = "one side is nearly constant; read the interval with care"
        out += _named(f"{kind} exists in fewer than {_RARE:.0%} of the draws", why, pairs, rare)
    return out


def _named(what: str, why: str, pairs: pd.DataFrame, which: pd.Series) -> list[str]:
    some = [f"{r.model} {r.measure} x {r.attribute}" for r in pairs[which].itertuples()]
    shown = ", ".join(some[:_SHOWN]) + (", ..." if len(some) > _SHOWN else "")
    return [f"{what} ({why}): {len(some)} of {counted(len(pairs), 'row')}: {shown}"] if some else []
