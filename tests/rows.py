"""Hand-made results directories for the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iconicity.indexer.sources.folders import sha256_hex
from iconicity.scorer.results import SCHEMA, writing_scores

SETTINGS: dict[str, Any] = {
    "index_id": "x", "scope": "concept", "encoders": {"clip": "CLIP", "dino": "vit"}, "mode": "dynamic",
    "clip": "c", "dino": "d", "grid": [2, 2], "pool": "all", "patch_mode": "crop", "pixels": "shown",
    "published": {"cra": "", "vr": ""},
}  # fmt: skip


def row(
    concept: str,
    s: float | None,
    reused: int | None,
    status: str = "ok",
    *,
    model: str = "m",
    name: str | None = None,
    references: int = 1,
    **others: Any,
) -> dict[str, Any]:
    """A scores row of four patches, of which so many are reused."""
    p = None if reused is None else [0.9] * reused + [0.1] * (4 - reused)
    out = {**dict.fromkeys(SCHEMA.names), "model": model, "concept": concept, "cra_sim": s, "p": p, "status": status}
    return (
        out | {"gen_relpath": name and f"{concept}/{name}", "gen_path": "gone.png", "n_ref_kept": references} | others
    )


def random_rows(seed: int, models: int, concepts: int, images: int, first: str = "m") -> list[dict[str, Any]]:
    """Rows with random maxima; concepts differ in how often they are recognised and have 1 to 3 references."""
    rng = np.random.default_rng(seed)
    return [
        row(f"c{c}", float(np.float32(rng.uniform(0.4 + 0.03 * c, 1.0))), 0, model=f"{first}{m}", name=f"{i:02d}.png",
            references=1 + c % 3)
        | {"p": rng.uniform(0.3, 0.9, 4).astype(np.float32).tolist()}
        for m in range(models) for c in range(concepts) for i in range(images)
    ]  # fmt: skip


def make_results(
    path: Path,
    *rows: dict[str, Any],
    tau: Mapping[str, float | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write rows to a results directory of their own; rows without a file name are numbered."""
    path.mkdir(parents=True, exist_ok=True)
    tau = tau or {"cra": 0.75, "vr": 0.6}
    numbered = [r | {"gen_relpath": r["gen_relpath"] or f"{r['concept']}/{i:04d}.png"} for i, r in enumerate(rows)]
    numbered = [
        r | {"gen_sha256": r["gen_sha256"] or sha256_hex(f"{r['model']}/{r['gen_relpath']}".encode())} for r in numbered
    ]
    with writing_scores(path, "dynamic", SETTINGS | dict(settings or {}), tau, notes) as writer:
        for r in sorted(numbered, key=lambda r: (r["model"], r["concept"], r["gen_relpath"])):
            writer.write(r)
    return path
