"""CSV that every reader reads: what was written comes back from Python's csv, pandas, DuckDB and our own reader."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iconicity.indexer.csv_cells import csv_line, csv_text, neutral
from iconicity.indexer.sources.tables import read_table

TEXTS = [
    "a\rb", "a\nb", "a\r\nb", "\r", "\n", 'say "b"', '"', '""', "a,b", "a;b", "a\tb", "\ttab", "'tis", "'", "=1+1", "'=1", "-x", "@x", "+1",
    "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", " lead", "trail ", "\xa0x", "", "\u00e9", "a\\b", "\\", "#x", "nan", "NULL", "None",
    "1", "007", "true", "a\x1ab",
]  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    lines = [csv_line(["n", "text", "nothing", "number"])]
    lines += [csv_line([i, text, None, -0.5]) for i, text in enumerate(TEXTS)]
    path.write_bytes("".join(lines).encode())
    return path


def test_rows_stay_whole_for_every_reader(written: Path) -> None:
    cells = [neutral(text) for text in TEXTS]
    with written.open(newline="", encoding="utf-8") as f:
        assert [row["text"] for row in csv.DictReader(f, strict=True)] == cells
    for engine in ("c", "python"):
        frame = pd.read_csv(written, keep_default_na=False, engine=engine, dtype={"text": str})
        assert frame.text.tolist() == cells and set(frame.number) == {-0.5}, engine
    assert [row["text"] for _, row in read_table(written, {"text": "--x"}).rows] == TEXTS


def test_rows_stay_whole_for_duckdb(written: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"select n, text, nothing, number from read_csv('{written}', allow_quoted_nulls = false, header = true)"
    rows = sorted(duckdb.sql(query).fetchall())
    assert rows == [(i, neutral(text), None, -0.5) for i, text in enumerate(TEXTS)]


def test_an_empty_text_is_told_from_no_value_and_a_row_of_one_column_is_never_blank() -> None:
    assert csv_line(["", None, "x"]) == '"",,x\n'
    assert csv_line([None]) == csv_line([""]) == '""\n'


def test_a_nul_is_written_as_text() -> None:
    assert csv_line(["a\0b"]) == '"a\\x00b"\n'


def test_frames_are_written_as_pandas_writes_them_where_it_is_right() -> None:
    frame = pd.DataFrame(
        {
            "a": np.array([0.1, 1e-5, np.nan], np.float32),
            "b": [1e20, -0.5, 1 / 3],
            "c": [1, -2, 3],
            "d": [True, False, True],
            "e": ["x", None, "y z"],
            "f": pd.array([1, None, 3], dtype="Int64"),
            "g": [None, True, 2],
        }
    )
    assert csv_text(frame) == frame.to_csv(index=False, lineterminator="\n")
    assert csv_text(pd.DataFrame({"=x": ["a\rb"]})) == '\'=x\n"a\rb"\n'
    assert csv_text(pd.DataFrame({"x": []})) == "x\n"
