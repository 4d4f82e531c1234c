"""Every concept in exactly one shard, the same everywhere; a build of one shard leaves the others' rows alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run import models, run
from toys import draw, forwards, tiny_clip, tiny_vit, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import Select
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.folders import folder_images
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.verify import verify_index


@given(st.text(), st.integers(1, 40))
def test_a_concept_lies_in_one_shard_by_its_hash(concept: str, n: int) -> None:
    holding = [i for i in range(1, n + 1) if concept in Shard(i, n)]
    digest = hashlib.sha256(concept.encode()).hexdigest()
    assert holding == [int(digest[:16], 16) % n + 1]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "1/-2", "1/2/3", "", "1.0/2", "01/2"])
def test_what_is_no_shard_is_said(text: str) -> None:
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)
    assert "shard" in run("index", "build", "--refs", "r", "--index", "i", "--shard", text, code=2).stderr


def test_shards_hold_all_files_once(refs: Path, tmp_path: Path) -> None:
    (refs / "beta" / "broken.png").write_bytes(b"no image")
    whole = build_index(refs, tmp_path / "whole", toy_encoders())
    held: dict[str, str] = {}
    skipped, embedded = [], 0
    for i in range(1, 6):
        shard, index = Shard(i, 5), tmp_path / str(i)
        report = build_index(refs, index, toy_encoders(), select=Select(shard=shard))
        embedded += report.embedded
        skipped += report.skipped
        found = {r.ref_id: r.concept for r in open_index(index).references().values()}
        assert all(c in shard for c in found.values()) and not held.keys() & found.keys()
        held |= found
        empty = not any(image.concept in shard for image in folder_images(refs))
        assert any(f"none of its 3 concepts falls to shard {i}/5" in n for n in report.notices) == empty
        assert verify_index(index) == []
    assert held.keys() == open_index(tmp_path / "whole").references().keys()
    assert skipped == whole.skipped and embedded == whole.embedded


def test_shards_built_into_one_folder_make_the_whole(refs: Path, tmp_path: Path) -> None:
    (refs / "beta" / "broken.png").write_bytes(b"no image")
    build_index(refs, tmp_path / "whole", toy_encoders())
    for i in (1, 2, 3, 2):
        encoders = toy_encoders()
        report = build_index(refs, tmp_path / "i", encoders, select=Select(shard=Shard(i, 3)))
    assert forwards(encoders) == 0 and report.removed == 0
    (refs / "beta" / "01.png").unlink()
    with pytest.raises(InputError, match=r"1 of its 12 references would go, first beta/01\.png.*`prune`"):
        [build_index(refs, tmp_path / "i", toy_encoders(), select=Select(shard=Shard(i, 3))) for i in (1, 2, 3)]
    gone = [
        build_index(refs, tmp_path / "i", toy_encoders(), prune=True, select=Select(shard=Shard(i, 3))).removed
        for i in (1, 2, 3)
    ]
    assert sorted(gone) == [0, 0, 1]
    build_index(refs, tmp_path / "whole", toy_encoders(), prune=True)
    one, all_ = open_index(tmp_path / "i"), open_index(tmp_path / "whole")
    assert one.index_id == all_.index_id and one.manifest["skipped"] == all_.manifest["skipped"]


def test_listed_concepts_of_other_shards_are_not_called_lost(refs: Path, tmp_path: Path) -> None:
    notices = [
        n
        for i in (1, 2)
        for n in build_index(
            refs,
            tmp_path / str(i),
            toy_encoders(),
            select=Select(concepts=["alpha", "beta", "gone"], shard=Shard(i, 2)),
        ).notices
    ]
    assert [n for n in notices if "no folder" in n] == [
        "concepts of `Select.concepts` that have no folder of references: 1; first 'gone'"
    ]


def test_a_folder_without_images_is_an_error_in_any_shard(tmp_path: Path) -> None:
    (tmp_path / "refs" / "alpha").mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), select=Select(shard=Shard(1, 2)))


def test_tasks_and_merge_from_the_command_line(tmp_path: Path) -> None:
    """Three tasks, one of which has nothing to do; the parts merged, and the same images scored in two parts and in one."""
    tiny_clip(tmp_path / "clip")
    tiny_vit(tmp_path / "vit.safetensors")
    refs, gen = tmp_path / "refs", tmp_path / "gen"
    for j, concept in enumerate(("alpha", "beta")):
        for k in range(2):
            write(refs / concept / f"{k}.png", draw(10 * j + k))
            write(gen / "m" / concept / f"{k}.png", draw(10 * j + 5 + k))
    parts = []
    said = []
    for i in (1, 2, 3):
        parts.append(tmp_path / f"part{i}")
        said.append(run("index", "build", "--refs", refs, "--index", parts[-1], "--shard", f"{i}/3", *models(tmp_path)))
    assert sum("none of its 2 concepts" in d.stderr for d in said) >= 1
    done = run("index", "merge", *parts, "--index", tmp_path / "all")
    assert "4 references of 3 parts written, 0 were there already" in done.stdout
    assert (
        "0 references of 3 parts written, 4 were" in run("index", "merge", *parts, "--index", tmp_path / "all").stdout
    )
    assert "merge" in run("index", "log", "--index", tmp_path / "all").stdout
    run("index", "verify", "--index", tmp_path / "all", "--deep")
    options = ["--index", tmp_path / "all", "--gen", f"m={gen / 'm'}", *models(tmp_path)]
    run("score", *options, "--out", tmp_path / "whole")
    results = [tmp_path / f"results{i}" for i in (1, 2, 3)]
    for i, out in enumerate(results, 1):
        run("score", *options, "--out", out, "--shard", f"{i}/3")
    done = run("results", "merge", *results, "--out", tmp_path / "merged")
    assert "4 rows of 3 parts" in done.stdout
    for name in ("scores_dynamic.parquet", "results_cra_dynamic.csv", "results_vr_dynamic.csv"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    run("results", "verify", tmp_path / "merged")
