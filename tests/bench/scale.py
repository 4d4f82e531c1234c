"""Does memory grow with the number of images? Many small images, a thumbnail as encoder, a process of its own each."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.report import Figure
from iconicity.indexer.build import build_index
from iconicity.indexer.builder import seal
from iconicity.indexer.encode.encoder import Encoders, unit_rows
from iconicity.indexer.options import IndexOptions, Run
from iconicity.indexer.spec import EncoderSpec, FloatArray
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.columns import StoredArray
from iconicity.indexer.store.manifest import read_manifest
from iconicity.indexer.store.rows import Reference, ReferenceStore, Row
from iconicity.scorer.scoring import score

SIDE = 8
PER_CONCEPT = 50


@dataclass(frozen=True)
class Thumbnail:
    """Preprocessing: an 8 x 8 thumbnail."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255.0 - 0.5
        return torch.from_numpy(small.transpose(2, 0, 1).copy())


class ThumbnailEncoder:
    """A fixed projection of a thumbnail: next to no work, so that everything around it shows."""

    device = "cpu"
    preprocess = Thumbnail()

    def __init__(self, dim: int) -> None:
        weights = np.random.default_rng(dim).standard_normal((3 * SIDE * SIDE, dim)).astype(np.float32)
        self._weights = torch.from_numpy(weights)
        sha = hashlib.sha256(weights.tobytes()).hexdigest()
        self.spec = EncoderSpec("thumbnail", "thumbnail", sha, {"size": SIDE}, "all", dim)

    def forward(self, batch: torch.Tensor) -> FloatArray:
        return unit_rows(batch.reshape(len(batch), -1) @ self._weights + 1e-3)


def thumbnails() -> Encoders:
    return Encoders(ThumbnailEncoder(64), ThumbnailEncoder(96))


def write_small_images(root: Path, n: int) -> None:
    """``gen/`` with n images, 50 a concept, and ``refs/`` with two images of each concept."""
    rng = np.random.default_rng(0)
    for i in range(n):
        folder = root / "gen" / f"c{i // PER_CONCEPT:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR)
        image.save(folder / f"{i % PER_CONCEPT:02d}.png")
        if i % PER_CONCEPT < 2:
            (root / "refs" / folder.name).mkdir(parents=True, exist_ok=True)
            image.rotate(90).save(root / "refs" / folder.name / f"{i % PER_CONCEPT}.png")


def build(root: str) -> None:
    """The index."""
    build_index(Path(root) / "refs", Path(root) / "index", thumbnails(), IndexOptions(dedup_distance=None))


def score_all(root: str, workers: int) -> None:
    """In a process of its own: the scores."""
    place = Path(root)
    report = score(
        place / "index",
        {"m": place / "gen"},
        place / "out",
        run=Run(load=lambda _clip, _dino: thumbnails(), cache=VectorCache(place / "cache"), workers=workers),
    )
    sys.stdout.write(f"{report.scored} {report.embedded}\n")


def bench_scale(decades: Sequence[int], workers: int) -> list[Figure]:
    """Seconds and peak memory of the process tree of ``score`` at 10^d images, and of scoring again with a new tau."""
    figures: list[Figure] = []
    peaks: list[float] = []
    for d in decades:
        n = 10**d
        with tempfile.TemporaryDirectory() as folder:
            write_small_images(Path(folder), n)
            here = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from bench import scale"
            build(folder)  # here: the memory that is watched is that of the processes below
            started = time.perf_counter()
            peak, out = _watched([sys.executable, "-c", f"{here}; scale.score_all({folder!r}, {workers})"])
            seconds = time.perf_counter() - started
            assert out.split() == [str(n), str(n)], out
            again = [
                sys.executable,
                "-m",
                "iconicity.cli",
                "score",
                "--index",
                f"{folder}/index",
                "--gen",
                f"m={folder}/gen",
            ]
            again += ["--out", f"{folder}/out", "--cache", f"{folder}/cache", "--patch-tau", "0.7"]
            started = time.perf_counter()
            _, out = _watched(again)
            rescored = time.perf_counter() - started
            assert f"{n} images scored, 0 embedded" in out, out
        peaks.append(peak)
        figures += [
            Figure(f"10^{d} images: score", [seconds], "s, start-up included"),
            Figure(f"10^{d} images: peak memory of the process tree", [peak], "MB"),
            Figure(f"10^{d} images: score again, new tau, command line", [rescored], "s, start-up included"),
        ]
    figures.append(Figure(f"peak memory at 10^{decades[-1]} over 10^{decades[0]}", [peaks[-1] / peaks[0]], "ratio"))
    if 3 in decades and decades[-1] > 3:
        ratio = peaks[-1] / peaks[list(decades).index(3)]
        figures.append(Figure(f"peak memory at 10^{decades[-1]} over 10^3", [ratio], "ratio"))
    return figures


def _watched(command: list[str]) -> tuple[float, str]:
    """Run a command; the largest resident memory of it and its children together in MB, and what it printed."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.05)
        out.seek(0)
        text = out.read()
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return peak, text


def _resident(pid: int) -> float:
    """Resident memory of a process and its children in MB (Linux); a process that has just ended counts nothing."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    return own + sum(_resident(int(c)) for c in children)


def write_index(path: Path, vectors: StoredArray, concepts: int, references: int) -> None:
    """An index of given patch vectors (concepts * references * 16, dim), written through the store; clip 512-d."""
    dim = int(vectors.shape[1])
    encoders = Encoders(ThumbnailEncoder(512), ThumbnailEncoder(dim))
    kind = "float16" if vectors.dtype == np.float16 else "float32"
    settings = {
        "clip": encoders.clip.spec.to_dict(), "dino": encoders.dino.spec.to_dict(), "grid": [4, 4],
        "patch_mode": "crop", "vectors": kind, "pixels": "shown", "dedup_distance": None,
    }  # fmt: skip
    path.mkdir(parents=True)
    store = ReferenceStore.create(path, settings, 512, 16 * dim)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for c in range(concepts):
        for r in range(references):
            i = c * references + r
            clip = rng.standard_normal(512).astype(np.float32)
            concept = f"concept_{c:06d}"
            ref_id = f"{concept}/{r:03d}.png"
            reference = Reference(ref_id, concept, f"refs/{ref_id}", f"{i:064x}", 64, 64, f"{i:016x}", True, None, None)
            patches: StoredArray = vectors[16 * i : 16 * (i + 1)]
            rows.append(Row(reference, clip / np.linalg.norm(clip), patches))
        if len(rows) >= 2000 or c == concepts - 1:
            store.upsert(rows)
            rows = []
    seal(path, store, [], {"command": "bench scale"})
    assert read_manifest(path)["counts"]["kept"] == concepts * references
