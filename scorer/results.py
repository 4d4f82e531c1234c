"""A results directory: one parquet file of raw maxima, one row a generated image; everything else derives from it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.errors import IconicityError, InputError, SettingsError
from iconicity.indexer.manifest import write_atomically
from iconicity.indexer.store import fsync
from iconicity.scorer.metrics import passes, patch_statistics, visual_independence, visual_reuse

FORMAT = 1
_META = b"iconicity"
Record = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("concept", pa.string()),
        ("gen_path", pa.string()),
        ("gen_relpath", pa.string()),
        ("gen_sha256", pa.string()),
        ("seed", pa.int64()),
        ("prompt", pa.string()),
        ("variant", pa.string()),
        ("cra_sim", pa.float32()),
        ("cra_ref_id", pa.string()),
        ("p", pa.list_(pa.float32())),
        ("p_ref_id", pa.list_(pa.string())),
        ("p_ref_cell", pa.list_(pa.int16())),
        ("n_ref_before", pa.int32()),
        ("n_ref_kept", pa.int32()),
        ("n_ref_dups_removed", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)

PUBLISHED_CRA = ["mode", "model", "slug", "ref_image_path", "gen_image_path", "cra_sim", "cra_pass"]
PUBLISHED_VR = ["mode", "model", "slug", "ref_image_path", "gen_image_path", "grid_rows", "grid_cols"]
PUBLISHED_VR += ["n_ref_patches", "n_gen_patches", "vr_max", "vr_mean", "vr_p90"]
DYNAMIC = ["ref_images_kept", "n_ref_before", "n_ref_kept", "n_ref_dups_removed"]
OURS_CRA = ["best_ref_id", "best_ref_path", "tau", "gen_relpath", "gen_sha256", "status", "reason"]
OURS_VR = ["best_ref_id", "best_ref_path", "vr", "vi", "tau", "gen_relpath", "gen_sha256", "status", "reason"]


@dataclass(frozen=True)
class Results:
    """A results directory's rows, settings (fixed) and thresholds (changeable at no cost)."""

    path: Path
    mode: str
    settings: Mapping[str, Any]
    tau: Mapping[str, float]
    models: Mapping[str, pa.Table] = field(default_factory=dict)

    def rows(self, model: str) -> list[Record]:
        """A model's rows, sorted by (concept, file)."""
        return list(self.models[model].to_pylist()) if model in self.models else []

    def table(self) -> pa.Table:
        """Every row, sorted by (model, concept, file)."""
        tables = [self.models[m] for m in sorted(self.models)]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def scores_path(directory: Path, mode: str) -> Path:
    return directory / f"scores_{mode}.parquet"


def open_results(directory: Path | str, mode: str | None = None) -> Results | None:
    """Read a results directory; None when it holds no results yet.

    Raises :class:`SettingsError` when ``mode`` is not the directory's own, :class:`IconicityError` when the
    file cannot be read.
    """
    directory = Path(directory)
    found = [m for m in ("dynamic", "static") if scores_path(directory, m).is_file()]
    if not found:
        return None
    if mode is not None and mode not in found:
        raise SettingsError(
            f"{directory}: holds results of mode={found[0]}, asked for {mode}; name a new folder with --out"
        )
    path = scores_path(directory, mode or found[0])
    try:
        with pq.ParquetFile(path) as f:
            head = json.loads(f.schema_arrow.metadata[_META])
            if head["format"] != FORMAT:
                raise IconicityError(
                    f"{path}: results format {head['format']}, this version reads {FORMAT}; score again into a new folder"
                )
            models: dict[str, pa.Table] = {}
            for i in range(f.num_row_groups):
                group = f.read_row_group(i).cast(SCHEMA)
                for name in group.column("model").unique().to_pylist():
                    part = group.filter(pa.compute.equal(group.column("model"), name))
                    models[name] = pa.concat_tables([models[name], part]) if name in models else part
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as e:
        raise IconicityError(
            f"{path}: cannot be read as results ({str(e).splitlines()[0][:160]}); delete it and score again"
        ) from e
    return Results(directory, mode or found[0], head["settings"], head["tau"], models)


