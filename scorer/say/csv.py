"""The CSV and meta files of a results directory, derived from its stored maxima: published columns first, then ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.null.thresholds import CSLS
from iconicity.indexer.store.files import replacing, write_atomically
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.manifest import digest
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.measures import CRA, CRA_CAL, MAX, MEAN, P90, SIMILARITY, STRICT, VI, VR, VR_CAL
from iconicity.scorer.measure.metrics import (
    own_margin,
    passes,
    patch_statistics,
    share_reaching,
    unresolved,
    visual_independence,
    visual_reuse,
)
from iconicity.scorer.results import Results

PUBLISHED_CRA: list[str] = [
    "mode",
    "model",
    "slug",
    "ref_image_path",
    "gen_image_path",
    SIMILARITY.key,
    str(CRA.image_key),
]
PUBLISHED_VR = ["mode", "model", "slug", "ref_image_path", "gen_image_path", "grid_rows", "grid_cols"]
PUBLISHED_VR += ["n_ref_patches", "n_gen_patches", MAX.key, MEAN.key, P90.key]
DYNAMIC = ["ref_images_kept", "n_ref_before", "n_ref_kept", "n_ref_dups_removed"]
OURS_CRA = ["best_ref_id", "best_ref_path"]
OURS_VR = ["best_ref_id", "best_ref_path", str(VR.image_key), str(VI.image_key)]
SCOPE_ALL = {
    "cra": ["other_sim", "other_ref_id", "own_rank"],
    "vr": ["vr_all", "vr_other", "own_margin", "unresolved"],
}
OURS = [
    "tau",
    "encoder",
    "area_seen",
    "pixel_notes",
    "gen_relpath",
    "gen_sha256",
    "seed",
    "prompt",
    "variant",
    "status",
    "reason",
]
_PLAIN = ["model", "concept", "gen_path", "gen_relpath", "gen_sha256", "seed", "prompt", "variant", "n_ref_before"]
_PLAIN += ["pixel_notes", "n_ref_kept", "n_ref_dups_removed", "status", "reason"]
_COLUMNS = {
    "cra": [*_PLAIN, "cra_area_seen", "cra_sim", "cra_ref_id", "other_sim", "other_ref_id", "own_rank"],
    "vr": [*_PLAIN, "area_seen", "p", "p_ref_id", "p_csls", "p_other", "p_other_upper"],
}


CALIBRATED = {"cra": [CRA_CAL.key, "tau_cal", "tau_source"], "vr": [VR_CAL.key, STRICT.key, "tau_cal", "tau_source"]}


def columns(metric: str, results: Results) -> list[str]:
    """Header of a metric's CSV file."""
    calibrated = CALIBRATED[metric] if results.thresholds else []
    dynamic = DYNAMIC if results.mode == "dynamic" else []
    scope = SCOPE_ALL[metric] if results.settings["scope"] == "all" else []
    published, ours = (PUBLISHED_CRA, OURS_CRA) if metric == "cra" else (PUBLISHED_VR, OURS_VR)
    return [*published, *dynamic, *ours, *scope, *calibrated, *OURS]


@dataclass(frozen=True)
class _Concept:
    """Of a concept's references: the paths by ref_id, the first kept path, and all kept ones joined."""

    paths: Mapping[str, str]
    first: str
    kept: str
    n_kept: int


class ReferencePaths:
    """Paths of references, read for the concepts at hand."""

    _MOST = 4096  # concepts in memory

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[str, _Concept] = {}

    def of(self, concepts: Iterable[str]) -> Mapping[str, _Concept]:
        """Facts of some concepts."""
        new = sorted(set(concepts) - self._known.keys())
        if len(self._known) + len(new) > self._MOST:
            self._known, new = {}, sorted(set(concepts))
        by_concept: dict[str, list[Any]] = {c: [] for c in new}
        for r in (self._index.references(new) if new else {}).values():
            by_concept[r.concept].append(r)
        for concept, references in by_concept.items():
            kept = [r.path for r in references if r.kept]
            paths = {r.ref_id: r.path for r in references}
            self._known[concept] = _Concept(paths, kept[0] if kept else "", ";".join(kept), len(kept))
        return self._known


