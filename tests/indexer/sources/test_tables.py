"""One reader for every table a user gives: headers, delimiters, line ends and encodings as people have them."""

from __future__ import annotations

import json
import os
import threading
import warnings
from pathlib import Path

import pandas as pd
import pytest

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import not_used, open_table, read_table

NEEDED = {"path": "--path-col", "concept": "--concept-col"}
ROWS = [{"path": "a/1.png", "concept": "a"}, {"path": "b/2.png", "concept": "b, c"}]


def given(tmp_path: Path, data: bytes | str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def rows_of(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    told: list[str] = []
    table = read_table(path, NEEDED, ["rater"], told.append)
    return [{name: row[name] for name in NEEDED} for _, row in table.rows], told


@pytest.mark.parametrize(
    "header", ["path,concept", "Path,CONCEPT", "path, concept", " path ,concept ", '"Path" , "Concept "', "\ufeff\ufeffpath,concept"]
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_headers_and_line_ends(tmp_path: Path, header: str, end: str) -> None:
    text = end.join([header, "a/1.png,a", "", 'b/2.png, "b, c"', ",,", ""])
    assert rows_of(given(tmp_path, text)) == (ROWS, [])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("path;concept;note\na/1.png;a;1,5\nb/2.png;b, c;\n", "semicolons"),
        ("concept\tpath\na\ta/1.png\nb, c\tb/2.png\n", "tabs"),
        ('"path";"concept"\r\n"a/1.png";"a"\r\n"b/2.png";"b, c"\r\n', "semicolons"),
        ("sep=;\npath;concept\na/1.png;a\nb/2.png;b, c\n", "semicolons"),
        ('path;concept;"more, and, more, of it"\na/1.png;a\nb/2.png;b, c\n', "semicolons"),
    ],
)
def test_the_delimiter_is_found_and_told(tmp_path: Path, text: str, word: str) -> None:
    path = given(tmp_path, text)
    assert rows_of(path) == (ROWS, [f"{path}: its cells are separated by {word}"])
    for encoding in ("utf-8-sig", "utf-16"):
        assert rows_of(given(tmp_path, text.encode(encoding)))[0] == ROWS, encoding


def test_quoted_newlines_keep_their_row_and_lines_are_counted(tmp_path: Path) -> None:
    path = given(tmp_path, 'path,concept\n"a\n\r\nb","x\ry"\r\nc,z\n5" d,w\n')
    table = read_table(path, NEEDED)
    assert [(line, row["path"], row["concept"]) for line, row in table.rows] == [
        (2, "a\n\r\nb", "x\ry"),
        (6, "c", "z"),
        (7, '5" d', "w"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column 'path' .columns: none.; name one with --path-col"),
        (b"path,label\n", "no column 'concept' .columns: path, label.; name one with --concept-col"),
        (b"path,concept,Concept,CONCEPT \n", None),
        (b"path,Concept,CONCEPT\n", "2 columns are named 'concept'; rename all but one"),
        (b"path,concept,concept\n", "2 columns are named 'concept'; rename all but one"),
        (b"path,concept\na,b\na,b,c\n", r"t\.csv:3: 3 cells under a header of 2; quote cells that hold commas"),
        (b"path;concept\na;b;c\n", r"t\.csv:2: 3 cells under a header of 2; quote cells that hold semicolons"),
        (b"path,concept\na,b\n\nc,caf\xe9\n", r"t\.csv:4: cannot be read as UTF-8 .byte 0xe9.; save it as UTF-8"),
        (b'path,concept\na,b\nc,"d\ne,f\n', r"t\.csv:3: cannot be read: a quote in 'c,\"d' is not closed"),
        (b'path,concept\na,b\nc,"d', r"t\.csv:3: cannot be read: a quote in 'c,\"d' is not closed"),
        (b'path,concept\nc,"d\ne,"f"\n', r"t\.csv:2: cannot be read: a quote in 'c,\"d' is not closed, or not doubled"),
        (b'path,"concept\na,b\n', r"t\.csv:1: cannot be read: a quote in .* is not closed"),
        (b'path,concept\na,"' + b"x" * 200_000 + b'"\n', r"t\.csv:2: cannot be read .field larger"),
        (b"PK\x03\x04xx", "an Excel workbook or a zip file, no text; save it as CSV"),
        (b"\x1f\x8bxx", "compressed"),
        ("path,concept\n".encode("utf-16-le"), "NUL"),
    ],
)
def test_faults_are_one_line_with_file_line_fact_and_fix(tmp_path: Path, data: bytes, message: str | None) -> None:
    path = given(tmp_path, data)
    if message is None:
        assert read_table(path, NEEDED).columns == ["path", "concept", "Concept", "CONCEPT"]
        return
    with pytest.raises(InputError, match=message) as error:
        read_table(path, NEEDED)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_cells_too_many_lose_no_other_row(tmp_path: Path) -> None:
    table = open_table(given(tmp_path, "path,prompt\n1,a, b\n2,c,,\n3\n"), ["path"])
    assert list(table.lines) == [
        (2, "3 cells under a header of 2; quote cells that hold commas"),
        (3, {"path": "2", "prompt": "c"}),
        (4, {"path": "3"}),
    ]


def test_what_a_spreadsheet_was_kept_from_running_is_read_as_it_was(tmp_path: Path) -> None:
    assert rows_of(given(tmp_path, "path,concept\n'=a,'tis\n"))[0] == [{"path": "=a", "concept": "'tis"}]


def test_the_other_formats_find_columns_alike(tmp_path: Path) -> None:
    rows = [{" Path": "a/1.png", "CONCEPT": "a", "n": 1.5}, {" Path": "b/2.png", "CONCEPT": "b, c", "n": None}]
    lines = given(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "t.JSONL")
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for path in (lines, tmp_path / "t.parquet"):
        assert rows_of(path) == (ROWS, [])
        assert [row["n"] for _, row in read_table(path, NEEDED).rows] == ["1.5", ""]
    assert next(open_table(tmp_path / "t.parquet", ["path"], only=True).lines) == (1, {"path": "a/1.png"})
    lines.write_text('{"Concept": 1, "concept": 2, "path": 3}\n[]\n')
    assert list(open_table(lines, NEEDED).lines) == [
        (1, {"concept": 2, "path": 3, "Concept": 1}),
        (2, "not a JSON object"),
    ]
    for name, data in (("u.jsonl", '{"a": 1}'.encode("utf-16")), ("u.parquet", b"PAR1 no")):
        with pytest.raises(InputError, match=name):
            read_table(given(tmp_path, data, name), NEEDED)


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("path,concept\na/1.png,a\n",))
    writer.start()
    assert rows_of(tmp_path / "pipe")[0] == ROWS[:1]
    writer.join()


