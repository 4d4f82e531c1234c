"""A gate: which images, concepts or models break a rule such as ``vr_specific > 0.5``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.scorer.findings.export import image_measures
from iconicity.scorer.findings.finding import Finding
from iconicity.scorer.findings.study import Study
from iconicity.scorer.findings.summary import summarise
from iconicity.scorer.metrics import Bools

LEVELS = ("image", "concept", "model")
_RULE = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|>|<)\s*([+-]?\d+(?:\.\d+)?)\s*")
_KEYS = {"image": ["model", "concept", "gen_relpath"], "concept": ["model", "concept"], "model": ["model"]}
_COUNTS = {"images", "skipped", "concepts", "recognised", "references"}
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """``measure comparison value``, as it was written; what fulfils it fails the check."""

    text: str
    measure: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises :class:`InputError` for anything but a measure, one of > >= < <=, and a number.

        >>> Rule.parse("vr > 0.5").value
        0.5
        """
        found = _RULE.fullmatch(text)
        if found is None:
            raise InputError(f"--fail-if {text[:60]!r}: no rule; write one like 'vr_specific > 0.5'")
        return cls(text.strip(), found[1], found[2], float(found[3]))

    def broken_by(self, values: pd.Series[Any]) -> Bools:
        """Which values fulfil it, rounded to float32 as thresholds are everywhere; an undefined one does not."""
        with np.errstate(invalid="ignore"):
            broken: Bools = _OPERATORS[self.comparison](values.to_numpy(np.float32), np.float32(self.value))
        return broken


def check(study: Study, rules: Sequence[str], of: str = "image") -> Finding:
    """Tables ``failures`` (what breaks a rule: its value and the rule) and ``undefined`` (what no rule can judge).

    ``of``: image, concept or model. Images that could not be used are undefined too. Raises :class:`InputError` for
    a rule that cannot be read, or a measure that these results do not have.
    """
    if of not in LEVELS:
        raise ValueError(f"of {of!r}: one of {', '.join(LEVELS)}")
    parsed = [Rule.parse(text) for text in rules]
    frame = _values(study, of)
    keys = _KEYS[of]
    measures = [str(c) for c in frame.columns if c not in keys and pd.api.types.is_numeric_dtype(frame[c])]
    failures, undefined = [], []
    for rule in parsed:
        if rule.measure not in measures:
            hint = (
                "; 'iconicity calibrate' adds vr_specific and excess"
                if rule.measure in ("vr_specific", "excess")
                else ""
            )
            raise InputError(f"--fail-if {rule.text!r}: no measure of {of}s; there are {', '.join(measures)}{hint}")
        column = frame[rule.measure]
        broken = rule.broken_by(column)
        failures.append(frame.loc[broken, keys].assign(value=column[broken], rule=rule.text))
        undefined.append(frame.loc[column.isna().to_numpy(), keys].assign(rule=rule.text))
    tables = {"failures": pd.concat(failures, ignore_index=True), "undefined": pd.concat(undefined, ignore_index=True)}
    notes = list(study.notes)
    if n := len(tables["undefined"]):
        notes.append(f"{n} values are undefined and were not judged (--table undefined)")
    facts = study.facts() | {"rules": ", ".join(r.text for r in parsed), "of": of}
    scalars = {"checked": len(frame), "failures": len(tables["failures"]), "undefined": len(tables["undefined"])}
    return Finding(tables, notes, facts, scalars)


def _values(study: Study, of: str) -> pd.DataFrame:
    if of != "image":
        frame = summarise(study, draws=100, concepts=False).table(f"{of}s")
        return frame.drop(columns=[c for c in frame if c in _COUNTS or str(c).endswith(("_low", "_high", "_n"))])
    named = {
        "model": np.array(study.models, object)[study.model], "concept": np.array(study.concepts, object)[study.concept],
        "gen_relpath": study.relpaths,
    }  # fmt: skip
    measures = {name: np.where(study.ok, values, np.nan) for name, values in image_measures(study).items()}
    return pd.DataFrame(named | measures)
