"""What an index holds, as facts and as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iconicity.indexer.index import open_index
from iconicity.indexer.manifest import LOCK


def index_facts(path: Path) -> dict[str, Any]:
    """Concepts with their references (kept; dropped, for which kept one, at what distance), encoders, size, versions."""
    index = open_index(path)
    concepts: dict[str, dict[str, list[Any]]] = {}
    for r in index.references().values():
        entry = concepts.setdefault(r.concept, {"kept": [], "dropped": []})
        if r.kept:
            entry["kept"].append(r.ref_id)
        else:
            entry["dropped"].append({"ref_id": r.ref_id, "dup_of": r.dup_of, "distance": r.dup_distance})
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and p.name != LOCK)
    keys = ("index_id", "format", "created", "counts", "settings", "skipped", "versions")
    return {**{k: index.manifest[k] for k in keys}, "bytes": size, "concepts": concepts}


def info_text(facts: dict[str, Any]) -> str:
    settings, counts = facts["settings"], facts["counts"]
    rows, cols = settings["grid"]
    lines = [
        f"index_id    {facts['index_id']}",
        f"references  {counts['references']} in {counts['concepts']} concepts: {counts['kept']} kept, {counts['dropped']} near-duplicates dropped",
        f"dedup       pHash distance <= {settings['dedup_distance']}"
        if settings["dedup_distance"] is not None
        else "dedup       none",
        f"grid        {rows} x {cols}, {settings['patch_mode']} mode",
    ]
    for name in ("clip", "dino"):
        e = settings[name]
        lines.append(f"{name:<11} {e['name']}, pool {e['pool']}, {e['dim']}-d, weights {e['weights_sha256'][:12]}")
    lines.append(f"size        {facts['bytes'] / 1e6:.1f} MB, made {facts['created']}")
    lines.append("versions    " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))
    for entry in facts["concepts"].values():
        lines += [f"dropped     {d['ref_id']}: distance {d['distance']} to {d['dup_of']}" for d in entry["dropped"]]
    lines += [f"skipped     {s['path']}: {s['reason']}" for s in facts["skipped"]]
    return "\n".join(lines)
