"""Scoring again: another index, another part of the images, other settings; nothing true is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toys import Study, draw, make_gen, make_refs, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.errors import InputError, LockedError, SettingsError
from iconicity.indexer.options import IndexOptions, Select
from iconicity.indexer.store.files import lock
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.options import ScoreOptions, Writing


def test_other_settings_are_refused_by_name(study: Study, gen: Path, refs: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    with pytest.raises(SettingsError, match="mode=dynamic, asked for static"):
        study({"m1": gen}, ScoreOptions(mode="static"))
    with pytest.raises(SettingsError, match="k_gen=50, asked for 2"):
        study({"m1": gen}, ScoreOptions(k_gen=2))
    for name, options in (("grid", IndexOptions((2, 2))), ("against index", IndexOptions(dedup_distance=None))):
        build_index(refs, tmp_path / f"{name[:4]}.index", toy_encoders(), options)
        study.index = tmp_path / f"{name[:4]}.index"
        with pytest.raises(SettingsError, match=name):
            study({"m1": gen})
    build_index(refs, tmp_path / "dino.index", toy_encoders(dino_seed=77))
    study.index = tmp_path / "dino.index"
    with pytest.raises(SettingsError, match="dino="):
        study({"m1": gen}, writing=Writing(update=True))


def test_one_more_reference_and_update_embed_nothing(study: Study, gen: Path, refs: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)
    study({"m1": gen, "m2": other})
    passes = study.forwards
    write(refs / "alpha" / "new.png", draw(5001))  # m1's alpha/01.png
    add_references(refs, study.index, run=running())
    with pytest.raises(SettingsError, match="`update`"):
        study({"m1": gen})
    report = study({"m1": gen}, writing=Writing(update=True))
    assert report.embedded == 0 and study.forwards == passes and study.loads == 1
    assert study.results().settings["index_id"] == open_index(study.index).index_id
    for model in ("m1", "m2"):  # the model that was not named is scored again too
        assert all(r["n_ref_kept"] == (4 if r["concept"] == "alpha" else 3) for r in study.results().rows(model))
    assert study.results().rows("m1")[1]["cra_ref_id"] == "alpha/new.png"
    fresh = Study(study.index, tmp_path / "fresh")
    fresh({"m1": gen, "m2": other})
    assert fresh.results().table().equals(study.results().table())


def test_a_restricted_run_leaves_the_other_concepts(study: Study, gen: Path) -> None:
    study({"m1": gen})
    before = study.results().table()
    report = study({"m1": gen}, ScoreOptions(metrics=("vr",)), select=Select(concepts=["alpha"]))
    assert report.scored == 9 and study.results().table().equals(before)
    (gen / "alpha" / "02.png").unlink()
    (gen / "beta" / "02.png").unlink()
    study({"m1": gen}, select=Select(concepts=["alpha"]), writing=Writing(prune=True))
    assert [r["gen_relpath"] for r in study.results().rows("m1")].count("beta/02.png") == 1
    assert len(study.results().rows("m1")) == 8


def test_update_scores_from_the_cache_what_is_no_longer_there(
    study: Study, gen: Path, refs: Path, tmp_path: Path
) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)
    study({"m1": gen, "m2": other})
    before = study.results().rows("m2")
    write(refs / "alpha" / "new.png", draw(5001))
    add_references(refs, study.index, run=running())
    other.rename(tmp_path / "away")
    study({"m1": gen}, writing=Writing(update=True))
    after = study.results().rows("m2")
    assert [r["p"] for r in after[3:]] == [r["p"] for r in before[3:]] and after[0]["n_ref_kept"] == 4
    write(refs / "alpha" / "newer.png", draw(5002))
    add_references(refs, study.index, run=running())
    table = study.results().table()
    with pytest.raises(InputError, match=r"row of m2 cannot be scored again; restore the file"):
        study({"m1": gen}, writing=Writing(update=True), run=replace(study.run, cache=None))
    assert study.results().table().equals(table)  # nothing was lost


def test_update_after_a_concept_went_says_whose_rows_go(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen, "m2": make_gen(tmp_path / "gen" / "m2", seed=9000)})
    remove_references(study.index, concepts=["beta"])
    notices = study({"m1": gen}, writing=Writing(update=True)).notices
    lost = "images of concepts that the index has no references for, not scored: m1 3, m2 3; first 'beta'"
    assert lost in notices and lost in open_study(study.out).notes
    assert {r["concept"] for r in study.results().rows("m2")} == {"alpha", "gamma"}


def test_a_model_not_named_keeps_its_own_metrics(study: Study, gen: Path, refs: Path, tmp_path: Path) -> None:
    study({"m1": gen}, ScoreOptions(metrics=("cra",)))
    write(refs / "alpha" / "new.png", draw(5001))
    add_references(refs, study.index, run=running())
    study({"m2": make_gen(tmp_path / "gen" / "m2", seed=9000)}, writing=Writing(update=True))
    assert all(r["p"] is None and r["cra_sim"] is not None for r in study.results().rows("m1"))


def test_one_writer_at_a_time(study: Study, gen: Path) -> None:
    with lock(study.out, "writing these results"), pytest.raises(LockedError, match="is writing these results"):
        study({"m1": gen})


def test_pixels_are_a_setting(study: Study, gen: Path, refs: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    build_index(refs, tmp_path / "plain.index", toy_encoders(), IndexOptions(pixels="published"))
    study.index = tmp_path / "plain.index"
    with pytest.raises(SettingsError, match="pixels=shown, asked for published"):
        study({"m1": gen})


def test_another_index_with_the_same_encoders_costs_no_forward_pass(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    made = study.forwards
    build_index(make_refs(tmp_path / "others", ["alpha", "beta"], each=5), tmp_path / "j", toy_encoders())
    study.index = tmp_path / "j"
    report = study({"m1": gen}, out=tmp_path / "out-j")
    assert report.scored == 6 and report.forwards == 0 and study.forwards == made and study.loads == 1


def test_a_restricted_run_does_not_look_at_other_images(study: Study, gen: Path) -> None:
    study({"m1": gen}, ScoreOptions(metrics=("cra",)))
    before = study.results().rows("m1")
    (gen / "beta" / "01.png").write_bytes(b"junk")
    study({"m1": gen}, ScoreOptions(metrics=("vr",)), select=Select(concepts=["alpha"]))
    after = study.results().rows("m1")
    assert [r for r in after if r["concept"] != "alpha"] == [r for r in before if r["concept"] != "alpha"]
    assert all(r["p"] is not None for r in after if r["concept"] == "alpha")


def test_update_takes_a_row_at_its_word(study: Study, gen: Path, refs: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)
    study({"m1": gen, "m2": other})
    before = study.results().rows("m2")
    write(refs / "alpha" / "new.png", draw(5001))
    add_references(refs, study.index, run=running())
    write(other / "alpha" / "01.png", draw(4711))  # another file under the same name; m2 is not named
    study({"m1": gen}, writing=Writing(update=True))
    assert [r["gen_sha256"] for r in study.results().rows("m2")] == [r["gen_sha256"] for r in before]


def test_what_a_killed_run_left_goes(study: Study, gen: Path) -> None:
    study.out.mkdir()
    (study.out / ".scores_dynamic.parquet.1.tmp").write_bytes(b"x")
    study({"m1": gen})
    assert not list(study.out.glob(".*.tmp"))
