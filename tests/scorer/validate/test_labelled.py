"""Labels count for the image they name for certain; all others are counted and named, a line a kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import make_results, row
from run import run_alone

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.validate.labelled import Label, match, read_labels, word
from iconicity.scorer.validate.labels import validate_labels
from iconicity.scorer.validate.words import COPIED, NOT_COPIED


def results_of(tmp_path: Path, models: str = "A") -> Path:
    """Of each model three concepts of four images, the first two of each the most similar; one image could not be used."""
    rows = [
        row(c, 0.9 - 0.1 * i, 4 - i, model=m, name=f"{i}.png") | {"gen_path": f"gen/{m}/{c}/{i}.png"}
        for m in models
        for c in ("one", "two", "three")
        for i in range(4)
    ]
    bad = [row("one", None, None, "skipped", model=m, name="bad.png") for m in models]
    return make_results(tmp_path / "r", *rows, *bad)


def study_of(tmp_path: Path, models: str = "A") -> Study:
    return open_study(results_of(tmp_path, models), ["gen_path"])


def labels_of(model: str, words: tuple[str, str] = ("copy", "other")) -> list[Label]:
    return [Label(f"{model}/{c}/{i}.png", c, words[i >= 2], "r") for c in ("one", "two", "three") for i in range(4)]


def notes_of(study: Study, labels: list[Label]) -> list[str]:
    return list(match(study, labels, COPIED, NOT_COPIED).notes)


def test_labels_of_an_unscored_model_count_for_nothing(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    alone = validate_labels(study, labels_of("A"), draws=100)
    both = validate_labels(study, [*labels_of("A"), *labels_of("B", ("other", "copy"))], draws=100)
    assert alone.table().auroc.tolist() == both.table().auroc.tolist() == [1.0, 1.0, 1.0]
    assert set(both.notes) - set(alone.notes) == {
        "12 labels of models that were not scored left out: B 12 (first B/one/0.png)"
    }
    with pytest.raises(InputError, match=r"none of the 12 labels counts \(12 labels of models that were not scored"):
        validate_labels(study, labels_of("B"))


def test_each_kind_that_does_not_count_is_a_line(tmp_path: Path) -> None:
    odd = [
        Label("A/one/9.png", "one", "copy", "r"),
        Label("one/0.png", "one", "copy", "r"),
        Label("A/one/1.png", "two", "copy", "r"),
        Label("A/one/bad.png", "one", "copy", "r"),
        Label("A/one/2.png", "one", "Unsure", "r"),
        Label("A/one/3.png", "one", "", "r"),
        Label("A/two/0.png", "two", " COPY ", "r"),
        Label("A/two/1.png", "two", "unrelated", "r"),
    ]
    found = match(study_of(tmp_path, "AB"), [*labels_of("A"), *odd], COPIED, NOT_COPIED)
    assert len(found.votes) == 12 and sorted(found.votes.items())[9][1] == {"r": "unrelated"}  # the last counts
    assert list(found.notes) == [
        "copy 5 count as copied; other 6, unrelated 1 as not copied",
        "1 label of images that were not scored left out (first A/one/9.png)",
        "1 label that fit more than one scored image left out; name images as MODEL/CONCEPT/FILE "
        "(first one/0.png: A/one/0.png, B/one/0.png)",
        "1 label whose concept is not their image's left out (first A/one/1.png: two, but the image is of one)",
        "1 label of images that could not be used left out (first A/one/bad.png)",
        "1 label whose word counts as neither copied nor not copied left out: unsure 1; say what a word means with `copied` "
        "or `not_copied`",
        "1 row without a label left out",
        "2 labels of a rater for an image that this rater labelled already (first A/two/0.png), 1 of them against the one "
        "before (first A/two/1.png: copy, then unrelated): the last one counts",
    ]


def test_words_in_any_case_are_one(tmp_path: Path) -> None:
    labels = [
        Label(v.path, v.concept, ("copy", "Copy ", "OTHER", "other")[i % 4], "r") for i, v in enumerate(labels_of("A"))
    ]
    assert validate_labels(study_of(tmp_path), labels, draws=100).table().auroc[0] == 1.0
    assert notes_of(study_of(tmp_path / "x"), labels) == ["copy 6 count as copied; other 6 as not copied"]
    assert word("\u00a0Wrong  Concept\t") == "wrong concept"


def test_a_column_of_models_and_cells_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "\ufeffpath,concept,label,rater,model\none/0.png,One ,copy, ann ,B\n'=x/one/0.png,one,copy,'=ann,\n"
    )
    assert read_labels(path) == [
        Label("one/0.png", "one", "copy", "ann", "B"),
        Label("=x/one/0.png", "one", "copy", "=ann"),
    ]
    study = study_of(tmp_path, "AB")
    found = match(study, read_labels(path), COPIED, NOT_COPIED)
    ((i, said),) = found.votes.items()
    assert study.models[study.model[i]] == "B" and said == {"ann": "copy"}
    assert found.notes[1] == "1 label of models that were not scored left out: =x 1 (first =x/one/0.png)"


def test_the_command_says_what_does_not_count(tmp_path: Path) -> None:
    results, path = results_of(tmp_path), tmp_path / "l.csv"
    rows = [f"{v.path},{v.concept},{v.label}" for v in [*labels_of("A"), *labels_of("B")]] + ["A/one/0.png,one,odd"]
    path.write_text("\n".join(["path,concept,label", *rows, ""]))
    args = ["validate", "labels", "--csv", path, "--results", results, "--draws", 100]
    done = run_alone(*args, "--out", tmp_path / "t.csv")
    assert done.returncode == 0 and "note: 12 labels of models that were not scored left out: B 12" in done.stdout
    assert "odd 1" in done.stdout and "B 12" in (tmp_path / "t.csv.meta.json").read_text()
    done = run_alone(*args, "--copied", "copy", "--copied", "Odd", "--table", "concepts")
    assert (
        "copy 5, odd 1 count as copied; other 6 as not copied" in done.stdout and "AUROC CRA similarity" in done.stdout
    )


def test_labels_as_a_spreadsheet_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes('Path;Concept; LABEL ;Rater\r\nm/a/1.png;A;"copy";J\u00f6rg\r\n'.encode("utf-16"))
    told: list[str] = []
    assert read_labels(path, tell=told.append) == [Label("m/a/1.png", "a", "copy", "J\u00f6rg")]
    assert told == [f"{path}: its cells are separated by semicolons"]
