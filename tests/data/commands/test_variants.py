"""``iconicity variants`` by exit code, file and message."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from caption_models import encoder_decoder
from run import run
from toys import draw, write

PROMPTS = "concept,title,creator\nthe_scream,The Scream,Edvard Munch\nthe_kiss,The Kiss,\n"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.csv").write_text(PROMPTS)
    (tmp_path / "synonyms.csv").write_text("word,synonym\nscream,shriek\n")
    return tmp_path / "prompts.csv"


def test_a_table_of_variants(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.csv"
    given = ["variants", "--prompts", prompts, "--out", out, "--kinds", "original, synonym,none"]
    done = run(*given, "--synonyms", tmp_path / "synonyms.csv")
    assert out.read_text().splitlines() == [
        "concept,variant,prompt,changed",
        'the_scream,original,The Scream,""',
        "the_scream,synonym,The Shriek,Scream->Shriek",
        "the_scream,none,The Scream by Edvard Munch,added: by Edvard Munch",
        'the_kiss,original,The Kiss,""',
    ]
    assert (
        done.stdout
        == f"{out}: 4 prompts: 2 original, 1 synonym, 1 none; synonyms of {tmp_path / 'synonyms.csv'}, seed 0\n"
    )
    assert done.stderr.splitlines() == [
        "note: synonym: not made of 1 of 2 prompts: the_kiss (no word has a synonym)",
        "note: none: not made of 1 of 2 prompts: the_kiss (no creator)",
    ]
    made_of = json.loads((tmp_path / "v.csv.meta.json").read_text())
    assert made_of["prompts_sha256"] == hashlib.sha256(PROMPTS.encode()).hexdigest()
    assert made_of["kinds"] == ["original", "synonym", "none"] and made_of["seed"] == 0
    assert made_of["synonyms"] == str(tmp_path / "synonyms.csv") and made_of["caption_model"] is None
    before = out.read_bytes()
    run(*given, "--synonyms", tmp_path / "synonyms.csv")
    assert out.read_bytes() == before


def test_captions_of_references(prompts: Path, tmp_path: Path) -> None:
    model, out = encoder_decoder(tmp_path / "m"), tmp_path / "v.csv"
    write(tmp_path / "refs" / "The Scream" / "2.png", draw(0, (40, 50)))
    given = ["variants", "--prompts", prompts, "--out", out, "--kinds", "literal", "--refs", tmp_path / "refs"]
    given += ["--caption-model", model, "--device", "cpu"]
    done = run(*given)
    header, line = out.read_text().splitlines()
    assert line.startswith("the_scream,literal,") and line.endswith((",caption", ",caption without: scream"))
    assert "note: literal: not made of 1 of 2 prompts: the_kiss (no reference of it can be described)" in done.stderr
    (tmp_path / "refs" / "The Scream" / "1.png").write_bytes(b"\x89PNG no image")
    again = run(*given, code=3)  # the first one cannot be read, the second is known
    assert "skipped: " in again.stderr and "1.png" in again.stderr
    assert out.read_text().splitlines() == [header, line]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kinds", "original,others"], "--kinds others: choose of original, synonym, literal, none"),
        (["--kinds", "none", "--synonyms", "x.csv"], "--synonyms belongs to the kind synonym"),
        (["--kinds", "none", "--caption-model", "a/b", "--refs", "r"], "--caption-model belongs to the kind literal"),
        (["--kinds", "literal", "--caption-model", "a/b"], "--caption-model describes the images of --refs"),
        (["--kinds", "literal"], "the kind literal needs --caption-model and --refs, or a column literal"),
    ],
)
def test_options_that_do_not_fit(prompts: Path, tmp_path: Path, options: list[str], message: str) -> None:
    assert message in run("variants", "--prompts", prompts, "--out", tmp_path / "v.csv", *options, code=2).stderr
    assert not (tmp_path / "v.csv").exists()


def test_the_table_that_is_read_is_not_written_over(prompts: Path) -> None:
    said = run("variants", "--prompts", prompts, "--out", prompts, "--kinds", "none", code=2).stderr
    assert "is the table of --prompts" in said and prompts.read_text() == PROMPTS
