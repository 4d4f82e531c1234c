"""Score folders of generated images against an index; rows that are known are not computed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from iconicity.indexer.build import Progress, Skipped
from iconicity.indexer.embed import DEFAULT_BATCH
from iconicity.indexer.encoder_offline import WARNING as OFFLINE_WARNING
from iconicity.indexer.encoders import EncoderChoice, Encoders, FloatArray, reproduce
from iconicity.indexer.errors import InputError
from iconicity.indexer.images import concept_name, discover
from iconicity.indexer.index import Index, open_index
from iconicity.indexer.manifest import versions
from iconicity.indexer.store import Reference
from iconicity.scorer.cache import VectorCache
from iconicity.scorer.generated import Embedded, GeneratedEmbedder, GeneratedImage
from iconicity.scorer.metrics import DEFAULT_TAU_CRA, DEFAULT_TAU_VR, best_similarity
from iconicity.scorer.results import (
    SCHEMA,
    Record,
    ReferenceFacts,
    Results,
    open_results,
    require_same_settings,
    write_csv,
    write_meta,
    write_scores,
)

METRICS = ("cra", "vr")


@dataclass
class ScoreReport:
    """What a scoring run did, and the files it wrote."""

    embedded: int = 0  # images that went through a forward pass
    scored: int = 0  # rows of the models asked for that have scores
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    tau: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Concept:
    """A concept's references as the mode sees them: static keeps the first alone."""

    ref_ids: Sequence[str]
    clip: FloatArray  # (J, D)
    patches: FloatArray  # (J, K, D')
    before: int
    dropped: int


