"""Attributes from CSV files, hostile ones too."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.attributes import concept_attributes, read_attributes, years


def csv(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1889", 1889.5), ("800", 800.5), ("1889-06-01", 1889 + 151.5 / 365), ("1888-12-31", 1888 + 365.5 / 366),
        ("1889/06", 1889 + 166 / 365), ("1889-02", 1889 + (31 + 14) / 365), ("1884-1886", 1885.5), ("1884–1886", 1885.5),
        ("2020-01-01T10:00:00Z", 2020 + 0.5 / 366), ("1999-12", 1999 + (365 - 15.5) / 365),
    ],
)  # fmt: skip
def test_years(text: str, value: float) -> None:
    assert years(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "c.", "1889?", "about 1889", "1.6.1889", "06/01/1889", "1889-13", "1889-02-30", "1886-1884", "1884-86", "12",
             "June 1889", "1889-06/01", "19th century", "٢٠٢٠", "0000-01-01", "9999-12-31"]
)  # fmt: skip
def test_what_names_no_time_for_certain(text: str) -> None:
    assert math.isnan(years(text))


def test_numbers_dates_and_text_are_told_apart(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "a.csv",
        "label_clean,freq,when,artist,empty\n The Great Wave ,1.5e3,1831,Hokusai,\nb,NA,1884-1886,Seurat,\n"
        "c,-7,around 1500,Bosch,\nd,unknown,1889-06-01,Gogh,\n",
    )
    held = read_attributes(path)
    assert held.values.index.tolist() == ["b", "c", "d", "the_great_wave"]
    assert list(held.columns) == ["freq", "when"]
    np.testing.assert_array_equal(held.values.freq, [np.nan, -7, np.nan, 1500])
    np.testing.assert_allclose(held.values.when, [1885.5, np.nan, 1889 + 151.5 / 365, 1831.5])
    notes = "\n".join(held.notes)
    assert "freq: 1 value is no number and counts as missing (first: 'unknown' of d)" in notes
    assert "when: 1 value is no date and counts as missing (first: 'around 1500' of c)" in notes
    assert "left out: artist, empty" in notes
    assert list(read_attributes(path, columns=["when"]).columns) == ["when"]
    with pytest.raises(InputError, match=r"column 'artist' is text: 0 of its 4 values .*'Hokusai' of the_great_wave"):
        read_attributes(path, columns=["artist"])
    with pytest.raises(InputError, match="column 'empty' is empty"):
        read_attributes(path, columns=["empty"])
    with pytest.raises(InputError, match=r"no column 'x' .*name one with `AttributeFiles.columns` or `controls`"):
        read_attributes(path, columns=["x"])


def test_years_alone_are_numbers(tmp_path: Path) -> None:
    held = read_attributes(csv(tmp_path / "a.csv", "label_clean,year\na,1889\nb,1503\nc,unknown\n"))
    np.testing.assert_array_equal(held.values.year, [1889, 1503, np.nan])


@pytest.mark.parametrize("text", ["c. 1889", "ca 1889", "Circa 1889", "ca.1889"])
def test_about_a_year_is_that_year(text: str) -> None:
    assert years(text) == 1889.5


def test_rows_of_one_concept(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "label_clean,x,y\na,1,5\nb,2,\n A,1,6\na,,\n")
    with pytest.raises(InputError, match=r"a\.csv: 'a' has y '5' on line 2 and '6' on line 4"):
        read_attributes(path)
    held = read_attributes(path, columns=["x"])
    assert held.values.x.tolist() == [1, 2]


def test_order_of_rows_is_irrelevant(tmp_path: Path) -> None:
    lines = ["a,1,2001-01", "b,,1999", "c,3,2005-02-03"]
    one, two = (
        read_attributes(csv(tmp_path / f"{i}.csv", "\n".join(["label_clean,x,when", *each])))
        for i, each in enumerate((lines, lines[::-1]))
    )
    assert one.values.equals(two.values) and one.notes == two.notes


def test_bom_quotes_and_line_ends(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", '\ufefflabel_clean, x ,"two\r\nlines"\r\n"a",1,"u, ""v"""\r\n\r\nb,2\r\n')
    held = read_attributes(path)
    assert held.values.x.tolist() == [1, 2] and list(held.columns) == ["x"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column 'label_clean' .columns: none.; name one with `concept_col`"),
        (b"name,x\na,1\n", "columns: name, x.; name one with `concept_col`"),
        (b"label_clean,x\n", "names no concept"),
        (b"label_clean,x\n ,1\n", "names no concept"),
        (b"label_clean,x,x\na,1,2\n", "two columns are named 'x'"),
        (b"label_clean,x\na,1,2\n", "3 cells under a header of 2"),
        (b"label_clean,x\na,\xff\n", "cannot be read as UTF-8"),
        (b'label_clean,x\na,"1\n', "is not closed"),
        ("label_clean,x\na,1\n".encode("utf-16-le"), "NUL bytes"),
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        read_attributes(tmp_path / "a.csv")
    assert "a.csv" in str(error.value) and "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_attributes(tmp_path / "none.csv")


def test_numbers_that_are_none(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "a.csv", 'label_clean,x\na,inf\nb,1e999\nc,1_000\nd,"1,000"\ne,2\nf,3.\ng,.5\nh,+1E2\ni,NaN\n'
    )
    held = read_attributes(path)
    np.testing.assert_array_equal(held.values.x, [np.nan] * 4 + [2, 3, 0.5, 100, np.nan])
    assert "4 values are no numbers" in held.notes[0]


def test_decimal_commas_of_files_with_semicolons(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "Label_Clean;x;y;z;\na;0,5;1.234;1;\nb;-1,25e1;2.5;2;\nc;1.234,5;3;3;\nd;7;;4;\n")
    held = read_attributes(path)
    np.testing.assert_array_equal(held.values.x, [0.5, -12.5, np.nan, 7])
    np.testing.assert_array_equal(held.values.y, [1.234, 2.5, 3, np.nan])
    assert list(held.columns) == ["x", "y", "z"]
    assert list(held.notes) == [
        f"{path}: its cells are separated by semicolons",
        "x: commas are read as decimal commas, as in '0,5'",
        "x: 1 value is no number and counts as missing (first: '1.234,5' of c)",
        "y: points are read as decimal points, as in '1.234'",
    ]
    comma = csv(tmp_path / "b.csv", 'label_clean,x\na,"0,5"\nb,2\nc,3\n')
    assert math.isnan(read_attributes(comma).values.x["a"])


def test_row_numbers_without_a_name_are_no_attribute(tmp_path: Path) -> None:
    assert list(read_attributes(csv(tmp_path / "a.csv", ",label_clean,x\n0,a,1\n1,b,2\n")).columns) == ["x"]


def test_textual_uniqueness_is_added(tmp_path: Path) -> None:
    captions = csv(tmp_path / "c.txt", "The Great Wave\na great wave\n")
    path = csv(tmp_path / "a.csv", "label_clean,title,x\na,The Great Wave,1\ngreat_wave,,2\n")
    held = concept_attributes(["a", "z"], path, captions=captions)
    assert list(held.columns) == ["x", "caption_share", "title_overlap"]
    assert held.values.caption_share.tolist() == [0.5, 1.0] and held.values.title.tolist() == [
        "The Great Wave",
        "great wave",
    ]
    assert any("concepts without a title, taken by their names: 1 (first: great_wave)" in n for n in held.notes)
    assert held.facts == {"attributes": str(path), "captions": str(captions), "caption_count": 2}
    alone = concept_attributes(["great_wave", "b"], captions=captions)
    assert list(alone.columns) == ["caption_share", "title_overlap"] and alone.values.caption_count.tolist() == [0, 2]
    picked = concept_attributes(["a"], path, columns=["caption_share"], controls=["x"], captions=captions)
    assert list(picked.columns) == ["caption_share", "title_overlap"] and "x" in picked.values
    with pytest.raises(InputError, match=r"no column 'name' .*`title_col`"):
        concept_attributes(["a"], path, captions=captions, title_col="name")
    clash = csv(tmp_path / "b.csv", "label_clean,caption_count\na,1\n")
    with pytest.raises(InputError, match="'caption_count' is what `captions` adds"):
        concept_attributes(["a"], clash, captions=captions)
