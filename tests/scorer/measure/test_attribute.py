"""Attribution over all concepts, on a real index: misattribution, unprompted recall, one work under two names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from toys import Study as Scoring
from toys import draw, make_refs, running, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import SettingsError
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.measure.attribute import COLUMNS, attribute
from iconicity.scorer.measure.calibrate.calibrate import calibrate
from iconicity.scorer.measure.calibrate.calibration import SETTINGS, Calibration
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.measure.finding import Finding, as_text
from iconicity.scorer.measure.intervals import benjamini_hochberg
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.options import ScoreOptions


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha's images: a copy of its own, of beta's and of a picture that alpha and twin share; zeta has no references."""
    root = tmp_path_factory.mktemp("attribute")
    make_refs(root / "refs", ["alpha", "beta", "gamma"], each=2)
    (root / "refs" / "twin").mkdir()
    shutil.copy(root / "refs" / "alpha" / "01.png", root / "refs" / "twin" / "x.png")
    build_index(root / "refs", root / "i", toy_encoders())
    gen = root / "gen" / "m"
    for i, seed in enumerate((0, 100, 101)):
        write(gen / "alpha" / f"{i}.png", draw(seed))
    write(gen / "twin" / "0.png", draw(0))  # alpha's other picture: the same work, another name
    write(gen / "zeta" / "0.png", draw(200))  # no references of its own: gamma's picture
    write(gen / "zeta" / "1.png", draw(77_000))
    write(gen / "gamma" / "0.png", draw(200))
    (gen / "gamma" / "1.png").write_bytes(b"no image")
    Scoring(root / "i", root)({"m": gen}, ScoreOptions(scope="all", tau_cra=0.95))
    return root


def found(place: Path) -> Finding:
    return attribute(open_study(place / "out", COLUMNS), open_index(place / "i"), draws=200)


def test_each_image_goes_to_its_nearest_concept(place: Path) -> None:
    images = found(place).table("images").set_index("gen_relpath")
    expected = {
        "alpha/0.png": ("own", "alpha"), "alpha/1.png": ("other", "beta"), "alpha/2.png": ("other", "beta"),
        "twin/0.png": ("same_work", "alpha"), "zeta/0.png": ("other", "gamma"), "gamma/0.png": ("own", "gamma"),
    }  # fmt: skip
    for name, (kind, concept) in expected.items():
        assert (images.attribution[name], images.attributed_to[name]) == (kind, concept), name
    assert images.attribution["gamma/1.png"] == ""
    assert images.unprompted.to_dict() == {
        name: name in ("alpha/1.png", "alpha/2.png", "zeta/0.png") for name in images.index
    }
    assert images.margin["alpha/1.png"] == pytest.approx(images.cra_sim["alpha/1.png"] - 1, abs=1e-5)
    assert images.own_rank["alpha/1.png"] > 1 and images.own_rank.isna()["zeta/0.png"]


def test_tables(place: Path) -> None:
    finding = found(place)
    concepts = finding.table("concepts").set_index("concept")
    assert concepts.own["alpha"] == pytest.approx(1 / 3) and concepts.most_often["alpha"] == "beta"
    assert concepts.same_work["twin"] == 1 and concepts.unprompted["zeta"] == 0.5 and concepts.images["gamma"] == 1
    shares = concepts.own + concepts.same_work + concepts.other
    assert shares.tolist() == pytest.approx([1.0] * 4)
    (m,) = finding.table().to_dict("records")
    assert m["own"] == pytest.approx(concepts.own.mean())
    # fewer than five concepts that nearly agree: an exact interval would say little but the range
    assert len(concepts) < 5 and m["own_exact"] and np.isnan(m["own_low"]) and np.isnan(m["own_high"])
    assert any(n.startswith("no interval where fewer than 5 concepts agree: own") for n in finding.notes)
    assert m["margin"] == pytest.approx(concepts.margin.mean())
    confusion = finding.table("confusion")
    assert confusion.images.sum() == 7
    assert confusion[(confusion.concept == "twin")].to_dict("records") == [
        {"concept": "twin", "attributed_to": "alpha", "images": 1, "models": 1, "same_work": True}
    ]
    notes = " ".join(finding.notes)
    assert "the same work under two names: alpha = twin" in notes and "no p: " in notes


def test_p_is_that_of_the_null(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "p")
    root = tmp_path / "p"
    calibrate(
        open_study(root / "out"), open_index(root / "i"), VectorCache(root / "cache"), CalibrationOptions(draws=200)
    )
    images = found(root).table("images").set_index("gen_relpath")
    # alpha has 2 references; beta and gamma have as many, twin is the same work
    assert images.p["alpha/0.png"] == pytest.approx(1 / 3) and images.p["alpha/1.png"] >= 2 / 3
    assert images.p.isna()["zeta/0.png"]
    np.testing.assert_allclose(images.q, benjamini_hochberg(images.p.to_numpy()))


