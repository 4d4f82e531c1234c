"""Calibration on a real index with toy vectors, against plain loops over its stored vectors."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toys import Study as Scoring
from toys import draw, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.cached import cache_keys
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import Index, open_index
from iconicity.scorer.measure.calibrate import calibrate as module
from iconicity.scorer.measure.calibrate.calibrate import apply_calibration, calibrate
from iconicity.scorer.measure.calibrate.calibration import (
    NULL_EDGES,
    Calibration,
    own_and_null,
    read_calibration,
    thresholds_finding,
)
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.measure.image_null import image_null
from iconicity.scorer.measure.patches import COLUMNS as PATCH_COLUMNS
from iconicity.scorer.measure.patches import reused_patches
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.thresholds import Thresholds

NAMES = [f"k{i:02d}" for i in range(14)]
ALPHA = 0.1
QUICK = CalibrationOptions(alpha=ALPHA, draws=200)


def noisy(seed: int, of: int, share: float) -> Image.Image:
    """A picture that is partly another one."""
    return Image.blend(draw(of), draw(seed), share)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 concepts with 1 to 3 references, one of them twice under two names; two models' images of 10 of them."""
    root = tmp_path_factory.mktemp("calibrate")
    for i, name in enumerate(NAMES):
        for j in range(1 + i % 3):
            write(root / "refs" / name / f"{j}.png", draw(1000 * i + j))
    write(root / "refs" / NAMES[9] / "same.png", draw(3000))  # the picture of k03
    build_index(root / "refs", root / "i", toy_encoders())
    for m in range(2):
        for i, name in enumerate(NAMES[:10]):
            for n in range(3):
                picture = noisy(50_000 + 100 * m + 10 * i + n, 1000 * i, 0.3 + 0.3 * n)
                write(root / "gen" / f"m{m}" / name / f"{n}.png", picture)
    scoring = Scoring(root / "i", root)
    scoring({f"m{m}": root / "gen" / f"m{m}" for m in range(2)}, ScoreOptions(tau_cra=0.8))
    return root


def opened(place: Path) -> tuple[Study, Index, VectorCache]:
    return open_study(place / "out"), open_index(place / "i"), VectorCache(place / "cache")


def found(place: Path, **options: Any) -> Calibration:
    return calibrate(*opened(place), CalibrationOptions(**({"alpha": ALPHA, "draws": 200} | options)))


