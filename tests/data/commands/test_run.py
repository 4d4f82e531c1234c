"""``iconicity run``: which models lie at a folder, a study that is run again, and hostile folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from run import run
from toys import draw, make_gen, make_refs, toy_encoders, write
from wikimedia import File, Wikimedia, item, serving

import iconicity as ic
from iconicity.indexer.errors import InputError, typed
from iconicity.scorer.commands.scoring import generated_by
from iconicity.scorer.models import models_at


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.scorer.face.load_encoders", lambda *_: toy_encoders())
    for module in ("iconicity.indexer.builder", "iconicity.scorer.scoring"):
        monkeypatch.setattr(f"{module}.reproduce", lambda *_, **__: toy_encoders())


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the folders of two models."""
    for name in ("sd14", "esd"):
        make_gen(tmp_path / "two" / name)
    return tmp_path / "two"


def test_a_folder_of_concepts_is_one_model(refs: Path, gen: Path, two: Path) -> None:
    assert models_at(gen, refs).generated == {"m1": gen}
    found = models_at(two, refs)
    assert found.generated == {"esd": two / "esd", "sd14": two / "sd14"} and found.notices == []


def test_a_model_may_be_called_like_a_concept(refs: Path, two: Path) -> None:
    (two / "esd").rename(two / "alpha")
    assert set(models_at(two, refs).generated) == {"alpha", "sd14"}


def test_what_is_no_model_is_said(refs: Path, two: Path) -> None:
    (two / "empty").mkdir()
    write(two / "notes" / "fig.png", draw(1))
    write(two / "loose.png", draw(2))
    shutil.copytree(refs, two / "refs")
    found = models_at(two, two / "refs")
    assert set(found.generated) == {"esd", "sd14"}
    of_refs, of_folders, of_images = found.notices
    assert of_refs.endswith(f"holds the references {two / 'refs'}, and is no model")
    assert of_folders.startswith("2 folders of") and of_folders.endswith("did not count as models: empty, notes")
    assert of_images == f"ignored 1 image beside the folders of models, first {two / 'loose.png'}"


def mixed(root: Path, _: Path) -> Path:
    write(root / "two" / "alpha" / "1.png", draw(3))
    return root / "two"


def loose(root: Path, _: Path) -> Path:
    return write(root / "loose" / "1.png", draw(3)).parent


def unknown(root: Path, _: Path) -> Path:
    return write(root / "other" / "delta" / "1.png", draw(3)).parents[1]