def test_what_surfaced(place: Path) -> None:
    finding = found(place)
    rows = finding.table("references")[["reference", "concept", "model", "images", "surfaced", "share", "threshold"]]
    assert rows.sort_values("reference").to_dict("records") == [
        # of seven images that could be used, three name alpha, one its twin, two zeta and one gamma
        {"reference": "beta/00.png", "concept": "beta", "model": "m", "images": 7, "surfaced": 1, "share": 1 / 7, "threshold": 0.95},
        {"reference": "beta/01.png", "concept": "beta", "model": "m", "images": 7, "surfaced": 1, "share": 1 / 7, "threshold": 0.95},
        {"reference": "gamma/00.png", "concept": "gamma", "model": "m", "images": 6, "surfaced": 1, "share": 1 / 6, "threshold": 0.95},
    ]  # fmt: skip
    assert finding.notes[0].startswith(
        "surfaced though not named: 3 references, in 3 images, most often beta/00.png (1 of 7"
    )
    text = as_text(finding, "references")
    assert "1.000" in text and "nan" not in text


def neutral(place: Path, root: Path, options: ScoreOptions, calibration: Calibration | None = None) -> Finding:
    """Images of prompts that name no reference: copies of beta's and gamma's pictures, and two others."""
    for i, seed in enumerate((100, 200, 77_000, 77_001)):
        write(root / "gen" / "neutral" / f"{i}.png", draw(seed))
    Scoring(place / "i", root)({"m": root / "gen"}, options, calibration=calibration)
    return attribute(open_study(root / "out", COLUMNS), open_index(place / "i"), draws=200)


def fitted(place: Path, tau: dict[int, float]) -> Calibration:
    study = open_study(place / "out")
    rows = [
        {"null": "unrelated", "metric": "cra", "references": j, "status": "indicative", "tau": t}
        for j, t in tau.items()
    ]
    settings = {k: study.settings[k] for k in SETTINGS if k in study.settings}
    return Calibration(0.01, 0, study.settings["index_id"], settings, ["alpha"], {}, [], rows, [], [])


def test_a_folder_of_neutral_prompts(place: Path, tmp_path: Path) -> None:
    finding = neutral(place, tmp_path, ScoreOptions(scope="all", tau_cra=0.95))
    rows = finding.table("references")
    assert rows.reference.tolist() == ["beta/00.png", "gamma/00.png"] and rows.images.tolist() == [4, 4]
    assert rows.threshold.tolist() == [0.95, 0.95] and finding.table("images").unprompted.sum() == 2
    for table in finding.tables:  # it has no similarity, no rank and no margin of its own
        assert "nan" not in as_text(finding, table), table
    assert "margin" not in as_text(finding)
    assert finding.table().margin.isna().all() and finding.table().unprompted.tolist() == [0.5]


def test_thresholds_are_those_of_what_surfaced(place: Path, tmp_path: Path) -> None:
    """beta and gamma have two references, twin has one; the published threshold means nothing for these encoders."""
    (tmp_path / "a").mkdir()
    finding = neutral(place, tmp_path / "a", ScoreOptions(scope="all"), fitted(place, {1: 0.5, 2: 0.9}))
    rows = finding.table("references")
    of_two = {"beta", "gamma", "alpha"}
    assert set(rows.threshold[rows.concept.isin(of_two)]) == {0.9} and set(rows.threshold) <= {0.5, 0.9}
    assert {"beta/00.png", "gamma/00.png"} <= set(rows.reference)
    assert (
        "by chance a reference surfaces in up to 1 % of the images, and any of 4 concepts in up to 4 %" in finding.notes
    )
    assert any(n.startswith("decided at the calibration's thresholds (CRA cal.)") for n in finding.notes)
    (tmp_path / "b").mkdir()
    finding = neutral(place, tmp_path / "b", ScoreOptions(scope="all"), fitted(place, {1: 0.5}))
    assert not finding.table("references").concept.isin(of_two).any()
    lacking = (~finding.table("images").other_concept.eq("twin")).sum()
    assert any(
        n.startswith(f"{lacking} images are nearest to a concept whose number of references") for n in finding.notes
    )


def test_without_a_threshold_that_means_something_no_verdict_is_given(place: Path, tmp_path: Path) -> None:
    finding = neutral(place, tmp_path, ScoreOptions(scope="all"))
    assert any(n.startswith("no verdict: the CRA threshold 0.75 means nothing") for n in finding.notes)


def test_refusals(place: Path, tmp_path: Path) -> None:
    Scoring(place / "i", tmp_path)({"m": place / "gen" / "m"}, run=running(cache=VectorCache(place / "cache")))
    with pytest.raises(SettingsError, match="score with `scope` all"):
        attribute(open_study(tmp_path / "out", COLUMNS), open_index(place / "i"))
    build_index(place / "refs", tmp_path / "j", toy_encoders(clip_seed=9))
    with pytest.raises(SettingsError, match="scored against index"):
        attribute(open_study(place / "out", COLUMNS), open_index(tmp_path / "j"))


def test_an_index_of_one_concept(tmp_path: Path) -> None:
    make_refs(tmp_path / "refs", ["alpha"], each=2)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    write(tmp_path / "gen" / "m" / "alpha" / "0.png", draw(5))
    Scoring(tmp_path / "i", tmp_path)({"m": tmp_path / "gen" / "m"}, ScoreOptions(scope="all"))
    finding = attribute(open_study(tmp_path / "out", COLUMNS), open_index(tmp_path / "i"))
    assert finding.table("images").attribution.tolist() == ["own"] and np.isnan(finding.table().margin.item())
