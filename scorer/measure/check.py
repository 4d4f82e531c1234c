"""A gate: which images, concepts or models break a rule such as ``vr_strict > 0.5``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import AT, Finding
from iconicity.scorer.measure.intervals import DRAWS
from iconicity.scorer.measure.measures import CALIBRATED, Measure, labels, measures, of_concepts
from iconicity.scorer.measure.metrics import Bools
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.values import AT_CALIBRATED, GIVEN, image_values

LEVELS = ("image", "concept", "model")
_RULE = re.compile(r"\s*([a-z][a-z0-9_. ]*?)\s*(>=|<=|>|<)\s*([+-]?(?:\d+(?:\.\d+)?|\.\d+))\s*(%?)\s*", re.IGNORECASE)
_KEYS = {"image": ["model", "concept", "gen_relpath"], "concept": ["model", "concept"], "model": ["model"]}
_ENDS = ("_low", "_high")
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le
}  # fmt: skip


def _known() -> dict[str, Measure]:
    """Measure by the name of its value of an image, a concept or a model, without what names calibrated thresholds."""
    return {str(name): m for m in measures() for name in (m.image_key, m.key) if name}


class RuleError(InputError):
    """A rule that cannot be read, or that names no measure."""


@dataclass(frozen=True)
class Rule:
    """``measure comparison value``, as it was written; what fulfils it fails the check."""

    text: str
    measure: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises :class:`RuleError` for anything but a measure, one of > >= < <=, and a number or a percentage.

        A measure is named in any case, by its name or as tables show it.

        >>> Rule.parse("VR strict > 50%")
        Rule(text='VR strict > 50%', measure='vr_strict', comparison='>', value=0.5)
        """
        found = _RULE.fullmatch(text)
        if found is None:
            raise RuleError(
                f"`rules` {text[:60]!r}: cannot be read; write a measure, one of > >= < <=, and a number: 'vr > 0.5' or 'vr > 50%'"
            )
        shown = found[1].lower()
        by_label = {label.lower(): name for name, label in labels().items()}
        name = re.sub(r"[. ]+", "_", shown).strip("_")
        name = name if name in _known() else by_label.get(shown, name)
        value = float(found[3]) / (100.0 if found[4] else 1.0)
        measure = _known().get(_parts(name)[0])
        most = 1.0 if measure is None else max(map(abs, measure.bounds))
        if abs(value) > most:
            raise RuleError(
                f"`rules` {text[:60]!r}: no value of {name} is beyond {most:g}; write a share, like 0.5 or 50%"
            )
        return cls(text.strip(), name, found[2], value)

    def broken_by(self, values: pd.Series[Any]) -> Bools:
        """Which values fulfil it, rounded to float32 as thresholds are everywhere; an undefined one does not."""
        with np.errstate(invalid="ignore"):
            broken: Bools = _OPERATORS[self.comparison](values.to_numpy(np.float32), np.float32(self.value))
        return broken


def check(
    study: Study,
    rules: Sequence[str],
    of: str = "image",
    *,
    calibration: Calibration | None = None,
    least_n: int = 1,
    draws: int = DRAWS,
    seed: int = 0,
) -> Finding:
    """Tables ``failures`` (what breaks a rule) and ``undefined`` (what no rule can judge, and why).

    ``of``: image, concept or model; values and ends of intervals of the latter are those of ``summarise``. A
    ``calibration`` adds measures at its thresholds. Concepts with fewer than ``least_n`` images, and models with fewer
    concepts, are not judged; nor are images that could not be used. The scalars list both tables. Raises
    :class:`RuleError` for a rule that cannot be read or a measure that there is not, :class:`InputError` for one
    that these results do not have.
    """
    if of not in LEVELS:
        raise ValueError(f"of {of!r}: one of {', '.join(LEVELS)}")
    study = study.with_calibration(calibration)
    parsed = [Rule.parse(text) for text in rules]
    ends = any(rule.measure.endswith(_ENDS) for rule in parsed)
    frame = (
        _image_values(study, calibration)
        if of == "image"
        else _group_values(study, of, calibration, draws if ends else 100, seed, ends)
    )
    judged = [_judge(frame, rule, of, least_n) for rule in parsed]
    failures = pd.concat([f for f, _ in judged], ignore_index=True)
    undefined = pd.concat([u for _, u in judged], ignore_index=True)
    notes = [
        f"{counted(len(parsed), 'rule')}, {counted(len(frame), of)}: {len(failures)} broken, {len(undefined)} not judged"
    ]  # fmt: skip
    for (rule, why), part in undefined.groupby(["rule", "why"], sort=False):
        first = "/".join(str(part.iloc[0][k]) for k in _KEYS[of] if k != "concept" or of == "concept")
        n = len(part)
        notes.append(
            f"{rule}: {counted(n, 'value is', 'values are')} undefined and {'was' if n == 1 else 'were'} not judged, first {first} ({why}; "
            "`table` undefined)"
        )
    notes += study.notes
    facts = study.facts() | {"rules": ", ".join(r.text for r in parsed), "of": of, "least_n": least_n}
    if calibration is not None:
        facts |= calibration.facts()
    scalars = {
        "checked": len(frame), "n_failures": len(failures), "n_undefined": len(undefined),
        "failures": list(_listed(failures, of)), "undefined": list(_listed(undefined, of)),
    }  # fmt: skip
    return Finding({"failures": failures, "undefined": undefined}, notes, facts, scalars)


