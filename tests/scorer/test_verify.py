"""No changed byte of a results directory is taken for a result."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from rows import make_results, random_rows
from run import run
from toys import Study, make_gen

from iconicity.indexer.errors import IconicityError, InputError
from iconicity.scorer.measure.calibrate.calibration import Calibration, read_calibration
from iconicity.scorer.measure.image_null import write_null
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import open_results
from iconicity.scorer.signed import is_whole
from iconicity.scorer.verify import verify_results


def test_every_byte_of_the_scores_counts(tmp_path: Path) -> None:
    """Parquet tests its pages; names, row groups and thresholds stand in the footer, which it does not test."""
    path = make_results(tmp_path / "r", *random_rows(1, 2, 3, 4)) / "scores_dynamic.parquet"
    good, rng = path.read_bytes(), random.Random(2)
    tail = range(len(good) - 4000, len(good))
    for at in [*rng.sample(tail, 150), *rng.sample(range(len(good)), 50)]:
        path.write_bytes(good[:at] + bytes([good[at] ^ rng.randrange(1, 256)]) + good[at + 1 :])
        with pytest.raises(IconicityError, match=r"scores_dynamic\.parquet"):
            open_results(tmp_path / "r")
    path.write_bytes(good)
    assert open_results(tmp_path / "r") is not None


def test_files_derived_from_the_scores_are_tested_by_their_meta_files(study: Study, gen: Path) -> None:
    study({"m1": gen})
    assert verify_results(study.out) == []
    for name in ("results_cra_dynamic.csv", "results_vr_dynamic.meta.json"):
        path = study.out / name
        good = path.read_bytes()
        at = good.index(b"0.") + 2
        path.write_bytes(
            good[:at] + b"7" + good[at + 1 :] if good[at : at + 1] != b"7" else good[:at] + b"3" + good[at + 1 :]
        )
        assert [name in p for p in verify_results(study.out)] == [True]
        path.write_bytes(good)
    (study.out / "results_vr_dynamic.csv").unlink()
    assert "results_vr_dynamic" in verify_results(study.out)[0]
    study({"m1": gen})
    assert verify_results(study.out) == []
    with pytest.raises(InputError, match="holds no scores"):
        verify_results(study.root)


def test_a_csv_elsewhere_is_tested_too(study: Study, gen: Path, tmp_path: Path) -> None:
    csv = tmp_path / "else" / "where.csv"
    study({"m1": gen}, ScoreOptions(metrics=("cra",)), writing=Writing(csv=csv))
    meta = json.loads((study.out / "results_cra_dynamic.meta.json").read_text())
    assert meta["csv"]["path"] == str(csv)
    (csv.parent / f".{csv.name}.4711.tmp").write_bytes(b"x")
    study({"m1": gen}, ScoreOptions(metrics=("cra",)), writing=Writing(csv=csv))
    assert [p.name for p in csv.parent.iterdir()] == [csv.name] and verify_results(study.out) == []
    csv.write_text("x")
    assert "where.csv" in verify_results(study.out)[0]


def test_from_the_command_line(study: Study, tmp_path: Path) -> None:
    study({"m1": make_gen(tmp_path / "g")})
    assert "whole" in run("results", "verify", study.out).stdout
    assert "whole" in run("cache", "verify", "--cache", study.root / "cache").stdout
    (study.out / "results_cra_dynamic.csv").write_text("x")
    assert "1 problem" in run("results", "verify", study.out, code=1).stderr
    assert "whole" in run("index", "verify", "--deep", "--index", study.index).stdout
    (study.index / "manifest.json").write_text("{")
    assert "index repair" in run("index", "verify", "--index", study.index, code=1).stderr
    done = run("index", "repair", "--index", study.index)
    assert "manifest.json: written anew" in done.stdout and "whole" in done.stdout
    (study.index / "manifest.json").unlink()
    assert "did not finish" in run("index", "repair", "--index", study.index).stdout


def test_every_byte_of_a_calibration_counts(tmp_path: Path) -> None:
    row = {"metric": "cra", "null": "unrelated", "references": 1, "tau": 0.75, "status": "ok"}
    held = Calibration(
        0.01, 0, "x", {"mode": "dynamic"}, ["a", "b"], {"A": ["a"], "B": ["b"]}, [], [row], [], ["a note"]
    )
    path = tmp_path / "calibration.json"
    held.write(path)
    assert read_calibration(path) == held
    good, rng = path.read_bytes(), random.Random(3)
    for at in range(0, len(good), 3):
        path.write_bytes(good[:at] + bytes([good[at] ^ rng.randrange(1, 256)]) + good[at + 1 :])
        try:
            assert read_calibration(path) == held, at  # blank for blank
        except InputError as e:
            assert str(path) in str(e)


def test_every_byte_of_a_null_counts(tmp_path: Path) -> None:
    row = {
        "model": "m",
        "gen_relpath": "a/0.png",
        "gen_sha256": "s",
        "draws": 3,
        "p_reached": [0.5],
        "p_csls": [0.25],
    }
    path = write_null(tmp_path, "dynamic", [row] * 20, {"index_id": "x", "seed": 0})
    assert is_whole(path)
    good, rng = path.read_bytes(), random.Random(4)
    for at in range(0, len(good), 5):
        path.write_bytes(good[:at] + bytes([good[at] ^ rng.randrange(1, 256)]) + good[at + 1 :])
        assert not is_whole(path), at


def test_log_and_purge_from_the_command_line(study: Study) -> None:
    done = run("index", "log", "--index", study.index)
    assert "build" in done.stdout and "12 references (9 kept)" in done.stdout
    run("index", "remove", "--purge", "--index", study.index, "--concept", "beta")
    assert [e["command"] for e in json.loads(run("index", "log", "--json", "--index", study.index).stdout)] == [
        "build",
        "remove",
        "purge",
    ]
