"""What was given and is not used: one line a kind, whatever the number of models and concepts."""

from __future__ import annotations

from pathlib import Path

from toys import draw, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.info import index_facts, info_text
from iconicity.indexer.left_out import LeftOut, held_left_out, left_out_lines, renewed, rows_left_out
from iconicity.indexer.merge import merge_indexes
from iconicity.indexer.options import Select
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.manifest import read_manifest


def test_one_line_a_kind() -> None:
    kind = "images beyond `k_gen` 2, not counted"
    by_model = {
        "A": [LeftOut(kind, 3, 5, "one", "one/3.png"), LeftOut(kind, 1, 3, "two", "two/3.png"), LeftOut("a line")],
        "B": [LeftOut(kind, 2, 4, "one", "one/3.png"), LeftOut("a line")],
    }
    assert left_out_lines(by_model) == [f"{kind}: A 4 of 8, B 2 of 4; first one/3.png, two/3.png", "a line"]
    many = {f"m{i}": [LeftOut(kind, 1, first=f"{i}.png")] for i in range(9)}
    assert left_out_lines(many) == [
        f"{kind}: m0 1, m1 1, m2 1, m3 1, m4 1, m5 1 and 3 more; first 0.png, 1.png, 2.png and 6 more"
    ]


def test_a_run_over_some_concepts_replaces_what_was_said_of_them() -> None:
    held = [LeftOut("k", 1, concept="one"), LeftOut("k", 2, concept="two"), LeftOut("line")]
    new = [LeftOut("k", 5, concept="one")]
    assert renewed(held, new, {"one"}) == [held[1], new[0]]
    assert renewed(held, new, None) == new


def test_rows_that_repeat() -> None:
    assert left_out_lines({"": rows_left_out(["a", "b", "a", "a"])}) == [
        "rows of `Select.concepts` that name a concept once more: 2 of 4; first 'a'"
    ]
    assert rows_left_out(["a", "b"]) == []


def test_an_index_says_what_it_was_not_built_of(refs: Path, tmp_path: Path) -> None:
    (refs / "empty").mkdir()
    named = ["alpha", "omega", "alpha", "empty"]
    report = build_index(refs, tmp_path / "i", toy_encoders(), select=Select(concepts=named))
    lines = [
        f"folders without an image: 1; first {refs / 'empty'}",
        "folders of references that `Select.concepts` does not name: 2; first 'beta', 'gamma'",
        "concepts of `Select.concepts` that have no folder of references: 1; first 'omega'",
        "rows of `Select.concepts` that name a concept once more: 1 of 4; first 'alpha'",
    ]
    assert report.notices == lines
    text = info_text(index_facts(tmp_path / "i"))
    assert [line.removeprefix("left out    ") for line in text.splitlines() if line.startswith("left out")] == lines
    write(refs / "omega" / "1.png", draw(77))
    add_references(refs, tmp_path / "i", run=running())
    kinds = [line.partition(":")[0] for line in left_out_lines({"": held_left_out(read_manifest(tmp_path / "i"))})]
    assert kinds == ["folders without an image", "rows of `Select.concepts` that name a concept once more"]
    remove_references(tmp_path / "i", concepts=["beta"])
    assert len(held_left_out(read_manifest(tmp_path / "i"))) == 2
    assert not build_index(refs, tmp_path / "j", toy_encoders()).notices[1:]  # the empty folder alone


def test_merged_shards_say_what_one_build_says(refs: Path, tmp_path: Path) -> None:
    named = ["alpha", "beta", "omega", "phi"]
    build_index(refs, tmp_path / "whole", toy_encoders(), select=Select(concepts=named))
    for i in (1, 2, 3):
        build_index(refs, tmp_path / str(i), toy_encoders(), select=Select(concepts=named, shard=Shard(i, 3)))
    parts = [tmp_path / str(i) for i in (1, 2, 3) if (tmp_path / str(i) / "manifest.json").is_file()]
    merge_indexes(parts, tmp_path / "merged")
    whole, merged = (set(held_left_out(read_manifest(tmp_path / n))) for n in ("whole", "merged"))
    assert whole == merged and len(whole) == 3