def _judge(frame: pd.DataFrame, rule: Rule, of: str, least_n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What breaks a rule, and what it cannot judge."""
    name = _column(frame, rule, of)
    base = re.sub(f"({'|'.join(_ENDS)})$", "", name)
    keys = frame[_KEYS[of]]
    column = frame[name].astype(np.float64)
    n = frame.get(f"{base}_n", frame["n"])
    few = n.to_numpy() < least_n
    broken = rule.broken_by(column) & ~few
    about: dict[str, Any] = {"measure": name, "value": column}
    if f"{base}_low" in frame and f"{base}_high" in frame:
        about |= {"value_low": frame[f"{base}_low"], "value_high": frame[f"{base}_high"]}
    failures = keys.assign(**about, n=n, threshold=rule.value, rule=rule.text)[broken]
    lacking = column.isna().to_numpy()
    reason = _why(base) if name == base else f"no interval, or {base} itself: {_why(base)}"
    why = np.where(frame["used"], np.where(few, f"n is below {least_n}", reason), "no image could be used")
    undefined = keys.assign(measure=name, n=n, rule=rule.text, why=why)[lacking | few]
    return failures, undefined


def _column(frame: pd.DataFrame, rule: Rule, of: str) -> str:
    """The column that a rule is about."""
    head, cal, end = _parts(rule.measure)
    if f"{head}{cal}" in _known() and f"{head}{cal}" in frame:  # at the thresholds that the results hold
        head, cal = f"{head}{cal}", ""
    measure = _known().get(head)
    if measure is not None:
        head = str(measure.image_key or measure.key) if of == "image" else measure.key
        cal = "" if measure.calibrated_only else cal
    name = f"{head}{cal}{end}"
    there = [
        str(c) for c in frame.columns if c not in (*_KEYS[of], "n", "used") and not str(c).endswith(("_n", *_ENDS))
    ]
    if name in frame and f"{head}{cal}" in there:
        return name
    said = f"`rules` {rule.text[:60]!r}: "
    listed = f"there are {', '.join(there)}" + ("" if of == "image" else "; and the ends of intervals, like cra_low")
    if of == "image" and end:
        raise RuleError(f"{said}an image's value has no interval; judge concepts or models with `of`; {listed}")
    if measure is not None and (measure.calibrated_only or (cal and measure.thresholded)):
        raise InputError(f"{said}{rule.measure} needs thresholds of 'iconicity calibrate', by `calibration`; {listed}")
    raise RuleError(f"{said}no measure of {of}s; {listed}")


def _parts(name: str) -> tuple[str, str, str]:
    """The name of a measure, what says that it is at calibrated thresholds, and the end of its interval."""
    head, cal, end = re.fullmatch(f"(.+?)({CALIBRATED})?({'|'.join(_ENDS)})?", name).groups("")  # type: ignore[union-attr]
    return head, cal, end


def _why(name: str) -> str:
    head, cal, _ = _parts(name)
    measure = _known()[head]
    if cal or measure.calibrated_only:
        return "no calibrated threshold for its number of references, or scored since 'iconicity calibrate'"
    return "no recognised image, or not scored" if measure.over == "recognised" else "not scored"


def _image_values(study: Study, calibration: Calibration | None) -> pd.DataFrame:
    values = image_values(study, calibration)
    named = {
        "model": np.array(study.models, object)[study.model], "concept": np.array(study.concepts, object)[study.concept],
        "gen_relpath": study.relpaths, "n": 1, "used": study.ok,
    }  # fmt: skip
    return pd.DataFrame(named | {name: np.where(study.ok, each, np.nan) for name, each in values.items()})


def _group_values(
    study: Study, of: str, calibration: Calibration | None, draws: int, seed: int, ends: bool
) -> pd.DataFrame:
    """Values of concepts or models as ``summarise`` gives them, those at calibrated thresholds as further columns."""
    found = summarise(study, calibration=calibration, draws=draws, seed=seed, concepts=ends and of == "concept")
    frame, keys = found.table(f"{of}s"), _KEYS[of]
    kinds = dict(list(frame.groupby(AT, sort=False))) if AT in frame else {GIVEN: frame}
    given = kinds[GIVEN].reset_index(drop=True)
    values = given[keys].assign(n=given["concepts" if of == "model" else "images"], used=given.images > 0)
    for kind, part in kinds.items():
        rows = given[keys].merge(part, on=keys, how="left")
        calibrated = kind == AT_CALIBRATED
        for measure in (m for m in of_concepts() if m.key in rows):
            if measure.calibrated_only and not calibrated and rows[measure.key].isna().all():
                continue  # the results hold no thresholds of their own
            name = measure.name(calibrated)
            for end in ("", "_n", *(_ENDS if ends else ())):
                if f"{measure.key}{end}" in rows:
                    values[f"{name}{end}"] = rows[f"{measure.key}{end}"].to_numpy()
            if of == "concept" and measure.over == "recognised":
                values[f"{name}_n"] = rows["recognised"].to_numpy()
    return values


def _listed(table: pd.DataFrame, of: str) -> Iterator[dict[str, Any]]:
    """Rows for JSON: level, model, concept, image, measure, value, interval, n, threshold, rule."""
    for row in table.to_dict("records"):
        out: dict[str, Any] = {
            "level": of,
            "model": row["model"],
            "concept": row.get("concept"),
            "image": row.get("gen_relpath"),
        }
        out |= {k: row[k] for k in ("measure", "value") if k in row}
        if "value" in row:
            low, high = row.get("value_low"), row.get("value_high")
            out["interval"] = None if low is None or pd.isna(low) else [float(low), float(high)]  # type: ignore[arg-type]
        yield out | {"n": int(row["n"])} | {k: row[k] for k in ("threshold", "rule", "why") if k in row}