def test_in_python_a_note_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="separated by tabs"):
        read_table(given(tmp_path, "path\tconcept\n"), NEEDED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(given(tmp_path, "path,concept\n"), NEEDED)


def test_columns_that_were_not_used_are_one_line() -> None:
    assert not_used("f", []) is None
    assert not_used("f", ["b", "a", ""]) == "f: columns that were not used: (no name), a, b"
    assert (
        not_used("f", map(str, range(10, 22)))
        == "f: columns that were not used: 10, 11, 12, 13, 14, 15, 16, 17 and 4 more"
    )


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_our_name_of_a_column_stands_for_the_published_one(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"Concept": ["a"], "year": ["1900"]})
    if name == "t.csv":
        frame.to_csv(tmp_path / name, index=False)
    elif name == "t.parquet":
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=True)
    table = read_table(tmp_path / name, {"label_clean": "--concept-col"})
    assert [row for _, row in table.rows] == [{"label_clean": "a", "year": "1900"}]
    assert read_table(tmp_path / name, {"concept": ""}, ["label_clean"]).rows[0][1]["concept"] == "a"


def test_the_published_name_of_a_column_comes_first(tmp_path: Path) -> None:
    table = read_table(given(tmp_path, "concept,label_clean\nb,a\n"), {"label_clean": ""})
    assert [row for _, row in table.rows] == [{"concept": "b", "label_clean": "a"}]
    with pytest.raises(InputError, match="no column 'label_clean'"):
        read_table(given(tmp_path, "concept,concept\nb,a\n"), {"label_clean": ""})
