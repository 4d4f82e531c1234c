"""Thresholds at a chosen false-positive rate, one for each number of references, as a file that other commands take."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.spec import differences
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.store.schema import CalibrationShape, other_format, read_json, require_shape
from iconicity.indexer.text import counted
from iconicity.scorer.measure.finding import EXACT, Finding, exact_words
from iconicity.scorer.measure.metrics import Float64, Ints
from iconicity.scorer.thresholds import CALIBRATION, Thresholds

if TYPE_CHECKING:
    from iconicity.scorer.measure.study import Study

FORMAT = 4
NULL_STEP = 0.02  # between the similarities at which the null is kept
NULL_EDGES = np.round(np.arange(-1.0, 1.0 + NULL_STEP / 2, NULL_STEP), 2)
# A threshold holds for these alone.
SETTINGS = ("mode", "clip", "dino", "grid", "reference_cells", "pool", "patch_mode", "pixels")
INDICATIVE, NOT_CALIBRATED = "indicative", "not calibrated"


@dataclass(frozen=True)
class Calibration:
    """Content of a ``calibration.json``. ``thresholds``: a row for each null, metric and number of references J.

    ``nulls``: for each metric and J, the share of unrelated pairs of half A that reach -1, -0.98, ... 1.
    """

    alpha: float
    seed: int
    index_id: str
    settings: Mapping[str, Any]
    pool: Sequence[str]  # concepts whose references unrelated images were compared with
    halves: Mapping[str, Sequence[str]]
    same_work: Sequence[Sequence[str]]
    thresholds: Sequence[Mapping[str, Any]]
    nulls: Sequence[Mapping[str, Any]]
    notes: Sequence[str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._text().encode()).hexdigest()

    def _text(self, **more: str) -> str:
        return json.dumps({"format": FORMAT, **vars(self), **more}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self._text(digest=self.digest))

    @property
    def whitened(self) -> bool:
        """Whether VR strict has thresholds of whitened vectors."""
        return any(t["metric"] == "vr_whitened" for t in self.thresholds)

    def taus(self, metric: str, null: str = "unrelated") -> dict[int, float]:
        """J -> tau of a metric (cra, vr), without those that are not calibrated."""
        return {
            int(t["references"]): float(t["tau"])
            for t in self.thresholds
            if t["metric"] == metric and t["null"] == null and t["status"] != NOT_CALIBRATED
        }

    def tau(self, study: Study, metric: str) -> Float64:
        """(C,) threshold of each concept by its number of references; nan where that is not calibrated."""
        return self.each(metric, study.references)

    def each(self, metric: str, references: Sequence[int] | Ints) -> Float64:
        """Threshold of a metric for each of some numbers of references: (n,), nan where that is not calibrated."""
        known = self.taus(metric)
        return np.array([known.get(int(j), np.nan) for j in references], np.float64)

    def require_for(self, settings: Mapping[str, Any], name: str) -> None:
        """Raises :class:`SettingsError` when the thresholds were found with other encoders or settings."""
        for key, mine, other in differences(settings, self.settings, SETTINGS):
            raise SettingsError(
                f"{name}: has {key}={mine}, the calibration was made with {other}; calibrate these results with "
                "'iconicity calibrate'"
            )

    def notes_for(self, study: Study) -> list[str]:
        """Caveats of using these thresholds on a study. Raises :class:`SettingsError` when they do not fit."""
        self.require_for(study.settings, str(study.sources[0].path))
        out = [f"calibrated thresholds: {self.alpha:g} of unrelated pairs pass; {n}" for n in self.notes]
        if study.settings["index_id"] != self.index_id:
            out.append("calibrated on another version of the index; its pool of concepts is as recorded")
        used = [int(j) for j in np.unique(study.references[study.references > 0])]
        for metric in ("cra", "vr"):
            lacking = [j for j in used if j not in self.taus(metric)]
            concepts = int(np.isin(study.references, lacking).sum())
            if lacking:
                out.append(
                    f"J not calibrated for {metric}: {counted(concepts, 'concept')} with {', '.join(map(str, lacking))} {'reference' if lacking == [1] else 'references'}"
                )
        return out

    def facts(self) -> dict[str, Any]:
        return {"calibration_sha256": self.digest, "calibration_alpha": self.alpha, "calibration_seed": self.seed}

    def for_results(self) -> Thresholds:
        """What a results directory keeps of it. VR strict has none: it needs this calibration's own null."""
        tau = {m: self.taus(m) for m in ("cra", "vr")}
        source = {m: dict.fromkeys(taus, CALIBRATION) for m, taus in tau.items()}
        return Thresholds(self.alpha, {CALIBRATION: self.digest}, tau, source)


