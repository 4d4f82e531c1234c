"""The derived files of a results directory: which there are, and what their meta files say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from iconicity.indexer.left_out import left_out_lines, stored_left_out
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.manifest import versions
from iconicity.scorer.caveats import caveats
from iconicity.scorer.options import METRICS
from iconicity.scorer.results import Results, meta_of
from iconicity.scorer.say.csv import ReferencePaths, is_scored, skipped_rows, write_csv, write_meta


def write_derived(
    results: Results,
    idx: Index,
    notices: Sequence[str],
    asked: Sequence[str],
    out_csv: Path | None,
    out_meta: Path | None,
) -> list[Path]:
    """Write the CSV and meta files of the metrics ``asked`` for or scored. Returns all files of the results."""
    files = [results.scores]
    paths = ReferencePaths(idx)
    replaced = _replaced_static(idx)
    said = caveats(results)
    rows_of = {m: sum(b.num_rows for b in results.batches(m, ["status"])) for m in results.models}
    for metric in METRICS:
        if results.tau[metric] is None or not (
            metric in asked or any(is_scored(results, m, metric) for m in results.models)
        ):
            continue
        stem = results.path / f"results_{metric}_{results.mode}"
        renamed = tuple(asked) == (metric,)
        csv_path = out_csv if out_csv and renamed else stem.with_name(f"{stem.name}.csv")
        meta_path = out_meta if out_meta and renamed else stem.with_name(f"{stem.name}.meta.json")
        write_csv(csv_path, metric, results, paths)
        meta = {
            "csv": {"path": csv_path.name if csv_path.parent == results.path else str(csv_path.absolute()), "sha256": file_sha256(csv_path)},
            "metric": metric, "tau": results.tau[metric], "thresholds": None if results.thresholds is None else results.thresholds.to_dict(),
            "notes": list(results.notes), "settings": dict(results.settings), "encoders": idx.settings,
            "index": {"path": str(idx.path), "counts": idx.manifest["counts"], "skipped": idx.manifest["skipped"]},
            "models": rows_of, "skipped": list(skipped_rows(results)),
            "notices": [*notices, *said, *left_out_lines(results.left_out)], "left_out": stored_left_out(results.left_out),
            "static_reference_replaced": replaced, "versions": versions(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        write_meta(meta_path, meta)
        files += [csv_path, meta_path]
    return files


def earlier_notices(results: Results) -> list[str]:
    """What scoring had to say, as far as a meta file is what was written, beside what was left out."""
    said = meta_of(results).get("notices")
    known = {*left_out_lines(results.left_out), *caveats(results)}
    return [n for n in said if isinstance(n, str) and n not in known] if isinstance(said, list) else []


def _replaced_static(idx: Index) -> dict[str, dict[str, str]]:
    """Concepts whose first file could not be used: that file, and the static reference taken instead."""
    out: dict[str, dict[str, str]] = {}
    skipped = idx.manifest["skipped"]
    for r in idx.references({s["concept"] for s in skipped}).values() if skipped else ():
        for s in skipped:
            earlier = s["concept"] == r.concept and Path(s["path"]).name < r.ref_id.split("/", 1)[1]
            if r.kept and earlier and r.concept not in out:
                out[r.concept] = {"unusable": s["path"], "reason": s["reason"], "static_reference": r.ref_id}
    return out
