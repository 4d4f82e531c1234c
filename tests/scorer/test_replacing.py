"""Scoring takes no row away and gives none to another file unless asked; a rehearsal says which it would."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run import run
from toys import Study, draw, make_gen, running, write

from iconicity.indexer.build import remove_references
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import Select
from iconicity.indexer.store.index import open_index
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.rehearsal import rehearse_score
from iconicity.scorer.removing import remove_models
from iconicity.scorer.results import require_results
from iconicity.scorer.verify import verify_results


def test_another_folder_under_a_models_name_is_refused(study: Study, gen: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)  # the same file names; 00.png is the same picture too
    study({"m1": gen})
    before = study.results().table()
    with pytest.raises(InputError, match=r"6 of 9 rows of m1 would go, first that of .*m1/alpha/01\.png.*`prune`"):
        study({"m1": other})
    assert study.results().table().equals(before)
    study({"m1": other}, writing=Writing(prune=True))
    assert {Path(r["gen_path"]).parents[1] for r in study.results().rows("m1")} == {other}


def test_a_second_batch_does_not_take_the_place_of_the_first(study: Study, tmp_path: Path) -> None:
    write(tmp_path / "batch1" / "alpha" / "1.png", draw(1))
    write(tmp_path / "batch2" / "alpha" / "2.png", draw(2))
    study({"A": tmp_path / "batch1"})
    with pytest.raises(InputError, match=r"1 of 1 rows of A would go, first that of .*batch1/alpha/1\.png"):
        study({"A": tmp_path / "batch2"})
    assert [r["gen_relpath"] for r in study.results().rows("A")] == ["alpha/1.png"]


def test_a_folder_that_moved_or_changed_in_place_is_no_replacement(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    passes = study.forwards
    shutil.copytree(gen, tmp_path / "copied")
    study({"m1": tmp_path / "copied"})
    assert study.forwards == passes
    assert all(r["gen_path"].startswith(str(tmp_path / "copied")) for r in study.results().rows("m1"))
    write(tmp_path / "copied" / "alpha" / "01.png", draw(77))
    (tmp_path / "copied" / "beta" / "01.png").rename(tmp_path / "copied" / "beta" / "renamed.png")
    write(tmp_path / "copied" / "gamma" / "more.png", draw(78))
    study({"m1": tmp_path / "copied"})
    assert len(study.results().rows("m1")) == 10
    study({"m1": tmp_path / "copied" / ".." / "copied"})  # the same files, spelled otherwise
    write(tmp_path / "copied" / "alpha" / "01.png", draw(79))
    study({"m1": tmp_path / "copied"})


def test_images_that_only_stop_to_count_are_said_and_not_refused(study: Study, gen: Path) -> None:
    study({"m1": gen}, ScoreOptions(k_gen=3))
    write(gen / "alpha" / "000.png", draw(5))
    report = study({"m1": gen}, ScoreOptions(k_gen=3))
    assert any("images beyond `k_gen` 3, not counted: m1 1 of 4; first alpha/02.png" in n for n in report.notices)


def test_update_takes_rows_away_with_their_references_alone(study: Study, gen: Path) -> None:
    study({"m1": gen})
    remove_references(study.index, concepts=["beta"], run=running())
    study({"m1": gen}, writing=Writing(update=True))
    assert {r["concept"] for r in study.results().rows("m1")} == {"alpha", "gamma"}


def test_a_rehearsal_counts_and_writes_nothing(study: Study, gen: Path, tmp_path: Path) -> None:
    opened, how = open_index(study.index), ScoreOptions()
    nothing = rehearse_score(opened, {"m1": gen}, study.out, how, cache=tmp_path / "none")
    assert (nothing.images, nothing.embed, nothing.refused) == (9, 9, None)
    assert not study.out.exists() and not (tmp_path / "none").exists()
    study({"m1": gen})
    files = {p: p.stat().st_mtime_ns for p in (*study.out.iterdir(), *(tmp_path / "cache").iterdir())}
    write(gen / "alpha" / "new.png", draw(5))
    (gen / "beta" / "00.png").unlink()
    found = rehearse_score(
        opened, {"m1": gen}, study.out, how, cache=tmp_path / "cache", select=Select(concepts=["alpha", "beta"])
    )
    assert (found.images, found.embed) == (6, 1) and len(found.lost["m1"].rows) == 1
    assert found.refused is not None and "1 of 9 rows of m1 would go" in found.refused
    assert rehearse_score(opened, {"m1": gen}, study.out, how, writing=Writing(prune=True)).refused is None
    assert {p: p.stat().st_mtime_ns for p in (*study.out.iterdir(), *(tmp_path / "cache").iterdir())} == files


def test_models_are_removed_on_request_alone(study: Study, gen: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "gen" / "m2", seed=9000)
    study({"m1": gen, "m2": other}, ScoreOptions(k_gen=2))
    kept = study.results().rows("m2")
    with pytest.raises(InputError, match=r"holds no model 'm11' \(is it 'm1'\?\)"):
        remove_models(study.out, ["m11"])
    with pytest.raises(InputError, match="no model would be left"):
        remove_models(study.out, ["m1", "m2"])
    removed = remove_models(study.out, ["m1"])
    assert (removed.rows, removed.kept) == ({"m1": 6}, 6)
    held = require_results(study.out)
    assert held.rows("m2") == kept and held.models == ["m2"] and "m1" not in held.left_out
    assert verify_results(study.out) == [] and "m1" not in (study.out / "results_cra_dynamic.csv").read_text().split(
        ","
    )
    alone = Study(study.index, tmp_path / "alone")
    alone({"m2": other}, ScoreOptions(k_gen=2))
    assert require_results(alone.out).table().equals(held.table())


def test_from_the_command_line(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen, "m2": make_gen(tmp_path / "gen" / "m2", seed=9000)})
    score = ("score", "--index", study.index, "--gen", f"m1={tmp_path / 'gen' / 'm2'}", "--out", study.out, "--dry-run")
    said = run(*score).stdout
    assert "would score 9 images, embed 6, remove or replace 6 of 9 rows of m1, skip 0; nothing was written" in said
    assert "dry run: the command would be refused: " in said
    done = run("results", "remove", study.out, "--model", "m1")
    assert f"{study.out}: m1 removed, 9 rows" in done.stdout
    assert "its models are m2" in run("results", "remove", study.out, "--model", "m3", code=1).stderr
