"""What the pages show, as plain values: an overview, and one part for each concept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from iconicity.indexer.index import Index
from iconicity.indexer.store import Reference
from iconicity.scorer.findings.finding import Finding
from iconicity.scorer.findings.specific import image_null
from iconicity.scorer.findings.study import Study, image_values
from iconicity.scorer.findings.sweep import grid, model_grids
from iconicity.scorer.metrics import GENERIC_SHARE, passes

COLUMNS = (
    "gen_path",
    "prompt",
    "seed",
    "cra_ref_id",
    "p_ref_id",
    "p_ref_cell",
    "other_sim",
    "other_ref_id",
    "own_rank",
    "reason",
)
_MEASURES = ("cra", "vr_recognised", "vr_all", "vi_recognised", "vi_all", "crt")


def overview(study: Study, summary: Finding, index: Index) -> dict[str, Any]:
    """Models with intervals, a point for each concept and model, tables of sweeps, and what the numbers rest on."""
    taus = grid()
    sweeps = {
        label: {"cra": _numbers(mean.cra), "vr_all": _numbers(mean.vr_all), "crt": [_numbers(row) for row in mean.crt]}
        for label, mean in ((m, g.macro()) for m, g in model_grids(study, taus, taus, summary.facts["vi_scope"]))
    }
    models = summary.table("models")
    points = summary.table("concepts")
    rows, cols = index.grid
    return {
        "models": [
            {"name": r["model"], "images": r["images"], "concepts": r["concepts"], "recognised": r["recognised"],
             **{m: _numbers([r[m], r[f"{m}_low"], r[f"{m}_high"], r[f"{m}_n"]]) for m in _MEASURES}}
            for r in models.to_dict("records")
        ],
        "concepts": list(study.concepts),
        "points": [
            [study.models.index(r["model"]), study.concepts.index(r["concept"]), r["images"], r["recognised"],
             *_numbers([r["cra"], r["vr_all"], r["vi_recognised"], r["vi_all"], r["crt"]])]
            for r in points.to_dict("records")
        ],
        "sweeps": sweeps, "step": 0.01, "tau": dict(study.tau), "grid": [rows, cols],
        "vi_scope": summary.facts["vi_scope"], "notes": list(summary.notes),
        "facts": {
            "mode": study.mode, "scope": summary.facts["scope"], "index": study.settings["index_id"],
            "encoders": "; ".join(dict.fromkeys(study.settings["encoders"].values())),
            "weights": "; ".join(spec.weights_sha256[:16] for spec in index.specs),
            "images": int(study.ok.sum()), "skipped": int((~study.ok).sum()),
            "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        },
    }  # fmt: skip


def needed_references(study: Study, index: Index) -> dict[str, Reference]:
    """References of the study's concepts, and of the best other concept of each image, by ref_id."""
    others = (i.split("/", 1)[0] for i in study.table.column("other_ref_id").to_pylist() if i)
    return index.references({*study.concepts, *others})


def concept_parts(
    study: Study,
    references: Mapping[str, Reference],
    titles: Mapping[str, Mapping[str, str]],
    failed: Mapping[str, str],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of each concept (by place) its references and images.

    ``references``: those of :func:`needed_references`. ``failed``: SHA-256 -> why there is no thumbnail.
    """
    recognised, has_cra, vr, _ = image_values(study, study.tau["cra"], study.tau["vr"])
    null = image_null(study)
    tau = study.tau["vr"]
    by_concept: dict[str, list[Reference]] = {}
    for r in references.values():
        by_concept.setdefault(r.concept, []).append(r)
    for c, concept in enumerate(study.concepts):
        mine = np.flatnonzero(study.concept == c)
        table = study.table.take(mine).to_pylist()
        own = by_concept.get(concept, [])
        place = {r.ref_id: i for i, r in enumerate(own)}
        images = []
        for row, i in zip(table, mine, strict=True):
            scored = row["p"] is not None
            generic = (
                (null.p_reached[i] > GENERIC_SHARE).tolist() if null is not None and scored and null.draws[i] else None
            )
            images.append(
                {
                    "model": int(study.model[i]), "file": row["gen_relpath"], "prompt": row["prompt"], "seed": row["seed"],
                    "thumb": _thumb(row["gen_sha256"], failed), "problem": row["reason"] or failed.get(row["gen_sha256"] or ""),
                    "ok": bool(study.ok[i]), "recognised": bool(recognised[i]) if has_cra[i] else None,
                    "similarity": _number(study.similarity[i]), "vr": _number(vr[i]),
                    "match": place.get(row["cra_ref_id"]), "p": _numbers(row["p"]) if scored else None,
                    "ref": [place.get(r) for r in row["p_ref_id"]] if scored else None, "cell": row["p_ref_cell"] if scored else None,
                    "reused": passes(row["p"], tau).tolist() if scored and tau is not None else None,
                    "generic": generic, "other": _other(row, references, failed),
                }
            )  # fmt: skip
        yield c, {
            "concept": concept, **titles.get(concept, {}),
            "references": [
                {"file": r.ref_id.split("/", 1)[1], "kept": r.kept, "dup_of": place.get(r.dup_of or ""),
                 "distance": r.dup_distance, "thumb": _thumb(r.sha256, failed), "problem": failed.get(r.sha256)}
                for r in own
            ],
            "images": images,
        }  # fmt: skip


def _other(
    row: Mapping[str, Any], references: Mapping[str, Reference], failed: Mapping[str, str]
) -> dict[str, Any] | None:
    """Best other concept of an image, where scope all compared it."""
    found = references.get(row["other_ref_id"] or "")
    if found is None:
        return None
    return {
        "concept": found.concept, "file": found.ref_id.split("/", 1)[1], "similarity": _number(row["other_sim"]),
        "thumb": _thumb(found.sha256, failed), "first": row["own_rank"] != 1,
    }  # fmt: skip


def _thumb(sha256: str | None, failed: Mapping[str, str]) -> str | None:
    return sha256 if sha256 and sha256 not in failed else None


def _number(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 6)


def _numbers(values: Any) -> list[float | None]:
    return [_number(v) for v in values]