def score(
    index: Index | Path | str,
    generated: Mapping[str, Path],
    out: Path,
    *,
    metrics: Sequence[str] = METRICS,
    mode: str = "dynamic",
    tau_cra: float | None = None,
    tau_vr: float | None = None,
    k_gen: int = 50,
    concepts: Iterable[str] | None = None,
    update: bool = False,
    cache: VectorCache | None = None,
    rehash: bool = False,
    load: Callable[[], Encoders] | None = None,
    batch_size: int = DEFAULT_BATCH,
    out_csv: Path | None = None,
    out_meta: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ScoreReport:
    """Score ``generated`` (model name -> folder of concept folders) and write a results directory.

    ``mode`` dynamic takes each concept's kept references, static the first by name. Thresholds left None are
    those the directory already has, else the paper's. The first ``k_gen`` images of a concept count, by file
    name. ``update`` scores every row of ``out`` again when the index has changed. Raises
    :class:`SettingsError` when ``out`` or the index was made with other settings, :class:`InputError` when
    a folder holds nothing to score.
    """
    idx = index if isinstance(index, Index) else open_index(index)
    clip_spec, dino_spec = idx.specs
    settings: dict[str, Any] = {
        "mode": mode, "scope": "concept", "search": "exact", "index_id": idx.index_id, "clip": clip_spec.fingerprint,
        "dino": dino_spec.fingerprint, "grid": list(idx.grid), "pool": dino_spec.pool,
        "patch_mode": idx.settings["patch_mode"], "k_gen": k_gen,
    }  # fmt: skip
    held = open_results(out, mode)
    if held is not None:
        require_same_settings(held, settings, update)
    fresh_index = held is None or held.settings["index_id"] != idx.index_id
    tau = {
        "cra": _tau("--ic-tau", tau_cra, held, "cra", DEFAULT_TAU_CRA[mode]),
        "vr": _tau("--patch-tau", tau_vr, held, "vr", DEFAULT_TAU_VR),
    }
    report = ScoreReport(tau=tau)
    if dino_spec.family == "offline":
        report.notices.append(OFFLINE_WARNING)
    references = idx.references()
    work: dict[str, list[GeneratedImage]] = {}
    for model, folder in generated.items():
        work[model] = _list_images(model, folder, references, concepts, k_gen, report)
    if held is not None and fresh_index:
        for model in sorted(set(held.models) - set(work)):
            work[model] = [
                GeneratedImage(model, r["concept"], Path(r["gen_path"]), r["gen_relpath"]) for r in held.rows(model)
            ]
    if not any(work.values()):
        notices = "; ".join(report.notices[:3])
        raise InputError(f"no generated image belongs to a concept of {idx.path}" + (f": {notices}" if notices else ""))
    known = _load_concepts(idx, references, {i.concept for images in work.values() for i in images}, mode)
    embedder = GeneratedEmbedder(
        idx,
        load or (lambda: reproduce(clip_spec, dino_spec, EncoderChoice())),
        cache,
        rehash=rehash,
        batch_size=batch_size,
    )
    models: dict[str, pa.Table] = dict(held.models) if held else {}
    for model, images in work.items():
        old = {r["gen_relpath"]: r for r in held.rows(model)} if held else {}
        rows = _score_model(
            model, images, {} if fresh_index else old, _metrics_of(old, metrics), known, embedder, progress
        )
        models[model] = pa.Table.from_pylist(rows, SCHEMA)
        results = Results(out, mode, settings, tau, models)
        if not fresh_index or held is None:  # an update is written when it is whole: rows of two indexes never mix
            write_scores(results)
        if model in generated:
            report.scored += sum(r["status"] == "ok" for r in rows)
            report.skipped += [Skipped(r["gen_path"], r["concept"], r["reason"]) for r in rows if r["status"] != "ok"]
    results = Results(out, mode, settings, tau, models)
    write_scores(results)
    report.embedded = embedder.embedded
    if cache is not None and cache.damaged:
        report.notices.append(f"{cache.path}: {cache.damaged} damaged rows were computed again")
    _write_derived(results, idx, references, report, metrics, out_csv, out_meta)
    return report


def _tau(flag: str, given: float | None, held: Results | None, metric: str, default: float) -> float:
    tau = given if given is not None else float(held.tau[metric]) if held else default
    if not -1.0 <= tau <= 1.0:
        raise InputError(f"{flag} {tau}: a threshold on a cosine lies between -1 and 1")
    return tau


def _metrics_of(old: Mapping[str, Record], asked: Sequence[str]) -> set[str]:
    """What to score a model for: what is asked, and what its other rows already have, so that no column is half full."""
    have = {"cra"} if any(r["cra_sim"] is not None for r in old.values()) else set()
    if any(r["p"] is not None for r in old.values()):
        have.add("vr")
    return have | set(asked)


def _list_images(
    model: str,
    folder: Path,
    references: Mapping[str, Reference],
    concepts: Iterable[str] | None,
    k_gen: int,
    report: ScoreReport,
) -> list[GeneratedImage]:
    found = discover(folder)
    indexed = {r.concept for r in references.values()}
    wanted = found.concept_set() if concepts is None else set(concepts)
    if (
        found.folders
        and not (found.concept_set() & indexed)
        and (inner := _grandchild_match(found.folders[0].path, indexed))
    ):
        raise InputError(
            f"{folder}: no folder here is a concept of the index, but {inner} holds some; use --gen-root {folder}"
        )
    images: list[GeneratedImage] = []
    for f in found.folders:
        if f.concept not in wanted:
            continue
        if f.concept not in indexed:
            report.notices.append(
                f"{f.path}: the index has no references for '{f.concept}'; {len(f.files)} images not scored"
            )
        elif not f.files:
            report.notices.append(f"{f.path}: no images in this folder")
        else:
            images += [GeneratedImage(model, f.concept, p, f"{f.concept}/{p.name}") for p in f.files[:k_gen]]
    lacking = sorted((indexed if concepts is None else indexed & wanted) - found.concept_set())
    if lacking:
        report.notices.append(f"{model}: no images of {len(lacking)} indexed concepts, first '{lacking[0]}'")
    return images


def _grandchild_match(folder: Path, indexed: set[str]) -> Path | None:
    return folder if any(p.is_dir() and concept_name(p.name) in indexed for p in folder.iterdir()) else None


def _load_concepts(idx: Index, references: Mapping[str, Reference], wanted: set[str], mode: str) -> dict[str, _Concept]:
    block = idx.block(wanted)
    names = np.array([r.concept for r in block.references])
    before: dict[str, int] = {}
    dropped: dict[str, int] = {}
    for r in references.values():
        before[r.concept] = before.get(r.concept, 0) + 1
        dropped[r.concept] = dropped.get(r.concept, 0) + (not r.kept)
    out: dict[str, _Concept] = {}
    for concept in sorted(wanted):
        at = np.flatnonzero(names == concept)
        if not at.size:
            continue
        part = slice(int(at[0]), int(at[0]) + (1 if mode == "static" else at.size))  # sorted: a concept is contiguous
        ref_ids = [r.ref_id for r in block.references[part]]
        out[concept] = _Concept(ref_ids, block.clip[part], block.patches[part], before[concept], dropped[concept])
    return out


def _score_model(
    model: str,
    images: Sequence[GeneratedImage],
    old: Mapping[str, Record],
    metrics: set[str],
    known: Mapping[str, _Concept],
    embedder: GeneratedEmbedder,
    progress: Progress,
) -> list[Record]:
    """A model's rows, sorted by (concept, file)."""
    rows: dict[str, Record] = {}
    todo: list[Embedded] = []
    for image in images:
        found = embedder.identify(image)
        row = old.get(image.relpath)
        if row is not None and row["status"] == "ok" and row["gen_sha256"] == found.sha256:
            rows[image.relpath] = {**row, "gen_path": image.path.as_posix()}
            if _has(row, metrics):
                continue
        todo.append(found)
    done = len(images) - len(todo)
    if todo:
        have = [rows.get(e.image.relpath) for e in todo]
        clip = "cra" in metrics and any(r is None or r["cra_sim"] is None for r in have)
        patches = "vr" in metrics and any(r is None or r["p"] is None for r in have)
        for e in embedder.vectors(todo, clip, patches):
            rows[e.image.relpath] = _row(e, rows.get(e.image.relpath), known[e.image.concept])
            done += 1
            progress(f"score {model}", done, len(images))
    return [rows[k] for k in sorted(rows, key=lambda k: (rows[k]["concept"], k))]


def _has(row: Record, metrics: set[str]) -> bool:
    return ("cra" not in metrics or row["cra_sim"] is not None) and ("vr" not in metrics or row["p"] is not None)


def _row(e: Embedded, old: Record | None, concept: _Concept) -> Record:
    row: Record = dict(old) if old else dict.fromkeys(SCHEMA.names)
    row |= {
        "model": e.image.model, "concept": e.image.concept, "gen_path": e.image.path.as_posix(),
        "gen_relpath": e.image.relpath, "gen_sha256": e.sha256, "n_ref_before": concept.before,
        "n_ref_kept": concept.before - concept.dropped, "n_ref_dups_removed": concept.dropped,
        "status": "ok" if e.reason is None else "skipped", "reason": e.reason,
    }  # fmt: skip
    if e.clip is not None:
        similarity, best = best_similarity(e.clip[None], concept.clip)
        row |= {"cra_sim": float(similarity[0]), "cra_ref_id": concept.ref_ids[int(best[0])]}
    if e.patches is not None:
        j, k, dim = concept.patches.shape
        similarity, best = best_similarity(e.patches, concept.patches.reshape(j * k, dim))
        row["p"] = similarity.tolist()
        row["p_ref_id"] = [concept.ref_ids[b // k] for b in best.tolist()]
        row["p_ref_cell"] = [b % k for b in best.tolist()]
    return row


def _write_derived(
    results: Results,
    idx: Index,
    references: Mapping[str, Reference],
    report: ScoreReport,
    asked: Sequence[str],
    out_csv: Path | None,
    out_meta: Path | None,
) -> None:
    kept: dict[str, list[str]] = {}
    for r in references.values():
        if r.kept:
            kept.setdefault(r.concept, []).append(r.ref_id)
    facts = ReferenceFacts({r.ref_id: r.path for r in references.values()}, kept)
    table = results.table()
    replaced = _replaced_static(idx, kept)
    for metric in METRICS:
        column = table.column("cra_sim" if metric == "cra" else "p")
        if column.null_count == len(column) and metric not in asked:
            continue
        stem = results.path / f"results_{metric}_{results.mode}"
        renamed = tuple(asked) == (metric,)
        csv_path = out_csv if out_csv and renamed else stem.with_name(f"{stem.name}.csv")
        meta_path = out_meta if out_meta and renamed else stem.with_name(f"{stem.name}.meta.json")
        write_csv(csv_path, metric, results, facts)
        meta = {
            "metric": metric, "tau": results.tau[metric], "settings": dict(results.settings), "encoders": idx.settings,
            "index": {"path": str(idx.path), "counts": idx.manifest["counts"], "skipped": idx.manifest["skipped"]},
            "models": {m: len(t) for m, t in sorted(results.models.items())},
            "skipped": [{k: r[k] for k in ("model", "gen_path", "concept", "reason")} for m in sorted(results.models)
                        for r in results.rows(m) if r["status"] != "ok"],
            "notices": report.notices, "static_reference_replaced": replaced, "versions": versions(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        write_meta(meta_path, meta)
        report.files += [csv_path, meta_path]
    report.files.insert(0, results.path / f"scores_{results.mode}.parquet")


def _replaced_static(idx: Index, kept: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Concepts whose first file could not be used: that file, and the static reference taken instead."""
    out: dict[str, dict[str, str]] = {}
    for s in idx.manifest["skipped"]:
        first = kept.get(s["concept"], [None])[0]
        if first is not None and Path(s["path"]).name < first.split("/", 1)[1]:
            out.setdefault(s["concept"], {"unusable": s["path"], "reason": s["reason"], "static_reference": first})
    return out
