"""Summaries, against hand-made rows and a plain loop."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rows import make_results, random_rows, row
from run import run

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.scorer.measure.finding import Finding, Layout, as_json, as_latex, as_text, write_finding
from iconicity.scorer.measure.intervals import interval
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.values import cells, inputs_of

MIXED = (
    row("a", 0.8, 1),  # recognised, VI 0.75
    row("a", 0.7, 4),  # not recognised, VI 0
    row("a", 0.9, 3),  # recognised, VI 0.25
    row("a", None, None, "skipped"),
    row("b", 0.1, 2),  # nothing recognised
)


def table(path: Path, *rows: dict[str, Any], name: str = "models", **options: Any) -> pd.DataFrame:
    return summarise(open_study(make_results(path, *rows)), **options).tables[name]


def test_macro_means_by_hand(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path, *MIXED)))
    (m,) = found.table().to_dict("records")
    a, b = found.table("concepts").to_dict("records")
    assert (a["images"], a["skipped"], a["recognised"]) == (3, 1, 2)
    assert a["cra"] == pytest.approx(2 / 3) and a["vi_recognised"] == pytest.approx(0.5)
    assert a["crt"] == pytest.approx(2 / 3 * 0.5)
    assert b["cra"] == 0 and math.isnan(b["vi_recognised"]) and b["crt"] == 0 and b["vi_all"] == 0.5
    assert m["cra"] == pytest.approx(1 / 3) and m["crt"] == pytest.approx(a["crt"] / 2)
    assert m["vi_recognised"] == pytest.approx(0.5) and m["vi_recognised_n"] == 1 and m["cra_n"] == 2
    assert m["vi_all"] == pytest.approx(((0.75 + 0 + 0.25) / 3 + 0.5) / 2)
    assert m["undefined"] == ""


def test_vi_scope_all(tmp_path: Path) -> None:
    a = table(tmp_path, *MIXED, name="concepts", vi_scope="all").iloc[0]
    assert a.crt == pytest.approx(2 / 3 * (1 / 3))
    with pytest.raises(ValueError, match="recognised or all"):
        table(tmp_path / "x", *MIXED, vi_scope="some")


def test_micro_weighs_images(tmp_path: Path) -> None:
    m = table(tmp_path, *MIXED, aggregate="micro").iloc[0]
    assert m.cra == pytest.approx(2 / 4) and m.vr_all == pytest.approx((0.25 + 1 + 0.75 + 0.5) / 4)
    assert m.crt == pytest.approx((0.75 + 0.25) / 4)  # sum of the recognised images' VI over all images
    with pytest.raises(ValueError, match="macro, micro"):
        table(tmp_path / "x", *MIXED, aggregate="none")


def test_undefined_values_are_named(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path / "1", row("a", 0.1, 2), row("b", 0.2, 1))))
    m = found.table().iloc[0]
    assert m.undefined == "none_recognised" and m.crt == 0 and math.isnan(m.vi_recognised)
    assert json.loads(as_json(found))["m/vi_recognised"] is None
    assert "no image reaches the CRA threshold 0.75 (highest cra_sim: m 0.200)" in as_text(found)
    m = table(tmp_path / "2", row("a", 0.9, None)).iloc[0]
    assert m.undefined == "vr_undefined" and math.isnan(m.crt) and m.cra == 1
    m = table(tmp_path / "3", row("a", None, 2)).iloc[0]
    assert m.undefined == "cra_undefined" and m.vr_all == 0.5 and math.isnan(m.crt)


def test_text_says_how_many_and_what_is_missing(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path, *MIXED, row("b", 0.9, 1, model="n"))))
    text = as_text(found)
    assert "could not be used: m 1" in text and "concepts behind VI rec.: m 1 of 2" in text
    assert "indicative: fewer than 30 concepts (m 2, n 1)" in text
    assert found.table("missing").to_dict("records") == [{"model": "n", "concept": "a"}]
    assert "1 pair of model and concept" in text and "the user's caveat" not in text


def test_the_users_note_is_carried(tmp_path: Path) -> None:
    study = open_study(make_results(tmp_path, *MIXED, notes=["selected by eye"]))
    assert as_text(summarise(study)).count("selected by eye") == 1
    assert as_latex(summarise(study)).count("selected by eye") == 1


@pytest.mark.parametrize("vi_scope", ["recognised", "all"])
@pytest.mark.parametrize("aggregate", ["macro", "micro"])
def test_equals_a_plain_loop(tmp_path: Path, vi_scope: str, aggregate: str) -> None:
    rows = random_rows(3, models=3, concepts=6, images=5)
    found = summarise(open_study(make_results(tmp_path, *rows)), vi_scope=vi_scope, aggregate=aggregate)
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        groups[r["model"]][r["concept"]].append(r)
    for m in found.table().to_dict("records"):
        sums = {name: [0.0, 0.0] for name in ("cra", "vr_all", "vr_recognised", "crt")}
        for images in groups[m["model"]].values():
            vr = [sum(np.float32(p) >= np.float32(0.6) for p in r["p"]) / len(r["p"]) for r in images]
            hit = [np.float32(r["cra_sim"]) >= np.float32(0.75) for r in images]
            cra = sum(hit) / len(images)
            seen = [v for v, h in zip(vr, hit, strict=True) if h]
            vi = 1 - (sum(vr) / len(vr) if vi_scope == "all" else sum(seen) / len(seen) if seen else 0)
            values = {"cra": cra, "vr_all": sum(vr) / len(vr), "crt": cra * vi}
            if seen:
                values["vr_recognised"] = sum(seen) / len(seen)
            for name, value in values.items():
                w = 1 if aggregate == "macro" else len(seen) if name == "vr_recognised" else len(images)
                sums[name][0] += value * w
                sums[name][1] += w
        for name, (a, b) in sums.items():
            assert m[name] == pytest.approx(a / b), name


def test_intervals_are_those_of_the_concepts_and_of_the_images(tmp_path: Path) -> None:
    study = open_study(make_results(tmp_path, *random_rows(1, models=2, concepts=9, images=7)))
    found = summarise(study)
    values = cells(study, inputs_of(study)[0][0]).values
    for m, record in enumerate(found.table().to_dict("records")):
        for name in ("cra", "vr_all", "crt", "vi_recognised"):
            alone = interval(values[name][m][:, None])
            assert (record[f"{name}_low"], record[f"{name}_high"]) == (alone.low[0], alone.high[0])
            assert record[f"{name}_low"] < record[name] < record[f"{name}_high"]
    concept = found.table("concepts").iloc[0]
    mine = (study.model == 0) & (study.concept == 0)
    recognised = (study.similarity[mine] >= np.float32(0.75)).astype(float)
    vr = (study.p[mine] >= np.float32(0.6)).mean(axis=1)
    alone = interval((recognised * (1 - vr))[:, None])
    assert (concept.crt, concept.crt_low, concept.crt_high) == pytest.approx(
        (alone.value[0], alone.low[0], alone.high[0])
    )


def test_another_model_or_concept_changes_no_value(tmp_path: Path) -> None:
    rows = random_rows(1, models=2, concepts=9, images=4)
    more = [*rows, *random_rows(2, models=1, concepts=12, images=3, first="other")]
    before, after = (summarise(open_study(make_results(tmp_path / n, *r))) for n, r in (("a", rows), ("b", more)))
    for name in ("models", "concepts"):
        kept = after.table(name)
        kept = kept[kept.model.isin(before.table(name).model)].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, before.table(name))


def test_directories_are_put_together(tmp_path: Path) -> None:
    rows = random_rows(1, models=2, concepts=5, images=4)
    one, two = ([r for r in rows if r["model"] == m] for m in ("m0", "m1"))
    both = open_study([make_results(tmp_path / "1", *one), make_results(tmp_path / "2", *two)])
    whole = open_study(make_results(tmp_path / "3", *rows))
    pd.testing.assert_frame_equal(summarise(both).table(), summarise(whole).table())
    with pytest.raises(InputError, match=r"both hold c0/00\.png of m0"):
        open_study([tmp_path / "1", tmp_path / "3"])
    with pytest.raises(SettingsError, match="index_id=y"):
        open_study([tmp_path / "1", make_results(tmp_path / "4", *two, settings={"index_id": "y"})])
    make_results(tmp_path / "5", *two, tau={"cra": 0.5, "vr": 0.6})
    with pytest.raises(SettingsError, match="name one with `tau_cra`"):
        open_study([tmp_path / "1", tmp_path / "5"])
    assert open_study([tmp_path / "1", tmp_path / "5"], tau_cra=0.5).tau == {"cra": 0.5, "vr": 0.6}


def test_variants_are_models_of_their_own(tmp_path: Path) -> None:
    rows = [
        row("a", 0.9, 1),
        row("a", 0.1, 1, variant="synonym", name="s"),
        row("a", 0.1, 1, model="n@literal", variant="literal"),
    ]
    found = summarise(open_study(make_results(tmp_path, *rows))).table()
    assert found.model.tolist() == ["m", "m@synonym", "n@literal"] and found.cra.tolist() == [1, 0, 0]


def test_files(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path / "r", *random_rows(1, models=2, concepts=8, images=3))))
    for suffix in ("csv", "parquet", "tex", "json"):
        path, meta = write_finding(found, tmp_path / "out" / f"t.{suffix}")
        assert json.loads(meta.read_text())["seed"] == 0 and path.stat().st_size
    csv, parquet = pd.read_csv(tmp_path / "out" / "t.csv"), pd.read_parquet(tmp_path / "out" / "t.parquet")
    np.testing.assert_array_equal(csv.cra_low, found.table().cra_low)
    np.testing.assert_array_equal(parquet.crt, found.table().crt)
    tex = (tmp_path / "out" / "t.tex").read_text()
    first = found.table().iloc[0]
    assert r"\toprule" in tex and f"& {first.cra:.3f} &" in tex
    assert rf"{{\scriptsize [{first.cra_low:.2f}, {first.cra_high:.2f}]" in tex  # below, in a row of their own
    flat = json.loads((tmp_path / "out" / "t.json").read_text())
    assert flat["m0/cra"] == first.cra and all(not isinstance(v, (dict, list)) for v in flat.values())
    with pytest.raises(InputError, match="the ending names the format"):
        write_finding(found, tmp_path / "t.txt")


def test_latex_escapes_names(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path, row("a_b", 0.9, 1, model="m_1&2"))))
    assert r"m\_1\&2" in as_latex(found)
    odd = summarise(open_study(make_results(tmp_path / "o", row("a", 0.9, 1, model="[m] 50% ~^\\"))))
    assert "\n{[}m] 50\\% \\textasciitilde{}\\textasciicircum{}\\textbackslash{} & " in as_latex(odd)


def test_skipped_images_and_concepts_are_in_every_table(tmp_path: Path) -> None:
    rows = [*random_rows(1, models=2, concepts=3, images=2), row("gone", None, None, "skipped", model="m0")]
    notes = open_study(make_results(tmp_path, *rows)).notes
    assert "images that could not be used: m0 1" in notes and "concepts without a usable image: gone" in notes


def test_crt_is_not_zero_where_vr_was_not_scored(tmp_path: Path) -> None:
    found = summarise(open_study(make_results(tmp_path, row("a", 0.1, None))))
    assert "CRT is 0" not in "".join(found.notes) and found.table().crt.isna().all()
    found = summarise(open_study(make_results(tmp_path / "t", row("a", 0.9, 1), tau={"cra": 0.75, "vr": None})))
    assert "VR of m has no threshold: name one with `tau_vr`" in found.notes
    assert r"VR of m has no threshold: name one with tau\_vr." in as_latex(found)


def test_exact_intervals_are_marked_and_left_out_under_five_concepts(tmp_path: Path) -> None:
    def of(n: int) -> Finding:
        rows = [row(f"c{i}", 0.9, 4) for i in range(n)]
        return summarise(open_study(make_results(tmp_path / str(n), *rows)), draws=100, concepts=False)

    few, enough = of(3), of(6)
    assert few.table().cra[0] == 1.0 and np.isnan(few.table().cra_low[0]) and "[" not in as_text(few).split("note")[0]
    assert any(n.startswith("no interval where fewer than 5 concepts agree: CRA, VR rec.") for n in few.notes)
    low = 1.0 - (1.0 - 0.025 ** (1 / 6))
    assert enough.table().cra_low[0] == pytest.approx(low) and f"[{low:.3f}, 1.000]†" in as_text(enough)
    assert any(n.startswith("† exact interval") for n in enough.notes)
    assert rf"\scriptsize [{low:.2f}, 1.00]\textdagger{{}}" in as_latex(enough)
    assert rf"[{low:.3f}, 1.000]\textdagger{{}}" in as_latex(enough, layout=Layout(["model", "cra"]))  # room beside it
    assert not any("_exact" in name for name in enough.scalars)


def test_columns_and_digits_are_chosen(tmp_path: Path) -> None:
    rows = [row("a", 0.9, 1), row("b", 0.2, 3)]
    found = summarise(open_study(make_results(tmp_path / "r", *rows)), draws=100, concepts=False)
    layout = Layout(columns=["model", "VR all", "vr_recognised"], digits=2)
    head, _, first = as_text(found, layout=layout).split("\n")[:3]
    assert head.split() == ["model", "VR", "VR", "rec."]
    assert first.split()[:2] == ["m", "0.50"] and first.split()[-1] == "0.25"
    assert "model & VR & VR rec. \\\\" in as_latex(found, layout=layout)
    with pytest.raises(
        InputError, match=r"`Layout\.columns` vr_al: the table has no such column; it has model, images"
    ):
        as_text(found, layout=Layout(columns=["vr_al"]))
    none = summarise(open_study(make_results(tmp_path / "n", row("a", 0.1, 1))), draws=100, concepts=False)
    assert "& -- &" in as_latex(none, layout=Layout(columns=["model", "vr_recognised", "cra"]))
    assert "nan" not in as_latex(none).split("bottomrule")[0]


def test_the_default_table_is_one_that_a_reader_can_hold(tmp_path: Path) -> None:
    rows = [
        {**r, "model": f"a_model_of_{r['model']:>010}"} for r in random_rows(5, models=12, concepts=7, images=2)
    ]  # fmt: skip
    rows += [row("c0", None, None, "skipped", model="nothing_could_be_used")]
    other = {"cra": "another encoder", "vr": "another encoder"}
    results = make_results(tmp_path / "r", *rows, settings={"published": other})
    table, _, notes = run("summary", results, "--draws", 100).stdout.partition("note: ")
    lines = table.splitlines()
    assert max(map(len, lines)) <= 120 and not any("nan" in line.split("[")[0] for line in lines)
    assert lines[0].split("  ")[0] == "model" and "nothing_could_be_used" not in table
    assert [h for h in lines[0].split() if h not in ("model", "images", "concepts", "rec.")] == [
        "CRA",
        "VR",
        "VI",
        "CRT",
    ]
    assert notes.startswith("no verdict: the CRA threshold 0.75 and the VR threshold 0.6 mean nothing")
    assert notes.count("note: ") <= 4 and "more with --notes all" in notes
    full = run("summary", results, "--draws", 100, "--columns", "all", "--notes", "all").stdout
    assert "nothing_could_be_used" in full and "VI rec." in full and "was published for" in full