def require_same_settings(held: Results, asked: Mapping[str, Any], update: bool) -> None:
    """Raises :class:`SettingsError` naming the first setting that differs. ``update`` lets the index differ."""
    for key, value in sorted(
        asked.items(), key=lambda kv: kv[0] == "index_id"
    ):  # what --update cannot mend comes first
        old = held.settings.get(key)
        if old == value or (key == "index_id" and update):
            continue
        if key == "index_id":
            raise SettingsError(
                f"{held.path}: scored against index {str(old)[:12]}, this one is {value[:12]}; add --update to score every row again"
            )
        raise SettingsError(
            f"{held.path}: holds results with {key}={old}, asked for {value}; name a new folder with --out"
        )


def write_scores(results: Results) -> None:
    """Write the parquet file, one row group a model, atomically."""
    results.path.mkdir(parents=True, exist_ok=True)
    head = {"format": FORMAT, "settings": dict(results.settings), "tau": dict(results.tau)}
    schema = SCHEMA.with_metadata({_META: json.dumps(head, sort_keys=True).encode()})
    path = scores_path(results.path, results.mode)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with pq.ParquetWriter(tmp, schema, compression="zstd") as writer:
        for model in sorted(results.models):
            writer.write_table(results.models[model].cast(schema), row_group_size=1 << 20)
    fsync(tmp)
    tmp.replace(path)
    fsync(path.parent)


@dataclass(frozen=True)
class ReferenceFacts:
    """What the CSV files say of a concept's references: path of each by ref_id, and the kept ones in order."""

    paths: Mapping[str, str]
    kept: Mapping[str, Sequence[str]]  # concept -> ref_ids of kept references, first by name first


def write_csv(path: Path, metric: str, results: Results, references: ReferenceFacts) -> None:
    """Write ``results_<metric>_<mode>.csv``: published columns, then ours; passing, failing and skipped rows."""
    dynamic = DYNAMIC if results.mode == "dynamic" else []
    columns = [*PUBLISHED_CRA, *dynamic, *OURS_CRA] if metric == "cra" else [*PUBLISHED_VR, *dynamic, *OURS_VR]
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with tmp.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in derived_rows(metric, results, references):
            writer.writerow(row)
    fsync(tmp)
    tmp.replace(path)


def derived_rows(metric: str, results: Results, references: ReferenceFacts) -> Iterator[Record]:
    """CSV rows of a metric, computed from the stored maxima. Rows the metric was not scored for are left out."""
    rows, cols = results.settings["grid"]
    tau = float(results.tau[metric])
    for model in sorted(results.models):
        records = results.rows(model)
        if not any(r["cra_sim" if metric == "cra" else "p"] is not None for r in records):
            continue
        for r in records:
            kept = list(references.kept.get(r["concept"], ()))
            out: Record = {
                "mode": results.mode, "model": model, "slug": r["concept"], "gen_image_path": r["gen_path"],
                "ref_image_path": references.paths.get(kept[0], "") if kept else "",
                "ref_images_kept": ";".join(references.paths[k] for k in kept),
                "grid_rows": rows, "grid_cols": cols, "n_gen_patches": rows * cols,
                "n_ref_patches": rows * cols * (len(kept) if results.mode == "dynamic" else 1),
                "tau": tau, **{k: r[k] for k in (*DYNAMIC[1:], "gen_relpath", "gen_sha256", "status", "reason")},
            }  # fmt: skip
            if metric == "cra" and r["cra_sim"] is not None:
                best = r["cra_ref_id"]
                out |= {"cra_sim": r["cra_sim"], "cra_pass": bool(passes(r["cra_sim"], tau)), "best_ref_id": best}
                out["best_ref_path"] = references.paths.get(best, "")
            elif metric == "vr" and r["p"] is not None:
                p = np.asarray(r["p"], np.float32)
                top, mean, p90 = patch_statistics(p)
                best = r["p_ref_id"][int(p.argmax())]
                out |= {"vr_max": float(top), "vr_mean": float(mean), "vr_p90": float(p90), "best_ref_id": best}
                out |= {"vr": float(visual_reuse(p, tau)), "vi": float(visual_independence(p, tau))}
                out["best_ref_path"] = references.paths.get(best, "")
            yield out


def write_meta(path: Path, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def require_results(directory: Path | str) -> Results:
    """Results that must be there. Raises :class:`InputError`."""
    results = open_results(directory)
    if results is None:
        raise InputError(
            f"{directory}: holds no scores_*.parquet; make results with 'iconicity score --out {directory}'"
        )
    return results
