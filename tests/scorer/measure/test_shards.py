"""Shards of the references, wherever they live, give what one universe and a plain loop give."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run import run
from toys import Study, draw, make_refs, toy_encoders, write

from iconicity.indexer.encode.engine import Local
from iconicity.indexer.errors import IndexFormatError, InputError
from iconicity.indexer.shards import Shard
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.vectors import AllVectors
from iconicity.scorer.measure import nearest
from iconicity.scorer.measure.shards import (
    ClipQueries,
    LocalShards,
    Opening,
    PatchAnswers,
    PatchQueries,
    Queries,
    ShardSearch,
    merge_clip,
    merge_patches,
    open_shards,
)
from iconicity.scorer.measure.universe import TIE
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.results import require_results

CELLS, DIM = 4, 6
References = dict[str, list[tuple[FloatArray, FloatArray]]]  # concept -> (clip (D,), patches (K, D')) by file name


def pool(rng: np.random.Generator, n: int = 8) -> FloatArray:
    """Few different unit rows, so that ties are many."""
    rows = rng.integers(-2, 3, (n, DIM)).astype(np.float32)
    rows[:, 0] += rows.any(axis=1) == 0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def random_references(rng: np.random.Generator, concepts: int) -> References:
    clips, patches = pool(rng), pool(rng)
    return {
        f"c{i}": [
            (clips[rng.integers(len(clips))], patches[rng.integers(0, len(patches), CELLS)])
            for _ in range(rng.integers(1, 5))
        ]
        for i in range(concepts)
    }


def as_vectors(references: References) -> AllVectors:
    """In order of ref_id, as an index gives them."""
    concepts = sorted(references, key=lambda c: f"{c}/")
    rows = [(f"{c}/{j}.png", c, *row) for c in concepts for j, row in enumerate(references[c])]
    counts = [len(references[c]) for c in concepts]
    return AllVectors(
        "x",
        pa.array([r[0] for r in rows], pa.string()),
        tuple(concepts),
        {c: i for i, c in enumerate(concepts)},
        np.cumsum([0, *counts]).astype(np.int64),
        np.array([r[2] for r in rows], np.float32).reshape(-1, DIM),
        np.array([r[3] for r in rows], np.float32).reshape(-1, CELLS, DIM),
        None,
    )


def divided(references: References, n: int, static: bool, tau: float | None = None) -> LocalShards:
    shards = [{c: r for c, r in references.items() if c in Shard(i, n)} for i in range(1, n + 1)]
    return LocalShards([ShardSearch(as_vectors(s), static, tau) for s in shards])


def cosine(a: FloatArray, b: FloatArray) -> np.float32:
    total = float(sum(float(x) * float(y) for x, y in zip(a, b, strict=True)))
    return np.float32(min(1.0, max(-1.0, total)))


def plain_clip(references: References, query: FloatArray, concept: str, own: float) -> tuple[float, str | None, int]:
    best, at, higher = float("nan"), None, 0
    for c in sorted(references):
        if c == concept:
            continue
        values = [(cosine(query, clip), f"{c}/{j}.png") for j, (clip, _) in enumerate(references[c])]
        higher += bool(max(v for v, _ in values) > np.float32(own) + TIE)
        for value, ref_id in values:
            if at is None or value > best:
                best, at = float(value), ref_id
    return best, at, higher


def plain_patch(references: References, query: FloatArray, concept: str) -> tuple[float, str | None, int]:
    best, at, cell = float("nan"), None, -1
    for c in sorted(references):
        for j, (_, patches) in enumerate(references[c]) if c != concept else ():
            for k, patch in enumerate(patches):
                if at is None or cosine(query, patch) > best:
                    best, at, cell = float(cosine(query, patch)), f"{c}/{j}.png", k
    return best, at, cell


def random_queries(rng: np.random.Generator, references: References, how: str) -> Queries:
    names = [*references, "unheard_of"]
    clips, patches = pool(rng), pool(rng)
    own = np.where(rng.random(6) < 0.2, np.nan, rng.uniform(-1, 1, 6)).astype(np.float32)
    concepts = tuple(str(c) for c in rng.choice(names, 6))
    per_patch = tuple(c for c in concepts for _ in range(CELLS))
    return Queries(
        ClipQueries(clips[rng.integers(0, 8, 6)], concepts, own),
        PatchQueries(patches[rng.integers(0, 8, 6 * CELLS)], per_patch, how),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 8), st.booleans())
def test_merged_answers_are_those_of_one_universe_and_of_a_plain_loop(
    seed: int, concepts: int, n: int, static: bool
) -> None:
    rng = np.random.default_rng(seed)
    references = random_references(rng, concepts)
    queries = random_queries(rng, references, "exact")
    seen = {c: r[:1] for c, r in references.items()} if static else references
    (one,) = divided(references, 1, static).ask(queries)
    answers = divided(references, n, static).ask(queries)
    assert one.clip and one.patches and queries.clip and queries.patches
    clip = merge_clip([a.clip for a in answers if a.clip])
    patches = merge_patches([a.patches for a in answers if a.patches])
    assert np.array_equal(clip.best, one.clip.best, equal_nan=True) and clip.ref_ids == one.clip.ref_ids
    assert np.array_equal(clip.higher, one.clip.higher)
    assert np.array_equal(patches.best, one.patches.best, equal_nan=True) and patches.ref_ids == one.patches.ref_ids
    assert np.array_equal(patches.cells, one.patches.cells)
    assert np.array_equal(patches.upper, patches.best, equal_nan=True)
    for i, concept in enumerate(queries.clip.concepts):
        best, at, higher = plain_clip(seen, queries.clip.vectors[i], concept, float(queries.clip.own[i]))
        assert (clip.ref_ids[i], clip.higher[i]) == (at, higher)
        assert clip.best[i] == pytest.approx(best, abs=1e-6, nan_ok=True)
    for i, concept in enumerate(queries.patches.concepts):
        best, at, cell = plain_patch(seen, queries.patches.vectors[i], concept)
        assert (patches.ref_ids[i], patches.cells[i]) == (at, cell)
        assert patches.best[i] == pytest.approx(best, abs=1e-6, nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_approximate_hits_are_true_and_the_bound_is_proven(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    references = {f"c{i}": [(v[0], v) for v in np.stack([pool(rng, CELLS) for _ in range(6)])] for i in range(2 * n)}
    exact = merge_patches(
        [a.patches for a in divided(references, 1, False).ask(random_queries(rng, references, "exact")) if a.patches]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iconicity.scorer.measure.shards.LEAST", 0)
        patch.setattr(nearest, "FACTORY", "IVF2,Flat")
        patch.setattr(nearest, "NPROBE", 1)
        shards = divided(references, n, False, tau=0.8)
        rng = np.random.default_rng(seed)
        references = {
            f"c{i}": [(v[0], v) for v in np.stack([pool(rng, CELLS) for _ in range(6)])] for i in range(2 * n)
        }
        found: dict[str, PatchAnswers] = {}
        state = rng.bit_generator.state
        for how in ("approximate", "settle"):
            rng.bit_generator.state = state
            answers = shards.ask(random_queries(rng, references, how))
            found[how] = merge_patches([a.patches for a in answers if a.patches])
    for answer in found.values():
        there = ~np.isnan(answer.best)
        assert np.all(answer.best[there] <= exact.best[there] + 1e-6)
        known = ~np.isnan(exact.best)
        assert np.all(answer.upper[known] >= exact.best[known] - 1e-6)
        assert np.array_equal(np.isnan(answer.upper), ~known)
    hits = exact.best >= np.float32(0.8)
    assert np.array_equal(found["settle"].best >= np.float32(0.8), hits)
    assert np.all(found["settle"].upper[~hits & known] < np.float32(0.8))


def test_questions_and_answers_travel(study: Study) -> None:
    rng = np.random.default_rng(0)
    references = random_references(rng, 3)
    queries = random_queries(rng, references, "exact")
    (answers,) = divided(references, 1, False).ask(queries)
    (again,) = divided(references, 1, False).ask(pickle.loads(pickle.dumps(queries)))
    held = pickle.loads(pickle.dumps(answers))
    for a in (again, held):
        assert a.clip.ref_ids == answers.clip.ref_ids and np.array_equal(a.patches.best, answers.patches.best)  # type: ignore[union-attr]
    opening = Opening(study.index, open_index(study.index).index_id, Shard(1, 2), "dynamic", 0.6, None, "cpu")
    assert pickle.loads(pickle.dumps(opening)) == opening


def test_what_cannot_be_searched(study: Study) -> None:
    shards = divided(random_references(np.random.default_rng(0), 3), 1, False)
    with pytest.raises(ValueError, match="'sometimes'"):
        shards.ask(Queries(patches=PatchQueries(np.eye(1, DIM, dtype=np.float32), ("c0",), "sometimes")))
    index = open_index(study.index)
    opening = Opening(study.index, "0" * 64, None, "dynamic", 0.6, None, "cpu")
    with pytest.raises(IndexFormatError, match="was built again meanwhile"):
        opening.open(index)


@pytest.fixture
def models(study: Study, gen: Path) -> dict[str, Path]:
    write(gen / "unheard_of" / "x.png", draw(101))
    write(gen / "alpha" / "zz.png", draw(200))  # gamma/00.png
    return {"m1": gen}


class Sharded(Local):
    """An engine that has the shards of a search live in this process."""

    def __init__(self) -> None:
        super().__init__(lambda _clip, _dino: toy_encoders())

    def serve(self, openings: Sequence[Opening]) -> LocalShards:
        return LocalShards([opening.open() for opening in openings])


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_results_are_the_same_whatever_the_shards(
    study: Study, models: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    options = ScoreOptions(scope="all", mode=mode)
    study(models, options, out=tmp_path / "one")
    whole = (tmp_path / "one" / f"scores_{mode}.parquet").read_bytes()
    for n in (2, 3) if mode == "dynamic" else (2,):
        study(models, options, out=tmp_path / str(n), run=replace(study.run, search_shards=n, engine=Sharded()))
        assert (tmp_path / str(n) / f"scores_{mode}.parquet").read_bytes() == whole
        for csv in (tmp_path / "one").glob("*.csv"):
            assert (tmp_path / str(n) / csv.name).read_bytes() == csv.read_bytes()


def test_settled_shards(study: Study, models: dict[str, Path], tmp_path: Path) -> None:
    study(models, ScoreOptions(scope="all", tau_vr=0.9), out=tmp_path / "one")
    study(
        models,
        ScoreOptions(scope="all", tau_vr=0.9, search="approximate", settle=True),
        out=tmp_path / "two",
        run=replace(study.run, search_shards=2, engine=Sharded()),
    )
    one, two = (require_results(tmp_path / n).table() for n in ("one", "two"))
    assert one.equals(two)  # so few references are compared exactly


def test_shards_that_hold_nothing(study: Study, tmp_path: Path) -> None:
    index = open_index(study.index)
    opening = Opening(study.index, index.index_id, None, "dynamic", 0.6, tmp_path / "cache", "cpu")
    queries = Queries(patches=PatchQueries(np.eye(2, 24, dtype=np.float32), ("alpha", "none"), "exact"))
    (whole,) = open_shards(index, "dynamic", 0.6, None, "cpu").ask(queries)
    shards = LocalShards([replace(opening, shard=Shard(i, 7)).open() for i in range(1, 8)])
    found = [a.patches for a in shards.ask(queries) if a.patches]
    assert len(found) == 7 and sum(np.isnan(a.upper).all() for a in found) >= 4
    merged = merge_patches(found)
    assert whole.patches and merged.ref_ids == whole.patches.ref_ids
    assert np.array_equal(merged.best, whole.patches.best)


def test_one_process_has_no_shards(study: Study, models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="2 search shards need an engine that keeps them"):
        study(models, ScoreOptions(scope="all"), run=replace(study.run, search_shards=2))


def test_shards_belong_to_scope_all(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha"], each=1)
    done = run("score", "--index", "i", "--gen", "g", "--search-shards", 2, code=2)
    assert "belong to --scope all" in done.stderr
