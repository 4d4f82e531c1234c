"""Whatever a user gave and the numbers do not contain is counted: on stderr, in the meta files, in every table."""

from __future__ import annotations

import json
from pathlib import Path

from toys import Study, draw, make_gen, make_refs, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.options import Select
from iconicity.indexer.shards import Shard
from iconicity.scorer.left_out import left_out_of
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.merge import merge_results
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import require_results

BEYOND = "images beyond `k_gen` 2, not counted"


def left_out(out: Path) -> list[str]:
    """Of the notes of a table, those that are about what is left out."""
    lines = left_out_of([require_results(out)])
    assert set(lines) <= set(open_study(out).notes)
    return sorted(lines)


def test_images_beyond_k_gen_are_in_the_notes_of_every_table(study: Study, gen: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)
    (other / "beta" / "01.png").unlink()
    report = study({"m1": gen, "m2": other}, ScoreOptions(k_gen=2))
    line = f"{BEYOND}: m1 3 of 9, m2 2 of 6; first alpha/02.png, beta/02.png, gamma/02.png"
    assert line in report.notices and left_out(study.out) == [line]
    meta = json.loads((study.out / "results_cra_dynamic.meta.json").read_text())
    assert line in meta["notices"]
    assert meta["left_out"]["m2"][0] == {"kind": BEYOND, "n": 1, "of": 3, "concept": "alpha", "first": "alpha/02.png"}
    study({"m2": other}, ScoreOptions(k_gen=2))  # the other model's line stays
    assert left_out(study.out) == [line]
    for concept in ("alpha", "beta", "gamma"):
        (gen / concept / "02.png").unlink()
    study({"m1": gen}, ScoreOptions(k_gen=2))
    assert left_out(study.out) == [f"{BEYOND}: m2 2 of 6; first alpha/02.png, gamma/02.png"]


def test_a_run_over_some_concepts_keeps_what_was_said_of_others(study: Study, gen: Path) -> None:
    study({"m1": gen}, ScoreOptions(k_gen=2))
    (gen / "alpha" / "02.png").unlink()
    report = study({"m1": gen}, ScoreOptions(k_gen=2), select=Select(concepts=["alpha", "omega", "omega"]))
    assert left_out(study.out) == [
        "concepts of `Select.concepts` that neither the index nor the images have: m1 1; first 'omega'",
        f"{BEYOND}: m1 2 of 6; first beta/02.png, gamma/02.png",
        "rows of `Select.concepts` that name a concept once more: m1 1 of 3; first 'omega'",
    ]
    assert not any("does not name" in n for n in report.notices)  # beta and gamma are in the results


def test_concepts_a_restricted_run_leaves_out_are_counted(study: Study, gen: Path) -> None:
    study({"m1": gen}, select=Select(concepts=["alpha"]))
    assert left_out(study.out) == [
        "concepts of the index without an image in these results: m1 2; first 'beta'",
        "images of concepts that `Select.concepts` does not name, not scored: m1 6; first 'beta', 'gamma'",
    ]
    study({"m1": gen}, select=Select(concepts=["beta", "gamma"]))
    assert left_out(study.out) == []


def test_models_that_a_run_does_not_name_are_said_to_stay(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    report = study({"m2": make_gen(tmp_path / "gen" / "m2", seed=9000)})
    assert report.notices[-1] == f"models of {study.out} that this run does not name stay as they are: m1"


def test_shards_that_are_merged_say_what_one_run_says(study: Study, gen: Path, tmp_path: Path) -> None:
    (gen / "beta").rename(tmp_path / "away")
    write(gen / "omega" / "1.png", draw(1))
    study({"m1": gen}, ScoreOptions(k_gen=2))
    parts = []
    for i in (1, 2):
        study({"m1": gen}, ScoreOptions(k_gen=2), out=tmp_path / str(i), select=Select(shard=Shard(i, 2)))
        parts += [tmp_path / str(i)] if (tmp_path / str(i) / "scores_dynamic.parquet").is_file() else []
    merge_results(parts, tmp_path / "merged")
    assert left_out(tmp_path / "merged") == left_out(study.out)
    assert len(left_out(study.out)) == 3
    assert merge_results(parts, tmp_path / "merged").rows == 4  # merged once more it says no more
    assert left_out(tmp_path / "merged") == left_out(study.out)


def test_what_the_index_left_out_is_said_beside_the_numbers(tmp_path: Path, gen: Path) -> None:
    refs = make_refs(tmp_path / "refs")
    (refs / "alpha" / "broken.png").write_bytes(b"no image")
    build_index(refs, tmp_path / "i", toy_encoders(), select=Select(concepts=["alpha", "beta", "gamma", "phi"]))
    study = Study(tmp_path / "i", tmp_path)
    study({"m1": gen})
    assert left_out(study.out) == [
        "concepts of `Select.concepts` that have no folder of references: 1; first 'phi'",
        f"references that could not be used: 1; first {refs}/alpha/broken.png",
    ]
    write(refs / "phi" / "1.png", draw(5))
    add_references(refs, tmp_path / "i", run=running())
    study({"m1": gen}, writing=Writing(update=True))
    assert left_out(study.out)[:1] == ["concepts of the index without an image in these results: m1 1; first 'phi'"]


def test_files_that_get_no_row_are_in_the_notes(study: Study, gen: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside.png", draw(3))
    (gen / "alpha" / "9.png").symlink_to(tmp_path / "outside.png")
    report = study({"m1": gen})
    assert len(report.skipped) == 1
    (line,) = left_out(study.out)
    assert line.startswith(
        "files or rows of metadata that could not be used, without a row in the results: m1 1; first "
    )
    assert "9.png: a link out of the folder" in line
