"""Score a results directory's images once more, from the files it names, and say what comes out otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import SettingsError
from iconicity.indexer.options import Run
from iconicity.indexer.places import named
from iconicity.indexer.sources.folders import EMPTY
from iconicity.indexer.sources.image import Image
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.manifest import versions
from iconicity.scorer.choose import Chosen
from iconicity.scorer.left_out import left_out_of
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.metrics import passes
from iconicity.scorer.moved import UNMOVED, Moved
from iconicity.scorer.options import METRICS, ScoreOptions
from iconicity.scorer.results import Record, Results, meta_of, require_results
from iconicity.scorer.say.csv import is_scored
from iconicity.scorer.scoring import score

VERDICTS = ("same", "within", "differ", "changed", "gone")
TOLERANCE = 1e-6  # README: no result moves by more between machines and library versions
_SIMILARITIES = ("cra_sim", "p", "other_sim", "p_other")
_FACTS = ("status", "reason", "n_ref_before", "n_ref_kept", "n_ref_dups_removed", "own_rank")


def reproduce_results(
    results: Results,
    index: Index,
    *,
    moved: Moved = UNMOVED,
    run: Run = Run(),
) -> Finding:
    """Read, embed and match every image of ``results`` again, without the cache, and compare row by row.

    Tables ``models`` (rows that are bit for bit the same, that are within :data:`TOLERANCE`, that differ, whose file has
    other bytes now, and whose file is gone) and ``differences`` (what differs). ``moved`` says where files lie now. Raises :class:`SettingsError` for another index than
    the one the results were scored against.
    """
    mine = str(results.settings["index_id"])
    if index.index_id != mine:
        raise SettingsError(
            f"{results.path}: scored against index {mine[:12]}, {index.path} is {index.index_id[:12]}; name that one with `index`"
        )
    moved.require_models(results.models)
    tables = []
    differences: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in results.models:
            held = {row["gen_relpath"]: row for row in results.rows(model)}
            paths = moved.images(model, index, {relpath: row["gen_path"] for relpath, row in held.items()})
            metrics = [m for m in METRICS if is_scored(results, model, m)]
            score(
                index, {model: _chosen(held, paths)}, Path(folder) / "again",
                ScoreOptions(
                    metrics or METRICS, results.mode, results.settings["scope"], results.settings.get("search", "exact"),
                    k_gen=results.settings.get("k_gen", 50), tau_cra=results.tau["cra"], tau_vr=results.tau["vr"],
                ),
                run=replace(run, cache=None),
            )  # fmt: skip
            found = {r["gen_relpath"]: r for r in require_results(Path(folder) / "again").rows(model)}
            counts = dict.fromkeys(VERDICTS, 0)
            for relpath, row in held.items():
                verdict, what = compare(row, found[relpath] | {"gen_path": row["gen_path"]}, results.tau)
                counts[verdict] += 1
                if verdict not in ("same", "within"):
                    differences.append({"model": model, "gen_relpath": relpath, "verdict": verdict, "what": what})
            tables.append({"model": model, "images": len(held), **counts})
    frame = pd.DataFrame(tables)
    notes = [
        *left_out_of([results]),
        f"within: no similarity differs by more than {TOLERANCE:g}, and no decision at the thresholds does",
    ]
    before, now = meta_of(results).get("versions"), versions()
    if isinstance(before, dict) and (
        other := [f"{k} {before.get(k)} then, {v} now" for k, v in now.items() if before.get(k) != v]
    ):
        notes.append(f"other versions: {', '.join(other)}")
    scalars = {f"{t['model']}/{k}": v for t in tables for k, v in t.items() if k != "model"}
    columns = ["model", "gen_relpath", "verdict", "what"]
    return Finding(
        {"models": frame, "differences": pd.DataFrame(differences, columns=columns)},
        notes,
        {"index_id": mine, "results": named(str(results.path))},
        scalars,
    )


def _chosen(rows: Mapping[str, Record], paths: Mapping[str, str]) -> Chosen:
    """The images of some rows, at these paths."""
    concepts: dict[str, list[Image]] = {}
    for relpath, row in sorted(rows.items()):
        concept, name = row["concept"], relpath.removeprefix(f"{row['concept']}/")
        image = Image(paths[relpath], concept, name, row["model"], row["seed"], row["prompt"], row["variant"])
        concepts.setdefault(concept, []).append(image)
    return Chosen(dict(sorted(concepts.items())), [], [])


def compare(row: Record, found: Record, tau: Mapping[str, float | None]) -> tuple[str, str]:
    """What became of a row, one of :data:`VERDICTS`, and the first thing that differs."""
    if row["gen_sha256"] != found["gen_sha256"]:
        if found["gen_sha256"] is None and found["reason"] != EMPTY:
            return "gone", found["reason"]
        why = f" ({found['reason']})" if found["reason"] else ""
        return "changed", f"the file has other bytes now{why}"
    for name in _FACTS:
        if row[name] != found[name]:
            return "differ", f"{name} {row[name]}, now {found[name]}"
    if all(row[name] == found[name] for name in row):
        return "same", ""
    for name in _SIMILARITIES:
        if (row[name] is None) != (found[name] is None):
            return "differ", f"{name} is there {'no more' if found[name] is None else 'now'}"
        if row[name] is None:
            continue
        a, b = (np.atleast_1d(np.asarray(r[name], np.float32)) for r in (row, found))
        apart = float(np.nan_to_num(np.abs(a.astype(np.float64) - b)).max())
        threshold = tau["cra" if name in ("cra_sim", "other_sim") else "vr"]
        if apart > TOLERANCE or (np.isnan(a) != np.isnan(b)).any():
            return "differ", f"{name} by {apart:.2g}"
        if threshold is not None and (passes(a, threshold) != passes(b, threshold)).any():
            return "differ", f"{name}: a decision at {threshold}"
    return "within", ""
