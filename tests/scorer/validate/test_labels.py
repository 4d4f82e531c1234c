"""Labelled outputs: stratified, never pooled alone, and honest about too few concepts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rows import make_results, row
from run import run
from toys import SHARED

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.validate.labelled import Label, read_labels
from iconicity.scorer.validate.labels import UNDECIDABLE, validate_labels


def study_of(tmp_path: Path, concepts: int, each: int = 4) -> tuple[Path, list[dict[str, Any]]]:
    """Copies are more alike than the others of their concept, and less than the others of the next one."""
    rows, labels = [], []
    for c in range(concepts):
        for i in range(each):
            name, copied = f"{i}.png", i % 2 == 0
            rows.append(
                row(f"c{c}", 0.02 * c + 0.01 * copied, 2 + copied, name=name, model="m")
                | {"gen_path": f"gen/m/c{c}/{name}"}
            )
            labels.append({"path": f"m/c{c}/{name}", "concept": f"c{c}", "label": "copy" if copied else "other"})
    return make_results(tmp_path / "results", *rows), labels


def test_what_concept_it_is_does_not_help(tmp_path: Path) -> None:
    results, labels = study_of(tmp_path, 24)
    csv = tmp_path / "labels.csv"
    pd.DataFrame(labels).to_csv(csv, index=False)
    found = validate_labels(open_study(results, ["gen_path"]), read_labels(csv), ["copy"], draws=200)
    cra: Any = found.table().set_index("score").loc["cra_sim"]
    assert cra.auroc == 1.0 and cra.concepts == 24 and cra.verdict == "see interval"
    assert cra.auroc_pooled < 0.6 and cra.auroc_mean_label == 0.5
    assert found.table("concepts").copies.tolist() == [2] * 24
    assert UNDECIDABLE not in " ".join(found.notes)


def test_labels_that_follow_the_concept_are_no_evidence(tmp_path: Path) -> None:
    results, labels = study_of(tmp_path, 24)
    for v in labels:
        v["label"] = "copy" if int(v["concept"][1:]) >= 12 else "other"
    found = validate_labels(
        open_study(results, ["gen_path"]), [Label(**v, rater="") for v in labels], ["copy"], draws=200
    )
    cra: Any = found.table().set_index("score").loc["cra_sim"]
    assert cra.auroc_pooled == 1.0 and cra.auroc_mean_label == 1.0  # knowing the concept is as good
    assert np.isnan(cra.auroc) and cra.concepts == 0 and cra.verdict == UNDECIDABLE
    assert any(n.startswith(f"{UNDECIDABLE}: 0 concepts have both labels, 20 are needed") for n in found.notes)


def test_two_raters(tmp_path: Path) -> None:
    results, labels = study_of(tmp_path, 4)
    both = [Label(**v, rater=r) for v in labels for r in ("ann", "bo")]
    both[1] = Label(both[1].path, both[1].concept, "other", "bo")  # they differ on the first
    both += [Label("m/c9/0.png", "c9", "copy", "ann")]  # was not scored
    found = validate_labels(open_study(results, ["gen_path"]), both, ["copy"], draws=200)
    raters: Any = found.table("raters").iloc[0]
    assert (raters.rater, raters.other, raters.images) == ("ann", "bo", 16)
    assert raters.kappa == pytest.approx((15 / 16 - 0.5) / 0.5)
    assert found.table("concepts").copies.sum() + found.table("concepts").others.sum() == 15
    assert "1 image with a tie of raters left out" in found.notes
    assert "1 label of images that were not scored left out (first m/c9/0.png)" in found.notes
    assert "copy 15 count as copied; other 17 as not copied" in found.notes


def test_what_is_asked_wrongly_is_said(tmp_path: Path) -> None:
    results, labels = study_of(tmp_path, 2)
    csv = tmp_path / "labels.csv"
    pd.DataFrame(labels).to_csv(csv, index=False)
    study = open_study(results, ["gen_path"])
    with pytest.raises(InputError, match="no column 'eyeball'"):
        read_labels(csv, label_col="eyeball")
    with pytest.raises(InputError, match=r"no label is one of replica \(labels: copy, other\)"):
        validate_labels(study, read_labels(csv), ["replica"])
    with pytest.raises(InputError, match="none of the 1 label counts"):
        validate_labels(study, [Label("m/x/1.png", "x", "copy", "")], ["copy"])
    said = run("validate", "labels", "--csv", csv, "--results", results, "--draws", 100).stdout
    assert UNDECIDABLE in said and "auroc pooled" in said
    flat = run("validate", "labels", "--csv", csv, "--results", results, "--draws", 100, "--json")
    assert json.loads(flat.stdout)["cra_sim/auroc"] == 1.0 and "note: copy 4 count as copied; other 4" in flat.stderr
    pd.DataFrame(labels)[lambda t: t.label == "copy"].to_csv(tmp_path / "copies.csv", index=False)
    one = run("validate", "labels", "--csv", tmp_path / "copies.csv", "--results", results, code=1).stderr
    assert "no concept has both" in one and "in 20 concepts or more" in one
    with pytest.raises(InputError, match="'other' cannot mean both"):
        validate_labels(study, read_labels(csv), ["copy", "other "], ["Other"])
    columns = validate_labels(study, read_labels(csv), draws=100).table("concepts").columns
    assert list(columns) == ["concept", "copies", "others", "auroc_cra_sim", "auroc_vr", "auroc_vr_mean"]


def test_shared_art_is_not_decidable(tmp_path: Path) -> None:
    table = SHARED / "data" / "art" / "PROVENANCE.csv"
    if not table.is_file():
        pytest.skip("the shared art is not here")
    labels = read_labels(table, concept_col="slug", label_col="eyeball")
    rng = np.random.default_rng(0)
    rows = [
        row(v.concept, float(rng.uniform()), 1, model=v.path.split("/")[1], name=v.path.split("/")[-1])
        | {"gen_path": v.path}
        for v in labels
    ]
    study = open_study(make_results(tmp_path / "results", *rows), ["gen_path"])
    found = validate_labels(study, labels, ["replica", "variant"], ["reinterpretation", "unrelated"], 200)
    assert found.table().verdict.tolist() == [UNDECIDABLE] * 3
    assert any(n.startswith(f"{UNDECIDABLE}: 3 concepts") for n in found.notes)


def test_labels_beside_the_results_are_read_without_being_named(tmp_path: Path) -> None:
    results, labels = study_of(tmp_path, 24)
    assert "no labels*.csv lies in" in run("validate", "labels", "--results", results, code=1).stderr
    first, newest = tmp_path / "labels.csv", results / "labels (1).csv"
    pd.DataFrame(labels).to_csv(first, index=False)
    os.utime(first, (1, 1))
    named = run("validate", "labels", "--csv", first, "--results", results, "--draws", 200).stdout
    for study in (results, tmp_path):  # the folder of the study will do
        found = run("validate", "labels", "--results", study, "--draws", 200)
        assert found.stdout == named and found.stderr == f"note: labels of {first}\n"
    pd.DataFrame([labels[0] | {"label": "other"}]).to_csv(newest, index=False)  # the last label of a rater counts
    again = run("validate", "labels", "--results", tmp_path, "--table", "concepts", "--notes", "all")
    assert f"labels of {first}, {newest}" in again.stderr and "1 of them against the one before" in again.stdout
