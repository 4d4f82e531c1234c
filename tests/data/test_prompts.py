"""Tables of prompts: what is written is read again, and each fault is named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from iconicity.data.prompts import Prompt, read_prompts, write_prompts
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import folder_images


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    prompts = [
        Prompt("the_scream", "original", 'The Scream, "1893"\nby Munch'),
        Prompt("the_scream", "synonym", "=HYPERLINK(1)", "-blurry"),
        Prompt("große_welle", "none", "'tis a wave; \t\x1b[2J"),
    ]
    path, told = tmp_path / "out.csv", list[str]()
    write_prompts(path, prompts, {"changed": ["", "a->b", "dropped: by X"]})
    assert read_prompts(path, told.append) == prompts and not told
    assert path.read_text().splitlines()[0] == "concept,variant,prompt,negative,changed"
    write_prompts(path, prompts[:1])
    assert path.read_text().splitlines()[0] == "concept,variant,prompt"


def test_concepts_are_named_as_those_of_folders(tmp_path: Path) -> None:
    names = [" The Great Wave ", "Cafe\u0301", "a/b"]
    path = given(tmp_path, "Prompt, Concept ,artist\n" + "".join(f"p,{name},x\n" for name in names))
    told: list[str] = []
    found = read_prompts(path, told.append)
    assert [p.concept for p in found] == ["the_great_wave", "caf\u00e9", "a_b"]
    assert {p.variant for p in found} == {"original"} and {p.negative for p in found} == {""}
    assert told == [f"{path}: columns that were not used: artist"]
    for p in found:  # a folder of that name is that concept
        (tmp_path / "gen" / p.concept).mkdir(parents=True)
    assert {image.concept for image in folder_images(tmp_path / "gen")} == {p.concept for p in found}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,p\nb,\n", ":3: its prompt is empty"),
        ("a,p\n ,q\n", ":3: its concept '' names no folder"),
        ("a,p\n..,q\n", ":3: its concept '..' names no folder"),
        ("a,p\n.git,q\n", ":3: its concept '.git' names no folder"),
        ("a,p\nnan,q\n", ":3: its concept is 'nan', which counts as empty"),
        ("a,p\n" + "b" * 256 + ",q\n", ":3: its concept 'bbb"),
        ("a,p\nA ,p\n", ":3: has the concept, variant and prompt of line 2; delete one"),
        ("a,p, q\n", ":2: 3 cells under a header of 2"),
        ("a,\0p\n", ":2: its prompt holds a NUL"),
        ("", ": holds no prompt"),
    ],
)
def test_faults_name_their_line(tmp_path: Path, rows: str, message: str) -> None:
    path = given(tmp_path, "concept,prompt\n" + rows)
    with pytest.raises(InputError) as e:
        read_prompts(path)
    assert str(e.value).startswith(f"{path}{message}") and "\n" not in str(e.value)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'prompt' \(columns: concept, text\)"):
        read_prompts(given(tmp_path, "concept,text\na,b\n"))