def empty(root: Path, _: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def variant(root: Path, _: Path) -> Path:
    (root / "two" / "esd").rename(root / "two" / "esd@")
    return root / "two"


def the_references(_: Path, refs: Path) -> Path:
    return refs


def within_the_references(_: Path, refs: Path) -> Path:
    return make_gen(refs / "gen")


HOSTILE: dict[Callable[[Path, Path], Path], str] = {
    mixed: "holds folders of concepts (alpha) beside folders of models (esd, sd14); name each model with --gen",
    loose: "images lie directly in it; a model's images lie in GEN/<concept>/, or GEN/<model>/<concept>/",
    unknown: "no folder in it has the name of a concept (delta), and no folder below these; the concepts of",
    empty: "holds no folder of images",
    variant: "lacks a name or a variant beside the @",
    the_references: "holds the references and the generated images; name two folders",
    within_the_references: "lies inside the references",
    lambda root, _: root / "gone": "no such folder",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_folders_are_said_in_one_line(
    make: Callable[[Path, Path], Path], refs: Path, two: Path, tmp_path: Path
) -> None:
    done = run("run", refs, make(tmp_path, refs), "--out", tmp_path / "s", code=1)
    assert done.stderr.count("\n") == 1 and HOSTILE[make] in done.stderr and not (tmp_path / "s").exists()


def test_a_study_inside_its_images_is_refused(refs: Path, gen: Path) -> None:
    for out in (refs / "study", gen / "study", gen):
        with pytest.raises(InputError, match="name an `out` elsewhere"):
            ic.evaluate(refs, gen, out)


def test_the_images_are_named_once(refs: Path, gen: Path, tmp_path: Path) -> None:
    for given in ([], [gen, "--gen", f"m={gen}"]):
        done = run("run", refs, *given, "--out", tmp_path / "s", code=2)
        assert "name the generated images once" in done.stderr


def test_a_study_is_run_again(refs: Path, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    told = run("run", refs, two, "--out", out, "--dry-run").stdout
    assert "would embed 12 before" in told and "no index yet" in told and not out.exists()
    first = run("run", refs, two, "--out", out)
    assert first.stdout.startswith(f"2 models: esd ({two / 'esd'}), sd14 ({two / 'sd14'})\n")
    assert "9 images embedded" in first.stdout and "18 images scored" in first.stdout
    assert first.stdout.endswith(f"\nreport: {out / 'report' / 'index.html'}\n")
    assert "nothing has changed, 0 images embedded" in run("run", refs, two, "--out", out).stdout

    told = run("run", refs, two, "--out", out, "--dry-run").stdout
    assert "would embed 0 before" in told and "would score 18 images, embed 0, remove or replace no rows" in told
    write(refs / "delta" / "1.png", draw(900))  # the index changes: scores follow, and only new images are embedded
    make_gen(two / "new", seed=7000)
    again = run("run", refs, two, "--out", out)
    assert "1 image embedded" in again.stdout and "27 images scored, 6 embedded" in again.stdout

    shutil.rmtree(refs / "delta")
    (two / "new" / "alpha" / "02.png").unlink()
    assert "--prune" in run("run", refs, two, "--out", out, code=1).stderr
    assert "26 images scored, 0 embedded" in run("run", refs, two, "--out", out, "--prune").stdout

    (two / "new" / "beta" / "02.png").unlink()  # of the images alone
    refused = run("run", refs, two, "--out", out, code=1).stderr
    assert "1 of 8 rows of new would go" in refused and "--prune" in refused
    assert "25 images scored" in run("run", refs, two, "--out", out, "--prune").stdout

    assert ic.Results.open(out).models == ic.Results.open(out / "results").models == ("esd", "new", "sd14")
    only = run("run", refs, "--gen", f"sd14={two / 'sd14'}", "--out", out)
    assert "models of" in only.stderr and "stay as they are: esd, new" in only.stderr


def test_files_that_cannot_be_used_are_named(refs: Path, gen: Path, tmp_path: Path) -> None:
    (gen / "alpha" / "02.png").write_bytes(b"no image")
    done = run("run", refs, "--gen", f"sd={gen}", "--out", tmp_path / "s", code=3)
    assert (
        "8 images scored, 8 embedded, 1 skipped" in done.stdout
        and "skipped: " in done.stderr
        and "\nsd " in done.stdout
    )


def test_the_sentences_follow_from_the_rows(tmp_path: Path) -> None:
    """25 concepts, of which the model copies 10 and draws something else for 15."""
    names = [f"c{i:02d}" for i in range(25)]
    make_refs(tmp_path / "refs", names, each=1)
    for i, name in enumerate(names):
        write(tmp_path / "gen" / name / "1.png", draw(100 * i if i < 10 else 9000 + i))
    results = ic.evaluate(tmp_path / "refs", tmp_path / "gen", tmp_path / "study")
    first, counts, look = results.sentences()
    assert first.startswith("gen recognises 10 of 25 concepts (40 %, 21 to 61 %). In its 10 recognised ")
    assert (
        "images 100 % of the patches are found in the references, on average over the concepts (69 to 100 %); the rest was not found."
        in first
    )
    assert "which 1 % of unrelated references reach" in counts and "Fewer than 30 concepts" in counts
    assert look.startswith("What to look at first: gen/c0") and look.endswith(
        "of whose 16 patches 16 are found in the references."
    )


def test_no_verdict_without_a_threshold_that_means_something(refs: Path, gen: Path, tmp_path: Path) -> None:
    said, look = ic.evaluate(refs, gen, tmp_path / "study").sentences()
    assert said.startswith("Nothing can be called recognised or copied yet")
    assert look.startswith("What to look at first: m1/") and look.endswith("the image most similar to a reference.")


def test_the_report_is_opened(refs: Path, gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def no_browser(url: str) -> bool:
        opened.append(url)
        return False

    monkeypatch.setattr("webbrowser.open", no_browser)
    done = run("run", refs, gen, "--out", tmp_path / "a study", "--open")
    assert opened == [(tmp_path / "a study" / "report" / "index.html").as_uri()]
    assert "no browser was found; open the report yourself" in done.stderr


def test_swapped_folders_and_one_folder_as_two_models_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("models/a/scream", "models/b/scream", "my refs/scream"):
        write(tmp_path / folder / "0.png", draw(1))
    found = run(
        "run", tmp_path / "models", tmp_path / "my refs", "--out", tmp_path / "o", "--encoders", "offline", code=1
    )
    assert "are the references and GEN swapped?" in found.stderr
    same = tmp_path / "models" / "a"
    assert list(generated_by([f"a={same}", f"b={same}"], None, None, False)) == ["a", "b"]
    assert "counts as a and b, with the same images" in capsys.readouterr().err
    assert typed(tmp_path / "my refs") == f'"{tmp_path}/my refs"' and typed("a$b c") == "'a$b c'"


def test_a_study_that_moved_finds_its_index(refs: Path, gen: Path, tmp_path: Path) -> None:
    ic.evaluate(refs, gen, tmp_path / "study")
    (tmp_path / "study").rename(tmp_path / "moved")
    assert ic.Results.open(tmp_path / "moved" / "results").report(tmp_path / "again").is_file()


def test_a_study_in_one_file(refs: Path, two: Path, tmp_path: Path) -> None:
    (two / "prompts.csv").write_text("concept,title,creator\nalpha,Alpha,Bill\n")
    file = write_text(
        two / "study.toml", f'[variants]\nkinds = "original,none"\n[generated]\nsd14 = "sd14"\n[run]\nrefs = "{refs}"\n'
    )
    told = run("run", "--study", file, "--dry-run").stdout
    assert "would run 'iconicity variants'" in told and "would embed 12 before" in told and not (two / "study").exists()
    done = run("run", "--study", file).stdout
    assert done.startswith("[variants]\nvariants.csv: 2 prompts: 1 original, 1 none\n[run]\n1 model: sd14 (sd14)\n")
    assert done.endswith(f"\nreport: {two / 'study' / 'report' / 'index.html'}\n")
    assert "nothing has changed, 0 images embedded" in run("run", "--study", file).stdout
    assert ic.Results.open(two / "study").models == ("sd14",)

    refused = run("run", refs, "--study", file, "--out", tmp_path / "s", code=2).stderr
    assert f"REFS beside --study: write it into {file}" in refused
    file.write_text(file.read_text().replace(str(refs), "gone"))
    assert f"note: {file}: stopped in [run]\nerror: " in run("run", "--study", file, code=1).stderr


def test_a_run_needs_folders_or_a_file(refs: Path, gen: Path) -> None:
    for given in ([], [refs, gen]):
        assert "or a file with --study" in run("run", *given, code=2).stderr


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_study_from_titles_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    from tiny_pipeline import tiny_pipeline

    tiny_pipeline(tmp_path / "model")
    (tmp_path / "titles.csv").write_text("title\nThe Great Wave\nThe Scream\n")
    file = write_text(
        tmp_path / "study.toml",
        "[collect]\ntitles = 'titles.csv'\ncontact = 'you@example.org'\nwidth = 250\n[variants]\nkinds = ['original', 'none']\n"
        "[generate.tiny]\nmodel = 'model'\nseeds = 2\nsteps = 1\n[run]\n",
    )
    known = Wikimedia(
        items={
            "Q1": item("The Great Wave", creators=["Q9"], pictures=["Wave.jpg"]),
            "Q2": item("The Scream", creators=["Q9"], pictures=["Scream.jpg"]),
            "Q9": item("Edvard Hokusai"),
        },
        files={"Wave.jpg": File(1), "Scream.jpg": File(2)},
    )
    with serving(known) as world:
        monkeypatch.setenv("ICONICITY_WIKIMEDIA", world.base)
        told = run("run", "--study", file, "--dry-run").stdout
        assert "2 concepts: 0 begun or done, 2 new" in told and not (tmp_path / "refs").exists()
        done = run("run", "--study", file).stdout
        assert [line for line in done.splitlines() if line.startswith("[")] == [
            "[collect]",
            "[variants]",
            "[generate.tiny]",
            "[run]",
        ]
        asked = len(world.asked)
        again = run("run", "--study", file).stdout
        assert len(world.asked) == asked
    assert "8 images: 8 made" in done and "8 images scored" in done
    assert "8 images: 0 made" in again and "nothing has changed, 0 images embedded" in again
    assert ic.Results.open(tmp_path / "study").models == ("tiny@none", "tiny@original")
    assert ic.Index.open(tmp_path / "study" / "index").opened.manifest["thresholds"]["creators"] == {
        "the_great_wave": "edvard hokusai", "the_scream": "edvard hokusai",
    }  # fmt: skip
