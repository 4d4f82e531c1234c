"""A fast share of ``make fuzz``, and whole runs with bad files beside good ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fuzz.fuzz import run
from fuzz.mutate import SUFFIXES, good, mutated
from toys import make_gen, make_refs, running, toy_encoders

from iconicity.indexer.build import build_index
from iconicity.indexer.options import Run
from iconicity.scorer.results import require_results
from iconicity.scorer.scoring import score


def test_spoiled_files_are_decoded_or_refused_with_a_reason(tmp_path: Path) -> None:
    fuzz = run(tmp_path, 900, seed=1, seconds=120, with_bombs=False)
    assert fuzz.failures == []
    assert fuzz.checked >= 40
    assert {kind: t.files for kind, t in fuzz.tallies.items()} == dict.fromkeys(fuzz.files, 150)
    assert all(t.decoded > 5 and t.refused.total() > 5 for t in fuzz.tallies.values())  # both ways are tried


@pytest.mark.parametrize("workers", [0, 1])
def test_good_files_beside_spoiled_ones_score_to_the_same_values(tmp_path: Path, workers: int) -> None:
    refs, gen = make_refs(tmp_path / "refs"), make_gen(tmp_path / "gen")
    encoders = toy_encoders()
    build_index(refs, tmp_path / "clean.index", encoders)
    score(tmp_path / "clean.index", {"m": gen}, tmp_path / "clean", run=running(encoders))
    rng, files = np.random.default_rng(7), good()
    spoiled = 0
    for root in (refs, gen):
        for folder in sorted(p for p in root.iterdir()):
            for i in range(20):
                kind = sorted(files)[i % 6]
                data = mutated(rng, files, kind)[: int(rng.integers(0, 60))]  # a stump of a file
                (folder / f"zz{i:02d}{SUFFIXES[i % 7]}").write_bytes(data)
                spoiled += 1
    built = build_index(refs, tmp_path / "i", encoders, run=Run(workers=workers))
    report = score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders, workers=workers))
    assert len(built.skipped) + len(report.skipped) == spoiled
    assert all(s.reason and s.path for s in (*built.skipped, *report.skipped))
    expected = require_results(tmp_path / "clean").table()
    found = require_results(tmp_path / "o").table()
    ok = [row for row in found.to_pylist() if row["status"] == "ok"]
    assert ok == expected.to_pylist()
    shutil.rmtree(tmp_path / "o")
