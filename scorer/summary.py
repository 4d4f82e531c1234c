"""Per concept and per model: CRA, VR, VI and CRT from stored maxima. Nothing is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iconicity.scorer.metrics import cra, crt, mean_or_nan, passes, visual_reuse
from iconicity.scorer.results import Record, Results


@dataclass(frozen=True)
class ConceptSummary:
    """One concept of one model. nan where undefined (no recognised image) or not scored."""

    model: str
    concept: str
    images: int
    skipped: int
    recognised: int
    cra: float
    vr_recognised: float
    vr_all: float
    vi_recognised: float
    vi_all: float
    crt: float


@dataclass(frozen=True)
class ModelSummary:
    """One model: macro means over its concepts. ``vi_n`` counts concepts with a recognised image."""

    model: str
    images: int
    skipped: int
    concepts: int
    recognised: int
    cra: float
    vr_recognised: float
    vr_all: float
    vi_recognised: float
    vi_all: float
    vi_n: int
    crt: float
    undefined: str  # why a value is nan; empty when none is


def summarise(results: Results, vi_scope: str = "recognised") -> tuple[list[ModelSummary], list[ConceptSummary]]:
    """Macro summaries at the results' own thresholds, models by name.

    CRT of a concept = CRA x mean VI over its recognised images (``vi_scope`` recognised) or over all of them
    (all); CRT of a model = mean of its concepts' CRT, not the product of two means. Mean VR and VI over
    recognised images leave out concepts where nothing is recognised.
    """
    if vi_scope not in ("recognised", "all"):
        raise ValueError(f"vi_scope {vi_scope!r}: recognised or all")
    concepts: list[ConceptSummary] = []
    models: list[ModelSummary] = []
    for model in sorted(results.models):
        groups: dict[str, list[Record]] = {}
        for row in results.rows(model):
            groups.setdefault(row["concept"], []).append(row)
        own = [_concept(model, c, groups[c], results.tau["cra"], results.tau["vr"], vi_scope) for c in sorted(groups)]
        concepts += own
        models.append(_model(model, own))
    return models, concepts


def _concept(
    model: str, concept: str, rows: Sequence[Record], tau_cra: float, tau_vr: float, vi_scope: str
) -> ConceptSummary:
    ok = [r for r in rows if r["status"] == "ok"]
    has_cra = bool(ok) and all(r["cra_sim"] is not None for r in ok)
    has_vr = bool(ok) and all(r["p"] is not None for r in ok)
    recognised = (
        passes(np.array([r["cra_sim"] for r in ok], np.float32), tau_cra) if has_cra else np.zeros(len(ok), bool)
    )
    vr = visual_reuse(np.array([r["p"] for r in ok], np.float32), tau_vr) if has_vr else np.full(len(ok), np.nan)
    value = cra(np.array([r["cra_sim"] for r in ok], np.float32), tau_cra) if has_cra else float("nan")
    vr_recognised, vr_all = mean_or_nan(vr[recognised]), mean_or_nan(vr)
    vi = 1.0 - (vr_recognised if vi_scope == "recognised" else vr_all)
    return ConceptSummary(
        model,
        concept,
        len(ok),
        len(rows) - len(ok),
        int(recognised.sum()),
        value,
        vr_recognised,
        vr_all,
        1.0 - vr_recognised,
        1.0 - vr_all,
        crt(value, vi) if has_vr else float("nan"),
    )


def _model(model: str, concepts: Sequence[ConceptSummary]) -> ModelSummary:
    def macro(name: str) -> float:
        return mean_or_nan([getattr(c, name) for c in concepts])

    recognised = sum(c.recognised for c in concepts)
    missing = []
    if np.isnan(macro("cra")):
        missing.append("cra_not_scored")
    elif recognised == 0:
        missing.append("none_recognised")
    if np.isnan(macro("vr_all")):
        missing.append("vr_not_scored")
    return ModelSummary(
        model,
        sum(c.images for c in concepts),
        sum(c.skipped for c in concepts),
        sum(c.images > 0 for c in concepts),
        recognised,
        macro("cra"),
        macro("vr_recognised"),
        macro("vr_all"),
        macro("vi_recognised"),
        macro("vi_all"),
        sum(not np.isnan(c.vi_recognised) for c in concepts),
        macro("crt"),
        ",".join(missing),
    )


def flat_json(models: Sequence[ModelSummary], results: Results) -> dict[str, Any]:
    """``<model>/<measure>`` -> number, with the thresholds; undefined values are null."""
    out: dict[str, Any] = {"mode": results.mode, "tau_cra": results.tau["cra"], "tau_vr": results.tau["vr"]}
    out["index_id"] = results.settings["index_id"]
    for m in models:
        for name, value in vars(m).items():
            if name != "model":
                out[f"{m.model}/{name}"] = None if isinstance(value, float) and np.isnan(value) else value
    return out
