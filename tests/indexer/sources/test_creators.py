"""The table of creators beside the references, also as strangers write it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iconicity.indexer.errors import InputError
from iconicity.indexer.places import place
from iconicity.indexer.sources.creators import creators_of


def by(folder: Path, content: str | bytes) -> dict[str, str]:
    """Creators of a table that nothing is said of."""
    (folder / "concepts.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return creators_of(folder, pytest.fail)


def test_names_are_compared_without_case_blanks_and_ways_to_write_a_letter(tmp_path: Path) -> None:
    assert creators_of(tmp_path, pytest.fail) == {}
    found = by(tmp_path, "concept,creator\nA b,Ren\u00e9  Stra\u00dfe\nc, RENE\u0301 STRASSE \nd,\ne,  \n,Nobody\n")
    assert set(found) == {"a_b", "c"} and found["a_b"] == found["c"]
    assert by(tmp_path, "concept,Artist\na,Ann\n") == {"a": "ann"}
    assert by(tmp_path, "concept,artist,creator\na,Ann,Bob\n") == {"a": "bob"}


def test_a_cell_with_several_names_counts_as_a_whole(tmp_path: Path) -> None:
    found = by(tmp_path, 'concept,creator\na,Ann; Bob\nb,"Ann, Bob"\nc,Ann\nd,ANN; bob\n')
    assert found["a"] == found["d"] and len(set(found.values())) == 3


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    found = by(tmp_path, 'concept,creator\n../../x,=cmd()\na,"\x1b[31mAnn\nBob"\nb,\x00\nc,' + "n" * 50_000 + "\n")
    assert set(found) == {"../../x", "a", "b", "c"} and found["a"] == "\x1b[31mann bob" and len(found["c"]) == 50_000


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04", b"concept,creator\na,\xff\n", b"concept,creator\na,b,c,d\n", b"concept,creator,creator\na,b,c\n"],
)
def test_a_table_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError) as e:
        by(tmp_path, content)
    assert "concepts.csv" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("concepts.csv")])
def test_what_is_no_file_is_an_error(tmp_path: Path, make: object) -> None:
    make(tmp_path / "concepts.csv")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"concepts\.csv: no regular file"):
        creators_of(tmp_path)


def test_a_table_without_its_columns_or_out_of_the_folder_is_a_note(tmp_path: Path) -> None:
    refs, said = tmp_path / "refs", list[str]()
    refs.mkdir()
    for header in ("title,creator", "concept,title", ""):
        (refs / "concepts.csv").write_text(f"{header}\na,b\n" if header else "")
        assert creators_of(refs, said.append) == {}
    assert len(said) == 3 and all("names no creators" in line for line in said)
    (tmp_path / "other.csv").write_text("concept,creator\na,Ann\n")
    (refs / "concepts.csv").unlink()
    (refs / "concepts.csv").symlink_to(tmp_path / "other.csv")
    assert creators_of(refs, said.append) == {} and "a link out of the folder" in said[-1]
    assert creators_of(refs, pytest.fail, follow_links=True) == {"a": "ann"}


def test_object_storage_has_no_table() -> None:
    assert creators_of(place("s3://bucket/refs"), pytest.fail) == {}
