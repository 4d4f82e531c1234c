"""Merged results equal those of one run, file for file; what does not belong together is refused with both names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rows import make_results, row
from run import run
from toys import Study, draw, make_gen, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.options import Select
from iconicity.indexer.shards import Shard
from iconicity.scorer.merge import merge_results
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import require_results
from iconicity.scorer.verify import verify_results

FILES = ("scores_dynamic.parquet", "results_cra_dynamic.csv", "results_vr_dynamic.csv")


@pytest.fixture
def models(gen: Path, tmp_path: Path) -> dict[str, Path]:
    make_gen(tmp_path / "gen" / "m2@plain", seed=9000)
    write(gen / "unheard_of" / "x.png", draw(101))
    (gen / "beta" / "broken.png").write_bytes(b"no image")
    return {m: tmp_path / "gen" / m for m in ("m1", "m2@plain")}


def meta(folder: Path, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"results_{metric}_dynamic.meta.json").read_text())
    return {k: v for k, v in found.items() if k not in ("written", "digest")}


def assert_same(merged: Path, whole: Path) -> None:
    for name in FILES:
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    for metric in ("cra", "vr"):
        assert meta(merged, metric) == meta(whole, metric)
    assert verify_results(merged) == []


@pytest.mark.parametrize("scope", ["concept", "all"])
def test_shards_merged_are_one_run(study: Study, models: dict[str, Path], tmp_path: Path, scope: str) -> None:
    options, writing = ScoreOptions(scope=scope, tau_vr=0.7), Writing(note="selected by eye")
    whole = study(models, options, out=tmp_path / "whole", writing=writing)
    parts, scored, skipped = [], 0, 0
    for i in range(1, 5):
        parts.append(tmp_path / f"part{i}")
        report = study(models, options, out=parts[-1], writing=writing, select=Select(shard=Shard(i, 4)))
        scored += report.scored
        skipped += len(report.skipped)
        rows = require_results(parts[-1]).table().num_rows
        assert any(f"has a concept of shard {i}/4" in n for n in report.notices) == (rows == 0)
    assert (scored, skipped) == (whole.scored, len(whole.skipped))
    merged = merge_results(parts, tmp_path / "merged")
    assert_same(tmp_path / "merged", tmp_path / "whole")
    assert merged.models == ["m1", "m2@plain"] and merged.rows == require_results(tmp_path / "whole").table().num_rows
    assert [s.reason for s in merged.skipped] == [s.reason for s in whole.skipped]
    merge_results(parts[::-1], tmp_path / "merged")
    assert_same(tmp_path / "merged", tmp_path / "whole")


def test_models_merged_are_one_run(study: Study, models: dict[str, Path], tmp_path: Path) -> None:
    study(models, out=tmp_path / "whole")
    for m, folder in models.items():
        study({m: folder}, out=tmp_path / m)
    merge_results([tmp_path / "m2@plain", tmp_path / "m1"], tmp_path / "merged")
    for name in FILES:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_shards_scored_into_one_folder_make_the_whole(study: Study, models: dict[str, Path], tmp_path: Path) -> None:
    study(models, out=tmp_path / "whole")
    for i in (1, 2, 3, 1):
        study(models, select=Select(shard=Shard(i, 3)))
    assert study.results().table().equals(require_results(tmp_path / "whole").table())


def test_one_metric_and_an_empty_part(study: Study, models: dict[str, Path], tmp_path: Path) -> None:
    study(models, ScoreOptions(metrics=("vr",)), out=tmp_path / "whole")
    n = next(n for n in range(1, 99) if not any(c in Shard(n, 99) for c in ("alpha", "beta", "gamma", "unheard_of")))
    study(models, ScoreOptions(metrics=("vr",)), out=tmp_path / "empty", select=Select(shard=Shard(n, 99)))
    assert merge_results([tmp_path / "empty"], tmp_path / "none").rows == 0
    merge_results([tmp_path / "empty", tmp_path / "whole", tmp_path / "whole"], tmp_path / "merged")
    assert sorted(p.name for p in (tmp_path / "merged").glob("[!.]*")) == [
        "results_vr_dynamic.csv", "results_vr_dynamic.meta.json", "scores_dynamic.parquet",
    ]  # fmt: skip
    assert meta(tmp_path / "merged", "vr") == meta(tmp_path / "whole", "vr")


def test_rows_of_other_concepts_stay_and_those_of_the_parts_are_taken_whole(
    study: Study, models: dict[str, Path], tmp_path: Path
) -> None:
    study(models, out=tmp_path / "merged")
    write(models["m1"] / "alpha" / "00.png", draw(333))
    (models["m1"] / "alpha" / "01.png").unlink()
    study(models, out=tmp_path / "whole")
    study({"m1": models["m1"]}, out=tmp_path / "part", select=Select(concepts=["alpha"]))
    with pytest.raises(InputError, match=r"merged: 1 of \d+ rows of m1 would go.*`prune`"):
        merge_results([tmp_path / "part"], tmp_path / "merged")
    merge_results([tmp_path / "part"], tmp_path / "merged", prune=True)
    assert require_results(tmp_path / "merged").table().equals(require_results(tmp_path / "whole").table())


def test_other_settings_thresholds_and_calibrations_are_named(
    study: Study, gen: Path, refs: Path, tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    study({"m": gen}, out=a)
    for options, said in (
        (ScoreOptions(k_gen=2), f"{b}: scored with k_gen=2, {a} with 50"),
        (ScoreOptions(scope="all"), "scope=all, .* with concept"),
        (ScoreOptions(mode="static"), "mode=static, .* with dynamic"),
        (ScoreOptions(tau_vr=0.61), f"{b}: scored with tau_vr=0.61, {a} with 0.6; .*`tau_vr`"),
    ):
        study({"m": gen}, options, out=b)
        with pytest.raises(SettingsError, match=said):
            merge_results([a, b], tmp_path / "out")
        for path in b.glob("*"):
            path.unlink()
    study({"m": gen}, out=b)
    write(refs / "alpha" / "new.png", draw(55))
    build_index(refs, study.index, toy_encoders())
    with pytest.raises(SettingsError, match="were scored against"):
        merge_results([a, b], tmp_path / "out")
    study({"m": gen}, out=b, writing=Writing(update=True))
    with pytest.raises(SettingsError, match="index_id="):
        merge_results([a, b], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet")) if (tmp_path / "out").exists() else True


def test_calibrations_must_be_one(study: Study, tmp_path: Path) -> None:
    settings = {"index_id": "x"}
    a, b = (make_results(tmp_path / n, row("c", 0.5, 1, name="0.png"), settings=settings) for n in "ab")
    from iconicity.scorer.results import writing_scores
    from iconicity.scorer.thresholds import CALIBRATION, Thresholds

    held = require_results(b)
    brief = Thresholds(0.01, {CALIBRATION: "f" * 64}, {"cra": {1: 0.8}}, {"cra": {1: CALIBRATION}})
    with writing_scores(b, "dynamic", held.settings, held.tau, (), brief):
        pass
    with pytest.raises(SettingsError, match=f"{b}: scored with thresholds=calibration ffffffffffff, {a} with none"):
        merge_results([a, b], tmp_path / "out")


def test_one_image_with_two_rows_and_more_images_than_count(study: Study, gen: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    study({"m": gen}, out=a)
    write(gen / "alpha" / "01.png", draw(4444))
    study({"m": gen}, out=b)
    with pytest.raises(InputError, match=f"{b}: its row of m/alpha/01.png is another than in {a}"):
        merge_results([a, b], tmp_path / "out")
    assert "its row of m/alpha/01.png" in run("results", "merge", a, b, "--out", tmp_path / "out", code=1).stderr
    assert not list((tmp_path / "out").glob("*.parquet"))
    for i, name in enumerate("cd"):
        make_gen(tmp_path / "g" / name, ["alpha"], each=2)
        (tmp_path / "g" / name / "alpha" / "00.png").rename(tmp_path / "g" / name / "alpha" / f"new{i}.png")
        (tmp_path / "g" / name / "alpha" / "01.png").rename(tmp_path / "g" / name / "alpha" / f"other{i}.png")
        study({"m": tmp_path / "g" / name}, ScoreOptions(k_gen=3), out=tmp_path / name)
    with pytest.raises(InputError, match="4 images of 'alpha' by m, where `k_gen` counts 3"):
        merge_results([tmp_path / "c", tmp_path / "d"], tmp_path / "out")


@pytest.mark.parametrize("notices", ["5", '"text"', '["a note", 5]', "{}"])
def test_notices_of_a_stranger(study: Study, gen: Path, tmp_path: Path, notices: str) -> None:
    study({"m": gen}, out=tmp_path / "a")
    for path in (tmp_path / "a").glob("*.meta.json"):
        path.write_text(f'{{"notices": {notices}, "index": {{"path": "{study.index}"}}}}')
    assert merge_results([tmp_path / "a"], tmp_path / "out").notices == (["a note"] if "note" in notices else [])


def test_what_is_no_part(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m": gen}, out=tmp_path / "a")
    with pytest.raises(InputError, match="gone: no such folder"):
        merge_results([tmp_path / "a", tmp_path / "gone"], tmp_path / "out")
    with pytest.raises(InputError, match="none of its parts"):
        merge_results([tmp_path / "a"], tmp_path / "a")
    study.index.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="name it with `index`"):
        merge_results([tmp_path / "a"], tmp_path / "out")
    done = run("results", "merge", tmp_path / "a", "--out", tmp_path / "out", "--index", tmp_path / "moved")
    assert "9 rows of 1 part, 1 model" in done.stdout
    assert run("results", "merge", "--out", tmp_path / "out", code=2)