class Loop:
    """The same numbers, one product at a time."""

    def __init__(self, place: Path, pool: Any = NAMES, whitened: bool = False) -> None:
        self.study, index, cache = opened(place)
        block = index.block(NAMES)
        keys = cache_keys(index)
        shas = self.study.table.column("gen_sha256").to_pylist()
        self.clip = cache.get(shas, keys[0], block.clip[0].size)
        size = 16 * block.patches.shape[2]
        self.patches = {s: v.reshape(16, -1) for s, v in cache.get(shas, keys[1], size).items()}
        self.refs: dict[str, list[tuple[str, Any, Any]]] = {}
        for r, c, p in zip(block.references, block.clip, block.patches, strict=True):
            self.refs.setdefault(r.concept, []).append((r.ref_id, c, p))
        for name, mine in self.refs.items():
            mine.sort(key=lambda r: hashlib.sha256(f"0|{r[0]}".encode()).hexdigest())
            del name
        self.pool = list(pool)
        self.hubs: dict[tuple[str, int], float] = {}
        self.nulls: dict[tuple[Any, ...], Any] = {}  # each is asked for at several thresholds
        if whitened:
            cells = np.concatenate([p for d in self.pool for _, _, p in self.refs[d]]).astype(float)
            variance, axes = np.linalg.eigh(np.cov(cells.T, bias=True))
            scaled = axes / np.sqrt(variance + 0.1 * variance.mean())

            def white(vectors: Any) -> Any:
                moved = (vectors.astype(float) - cells.mean(axis=0)) @ scaled
                return moved / np.linalg.norm(moved, axis=1, keepdims=True)

            self.patches = {sha: white(v) for sha, v in self.patches.items()}
            self.refs = {d: [(r, c, white(p)) for r, c, p in mine] for d, mine in self.refs.items()}

    @staticmethod
    def half(concept: str) -> str:
        work = {"k09": "k03"}.get(concept, concept)
        return "AB"[int(hashlib.sha256(f"0|half|{work}".encode()).hexdigest(), 16) & 1]

    def others(self, concept: str, j: int) -> list[str]:
        same = {("k03", "k09"), ("k09", "k03")}
        return [d for d in self.pool if d != concept and (concept, d) not in same and len(self.refs[d]) >= j]

    def null_clip(self, i: Any, d: str, j: int) -> Any:
        sha = self.study.table.column("gen_sha256")[i].as_py()
        return np.float32(max(float(self.clip[sha].astype(float) @ c) for _, c, _ in self.refs[d][:j]))

    def null_patches(self, i: Any, d: str, j: int) -> tuple[Any, list[tuple[str, int]]]:
        sha = self.study.table.column("gen_sha256")[i].as_py()
        best, where = np.full(16, -2, np.float32), [("", 0)] * 16
        for ref_id, _, p in self.refs[d][:j]:
            for k, q in enumerate(self.patches[sha]):
                for m, cell in enumerate(p):
                    value = np.float32(q.astype(float) @ cell.astype(float))
                    if value > best[k]:
                        best[k], where[k] = value, (ref_id, m)
        return best, where

    @staticmethod
    def work(concept: str) -> set[str]:
        return {"k03", "k09"} if concept in ("k03", "k09") else {concept}

    def nearest(self, vector: Any, without: set[str]) -> float:
        """Highest cosine of a cell to any of the pool's that show another work."""
        cells = np.concatenate([p for d in self.pool if d not in without for _, _, p in self.refs[d]])
        return float((cells.astype(float) @ vector.astype(float)).max())

    def csls(self, i: Any, d: str | None, j: int) -> Any:
        """CSLS of an image's patches against j references of a concept, None: against all of its own."""
        own = self.study.concepts[self.study.concept[i]]
        concept, sha = d or own, self.study.table.column("gen_sha256")[i].as_py()
        out = []
        for q in self.patches[sha]:
            best = max(
                float(q.astype(float) @ cell.astype(float)) - self.hub(ref_id, m, concept) / 2
                for ref_id, _, p in self.refs[concept][: j if d else None]
                for m, cell in enumerate(p)
            )
            out.append(best - self.nearest(q, self.work(own) | self.work(concept)) / 2)
        return np.array(out, np.float32)

    def hub(self, ref_id: str, m: int, concept: str) -> float:
        if (ref_id, m) not in self.hubs:
            cell = next(p[m] for r, _, p in self.refs[concept] if r == ref_id)
            self.hubs[ref_id, m] = self.nearest(cell, self.work(concept))
        return self.hubs[ref_id, m]

    def null(self, metric: str, i: Any, d: str, j: int) -> Any:
        key = (metric, i, d, j)
        if key not in self.nulls:
            if metric == "cra":
                self.nulls[key] = self.null_clip(i, d, j)
            else:
                self.nulls[key] = self.null_patches(i, d, j)[0] if metric == "vr" else self.csls(i, d, j)
        return self.nulls[key]

    def rate(self, metric: str, j: int, tau: float, halves: str) -> tuple[float, int]:
        """Mean over pairs of concepts of the share that reaches tau, and the number of pairs."""
        shares = []
        for c, name in enumerate(self.study.concepts):
            for d in self.others(name, j):
                if halves != "AB" and (self.half(name) != halves or self.half(d) != halves):
                    continue
                rows = np.flatnonzero(self.study.concept == c)
                null = [self.null(metric, i, d, j) for i in rows]
                shares.append(np.mean([np.asarray(v) >= np.float32(tau) for v in null]))
        return float(np.mean(shares)) if shares else float("nan"), len(shares)


