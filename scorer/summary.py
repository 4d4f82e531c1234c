"""Per concept and per model: CRA, VR, VI and CRT from stored maxima. Nothing is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iconicity.scorer.metrics import Bools, Float32, Float64, cra, crt, mean_or_nan, passes, visual_reuse
from iconicity.scorer.results import Results
from iconicity.scorer.tables import patch_matrix


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
    best_cra_sim: float


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
    best_cra_sim: float  # highest of all images
    undefined: str  # why a value is nan; empty when none is


def summarise(results: Results, vi_scope: str = "recognised") -> tuple[list[ModelSummary], list[ConceptSummary]]:
    """Macro summaries at the results' own thresholds, models by name.

    CRT of a concept = CRA x mean VI over its recognised images (``vi_scope`` recognised) or over all of them
    (all); CRT of a model = mean of its concepts' CRT, not the product of two means. Mean VR and VI over
    recognised images leave out concepts where nothing is recognised.
    """
    if vi_scope not in ("recognised", "all"):
        raise ValueError(f"vi_scope {vi_scope!r}: recognised or all")
    tau_cra = results.tau["cra"]
    assert tau_cra is not None  # every mode has a default
    concepts: list[ConceptSummary] = []
    models: list[ModelSummary] = []
    for model in results.models:
        groups = sorted(_images(results, model).items())
        own = [_concept(model, c, images, tau_cra, vi_scope) for c, images in groups]
        concepts += own
        models.append(_model(model, own))
    return models, concepts


@dataclass(frozen=True)
class _Images:
    """A concept's images as arrays: whether usable, CRA similarity and VR (nan where not scored)."""

    ok: Bools
    similarity: Float32
    vr: Float64


def _images(results: Results, model: str) -> dict[str, _Images]:
    parts: dict[str, list[_Images]] = {}
    for batch in results.batches(model, ["concept", "status", "cra_sim", "p"]):
        names = np.array(batch.column("concept").to_pylist())
        ok = np.array(batch.column("status").to_pylist()) == "ok"
        similarity = np.array([np.nan if v is None else v for v in batch.column("cra_sim").to_pylist()], np.float32)
        p, has = patch_matrix(batch, "p")
        tau = results.tau["vr"]
        vr = np.full(len(has), np.nan) if tau is None else np.where(has, visual_reuse(p, tau), np.nan)
        for concept in sorted(set(names)):
            at = names == concept
            parts.setdefault(concept, []).append(_Images(ok[at], similarity[at], vr[at]))
    return {
        concept: _Images(*(np.concatenate([getattr(i, f) for i in images]) for f in _Images.__dataclass_fields__))
        for concept, images in parts.items()
    }


def _concept(model: str, concept: str, images: _Images, tau_cra: float, vi_scope: str) -> ConceptSummary:
    ok = images.ok
    similarity, vr = images.similarity[ok], images.vr[ok]
    has_cra = bool(ok.any() and not np.isnan(similarity).any())
    has_vr = bool(ok.any() and not np.isnan(vr).any())
    recognised = passes(similarity, tau_cra) & has_cra
    value = cra(similarity, tau_cra) if has_cra else float("nan")
    vr_recognised, vr_all = mean_or_nan(vr[recognised]), mean_or_nan(vr)
    vi = 1.0 - (vr_recognised if vi_scope == "recognised" else vr_all)
    return ConceptSummary(
        model,
        concept,
        int(ok.sum()),
        int((~ok).sum()),
        int(recognised.sum()),
        value,
        vr_recognised,
        vr_all,
        1.0 - vr_recognised,
        1.0 - vr_all,
        crt(value, vi) if has_vr else float("nan"),
        float(np.nanmax(images.similarity, initial=-np.inf)) if not np.isnan(images.similarity).all() else float("nan"),
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
        max((c.best_cra_sim for c in concepts if not np.isnan(c.best_cra_sim)), default=float("nan")),
        ",".join(missing),
    )


def flat_json(models: Sequence[ModelSummary], results: Results) -> dict[str, Any]:
    """``<model>/<measure>`` -> number, with the thresholds; undefined values are null."""
    out: dict[str, Any] = {"mode": results.mode, "tau_cra": results.tau["cra"], "tau_vr": results.tau["vr"]}
    out |= {"index_id": results.settings["index_id"], "scope": results.settings["scope"]}
    out |= {f"encoder_{name}": label for name, label in results.settings["encoders"].items()}
    for m in models:
        for name, value in vars(m).items():
            if name != "model":
                out[f"{m.model}/{name}"] = None if isinstance(value, float) and np.isnan(value) else value
    return out
