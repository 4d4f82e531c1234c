"""``make bench-report``: a report of many synthetic images: seconds to make, sizes, and seconds to open in a browser."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from toys import Study as Scoring
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.options import Run
from iconicity.indexer.sources.folders import sha256_hex
from iconicity.indexer.store.index import open_index
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.results import SCHEMA, writing_scores
from iconicity.scorer.say.report.build import report
from iconicity.scorer.text import table

MODELS = 5
FILES = 2_000  # different pictures behind the images: thumbnails are made once for each


def make_study(root: Path, concepts: int, each: int) -> None:
    """An index with two references a concept, and results of ``MODELS * concepts * each`` images."""
    names = [f"concept_{i:05d}" for i in range(concepts)]
    make_refs(root / "refs", names, each=2)
    build_index(root / "refs", root / "i", toy_encoders())
    files = []
    for i in range(min(FILES, MODELS * concepts * each)):
        path = write(root / "gen" / "m" / names[0] / f"{i:05d}.png", draw(10**6 + i, (512, 512)))
        files.append((str(path), sha256_hex(path.read_bytes())))
    scoring = Scoring(root / "i", root)
    scoring({"m": root / "gen" / "m"}, ScoreOptions(k_gen=1))
    settings = scoring.results().settings
    rng = np.random.default_rng(0)

    def rows() -> Iterator[dict[str, Any]]:
        at = 0
        for m in range(MODELS):
            for name in names:
                kept = [f"{name}/00.png", f"{name}/01.png"]
                for k in range(each):
                    path, sha = files[at % len(files)]
                    at += 1
                    yield dict.fromkeys(SCHEMA.names) | {
                        "model": f"model {m}", "concept": name, "gen_path": path, "gen_relpath": f"{name}/{k:05d}.png",
                        "gen_sha256": sha, "cra_sim": float(np.float32(rng.uniform(0.4, 1.0))), "cra_ref_id": kept[0],
                        "p": rng.uniform(0.2, 0.9, 16).astype(np.float32).tolist(), "status": "ok",
                        "p_ref_id": [kept[i] for i in rng.integers(0, 2, 16)],
                        "p_ref_cell": rng.integers(0, 16, 16).tolist(),
                        "n_ref_before": 3, "n_ref_kept": 2, "n_ref_dups_removed": 1, "prompt": f"a picture called {name}",
                    }  # fmt: skip

    shutil.rmtree(root / "out")
    (root / "out").mkdir()
    with writing_scores(root / "out", "dynamic", settings, {"cra": 0.75, "vr": 0.6}, []) as writer:
        for row in rows():
            writer.write(row)


def seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def open_times(page: Path, concept: str, repeat: int = 5) -> dict[str, float]:
    """Median seconds until a page shows what it is about; nan without a browser."""
    api = __import__("playwright.sync_api", fromlist=["sync_playwright"])
    path = shutil.which("chromium")
    if path is None:
        return {}
    pages = {
        "overview": ("#/", "td a"),
        "charts": ("#/", ".chart .point"),
        "all images": ("#/images", ".card"),
        "concept": (f"#/concept/{concept}", ".gallery:not(.references) .card"),
        "image": (f"#/image/model 0/{concept}%2F00000.png", ".target"),
    }
    out: dict[str, float] = {}
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (where, wait) in pages.items():
            times = []
            for _ in range(repeat):
                opened = browser.new_page()
                start = time.perf_counter()
                opened.goto(page.as_uri() + where)
                opened.wait_for_selector(wait)
                times.append(time.perf_counter() - start)
                opened.close()
            out[name] = float(np.median(times))
        browser.close()
    return out


def main(root: Path) -> None:
    rows = []
    for concepts, each in ((7, 1), (767, 52), (5, 8_000)):
        place = root / f"{concepts}x{each}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        make_study(place, concepts, each)
        make = partial(report, place / "out", open_index(place / "i"), place / "site", run=Run(workers=2))
        made = [seconds(make) for _ in "ab"]
        data = {p.name: p.stat().st_size / 1e6 for p in (place / "site" / "data").iterdir()}
        parts = [v for k, v in data.items() if k.startswith(("concept_", "evidence_"))]
        times = open_times(place / "site" / "index.html", "concept_00003")
        rows.append(
            [f"{MODELS * concepts * each}", *(f"{t:.1f}" for t in made), f"{data['overview.js']:.2f}", f"{data['crt.js']:.2f}",
             f"{data['images.js']:.2f}", f"{max(parts):.2f}", f"{len(data)}",
             *(f"{times.get(n, float('nan')):.2f}" for n in ("overview", "charts", "all images", "concept", "image"))]
        )  # fmt: skip
    print(table(("images", "made s", "again s", "overview MB", "crt MB", "list MB", "largest part MB", "parts",
                 "overview s", "charts s", "list s", "concept s", "image s"), rows))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