@pytest.fixture(scope="module")
def wide(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with overlapping reference cells."""
    root = tmp_path_factory.mktemp("wide")
    build_index(place / "refs", root / "i", toy_encoders(), IndexOptions(reference_cells="overlapping"))
    Scoring(root / "i", root)({f"m{m}": place / "gen" / f"m{m}" for m in range(2)}, ScoreOptions(tau_cra=0.8))
    return root


@pytest.mark.parametrize("cells", ["grid", "overlapping"])
def test_each_images_null_equals_a_loop(place: Path, wide: Path, cells: str) -> None:
    place = place if cells == "grid" else wide
    calibration = found(place, whiten=True)
    assert calibration.settings.get("reference_cells", "grid") == cells
    loop, white = Loop(place), Loop(place, whitened=True)
    null = image_null(loop.study)
    assert null is not None
    rows = null.table.to_pylist()
    for i in range(0, len(rows), 7):
        concept = loop.study.concepts[loop.study.concept[i]]
        j = int(loop.study.references[loop.study.concept[i]])
        others = loop.others(concept, j)
        clip = np.array([loop.null_clip(i, d, j) for d in others])
        assert rows[i]["draws"] == len(others)
        assert rows[i]["cra_reached"] == pytest.approx((clip >= loop.study.similarity[i]).mean())
        patches = [loop.null_patches(i, d, j) for d in others]
        values = np.stack([v for v, _ in patches])
        assert rows[i]["p_reached"] == pytest.approx((values >= loop.study.p[i]).mean(axis=0))
        for k in range(16):
            best = int(values[:, k].argmax())
            assert rows[i]["p_best"][k] == pytest.approx(values[best, k], abs=1e-6)
            assert (rows[i]["p_best_ref_id"][k], rows[i]["p_best_ref_cell"][k]) == patches[best][1][k]
        assert rows[i]["p_whitened"] == pytest.approx(white.null_patches(i, concept, 99)[0], abs=1e-6)
        assert rows[i]["p_csls"] == pytest.approx(white.csls(i, None, 0), abs=1e-6)
        p = null.p_values()[i]
        assert p == pytest.approx((1 + (clip >= loop.study.similarity[i]).sum()) / (1 + len(others)))


def test_rates_at_the_thresholds_of_the_index_equal_a_loop(place: Path) -> None:
    study, loop = opened(place)[0], Loop(place)
    index = Thresholds(0.01, {}, {"cra": {1: 0.8}, "vr": {1: 0.55, 2: 0.6}})
    study = replace(study, sources=tuple(replace(s, thresholds=index) for s in study.sources))
    calibration = calibrate(study, *opened(place)[1:], QUICK)
    shown = thresholds_finding(calibration).table()
    for t, (_, line) in zip(calibration.thresholds, shown.iterrows(), strict=True):
        tau = index.tau.get(t["metric"], {}).get(t["references"]) if t["null"] == "unrelated" else None
        if tau is None and t["null"] == "unrelated":
            assert t["tau_index"] is None and t["rate_index"] is None
        elif tau is not None:
            rate = loop.rate(t["metric"], t["references"], tau, "AB")[0]
            assert t["tau_index"] == line.tau_index == tau
            assert t["rate_index"] == line.rate_index == pytest.approx(rate)
            assert t["rate_index_low"] <= rate <= t["rate_index_high"]


def test_thresholds_equal_a_loop(place: Path) -> None:
    calibration, loop = found(place), Loop(place)
    assert calibration.halves["A"] == [n for n in NAMES if loop.half(n) == "A"]
    assert calibration.same_work == [["k03", "k09"]]
    checked = 0
    for t in calibration.thresholds:
        if t["null"] != "unrelated" or t["tau"] is None:
            continue
        j, tau = t["references"], t["tau"]
        rate, pairs = loop.rate(t["metric"], j, tau, "A")
        assert (t["rate_fit"], t["pairs_fit"]) == (pytest.approx(rate), pairs) and rate <= ALPHA
        assert loop.rate(t["metric"], j, round(tau - 1e-4, 4), "A")[0] > ALPHA
        rate, pairs = loop.rate(t["metric"], j, tau, "B")
        assert t["pairs_check"] == pairs and (not pairs or t["rate_check"] == pytest.approx(rate))
        given = {"cra": 0.8, "vr": 0.6}.get(t["metric"])
        assert (t["rate_given"] is None) == (given is None)
        if given is not None:
            assert t["rate_given"] == pytest.approx(loop.rate(t["metric"], j, given, "AB")[0])
        assert t["status"] == "indicative"
        checked += 1
    assert checked >= 5 and {1, 2} <= calibration.taus("vr_csls").keys()


def test_thresholds_of_whitened_vectors_equal_a_loop(place: Path) -> None:
    calibration, plain, loop = found(place, whiten=True), found(place), Loop(place, whitened=True)
    for metric in ("cra", "vr"):  # nothing else moves
        assert calibration.taus(metric) == plain.taus(metric)
    for metric, name in (("vr_whitened", "vr"), ("vr_csls", "csls")):
        tau = calibration.taus(metric)[1]
        assert loop.rate(name, 1, tau, "A")[0] <= ALPHA < loop.rate(name, 1, round(tau - 1e-4, 4), "A")[0]


@pytest.mark.parametrize("whiten", [False, True])
def test_vr_strict_is_the_share_that_reaches_both_thresholds(place: Path, whiten: bool) -> None:
    calibration = found(place, whiten=whiten)
    study = open_study(place / "out")
    null = image_null(study)
    assert null is not None and null.whitened == calibration.whitened == whiten
    first, values = ("vr_whitened", null.p_whitened) if whiten else ("vr", study.p)
    taus = {m: calibration.taus(m) for m in (first, "vr_csls")}
    assert len(set(taus["vr_csls"].values())) > 1
    table = summarise(study, calibration=calibration).table("concepts")
    assert table[table.thresholds == "given"].vr_strict.isna().all()
    for r in table[table.thresholds == "calibrated"].to_dict("records"):
        mine = (study.model == study.models.index(r["model"])) & (study.concept == study.concepts.index(r["concept"]))
        j = r["references"]
        if j not in taus[first] or j not in taus["vr_csls"]:
            assert np.isnan(r["vr_strict"])
        else:
            both = (values[mine] >= np.float32(taus[first][j])) & (null.p_csls[mine] >= np.float32(taus["vr_csls"][j]))
            assert r["vr_strict"] == pytest.approx(both.mean())
    apply_calibration(*opened(place), calibration)
    again = image_null(study)
    assert again is not None and np.array_equal(again.p_csls, null.p_csls)
    # the null of another calibration says nothing of this one
    found(place, whiten=not whiten)
    late = summarise(open_study(place / "out"), calibration=calibration)
    assert "vr_strict" not in late.table() and any("another calibration's" in n for n in late.notes)


@pytest.mark.parametrize("whiten", [False, True])
def test_csls_of_a_concept_that_is_not_in_the_pool(place: Path, whiten: bool) -> None:
    calibration = found(place, pool=8, whiten=whiten)
    loop = Loop(place, calibration.pool, whitened=whiten)
    null = image_null(loop.study)
    assert null is not None and set(loop.study.concepts) - set(calibration.pool)
    for c, concept in enumerate(loop.study.concepts):
        i = int(np.flatnonzero(loop.study.concept == c)[0])
        assert null.p_csls[i] == pytest.approx(loop.csls(i, None, 0), abs=1e-6), concept


def test_without_a_third_work_there_is_no_csls(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b")):
        write(tmp_path / "refs" / name / "0.png", draw(1000 * i))
        write(tmp_path / "gen" / name / "0.png", noisy(5, 1000 * i, 0.3))
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen"}, ScoreOptions(tau_cra=0.8))
    calibration = found(tmp_path, whiten=True)
    assert {t["metric"] for t in calibration.thresholds} == {"cra", "vr"}
    assert any(n.startswith("not whitened") for n in calibration.notes)
    null = image_null(open_study(tmp_path / "out"))
    assert null is not None and np.isnan(null.p_csls).all() and not np.isnan(null.p_reached).any()


def test_kept_null_equals_a_loop(place: Path) -> None:
    calibration, loop = found(place), Loop(place)
    assert {(n["metric"], n["references"]) for n in calibration.nulls} == {
        (m, j) for m in ("cra", "vr") for j in (1, 2, 3)
    }
    for null in calibration.nulls:
        for k in (0, 60, 75, 90, 99):
            rate, _ = loop.rate(null["metric"], null["references"], float(NULL_EDGES[k]), "A")
            assert null["reached"][k] == pytest.approx(rate, abs=1e-6)


def test_own_and_null_as_histograms(place: Path) -> None:
    calibration, (study, _, _) = found(place), opened(place)
    frame = own_and_null(study, calibration)
    for (metric, j), part in frame.groupby(["metric", "references"]):
        assert part.own.sum() == pytest.approx(1.0) and part.null.sum() == pytest.approx(1.0, abs=1e-4)
        values = {c: [v for i in np.flatnonzero(study.concept == c) for v in np.atleast_1d(study.similarity[i] if metric == "cra" else study.p[i])]
                  for c in np.flatnonzero(study.references == j)}  # fmt: skip
        for k in (70, 85, 95, 99):  # each concept alike
            inside = [np.mean([NULL_EDGES[k] <= v < NULL_EDGES[k] + 0.02 for v in mine]) for mine in values.values()]
            assert part.own.iloc[k] == pytest.approx(np.mean(inside), abs=1e-6)
    other = Calibration(**{**vars(calibration), "settings": {**calibration.settings, "pool": "cls"}})
    with pytest.raises(SettingsError, match="calibrate these results"):
        own_and_null(study, other)


def test_a_calibrated_row_counts_what_was_judged(place: Path) -> None:
    calibration = found(place)
    table = summarise(open_study(place / "out"), calibration=calibration).table()
    row = table[(table.thresholds == "calibrated") & (table.model == "m0")].iloc[0]
    study = open_study(place / "out")
    judged = [
        c
        for c, j in zip(study.concepts, study.references, strict=True)
        if j in calibration.taus("vr") or j in calibration.taus("cra")
    ]
    assert row.concepts == len(judged) and row.images == 3 * len(judged)


def test_null_of_all_others_equals_a_loop(place: Path) -> None:
    calibration, loop = found(place, alpha=0.5), Loop(place)
    (t,) = [t for t in calibration.thresholds if t["null"] == "all" and t["metric"] == "cra"]
    for half, name in (("A", "rate_fit"), ("B", "rate_check")):
        shares = []
        for c, concept in enumerate(loop.study.concepts):
            if loop.half(concept) != half:
                continue
            best = [
                max(loop.null_clip(i, d, 9) for d in loop.others(concept, 1) if loop.half(d) == half)
                for i in np.flatnonzero(loop.study.concept == c)
            ]
            shares.append(np.mean(np.array(best) >= np.float32(t["tau"])))
        assert t[name] == pytest.approx(np.mean(shares))
    assert t["rate_fit"] <= 0.5


def test_nothing_depends_on_the_chunk_or_the_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(place)
    null = pq.read_table(place / "out" / "null_dynamic.parquet")
    monkeypatch.setattr(module, "_BYTES", 1)
    assert found(place).digest == whole.digest
    assert pq.read_table(place / "out" / "null_dynamic.parquet").equals(null)
    assert found(place, seed=1).digest != whole.digest


def test_what_the_data_cannot_carry_is_not_calibrated(place: Path) -> None:
    calibration = found(place, alpha=0.001)
    assert {t["status"] for t in calibration.thresholds} == {"not calibrated"}
    assert calibration.taus("cra") == {} and "indicative" in " ".join(calibration.notes)
    study = open_study(place / "out")
    table = summarise(study, calibration=calibration).table()
    assert table[table.thresholds == "calibrated"].cra.isna().all()
    assert any("J not calibrated for cra: 10 concepts" in n for n in calibration.notes_for(study))


def test_related_concepts_have_a_null_of_their_own(place: Path) -> None:
    related = {n: "x" if i % 2 else "y" for i, n in enumerate(NAMES)}
    calibration = found(place, related=related, alpha=0.4)
    kinds = {(t["null"], t["metric"]): t for t in calibration.thresholds if t["references"] == 1}
    loop = Loop(place)
    pairs = [
        (c, d) for c in loop.study.concepts for d in loop.others(c, 1) if loop.half(c) == loop.half(d) == "A"
    ]  # fmt: skip
    kin = sum(related[c] == related[d] for c, d in pairs)
    assert kinds["related", "cra"]["pairs_fit"] == kin and kinds["unrelated", "cra"]["pairs_fit"] == len(pairs) - kin


def test_calibrated_decisions_equal_a_loop(place: Path, tmp_path: Path) -> None:
    calibration = found(place)
    calibration.write(tmp_path / "c.json")
    again = read_calibration(tmp_path / "c.json")
    assert again == calibration and again.digest == calibration.digest
    study = open_study(place / "out")
    table = summarise(study, calibration=again).table("concepts")
    known = again.taus("cra")
    for r in table[table.thresholds == "calibrated"].to_dict("records"):
        mine = (study.model == study.models.index(r["model"])) & (study.concept == study.concepts.index(r["concept"]))
        if r["references"] in known:
            assert r["cra"] == pytest.approx((study.similarity[mine] >= np.float32(known[r["references"]])).mean())
        else:
            assert np.isnan(r["cra"])


def test_score_takes_a_calibration(place: Path) -> None:
    calibration = found(place)
    scoring = Scoring(place / "i", place)
    report = scoring({"m0": place / "gen" / "m0"}, out=place / "scored", calibration=calibration)
    assert report.forwards == 0
    frame = pd.read_csv(place / "scored" / "results_cra_dynamic.csv")
    for r in frame.to_dict("records"):
        tau = calibration.taus("cra").get(r["n_ref_kept"])
        assert (tau is None and pd.isna(r["cra_cal"])) or r["cra_cal"] == (np.float32(r["cra_sim"]) >= np.float32(tau))
    vr = pd.read_csv(place / "scored" / "results_vr_dynamic.csv")
    assert {"vr_cal", "tau_cal"} <= set(vr.columns)
    meta = json.loads((place / "scored" / "results_vr_dynamic.meta.json").read_text())
    assert meta["thresholds"]["digests"] == {"calibration": calibration.digest}
    other = Scoring(place / "i", place)
    with pytest.raises(SettingsError, match="mode=static"):
        other({"m0": place / "gen" / "m0"}, ScoreOptions(mode="static"), out=place / "static", calibration=calibration)


def test_an_unrelated_concept_changes_no_value(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "i", tmp_path / "i")
    shutil.copytree(place / "out", tmp_path / "out")
    shutil.copytree(place / "cache", tmp_path / "cache")
    calibration = found(place)
    before = pq.read_table(place / "out" / "null_dynamic.parquet")
    write(tmp_path / "more" / "new" / "0.png", draw(999_000))
    add_references(tmp_path / "more", tmp_path / "i", run=running())
    scoring = Scoring(tmp_path / "i", tmp_path)
    scoring({f"m{m}": place / "gen" / f"m{m}" for m in range(2)}, writing=Writing(update=True))
    apply_calibration(*opened(tmp_path), calibration)
    assert pq.read_table(tmp_path / "out" / "null_dynamic.parquet").to_pylist() == before.to_pylist()
    assert "another version of the index" in " ".join(calibration.notes_for(open_study(tmp_path / "out")))
    # the halves and the draws of the others are as they were
    anew = found(tmp_path)
    assert [n for n in anew.halves["A"] if n != "new"] == list(calibration.halves["A"])


def test_static_mode_draws_the_first_reference(place: Path) -> None:
    scoring = Scoring(place / "i", place)
    scoring({"m0": place / "gen" / "m0"}, ScoreOptions(mode="static"), out=place / "st")
    study, index, cache = open_study(place / "st"), open_index(place / "i"), VectorCache(place / "cache")
    calibration = calibrate(study, index, cache, QUICK)
    assert {t["references"] for t in calibration.thresholds if t["null"] == "unrelated"} == {1}
    assert study.references.tolist() == [1] * 10
    null = image_null(study)
    firsts = np.stack([index.block([n]).clip[0] for n in NAMES if n != "k00"]).astype(float)
    own = cache.get([study.table.column("gen_sha256")[0].as_py()], cache_keys(index)[0], firsts.shape[1])
    (vector,) = own.values()
    assert null is not None and null.draws[0] == 13
    assert null.reached[0] == pytest.approx((firsts @ vector >= study.similarity[0]).mean())


def test_only_one_metric_scored(place: Path) -> None:
    scoring = Scoring(place / "i", place)
    scoring({"m0": place / "gen" / "m0"}, ScoreOptions(metrics=("vr",)), out=place / "one")
    scoring({"m1": place / "gen" / "m1"}, ScoreOptions(metrics=("cra",)), out=place / "one")
    calibration = calibrate(open_study(place / "one"), open_index(place / "i"), VectorCache(place / "cache"), QUICK)
    assert calibration.taus("cra") and calibration.taus("vr")
    null = image_null(open_study(place / "one"))
    assert null is not None and np.isnan(null.reached).sum() == 30 and np.isnan(null.p_reached).any(axis=1).sum() == 30


@pytest.mark.parametrize("metric", ["cra", "vr"])
def test_results_of_one_metric(place: Path, tmp_path: Path, metric: str) -> None:
    Scoring(place / "i", place)({"m0": place / "gen" / "m0"}, ScoreOptions(metrics=(metric,)), out=tmp_path / "o")
    calibration = calibrate(open_study(tmp_path / "o"), open_index(place / "i"), VectorCache(place / "cache"), QUICK)
    assert calibration.taus(metric) and not calibration.taus("vr" if metric == "cra" else "cra")
    assert len(image_null(open_study(tmp_path / "o")).table) == 30  # type: ignore[union-attr]


def test_nulls_of_two_directories_are_of_one_pool(place: Path, tmp_path: Path) -> None:
    index, cache = open_index(place / "i"), VectorCache(place / "cache")
    for i in range(2):
        Scoring(place / "i", place)({f"m{i}": place / "gen" / f"m{i}"}, out=tmp_path / str(i))
    first = calibrate(open_study(tmp_path / "0"), index, cache, QUICK)
    calibrate(open_study(tmp_path / "1"), index, cache, replace(QUICK, seed=1))
    both = open_study([tmp_path / "0", tmp_path / "1"])
    with pytest.raises(SettingsError, match="another null"):
        image_null(both)
    apply_calibration(open_study(tmp_path / "1"), index, cache, first)
    assert image_null(both) is not None
    calibrate(both, index, cache, QUICK)
    assert summarise(both).facts["null_seed"] == 0


def test_a_work_of_three_names_is_never_compared(place: Path) -> None:
    works = {"k09": "x", "k05": "x"}  # k03 and k09 share a picture
    calibration = found(place, works=works)
    assert calibration.same_work == [["k03", "k09"], ["k05", "k09"]]
    null = image_null(open_study(place / "out"))
    study = open_study(place / "out")
    assert null is not None
    c = study.concepts.index("k03")
    assert null.draws[study.concept == c].tolist() == [11] * 6  # of 14: not k03, k05, k09
    apply_calibration(*opened(place), found(place), works)
    again = image_null(study)
    assert again is not None and again.draws[study.concept == c].tolist() == [11] * 6
    found(place)


def test_thresholds_hold_for_the_cells_they_were_found_with(place: Path, wide: Path) -> None:
    with pytest.raises(SettingsError, match="reference_cells"):
        found(wide).require_for(opened(place)[0].settings, "out")
    with pytest.raises(SettingsError, match="reference_cells"):
        found(place).require_for(opened(wide)[0].settings, "out")


def test_refusals(place: Path, tmp_path: Path) -> None:
    study, index, cache = opened(place)
    with pytest.raises(InputError, match="no vectors of 6 images, first k"):
        calibrate(study, index, VectorCache(tmp_path / "empty"))
    build_index(place / "refs", tmp_path / "j", toy_encoders(clip_seed=8))
    with pytest.raises(SettingsError, match="scored against index"):
        calibrate(study, open_index(tmp_path / "j"), cache)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="no calibration"):
        read_calibration(tmp_path / "bad.json")
    calibration = found(place)
    gone = Calibration(**{**vars(calibration), "pool": ["k00", "vanished"]})
    with pytest.raises(SettingsError, match="'vanished' of the calibration's pool is gone"):
        apply_calibration(study, index, cache, gone)
    foreign = Calibration(**{**vars(calibration), "settings": {**calibration.settings, "clip": "another"}})
    with pytest.raises(SettingsError, match="clip="):
        summarise(study, calibration=foreign)


def test_reused_patches_are_specific_or_generic(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found(place)
    few, _ = reused_patches(open_study(place / "out", PATCH_COLUMNS))
    assert set(few.verdict) == {"unknown"}
    monkeypatch.setattr("iconicity.scorer.measure.patches.FEW_DRAWS", 3)
    study = open_study(place / "out", PATCH_COLUMNS, tau_vr=0.5)
    null = image_null(study)
    assert null is not None
    result = summarise(study, patches=True)
    patches = result.table("patches")
    assert len(patches) == (study.p >= np.float32(0.5)).sum()
    generic = ((study.p >= np.float32(0.5)) & (null.p_reached > 0.05)).sum()
    assert (patches.verdict == "generic").sum() == generic > 0 and set(patches.verdict) == {"generic", "specific"}
    assert any(f"{generic} generic" in n for n in result.notes)
    one = patches.iloc[0]
    named = np.array(study.relpaths) == one.gen_relpath
    i = int(np.flatnonzero(named & (study.model == study.models.index(one.model)))[0])
    assert one.ref_id == study.table.column("p_ref_id")[i].as_py()[one.patch]
    assert one.other_ref_id == null.table.column("p_best_ref_id")[i].as_py()[one.patch]


def test_a_table_of_patches_needs_a_null(place: Path) -> None:
    scoring = Scoring(place / "i", place)
    scoring({"m0": place / "gen" / "m0"}, out=place / "bare")
    study = open_study(place / "bare", PATCH_COLUMNS)
    assert image_null(study) is None
    with pytest.raises(InputError, match="iconicity calibrate"):
        summarise(study, patches=True)


def test_thresholds_as_a_table(place: Path) -> None:
    finding = thresholds_finding(found(place))
    frame = finding.table()
    assert len(frame) == len(found(place).thresholds) and "no null of related concepts" in " ".join(finding.notes)
    assert (
        finding.scalars["unrelated/cra/1/tau"] == frame[(frame.metric == "cra") & (frame.references == 1)].tau.iloc[0]
    )