def write_csv(path: Path, metric: str, results: Results, references: ReferencePaths) -> None:
    """Write a metric's CSV file: passing, failing and skipped rows of the models scored for it."""
    header = columns(metric, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as tmp, tmp.open("w", newline="", encoding="utf-8") as f:
        f.write(csv_line(header))
        for model in results.models:
            if not is_scored(results, model, metric):
                continue
            for batch in results.batches(model, _COLUMNS[metric]):
                derived = derive(metric, batch, results, references)
                f.writelines(map(csv_line, zip(*(derived[name] for name in header), strict=True)))


def is_scored(results: Results, model: str, metric: str) -> bool:
    """Whether any row of a model has a value of a metric: of its own concept, or under scope all of the others."""
    names = ["cra_sim", "other_sim"] if metric == "cra" else ["p", "p_other"]
    return any(c.null_count < len(c) for batch in results.batches(model, names) for c in batch.columns)


def derive(
    metric: str, batch: pa.Table, results: Results, references: ReferencePaths
) -> dict[str, Sequence[Any] | npt.NDArray[Any]]:
    """A batch's CSV columns by name; cells that have no value are None."""
    n = batch.num_rows
    rows, cols = results.settings["grid"]
    concepts = batch.column("concept").to_pylist()
    facts = references.of(concepts)
    own = [facts[c] for c in concepts]
    plain = {name: batch.column(name).to_pylist() for name in _PLAIN}
    per_image, per_reference = results.cells, results.reference_cells
    label = results.settings["encoders"]["clip" if metric == "cra" else "dino"]
    out: dict[str, Sequence[Any] | npt.NDArray[Any]] = {
        **plain, "mode": [results.mode] * n, "slug": concepts, "gen_image_path": plain["gen_path"],
        "ref_image_path": [f.first for f in own], "ref_images_kept": [f.kept for f in own],
        "grid_rows": [rows] * n, "grid_cols": [cols] * n, "n_gen_patches": [per_image] * n,
        "n_ref_patches": [per_reference * (f.n_kept if results.mode == "dynamic" else min(1, f.n_kept)) for f in own],
        "tau": [results.tau[metric]] * n, "encoder": [label] * n,
    }  # fmt: skip
    out["area_seen"] = batch.column("cra_area_seen" if metric == "cra" else "area_seen").to_pylist()
    out |= _cra(batch, results) if metric == "cra" else _vr(batch, results)
    out |= _calibrated(metric, batch, results)
    best = out["best_ref_id"]
    out["best_ref_path"] = [f.paths.get(b, "") if b else None for f, b in zip(own, best, strict=True)]
    return out


def _calibrated(metric: str, batch: pa.Table, results: Results) -> dict[str, Sequence[Any]]:
    """Decisions at the threshold of the row's number of references; None where there is no threshold."""
    if results.thresholds is None:
        return {}
    kept = batch.column("n_ref_kept").fill_null(0).to_numpy()
    references = kept if results.mode == "dynamic" else np.minimum(kept, 1)
    tau = results.thresholds.each(metric, references)
    out: dict[str, Sequence[Any]] = {
        "tau_cal": _cells(tau, ~np.isnan(tau)), "tau_source": results.thresholds.sources(metric, references),
    }  # fmt: skip
    if metric == "cra":
        similarity = batch.column("cra_sim").to_numpy().astype(np.float32)
        return out | {CRA_CAL.key: _cells(passes(similarity, tau), ~np.isnan(similarity) & ~np.isnan(tau))}
    p, has = patch_matrix(batch, "p")
    csls, has_csls = patch_matrix(batch, "p_csls")
    strict = results.thresholds.each(CSLS, references)
    return out | {
        VR_CAL.key: _cells(visual_reuse(p, tau), has & ~np.isnan(tau)),
        STRICT.key: _cells(
            share_reaching((p, tau), (csls, strict)), has & has_csls & ~np.isnan(tau) & ~np.isnan(strict)
        ),
    }


def _cra(batch: pa.Table, results: Results) -> dict[str, Sequence[Any]]:
    tau = results.tau["cra"]
    assert tau is not None
    similarity = batch.column("cra_sim").to_pylist()
    passed = passes(np.array([np.nan if s is None else s for s in similarity], np.float32), tau).tolist()
    return {
        SIMILARITY.key: similarity,
        str(CRA.image_key): [None if s is None else p for s, p in zip(similarity, passed, strict=True)],
        "best_ref_id": batch.column("cra_ref_id").to_pylist(),
        **{name: batch.column(name).to_pylist() for name in SCOPE_ALL["cra"]},
    }


def _vr(batch: pa.Table, results: Results) -> dict[str, Sequence[Any]]:
    tau = results.tau["vr"]
    assert tau is not None
    p, has = patch_matrix(batch, "p")
    other, has_other = patch_matrix(batch, "p_other")
    has_other &= ~np.isnan(other).any(axis=1)  # nan: there is no other concept
    top, mean, p90 = patch_statistics(p)
    reuse = visual_reuse(p, tau)
    best: list[str | None] = []
    for ids, i, ok in zip(batch.column("p_ref_id").to_pylist(), _argmax(p), has, strict=True):
        best.append(ids[i] if ok else None)
    # a concept without references (scope all) has no own maxima: every match is another's
    both = np.fmax(p, other)
    upper, _ = patch_matrix(batch, "p_other_upper")
    return {
        MAX.key: _cells(top, has), MEAN.key: _cells(mean, has), P90.key: _cells(p90, has),
        str(VR.image_key): _cells(reuse, has), str(VI.image_key): _cells(visual_independence(p, tau), has),
        "best_ref_id": best,
        "vr_all": _cells(visual_reuse(both, tau), has_other), "vr_other": _cells(visual_reuse(other, tau), has_other),
        "own_margin": _cells(own_margin(p, other), has & has_other),
        "unresolved": _cells(unresolved(both, upper, tau).sum(axis=-1), has_other),
    }  # fmt: skip


def _argmax(p: npt.NDArray[np.float32]) -> list[int]:
    best: list[int] = np.where(np.isnan(p), -2.0, p).argmax(axis=1).tolist()
    return best


def _cells(values: npt.NDArray[Any], has: npt.NDArray[np.bool_]) -> list[Any]:
    return [v if ok else None for v, ok in zip(values.tolist(), has.tolist(), strict=True)]


def skipped_rows(results: Results) -> Iterator[dict[str, str]]:
    """Model, path, concept and reason of each image that could not be used."""
    names = ["model", "gen_path", "concept", "status", "reason"]
    for batch in results.batches(columns=names):
        bad = batch.filter(pc.not_equal(batch.column("status"), "ok"))
        yield from bad.drop_columns(["status"]).to_pylist()


def write_meta(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts with a digest of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    signed = {**facts, "digest": digest(facts)}
    write_atomically(path, json.dumps(signed, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
