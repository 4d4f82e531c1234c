"""Facts of an index, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iconicity.indexer.grid import cell_count, overlaps
from iconicity.indexer.left_out import left_out_lines, read_left_out
from iconicity.indexer.null.thresholds import IndexThresholds
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.sources.creators import creators_line
from iconicity.indexer.sources.folders import CONCEPTS
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.store.files import LOCKS
from iconicity.indexer.store.manifest import read_manifest
from iconicity.indexer.text import counted, one_line

LISTED = 2000  # references up to which the text lists each near-duplicate


def index_facts(path: Place, concepts: bool = True) -> dict[str, Any]:
    """Encoders, counts, size, versions; with ``concepts`` each one's references too.

    Those are kept ones, and dropped ones with the kept one they duplicate and the distance. Without them the
    manifest alone is read.
    """
    manifest = read_manifest(path)
    size = _bytes(path)
    keys = ("index_id", "format", "created", "counts", "settings", "skipped", "left_out", "versions")
    facts = {**{k: manifest[k] for k in keys}, "bytes": size, "thresholds": manifest.get("thresholds")}
    return {**facts, "concepts": _concepts(path)} if concepts else facts


def _bytes(path: Place) -> int:
    if isinstance(path, Remote):
        return sum(item.size for item in path.files().values())
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and p.name not in LOCKS)


def _concepts(path: Place) -> dict[str, dict[str, list[Any]]]:
    from iconicity.indexer.store.index import open_index

    concepts: dict[str, dict[str, list[Any]]] = {}
    for r in open_index(path).references().values():
        entry = concepts.setdefault(r.concept, {"kept": [], "dropped": []})
        if r.kept:
            entry["kept"].append(r.ref_id)
        else:
            entry["dropped"].append({"ref_id": r.ref_id, "dup_of": r.dup_of, "distance": r.dup_distance})
    return concepts


def log_text(log: Sequence[Mapping[str, Any]]) -> str:
    """A line for each change of an index."""
    lines = []
    for e in log:
        work = ", ".join(f"{e[k]} {k}" for k in ("embedded", "copied", "removed", "merged", "skipped") if e.get(k))
        lines.append(
            f"{e['when']}  {e['command']:<8} {counted(e['references'], 'reference')} ({e['kept']} kept){': ' + work if work else ''}; "
            f"files {e['files_sha256'][:12]}, index_id {e['index_id'][:12]}, iconicity {e['iconicity']}"
        )
    return "\n".join(lines)


def threshold_lines(held: Mapping[str, Any] | None, concepts: int) -> list[str]:
    """Return lines with the thresholds of an index of so many concepts, and how often unrelated references reach them."""
    if held is None:
        return ["thresholds  none: an earlier version made this index; run the same 'iconicity index build' again"]
    found = IndexThresholds(**held)
    compared = counted(len(found.concepts), "concept")
    lines = [
        f"thresholds  fitted on {compared} at {found.alpha:.0%}, digest {found.digest[:12]}"
        if found.rows
        else f"thresholds  none: {compared}, too few unrelated pairs to fit any at {found.alpha:.0%}"
    ]
    if found.creators:
        lines.append(f"{'':<11} {creators_line(len(found.creators), concepts, f'{CONCEPTS} beside the references')}")
    for row in found.rows:
        if row["metric"] in ("cra", "vr") and row["references"] == 1:
            check = (
                "not checked"
                if row["rate_check"] is None
                else f"{row['rate_check']:.1%} of unrelated pairs in the other half reach it"
            )
            lines.append(f"            {row['mode']}, {row['metric'].upper()}, one reference: {row['tau']} ({check})")
    return lines


def info_text(facts: dict[str, Any]) -> str:
    """The facts as lines; near-duplicates are listed where ``facts`` holds the concepts."""
    settings, counts = facts["settings"], facts["counts"]
    rows, cols = settings["grid"]
    lines = [
        f"index_id    {facts['index_id']}",
        f"references  {counts['references']} in {counted(counts['concepts'], 'concept')}: {counts['kept']} kept, {counted(counts['dropped'], 'near-duplicate')} dropped",
        f"dedup       pHash distance <= {settings['dedup_distance']}"
        if settings["dedup_distance"] is not None
        else "dedup       none",
        f"grid        {rows} x {cols}, {settings['patch_mode']} mode, vectors {settings['vectors']}"
        + (f", references at half steps: {cell_count(rows, cols, True)} cells" if overlaps(settings) else ""),
    ]
    for role, name in (("global", "clip"), ("patch", "dino")):
        e = EncoderSpec.from_dict(settings[name])
        pool = "" if e.pool == "none" else f"pool {e.pool}, "
        alone = ", one image at a time" if e.source.get("images_a_run") == 1 else ""
        lines.append(
            f"{role:<11} {e.label}: {e.name}, {pool}{e.dim}-d, {e.precision}, weights {e.weights_sha256[:12]}{alone}"
        )
        lines.append(f"{'':<11} licence of the weights: {e.licence or 'not known here'}")
    lines += threshold_lines(facts["thresholds"], counts["concepts"])
    lines.append(f"size        {facts['bytes'] / 1e6:.1f} MB, made {facts['created']}")
    lines.append("versions    " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))
    if "concepts" not in facts:
        lines.append("dropped     'iconicity index info --json' lists each near-duplicate")
    for entry in facts.get("concepts", {}).values():
        lines += [f"dropped     {d['ref_id']}: distance {d['distance']} to {d['dup_of']}" for d in entry["dropped"]]
    lines += [f"left out    {line}" for line in left_out_lines({"": read_left_out(facts["left_out"])})]
    lines += [f"skipped     {s['path']}: {s['reason']}" for s in facts["skipped"]]
    return "\n".join(map(one_line, lines))
