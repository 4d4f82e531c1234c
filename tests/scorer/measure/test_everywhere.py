"""Scope ``all``: own rank, best other concept and patches, against plain loops; approximate and settled."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import draw, forwards, make_gen, running, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.encode.encoder import Encoders, encode
from iconicity.indexer.errors import SettingsError
from iconicity.indexer.grid import cells
from iconicity.indexer.options import IndexOptions, Select
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure import nearest
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import require_results
from iconicity.scorer.scoring import ScoreReport, score

CONCEPTS = ["alpha", "beta", "gamma"]

EVERYWHERE = ScoreOptions(scope="all")
APPROXIMATE = ScoreOptions(scope="all", search="approximate")


@pytest.fixture
def place(tmp_path: Path, refs: Path, gen: Path) -> Path:
    """An index and images; one concept of the images has no references, one image copies another concept."""
    build_index(refs, tmp_path / "i", toy_encoders())
    write(gen / "unheard_of" / "x.png", draw(101))  # beta/01.png
    write(gen / "alpha" / "zz.png", draw(200))  # gamma/00.png
    return tmp_path


def run(
    place: Path,
    out: str = "out",
    options: ScoreOptions = EVERYWHERE,
    *,
    encoders: Encoders | None = None,
    cache: bool = True,
) -> ScoreReport:
    held = VectorCache(place / "cache") if cache else None
    images = {"m1": place / "gen" / "m1"}
    return score(place / "i", images, place / out, options, run=running(encoders or toy_encoders(), cache=held))


@pytest.mark.parametrize(
    ("mode", "reference_cells"), [("dynamic", "grid"), ("static", "grid"), ("dynamic", "overlapping")]
)
def test_columns_are_the_plain_loops(place: Path, refs: Path, mode: str, reference_cells: str) -> None:
    if reference_cells != "grid":
        shutil.rmtree(place / "i")
        build_index(refs, place / "i", toy_encoders(), IndexOptions(reference_cells=reference_cells))
    run(place, options=replace(EVERYWHERE, mode=mode))
    index = open_index(place / "i")
    block = index.block(CONCEPTS)
    concepts = np.array([r.concept for r in block.references])
    keep = np.array([mode == "dynamic" or c not in concepts[:i] for i, c in enumerate(concepts)])
    encoders = toy_encoders()
    rows = require_results(place / "out").rows("m1")
    assert len(rows) == 11
    for row in rows:
        path = place / "gen" / "m1" / row["gen_relpath"]
        image = decode(path.read_bytes(), path).image
        s = block.clip.astype(np.float64) @ encode(encoders.clip, [image])[0].astype(np.float64)
        best = {c: max(s[(concepts == c) & keep]) for c in CONCEPTS}
        own = best.pop(row["concept"], None)
        assert row["other_sim"] == pytest.approx(max(best.values()), abs=1e-6)
        assert row["other_ref_id"].split("/")[0] == max(best, key=lambda c: best[c])
        expected = None if own is None else 1 + sum(v > own + 1e-9 for v in best.values())
        assert row["own_rank"] == expected
        others = np.flatnonzero((concepts != row["concept"]) & keep)
        for k, crop in enumerate(cells(image, 4, 4)):
            p = block.patches[others].astype(np.float64) @ encode(encoders.dino, [crop])[0].astype(np.float64)
            assert row["p_other"][k] == pytest.approx(p.max(), abs=1e-6)
            j, cell = np.unravel_index(p.argmax(), p.shape)
            assert row["p_other_ref_id"][k] == block.references[others[j]].ref_id
            assert row["p_other_ref_cell"][k] == cell
        assert row["p_other_upper"] == row["p_other"]
    misattributed = next(r for r in rows if r["gen_relpath"] == "alpha/zz.png")
    assert misattributed["own_rank"] > 1 and misattributed["other_ref_id"] == "gamma/00.png"
    unprompted = next(r for r in rows if r["concept"] == "unheard_of")
    assert unprompted["cra_sim"] is None and unprompted["own_rank"] is None


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_tables_derive_from_the_rows(place: Path) -> None:
    run(place, options=replace(EVERYWHERE, tau_vr=0.9))
    rows = require_results(place / "out").rows("m1")
    for row, line in zip(rows, read(place / "out" / "results_vr_dynamic.csv"), strict=True):
        other = np.float32(row["p_other"])
        own = None if row["p"] is None else np.float32(row["p"])
        both = other if own is None else np.maximum(own, other)
        assert float(line["vr_all"]) == np.mean(both >= np.float32(0.9))
        assert float(line["vr_other"]) == np.mean(other >= np.float32(0.9)) and line["unresolved"] == "0"
        margin = "" if own is None else float(np.mean(own.astype(float) - other.astype(float)))
        assert line["own_margin"] == "" if own is None else float(line["own_margin"]) == pytest.approx(margin)
        assert (line["vr"] == "") == (own is None)
    assert read(place / "out" / "results_cra_dynamic.csv")[0]["own_rank"] == "1"


def test_scope_is_a_setting_and_costs_no_forward_pass(place: Path) -> None:
    score(place / "i", {"m1": place / "gen" / "m1"}, place / "out", run=running(cache=VectorCache(place / "cache")))
    with pytest.raises(SettingsError, match="scope=concept, asked for all"):
        run(place)
    encoders = toy_encoders()
    run(place, "all", encoders=encoders)
    assert forwards(encoders) == 1 * 17  # of the concept that the index does not have
    run(place, "all", replace(EVERYWHERE, tau_vr=0.3), encoders=encoders)
    assert forwards(encoders) == 1 * 17
    narrow, wide = require_results(place / "out").rows("m1"), require_results(place / "all").rows("m1")
    own = [r for r in wide if r["concept"] != "unheard_of"]
    assert [r["p"] for r in narrow] == [r["p"] for r in own]
    assert [r["cra_sim"] for r in narrow] == [r["cra_sim"] for r in own]


def test_approximate_is_counted_and_settled(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(place, "exact", replace(EVERYWHERE, tau_vr=0.9))
    exact = require_results(place / "exact").rows("m1")
    monkeypatch.setattr("iconicity.scorer.measure.shards.LEAST", 0)
    monkeypatch.setattr(nearest, "FACTORY", "IVF4,RaBitQfs")
    monkeypatch.setattr(nearest, "NPROBE", 1)
    run(place, "near", replace(APPROXIMATE, tau_vr=0.9))
    lines = read(place / "near" / "results_vr_dynamic.csv")
    near = require_results(place / "near").rows("m1")
    open_ = 0
    for e, a, line in zip(exact, near, lines, strict=True):
        assert all(x <= y + 1e-6 for x, y in zip(a["p_other"], e["p_other"], strict=True))
        found = np.maximum(np.array(a["p_other"], np.float32), np.array(a["p"] or [-1] * 16, np.float32))
        assert int(line["unresolved"]) == int((found < np.float32(0.9)).sum())
        open_ += int(line["unresolved"])
    assert open_ > 0
    with pytest.raises(SettingsError, match="search=approximate, asked for exact"):
        run(place, "near")
    encoders = toy_encoders()
    run(place, "near", replace(APPROXIMATE, settle=True), encoders=encoders)
    assert forwards(encoders) == 0
    lines = read(place / "near" / "results_vr_dynamic.csv")
    assert all(line["unresolved"] == "0" for line in lines)
    for e, line in zip(read(place / "exact" / "results_vr_dynamic.csv"), lines, strict=True):
        assert (e["vr_all"], e["vr"]) == (line["vr_all"], line["vr"])


def test_without_a_cache_it_is_the_same(place: Path) -> None:
    run(place)
    run(place, "none", cache=False)
    assert require_results(place / "out").table().equals(require_results(place / "none").table())


def test_a_second_model_leaves_the_first_ones_rows(place: Path) -> None:
    run(place)
    before = require_results(place / "out").rows("m1")
    make_gen(place / "gen" / "m2", seed=9000)
    score(
        place / "i",
        {"m2": place / "gen" / "m2"},
        place / "out",
        EVERYWHERE,
        run=running(cache=VectorCache(place / "cache")),
    )
    assert require_results(place / "out").rows("m1") == before


def test_an_update_keeps_images_whose_concept_has_no_references(place: Path, refs: Path) -> None:
    write(place / "gen" / "m2" / "unheard_of" / "x.png", draw(101))
    own = running(cache=VectorCache(place / "cache"))
    score(place / "i", {m: place / "gen" / m for m in ("m1", "m2")}, place / "out", EVERYWHERE, run=own)
    write(refs / "alpha" / "new.png", draw(77))
    build_index(refs, place / "i", toy_encoders())
    score(place / "i", {"m1": place / "gen" / "m1"}, place / "out", EVERYWHERE, writing=Writing(update=True), run=own)
    (row,) = require_results(place / "out").rows("m2")
    assert row["other_sim"] == pytest.approx(1, abs=1e-6) and row["p_other"] is not None
    assert "m2" in {line["model"] for line in read(place / "out" / "results_cra_dynamic.csv")}


@pytest.mark.parametrize("vectors", ["float32", "float16"])
def test_the_same_picture_under_other_titles_does_not_beat_itself(tmp_path: Path, vectors: str) -> None:
    for title in ("a", "b", "c"):
        for i in range(3):
            write(tmp_path / "r" / title / f"{i}.png", draw(500 + i))
            write(tmp_path / "g" / title / f"{i}.png", draw(500 + i))
    build_index(tmp_path / "r", tmp_path / "i", toy_encoders(), IndexOptions(vectors=vectors))
    score(tmp_path / "i", {"m": tmp_path / "g"}, tmp_path / "out", EVERYWHERE, run=running())
    assert {r["own_rank"] for r in require_results(tmp_path / "out").rows("m")} == {1}


def test_an_index_of_one_concept_has_no_other(tmp_path: Path, refs: Path) -> None:
    build_index(refs, tmp_path / "one", toy_encoders(), select=Select(concepts=["alpha"]))
    make_gen(tmp_path / "g", ["alpha"])
    for embedded in (3, 0):
        report = score(tmp_path / "one", {"m": tmp_path / "g"}, tmp_path / "out", EVERYWHERE, run=running())
        assert report.embedded == embedded
    line = read(tmp_path / "out" / "results_vr_dynamic.csv")[0]
    assert (line["own_margin"], line["vr_other"], line["unresolved"]) == ("", "", "") and line["vr"] == "1.0"
    assert {r["own_rank"] for r in require_results(tmp_path / "out").rows("m")} == {1}
