"""Which image a text names: by model and file, by path, and never by guessing."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import make_results, row

from iconicity.scorer.measure.naming import ImageNames
from iconicity.scorer.measure.study import Study, open_study


def scored(tmp_path: Path, *images: tuple[str, str], **columns: str | None) -> Study:
    """A study of (model, path as given); the concept and file are the path's last two parts."""
    rows = [
        row(path.split("/")[-2].lower().replace(" ", "_"), 0.5, 1, model=model, name=path.split("/")[-1])
        | {"gen_path": path}
        | columns
        for model, path in images
    ]
    return open_study(make_results(tmp_path / "r", *rows), ["gen_path"])


def test_a_model_that_was_not_scored_fits_nothing(tmp_path: Path) -> None:
    names = ImageNames(scored(tmp_path, ("A", "gen/run1/one/0.png"), ("A", "gen/run1/one/1.png")))
    assert (
        names.find("A/one/1.png") == [1]
        and names.find("one/1.png") == [1]
        and names.find("1.png", concept="one") == [1]
    )
    for text in (
        "B/one/1.png",
        "run1/one/1.png",
        "gen/B/one/1.png",
        "elsewhere/A/one/1.png",
        "A/one/2.png",
        "A/two/1.png",
    ):
        assert names.find(text) == [], text
    assert names.find("one/1.png", model="B") == [] and names.find("A/one/1.png", model="A") == [1]
    assert names.find("elsewhere/one/1.png", model="A") == [1]
    assert [names.model_named(t) for t in ("B/one/1.png", "A/one/sub/1.png", "one/1.png")] == ["B", "A", ""]


def test_model_names_that_are_other_models_folders(tmp_path: Path) -> None:
    swapped = ImageNames(scored(tmp_path, ("A", "gen/B/one/0.png"), ("B", "gen/A/one/0.png")))
    assert swapped.find("A/one/0.png") == [0] and swapped.find("gen/A/one/0.png") == [1]
    assert swapped.find("one/0.png") == [0, 1] and swapped.find("one/0.png", model="B") == [1]
    assert swapped.find("B/one/0.png", model="A") == [0, 1]  # says two things


def test_a_name_that_is_also_another_models_path(tmp_path: Path) -> None:
    inside = ImageNames(scored(tmp_path, ("A", "B/one/0.png"), ("B", "A/one/0.png")))
    assert inside.find("A/one/0.png") == [0, 1]  # A's image, or the file of B's
    assert inside.find("A/one/0.png", model="A") == [0]


def test_variants_and_the_folders_own_spelling(tmp_path: Path) -> None:
    study = scored(tmp_path, ("m@formal", "f/The Scream/0.png"), ("m@plain", "p/The Scream/0.png"))
    names = ImageNames(study)
    assert names.find("m@plain/the_scream/0.png") == names.find("m@plain/The Scream/0.png") == [1]
    assert names.find("m/the_scream/0.png") == []
    of_metadata = ImageNames(scored(tmp_path / "x", ("m", "p/The Scream/0.png"), variant="plain"))
    assert of_metadata.find("m/the_scream/0.png") == of_metadata.find("m@plain/the_scream/0.png") == [0]


def test_paths_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gen" / "run1" / "one" / "0.png"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "link").symlink_to(tmp_path / "gen")
    names = ImageNames(scored(tmp_path, ("A", "gen/run1/one/0.png")))
    for text in ("gen/run1/one/0.png", "./gen/run1/one/0.png", str(file), "link/run1/one/0.png"):
        assert names.find(text) == names.find(text, model="A") == names.find(text, model="another word for it") == [0]
    twice = ImageNames(scored(tmp_path / "x", ("A", str(file)), ("B", str(file))))
    assert twice.find(str(file)) == [0, 1] and twice.find(str(file), model="B") == [1]
