"""Paired comparisons against hand-made cases and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rows import make_results, random_rows, row

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.compare import compare
from iconicity.scorer.measure.intervals import (
    benjamini_hochberg,
    effect_size,
    holm,
    interval,
    label_permutation_p,
    sign_flip_p,
)
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.values import cells, inputs_of


def test_pairs_are_the_concepts_both_have(tmp_path: Path) -> None:
    rows = random_rows(1, models=3, concepts=9, images=6)
    rows = [r for r in rows if (r["model"], r["concept"]) not in (("m0", "c3"), ("m1", "c8"))]
    study = open_study(make_results(tmp_path, *rows))
    found = compare(study, ["m0", "m1", "m2"], draws=500)
    pairs, values = found.table("pairs"), cells(study, inputs_of(study)[0][0]).values
    assert pairs.concepts.tolist() == [7] * 3 + [8] * 6
    keep = [c for c in range(9) if c not in (3, 8)]
    for r in pairs[(pairs.a == "m0") & (pairs.b == "m1")].to_dict("records"):
        d = values[r["measure"]][0, keep] - values[r["measure"]][1, keep]
        ends = interval(d[:, None], bounds=(-1, 1), symmetric=True, draws=500)
        assert r["difference"] == pytest.approx(d.mean()) and r["difference_low"] == pytest.approx(ends.low[0])
        assert r["p"] == sign_flip_p(d) and r["effect_size"] == pytest.approx(effect_size(d))
    assert pairs.p_holm.tolist() == pytest.approx(holm(pairs.p.to_numpy()).tolist())
    assert sum("only one of the two" in n for n in found.notes) == 3


def test_concepts_table_equals_a_loop(tmp_path: Path) -> None:
    rows = random_rows(2, models=2, concepts=3, images=4)
    study = open_study(make_results(tmp_path, *rows))
    for scope in ("recognised", "all"):
        table = compare(study, ["m0", "m1"], vi_scope=scope, draws=500).table("concepts")
        for r in table.to_dict("records"):
            x, y = ([q for q in rows if (q["model"], q["concept"]) == (m, r["concept"])] for m in ("m0", "m1"))
            hit = [float(q["cra_sim"] >= 0.75) for q in x + y]
            vr = [float(np.mean(np.float32(q["p"]) >= np.float32(0.6))) for q in x + y]
            vi = 1 - np.array(vr)
            value = {"cra": hit, "vr_all": vr, "crt": np.array(hit) * (vi if scope == "recognised" else 1)}[
                r["measure"]
            ]
            factor = vi[:, None] if scope == "all" and r["measure"] == "crt" else None
            assert r["p"] == pytest.approx(label_permutation_p(np.array(value)[:, None], 4, factor)[0])
            assert (r["images_a"], r["images_b"]) == (4, 4)
        assert table.q.tolist() == pytest.approx(benjamini_hochberg(table.p.to_numpy()).tolist())


def test_swapping_the_two_swaps_the_sign(tmp_path: Path) -> None:
    study = open_study(make_results(tmp_path, *random_rows(1, models=2, concepts=5, images=6)))
    one, two = (compare(study, names, draws=500).table("pairs") for names in (["m0", "m1"], ["m1", "m0"]))
    assert two.difference.tolist() == pytest.approx((-one.difference).tolist())
    assert two.p.tolist() == one.p.tolist()
    assert two.difference_low.tolist() == pytest.approx((-one.difference_high).tolist())


def test_variants_of_one_model(tmp_path: Path) -> None:
    rows = [row(f"c{i}", 0.9, 1, variant="original", name="o") for i in range(8)]
    rows += [row(f"c{i}", 0.2, 1, variant="synonym", name="s") for i in range(8)]
    study = open_study(make_results(tmp_path, *rows))
    with pytest.raises(InputError, match="its variants are m@original, m@synonym"):
        compare(study, ["m"])
    finding = compare(study, ["m@original", "m@synonym"])
    assert finding.scalars["m@original vs m@synonym/cra/difference"] == 1
    found = finding.table("pairs")
    first = found.iloc[0]
    assert first.measure == "cra" and first.difference == 1 and first.p == pytest.approx(2 / 2**8)


def test_an_unrelated_model_changes_no_difference(tmp_path: Path) -> None:
    rows = random_rows(1, models=2, concepts=5, images=4)
    one = compare(open_study(make_results(tmp_path / "1", *rows)), ["m0", "m1"], draws=300)
    more = [*rows, *random_rows(9, models=1, concepts=12, images=4, first="other")]
    two = compare(open_study(make_results(tmp_path / "2", *more)), ["m0", "m1"], draws=300)
    for name in ("pairs", "concepts"):
        pd.testing.assert_frame_equal(one.table(name), two.table(name))


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    study = open_study(make_results(tmp_path, row("a", 0.9, 1, model="sd14"), row("b", 0.9, 1, model="esd")))
    with pytest.raises(InputError, match="no concept in common"):
        compare(study, ["sd14", "esd"])
    with pytest.raises(
        InputError, match=r"no model 'sd15' \(is it 'sd14'\?\).*; name other results with `Results.open`"
    ):
        compare(study, ["sd15", "esd"])
    with pytest.raises(InputError, match="two different models or more"):
        compare(study, ["sd14", "sd14"])
    one = open_study(make_results(tmp_path / "n", row("a", 0.9, None, model="x"), row("a", 0.9, None, model="y")))
    found = compare(one, ["x", "y"])
    assert "vr_all is undefined" in "".join(found.notes)
    assert found.table("pairs").p.isna().tolist() == [False, True, True]
