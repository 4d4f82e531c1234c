"""The same generated images in each layout that can be read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
from toys import draw, pack, write

from iconicity.indexer.store.rows import ConceptCount

COUNTS = {"alpha": ConceptCount(1, 1), "beta": ConceptCount(1, 1)}


def images_of(gen: Path) -> list[Path]:
    return sorted(gen.glob("*/*.png"))


def seed_of(file: Path) -> int:
    return 10 * ["alpha", "beta", "gamma"].index(file.parent.name) + int(file.stem)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_plain(gen: Path, root: Path) -> Path:
    return gen


def as_csv(gen: Path, root: Path) -> Path:
    """Files where they are, concept by folder."""
    with (gen / "metadata.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["file_name", "seed", "text", "variant", "other"])
        writer.writerows(
            [p.relative_to(gen), seed_of(p), f"{p.parent.name}, painted", "v", "?"] for p in images_of(gen)
        )
    return gen


def rows_of(gen: Path, folder: Path) -> list[dict[str, Any]]:
    """All images flat in one folder, concept by column."""
    rows: list[dict[str, Any]] = []
    for p in images_of(gen):
        name = f"{p.parent.name}-{p.name}"
        write(folder / name, draw(0)).write_bytes(p.read_bytes())
        concept = p.parent.name.upper()
        rows.append({"file_name": name, "concept": concept, "seed": seed_of(p), "prompt": f"{p.parent.name}, painted", "variant": "v"})  # fmt: skip
    return rows


def as_jsonl(gen: Path, root: Path) -> Path:
    (root / "flat").mkdir()
    (root / "flat" / "metadata.jsonl").write_text(lines(rows_of(gen, root / "flat")))
    return root / "flat"


def as_parquet(gen: Path, root: Path) -> Path:
    pd.DataFrame(rows_of(gen, root / "table")).to_parquet(root / "table" / "metadata.parquet")
    return root / "table"


def as_geneval(gen: Path, root: Path) -> Path:
    for i, concept in enumerate(sorted(p for p in gen.iterdir() if p.is_dir())):
        folder = root / "geneval" / f"{i:05d}"
        for p in sorted(concept.iterdir()):
            write(folder / "samples" / f"{int(p.stem):04d}.png", draw(0)).write_bytes(p.read_bytes())
        write(folder / "grid.png", draw(1))
        facts = {
            "tag": "one",
            "include": [],
            "prompt": f"{concept.name}, painted",
            "seed": [10 * i, 10 * i + 1, 10 * i + 2],
        }
        (folder / "metadata.jsonl").write_text(json.dumps({**facts, "label_clean": concept.name, "variant": "v"}))
    return root / "geneval"


def members_of(gen: Path, concept: str) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for p in images_of(gen):
        if p.parent.name == concept:
            key = f"./{concept}/{p.stem}"
            out[f"{key}.txt"] = f"{concept}, painted\n".encode()
            out[f"{key}.png"] = p.read_bytes()
            out[f"{key}.json"] = json.dumps({"seed": seed_of(p), "variant": "v"}).encode()
            out[f"{key}.cls"] = b"0"
    return out


def as_shards(gen: Path, root: Path) -> Path:
    (root / "shards").mkdir()
    for concept in ("alpha", "beta", "gamma"):
        pack(root / "shards" / f"{concept[0]}.tar", members_of(gen, concept))
    return root / "shards"


def as_tar(gen: Path, root: Path) -> Path:
    return pack(root / "one.tar", {k: v for c in ("gamma", "alpha", "beta") for k, v in members_of(gen, c).items()})
