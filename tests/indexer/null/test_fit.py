"""Thresholds of an index: the fit against plain loops, and when an index has which."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from toys import draw, forwards, jpeg, make_refs, running, toy_encoders, write

from iconicity.indexer import add_references, build_index, remove_references
from iconicity.indexer.arrays import Float32
from iconicity.indexer.errors import InputError
from iconicity.indexer.info import threshold_lines
from iconicity.indexer.merge import merge_indexes
from iconicity.indexer.null import fit as module
from iconicity.indexer.null.fit import LEAST, compare, fit, fit_store, lowest_tau
from iconicity.indexer.null.sample import Sample, related_pairs, spread
from iconicity.indexer.null.sample import draw as draw_sample
from iconicity.indexer.null.thresholds import IndexThresholds, thresholds_of
from iconicity.indexer.options import Select
from iconicity.indexer.rehearsal import rehearse_build
from iconicity.indexer.repair import repair_index
from iconicity.indexer.shards import Shard
from iconicity.indexer.spec import digest_of
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import read_manifest, write_manifest
from iconicity.indexer.store.verify import verify_index


def toy_sample(
    n: int = 26, seed: int = 0, cells: int = 4, creators: Mapping[str, str] = MappingProxyType({})
) -> Sample:
    """n concepts c00, c01 ... with 1 to 3 references, of which the first two are one work."""
    rng = np.random.default_rng(seed)
    concepts = tuple(f"c{i:02}" for i in range(n))
    counts = [1 + i % 3 for i in range(n)]
    ids = tuple(f"{c}/{j}" for c, k in zip(concepts, counts, strict=True) for j in range(k))
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    work = np.array([0, 0, *range(1, n - 1)])
    shared = rng.standard_normal(8)
    clip = rng.standard_normal((len(ids), 5))
    patches = rng.standard_normal((len(ids), cells, 8)) + shared
    clip /= np.linalg.norm(clip, axis=-1, keepdims=True)
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    draws = tuple(rng.permutation(np.arange(s, s + k)) for s, k in zip(start, counts, strict=True))
    related = related_pairs(concepts, work, creators)
    return Sample(concepts, work, related, work % 2 == 0, ids, start, draws, clip, patches, np.arange(cells))


def by_loops(sample: Sample, metric: str, i: int, k: int, d: int, refs: list[int]) -> float:
    """Similarity of patch k of query i to some references of concept d."""
    query = sample.first[i]
    if metric == "cra":
        return max(float(np.float32(sample.clip[query] @ sample.clip[r])) for r in refs)
    x = sample.patches[query, sample.cells[k]]
    if metric == "vr":
        return max(float(np.float32(x @ y)) for r in refs for y in sample.patches[r])

    def nearest(v: Any, leave: set[int]) -> Any:
        others = [c for c in range(len(sample.concepts)) if sample.work[c] not in leave]
        return max(np.float32(v @ y) for c in others for y in sample.patches[sample.first[c]][sample.cells])

    best = max(np.float32(x @ y) - nearest(y, {sample.work[d]}) / 2 for r in refs for y in sample.patches[r])
    return float(best - nearest(x, {sample.work[i], sample.work[d]}) / 2)


@pytest.mark.parametrize("metric", ["cra", "vr", "vr_csls"])
def test_draws_are_those_of_the_loops(metric: str) -> None:
    sample = toy_sample(8)
    found = compare(sample)
    values = found.values[metric]
    assert values.shape == (8, 1 if metric == "cra" else 4, 8, 4)
    for i, d in itertools.product(range(8), range(8)):
        if not found.allowed[i, d]:
            continue
        for k in range(values.shape[1]):
            assert values[i, k, d, 0] == pytest.approx(by_loops(sample, metric, i, k, d, [sample.first[d]]), abs=2e-7)
            for j in range(1, 4):
                refs = sample.draws[d][:j].tolist()
                want = by_loops(sample, metric, i, k, d, refs) if len(refs) == j else math.nan
                assert values[i, k, d, j] == pytest.approx(want, abs=2e-7, nan_ok=True)


def test_pairs_lie_in_one_half_and_are_of_two_works() -> None:
    sample = toy_sample(8)
    allowed = compare(sample).allowed
    for i, d in itertools.product(range(8), range(8)):
        assert allowed[i, d] == (sample.work[i] != sample.work[d] and sample.fit[i] == sample.fit[d])
    assert not allowed[0, 1]


def test_works_of_one_creator_are_no_unrelated_pair() -> None:
    creators = {"c03": "bill", "c05": "bill", "c06": "ann", "c07": "ann", "gone": "bill"}
    sample, free = toy_sample(60, creators=creators), toy_sample(60)
    allowed = compare(sample).allowed
    for (i, a), (d, b) in itertools.product(enumerate(sample.concepts), repeat=2):
        kin = creators.get(a) is not None and creators.get(a) == creators.get(b)
        assert allowed[i, d] == (sample.work[i] != sample.work[d] and sample.fit[i] == sample.fit[d] and not kin)
    assert compare(free).allowed.sum() - allowed.sum() == free.pairs - sample.pairs == 2
    (row,) = (r for r in fit(sample, [1], 0.05) if r["mode"] == "static" and r["metric"] == "vr")
    values = compare(sample).values["vr"][..., 0]
    pairs = [(i, d) for i, d in itertools.product(range(60), repeat=2) if allowed[i, d] and sample.fit[i]]
    assert row["tau"] == lowest_tau(np.array([values[i, k, d] for i, d in pairs for k in range(4)], np.float32), 0.05)
    assert row["pairs_fit"] == len(pairs)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.25, 1.0])
def test_the_lowest_threshold_is_the_one_that_a_loop_finds(alpha: float) -> None:
    rng = np.random.default_rng(1)
    for values in (rng.uniform(-1, 1, 300), np.full(40, 0.62), np.round(rng.uniform(0.6, 0.61, 50), 4), [1.0] * 9):
        v: Float32 = np.asarray(values, np.float32)
        tau = lowest_tau(v, alpha)
        assert (v >= np.float32(tau)).mean() <= alpha + 1e-12
        assert tau == -1.0 or (v >= np.float32(round(tau - 1e-4, 4))).mean() > alpha


def test_rates_are_means_over_the_pairs_of_a_half() -> None:
    sample = toy_sample(60)
    rows = {(r["mode"], r["metric"], r["references"]): r for r in fit(sample, [1, 2, 3], 0.05)}
    found = compare(sample)
    tau = {m: rows["dynamic", m, 1]["tau"] for m in ("vr", "vr_csls")}
    hit = {m: found.values[m][..., 1] >= np.float32(t) for m, t in tau.items() if t is not None}
    hit["vr_strict"] = hit["vr"] & hit["vr_csls"]
    for metric, each in hit.items():
        row = rows["dynamic", metric, 1]
        for half, name in ((sample.fit, "fit"), (~sample.fit, "check")):
            pairs = [(i, d) for i in range(60) for d in range(60) if found.allowed[i, d] and half[i]]
            assert row[f"pairs_{name}"] == len(pairs)  # type: ignore[literal-required]
            rate = np.mean([each[i, :, d] for i, d in pairs])
            assert row[f"rate_{name}"] == pytest.approx(rate)  # type: ignore[literal-required]
    assert rows["dynamic", "vr", 1]["rate_fit"] <= 0.05
    assert rows["dynamic", "vr_strict", 1]["tau"] is None
    assert rows["dynamic", "vr_strict", 1]["rate_check"] <= rows["dynamic", "vr", 1]["rate_check"]  # type: ignore[operator]


def test_where_few_concepts_have_so_many_references_fewer_are_drawn_at_a_smaller_rate() -> None:
    sample = toy_sample(60)
    rows = {(r["metric"], r["references"]): r for r in fit(sample, [2, 3, 7], 0.05) if r["mode"] == "dynamic"}
    found, v = compare(sample), compare(sample).values["vr"]
    assert sum(len(d) >= 3 for d, half in zip(sample.draws, sample.fit, strict=True) if half) == LEAST
    assert {j: rows["vr", j]["drawn"] for j in (2, 3, 7)} == {2: 2, 3: 3, 7: 3}
    pairs = found.allowed & sample.fit[:, None] & (np.array([len(d) for d in sample.draws]) >= 3)
    values = v[..., 3].transpose(0, 2, 1)[pairs]
    assert rows["vr", 7]["tau"] == lowest_tau(values, 0.05 / 3)
    # the bound holds: seven references are three parts of at most three
    assert rows["vr", 7]["tau"] >= rows["vr", 3]["tau"] >= rows["vr", 2]["tau"] - 0.05  # type: ignore[operator]


def test_too_few_concepts_have_no_threshold() -> None:
    assert fit(toy_sample(12), [1], 0.01) == []
    assert fit(toy_sample(12), [1], 0.05) != []


def test_patches_of_a_query_are_spread() -> None:
    assert spread(range(64), 16).tolist() == list(range(0, 64, 4))
    assert spread(range(5), 16).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 concepts, two of which share a picture."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"k{i:02}" for i in range(26)]
    refs = make_refs(folder / "refs", names, each=2)
    write(refs / "k03" / "shared.png", jpeg(draw(999), 90))
    write(refs / "k09" / "again.png", draw(999))
    return refs


def held(index: Path) -> IndexThresholds:
    found = thresholds_of(read_manifest(index))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def built(many: Path) -> Path:
    build_index(many, many.parent / "i", toy_encoders())
    return many.parent / "i"


def test_an_index_ends_with_thresholds(built: Path, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = held(built)
    index = open_index(built)
    assert found == fit_store(index.store)
    assert found.alpha == 0.01 and set(found.concepts) == set(index.concepts())
    assert set(found.taus("dynamic", "vr")) == {n.kept for n in index.concepts().values()}
    assert set(found.taus("static", "cra")) == {1} and found.taus("static", "vr_strict") == {}
    assert verify_index(built) == []
    sample = draw_sample(index.store)
    assert sample is not None
    assert sample.work[sample.concepts.index("k03")] == sample.work[sample.concepts.index("k09")]
    monkeypatch.setattr(module, "fit", None)  # an unchanged build does not fit
    assert not build_index(many, built, toy_encoders()).changed


def test_threads_and_chunks_move_no_threshold(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, want = open_index(built).store, held(built)
    for threads, chunk in ((1, 16), (2, 64), (2, 10**6)):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        with threadpool_limits(threads):
            assert fit_store(store) == want


def test_each_way_to_the_same_references_gives_the_same_thresholds(many: Path, built: Path, tmp_path: Path) -> None:
    encoders, want = toy_encoders(), held(built)
    build_index(many, tmp_path / "a", encoders, select=Select(shard=Shard(1, 2)))
    build_index(many, tmp_path / "b", encoders, select=Select(shard=Shard(2, 2)))
    assert held(tmp_path / "a").rows == []
    merge_indexes([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert held(tmp_path / "merged") == want
    add_references(many, tmp_path / "a", run=running(encoders))
    assert held(tmp_path / "a") == want
    remove_references(tmp_path / "a", concepts=["k00"], run=running(encoders))
    assert "k00" not in held(tmp_path / "a").concepts and held(tmp_path / "a").digest != want.digest


def test_creators_beside_the_references_travel_with_the_index(many: Path, built: Path, tmp_path: Path) -> None:
    refs, encoders, plain = tmp_path / "refs", toy_encoders(), held(built)
    shutil.copytree(many, refs)
    table = refs / "concepts.csv"
    build_index(refs, tmp_path / "i", encoders)
    before = open_index(tmp_path / "i").index_id
    assert held(tmp_path / "i") == plain
    table.write_text("Concept,title,creator\nk01,One,Bill  Smith\nk05,Five,BILL smith\nk07,Seven,\nnone,None,Bill\n")
    build_index(refs, tmp_path / "i", encoders)
    found = held(tmp_path / "i")
    assert found.creators == {"k01": "bill smith", "k05": "bill smith"}
    assert found.digest != plain.digest and open_index(tmp_path / "i").index_id == before
    assert found == fit_store(open_index(tmp_path / "i").store, creators=found.creators)
    said = "creators of 2 of 26 concepts by {}: pairs of one creator are left out of the thresholds"
    lines = threshold_lines(read_manifest(tmp_path / "i")["thresholds"], 26)
    assert said.format("concepts.csv beside the references") in "\n".join(lines)
    again = build_index(refs, tmp_path / "i", toy_encoders())
    assert not again.changed and said.format(table) in again.notices
    assert verify_index(tmp_path / "i") == []

    for part in (1, 2):
        build_index(refs, tmp_path / f"p{part}", encoders, select=Select(shard=Shard(part, 2)))
    merge_indexes([tmp_path / "p1", tmp_path / "p2"], tmp_path / "merged")
    add_references(many, tmp_path / "p1", run=running(encoders))  # a folder that says nothing of creators
    add_references(refs, tmp_path / "p1", run=running(encoders))
    assert held(tmp_path / "merged") == held(tmp_path / "p1") == found
    assert repair_index(tmp_path / "merged").done == [] and held(tmp_path / "merged") == found
    remove_references(tmp_path / "merged", concepts=["k05"], run=running(encoders))
    assert held(tmp_path / "merged").creators == {"k01": "bill smith"}

    table.write_text("concept,artist\nk02,Ann\n")  # nothing else has changed, and nothing is embedded
    other = toy_encoders()
    assert build_index(refs, tmp_path / "i", other).changed and forwards(other) == 0
    assert held(tmp_path / "i").creators == {"k02": "ann"}
    table.write_text("concept,title\nk02,Two\n")
    assert any("no columns 'concept' and 'creator'" in n for n in build_index(refs, tmp_path / "i", other).notices)
    assert held(tmp_path / "i") == plain
    table.write_bytes(b"PK\x03\x04")
    for command in (partial(build_index, encoders=encoders), rehearse_build):
        with pytest.raises(InputError, match=r"concepts\.csv"):
            command(refs, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_creators_a_manifest_and_its_digest_are_as_before_there_were_any(built: Path) -> None:
    stored = read_manifest(built)["thresholds"]
    assert set(stored) == {"alpha", "seed", "format", "concepts", "works", "queries", "rows"}
    assert held(built).digest == digest_of(stored)
    assert replace(held(built), creators={"k00": "ann"}).digest != digest_of(stored)


def test_a_merge_follows_the_first_part_that_names_a_creator(many: Path, tmp_path: Path) -> None:
    tables = {"a": "k00,Ann\nk01,Bob\n", "b": "k00,Eve\nk02,Bob\n"}
    for part, rows in tables.items():
        for concept in ("k00", "k01", "k02"):
            shutil.copytree(many / concept, tmp_path / f"refs_{part}" / concept)
        (tmp_path / f"refs_{part}" / "concepts.csv").write_text(f"concept,creator\n{rows}")
        build_index(tmp_path / f"refs_{part}", tmp_path / part, toy_encoders())
    parts = [tmp_path / "a", tmp_path / "b"]
    report = merge_indexes(parts, tmp_path / "merged")
    assert held(tmp_path / "merged").creators == {"k00": "ann", "k01": "bob", "k02": "bob"}
    assert [n for n in report.notices if "different creators of 1 concept, first k00" in n]
    for part in tables:  # what the parts no longer say, the merged index does not say either
        (tmp_path / f"refs_{part}" / "concepts.csv").unlink()
        build_index(tmp_path / f"refs_{part}", tmp_path / part, toy_encoders())
    report = merge_indexes(parts, tmp_path / "merged")
    assert report.changed and not report.notices and held(tmp_path / "merged").creators == {}


def test_a_build_that_ends_in_the_fit_is_finished_by_the_next_one(
    many: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(many, tmp_path / "i", toy_encoders(), select=Select(shard=Shard(1, 2)))
    before = held(tmp_path / "i")
    with monkeypatch.context() as m:
        m.setattr("iconicity.indexer.builder.fit_store", lambda _, creators: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_index(many, tmp_path / "i", toy_encoders())
    assert held(tmp_path / "i") == before and open_index(tmp_path / "i").references()  # still what it was
    encoders = toy_encoders()
    build_index(many, tmp_path / "i", encoders)
    assert held(tmp_path / "i") == held(built) and forwards(encoders) == 0
    assert verify_index(tmp_path / "i") == []


def test_an_index_of_an_earlier_version_is_fitted_by_the_next_build(built: Path, many: Path, tmp_path: Path) -> None:
    build_index(many, tmp_path / "i", toy_encoders())
    manifest = read_manifest(tmp_path / "i")
    del manifest["thresholds"]
    write_manifest(tmp_path / "i", manifest)
    assert thresholds_of(read_manifest(tmp_path / "i")) is None
    encoders = toy_encoders()
    build_index(many, tmp_path / "i", encoders)
    assert held(tmp_path / "i") == held(built) and forwards(encoders) == 0


def test_a_threshold_rests_on_references_that_are_there(built: Path, tmp_path: Path) -> None:
    manifest = read_manifest(built)
    queries = manifest["thresholds"]["queries"]
    write_manifest(
        built, {**manifest, "thresholds": {**manifest["thresholds"], "queries": ["k00/gone.png", *queries[1:]]}}
    )
    assert verify_index(built) == [
        f"{built}: its thresholds were fitted on k00/gone.png, which is not one of its kept references"
    ]
    write_manifest(built, manifest)
    assert verify_index(built) == []