def read_calibration(path: Path | str) -> Calibration:
    """Raises :class:`InputError` when the file is none of ours."""
    try:
        content = read_json(Path(path))
        if (found := content.pop("format")) != FORMAT:
            raise InputError(f"{path}: {other_format(found, FORMAT, None)}, or make it anew with 'iconicity calibrate'")
        digest = content.pop("digest")
        require_shape(content, CalibrationShape)
        held = Calibration(**content)
        if held.digest != digest:
            raise ValueError("it does not match its own digest")
        if any(len(n["reached"]) != len(NULL_EDGES) for n in held.nulls):
            raise ValueError("a null is of another length")
        held.taus("cra"), held.taus("vr"), held.settings["mode"]
        return held
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise InputError(f"{path}: no calibration ({str(e)[:120]}); make one with 'iconicity calibrate'") from e


def calibration_beside(results: Path, named: Path | None, *, thresholds: bool = True) -> Calibration | None:
    """The calibration that the user named, else the one that 'iconicity calibrate' left in the results directory.

    ``thresholds``: one that nobody named and that found none does not count, since the results may hold others.
    """
    path = named or results / "calibration.json"
    if named is None and not path.is_file():
        return None
    found = read_calibration(path)
    return found if named or not thresholds or any(map(found.taus, ("cra", "vr"))) else None


def own_and_null(study: Study, calibration: Calibration) -> pd.DataFrame:
    """Histograms of own similarities beside those of unrelated concepts, for each metric and number of references J.

    Columns ``metric, references, low, own, null``: shares of the images (cra) or patches (vr) with a similarity in
    [low, low + 0.02), each concept of the study alike, and of the null, each pair of concepts of half A alike. J that
    no concept of the study has, or the null lacks, are left out. Raises :class:`SettingsError` for other settings.
    """
    calibration.require_for(study.settings, str(study.sources[0].path))
    parts: list[pd.DataFrame] = []
    for null in calibration.nulls:
        metric, j = str(null["metric"]), int(null["references"])
        values = study.similarity[:, None] if metric == "cra" else study.p
        mine = study.ok & ~np.isnan(values).any(axis=1) & (study.references[study.concept] == j)
        if not mine.any():
            continue
        weight = 1.0 / np.bincount(study.concept[mine], minlength=len(study.concepts))[study.concept[mine]]
        at = np.searchsorted(NULL_EDGES.astype(np.float32), values[mine], side="right") - 1
        counts = np.bincount(at.ravel(), np.repeat(weight, values.shape[1]), minlength=len(NULL_EDGES))
        reached = np.append(np.asarray(null["reached"], np.float64), 0.0)
        parts.append(
            pd.DataFrame(
                {"metric": metric, "references": j, "low": NULL_EDGES, "own": counts / counts.sum(),
                 "null": -np.diff(reached)}
            )
        )  # fmt: skip
    columns = ["metric", "references", "low", "own", "null"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def thresholds_finding(calibration: Calibration) -> Finding:
    """The thresholds as a table, with what they rest on."""
    columns = [
        "null",
        "metric",
        "references",
        "tau",
        "status",
        "rate_fit",
        "rate_check",
        "rate_check_low",
        "rate_check_high",
    ]
    columns += [
        "tau_index",
        "rate_index",
        "rate_index_low",
        "rate_index_high",
        "tau_given",
        "rate_given",
        "rate_given_low",
        "rate_given_high",
        "pairs_fit",
        "pairs_check",
    ]
    columns += ["concepts_fit", "other_concepts_fit", "concepts_check", "other_concepts_check"]
    frame = pd.DataFrame(list(calibration.thresholds), columns=columns)
    numbers = [c for c in columns if c.startswith(("tau", "rate"))]
    frame[numbers] = frame[numbers].astype(np.float64)
    counts = [c for c in columns if c.startswith(("pairs", "concepts", "other"))]
    frame[counts] = frame[counts].astype("Int64")
    for name in ("rate_check", "rate_index", "rate_given"):  # no pair or every pair passes: see pair_rate
        at = frame.columns.get_loc(f"{name}_high")
        assert isinstance(at, int)
        frame.insert(at + 1, f"{name}{EXACT}", frame[name].isin([0.0, 1.0]))
    notes = [
        *calibration.notes,
        f"alpha {calibration.alpha:g}; fitted on half A, checked on half B; seed {calibration.seed}",
    ]
    for metric in ("cra", "vr"):
        short = frame[(frame.null == "unrelated") & (frame.metric == metric) & (frame.status == NOT_CALIBRATED)]
        if len(short):
            pairs = ", ".join(f"J {j}: {n}" for j, n in zip(short.references, short.pairs_fit, strict=True))
            notes.append(
                f"{metric} not calibrated for some J ({math.ceil(1 / calibration.alpha)} pairs of concepts in half A are needed; {pairs}): "
                "add references or concepts, allow a higher `alpha`, or score with `mode` static, where J is 1"
            )
    if not frame.null.isin(["related"]).any():
        notes.append("no null of related concepts: `related` names a table that says artist, series or genre")
    notes += exact_words(frame)
    facts = {**calibration.facts(), "index_id": calibration.index_id, "pool": len(calibration.pool)}
    scalars = {
        f"{t['null']}/{t['metric']}/{t['references']}/{name}": t[name]
        for t in calibration.thresholds
        for name in ("tau", "rate_check", "rate_index", "rate_given", "status")
        if name in t
    }
    return Finding({"thresholds": frame}, notes, facts, scalars)
