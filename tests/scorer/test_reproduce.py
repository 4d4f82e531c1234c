"""Results scored once more: the same, or it is said which image is not, and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from run import run
from toys import Study, draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.options import Run
from iconicity.indexer.store.index import open_index
from iconicity.scorer.moved import Moved
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.reproduce import compare, reproduce_results
from iconicity.scorer.results import SCHEMA, require_results, writing_scores


@pytest.mark.parametrize("scope", ["concept", "all"])
def test_untouched_results_come_out_bit_for_bit(study: Study, gen: Path, scope: str) -> None:
    (gen / "alpha" / "bad.png").write_bytes(b"no image")
    study({"m@v": gen, "n": gen}, ScoreOptions(scope=scope))
    found = reproduce_results(study.results(), open_index(study.index), run=Run(load=study.load))
    assert found.table("models").to_dict("records") == [
        {"model": m, "images": 10, "same": 10, "within": 0, "differ": 0, "changed": 0, "gone": 0} for m in ("m@v", "n")
    ]
    assert len(found.table("differences")) == 0


def test_nothing_is_taken_from_the_cache(study: Study, gen: Path) -> None:
    study({"m": gen})
    before = study.forwards
    reproduce_results(study.results(), open_index(study.index), run=Run(load=study.load))
    assert study.forwards == 2 * before


def test_a_changed_or_missing_file_and_a_changed_row_are_named(study: Study, gen: Path) -> None:
    study({"m": gen})
    write(gen / "alpha" / "01.png", draw(9999))
    (gen / "beta" / "01.png").unlink()
    held = study.results()
    rows = held.rows("m")
    rows[0]["cra_sim"] -= 0.25  # somebody mended a number
    with writing_scores(held.path, held.mode, held.settings, held.tau) as writer:
        for r in rows:
            writer.write(r)
    found = reproduce_results(study.results(), open_index(study.index), run=Run(load=study.load))
    verdicts = {r["gen_relpath"]: (r["verdict"], r["what"]) for r in found.table("differences").to_dict("records")}
    assert verdicts["alpha/01.png"] == ("changed", "the file has other bytes now")
    assert verdicts["beta/01.png"][0] == "gone" and "cannot be read" in verdicts["beta/01.png"][1]
    assert verdicts["alpha/00.png"] == ("differ", "cra_sim by 0.25")
    assert len(verdicts) == 3 and found.table("models").same.tolist() == [6]


def test_moved_images_are_found_in_any_layout(study: Study, gen: Path, tmp_path: Path) -> None:
    (gen / "beta").rename(gen / "Beta ")  # the folder's own spelling of a concept
    listed = tmp_path / "listed"
    (listed / "all").mkdir(parents=True)
    for k in range(2):
        shutil.copy(gen / "alpha" / f"0{k}.png", listed / "all" / f"{k}.png")
    (listed / "metadata.csv").write_text("file_name,concept\nall/0.png,alpha\nall/1.png,alpha\n")
    study({"m": gen, "n": listed})
    root = tmp_path / "elsewhere"
    root.mkdir()
    shutil.move(gen, root / gen.name)
    shutil.move(listed, root / "n")

    def counts(moved: Moved) -> dict[str, list[int]]:
        found = reproduce_results(
            study.results(), open_index(study.index), moved=moved, run=Run(load=study.load)
        ).table()
        return {v: found[v].tolist() for v in ("same", "changed", "gone")}

    assert counts(Moved()) == {"same": [0, 0], "changed": [0, 0], "gone": [9, 2]}
    assert counts(Moved(gen_root=root)) == {"same": [9, 2], "changed": [0, 0], "gone": [0, 0]}
    one = {"m": root / gen.name}
    assert counts(Moved(gen=one)) == {"same": [9, 0], "changed": [0, 0], "gone": [0, 2]}
    write(root / gen.name / "alpha" / "00.png", draw(9999))
    (root / gen.name / "alpha" / "01.png").write_bytes(b"")
    (root / "n" / "all" / "0.png").write_bytes(b"no image")
    (root / "n" / "all" / "1.png").unlink()
    found = reproduce_results(
        study.results(), open_index(study.index), moved=Moved(gen_root=root), run=Run(load=study.load)
    )
    assert [(r["verdict"], r["what"].split(" (")[0]) for r in found.table("differences").to_dict("records")] == [
        *[("changed", "the file has other bytes now")] * 3,
        ("gone", "cannot be read: No such file or directory"),
    ]
    with pytest.raises(InputError, match="`gen` o: no model of these results; they hold m, n"):
        counts(Moved(gen={"o": root}))
    with pytest.raises(InputError, match="no folder 'n' here; name it with `gen` n=DIR"):
        (root / "n").rename(root / "other")
        counts(Moved(gen_root=root))


def test_another_index_is_refused(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m": gen})
    build_index(make_refs(tmp_path / "other", ["alpha"]), tmp_path / "j", toy_encoders())
    with pytest.raises(SettingsError, match="scored against index"):
        reproduce_results(study.results(), open_index(tmp_path / "j"), run=Run(load=study.load))


def test_verdicts() -> None:
    row: dict[str, Any] = {
        **dict.fromkeys(SCHEMA.names),
        "status": "ok",
        "gen_sha256": "a",
        "cra_sim": 0.75,
        "p": [0.5, 0.7],
    }
    tau = {"cra": 0.75, "vr": 0.6}
    assert compare(row, dict(row), tau) == ("same", "")
    assert compare(row, row | {"p": [0.5, float(np.float32(0.7 + 5e-7))]}, tau) == ("within", "")
    assert compare(row, row | {"p": [0.5, 0.71]}, tau)[0] == "differ"
    assert compare(row, row | {"cra_sim": float(np.float32(0.75 - 1e-7))}, tau) == (
        "differ",
        "cra_sim: a decision at 0.75",
    )
    assert compare(row, row | {"p": None}, tau) == ("differ", "p is there no more")
    assert compare(row, row | {"n_ref_kept": 2}, tau) == ("differ", "n_ref_kept None, now 2")


def test_command(study: Study, gen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study({"m": gen})
    monkeypatch.setattr("iconicity.indexer.encode.encoder.reproduce", lambda *_: study.encoders)
    assert "m " in run("reproduce", study.out).stdout
    (gen / "beta" / "01.png").unlink()
    gen.rename(gen.with_name("moved"))
    gen = gen.with_name("moved")
    done = run("reproduce", study.out, "--table", "differences", "--gen", f"m={gen}", code=3)
    assert len([line for line in done.stdout.splitlines() if " gone " in line]) == 1
    assert "write NAME=DIR" in run("reproduce", study.out, "--gen", gen, code=2).stderr
    assert "beta/01.png" in done.stdout and require_results(study.out).scores.is_file()
    table = pq.read_table(study.out / "scores_dynamic.parquet")
    assert table.num_rows == 9  # the results themselves are left alone
