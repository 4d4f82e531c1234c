"""Attributes of concepts: numbers and dates from a CSV file, textual uniqueness from captions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import concept_name
from iconicity.indexer.sources.tables import read_table
from iconicity.indexer.text import counted
from iconicity.scorer.measure.captions import UNIQUENESS, textual_uniqueness

TITLE = "title"
_BLANK = {"", "na", "n/a", "nan", "none", "null", "-"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"(\d{4})(?:([-/])(\d\d)(?:\2(\d\d)(?:[T ][\d:.,+Z-]+)?)?)?", re.ASCII)
_CIRCA = re.compile(r"^(?:circa|ca?\.?)\s*(?=\d)", re.IGNORECASE)
_YEARS = re.compile(r"(\d{3,4}) ?[-–] ?(\d{3,4})", re.ASCII)
_YEAR = re.compile(r"\d{3,4}", re.ASCII)
_SHOWN = 5  # names of columns in a note


@dataclass(frozen=True)
class Attributes:
    """``values``: one row a concept; the float ``columns`` of it are attributes, nan where there is no value.

    ``titles``: concept -> title, where they were asked for and the file has one. ``facts``: where all of it is from.
    """

    values: pd.DataFrame
    columns: Sequence[str]
    titles: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cell:
    line: int
    concept: str
    text: str


@dataclass(frozen=True)
class _Table:
    """Columns of a table, and of each row that names a concept its line, the concept, and its stripped cells.

    ``decimal_commas``: a comma in a number stands before its decimals, as in files with semicolons.
    """

    path: Path
    columns: list[str]
    rows: list[tuple[int, str, dict[str, str]]]
    decimal_commas: bool = False

    def cells(self, column: str) -> list[_Cell]:
        return [_Cell(line, c, r[column]) for line, c, r in self.rows if r[column].casefold() not in _BLANK]


def concept_attributes(
    concepts: Sequence[str],
    path: Path | None = None,
    concept_col: str = "label_clean",
    columns: Sequence[str] | None = None,
    controls: Sequence[str] = (),
    captions: Path | None = None,
    caption_col: str | None = None,
    title_col: str | None = None,
) -> Attributes:
    """Attributes from a CSV file (:func:`read_attributes`), textual uniqueness in a list of captions, or both.

    ``columns`` and ``controls`` of the file are read, of which the columns are correlated. Titles are those of the
    file's concepts, or with no file the names of ``concepts``. Raises :class:`InputError`.
    """
    added = UNIQUENESS if captions is not None else ()
    picked = None if columns is None else [c for c in dict.fromkeys(columns) if c not in added]
    if path is None:
        empty = pd.DataFrame(index=pd.Index(sorted(concepts), name="concept"))
        held = Attributes(empty, [])
    else:
        of_file = None if picked is None else [*picked, *(c for c in controls if c not in added)]
        held = read_attributes(path, concept_col, of_file, captions is not None, title_col)
    names = held.columns if picked is None else picked
    if captions is None:
        return replace(held, columns=names, facts={"attributes": str(path)})
    titles = {c: held.titles.get(c) or c.replace("_", " ") for c in held.values.index}
    unique = textual_uniqueness(titles, captions, caption_col)
    clash = [c for c in unique.values.columns if c in held.values.columns]
    if clash:
        raise InputError(
            f"{path}: column '{clash[0]}' is what `captions` adds; rename it, or name others with `AttributeFiles.columns`"
        )
    notes = [*held.notes, *unique.notes]
    if held.titles and (without := [c for c in held.values.index if c not in held.titles]):
        notes.append(f"concepts without a title, taken by their names: {len(without)} (first: {without[0]})")
    facts = {
        "attributes": None if path is None else str(path),
        "captions": str(captions),
        "caption_count": unique.captions,
    }
    return Attributes(held.values.join(unique.values), [*names, *UNIQUENESS], titles, notes, facts)


def read_attributes(
    path: Path,
    concept_col: str = "label_clean",
    columns: Sequence[str] | None = None,
    with_titles: bool = False,
    title_col: str | None = None,
) -> Attributes:
    """Read the columns asked for, or every one whose values are numbers or dates for the greater part.

    A column of numbers is read as it is. One of dates becomes years with fractions, each date the middle of the time
    it names: 1889 -> 1889.5, 1889-06 (also 1889/06, with day, with time), 1884-1886 -> 1885.5. Other values of
    such columns count as missing, and a note names them. Titles are those of ``title_col``, None: of a column 'title'
    if there is one. Raises :class:`InputError` for a file that is no such CSV, a concept with two different
    values, and columns asked for that hold neither numbers nor dates.
    """
    notes: list[str] = []
    asked = {c: "`AttributeFiles.columns` or `controls`" for c in columns or ()}
    table = _read(path, concept_col, asked | ({} if title_col is None else {title_col: "`title_col`"}), notes)
    if with_titles and title_col is None and TITLE in table.columns:
        title_col = TITLE
    wanted = [c for c in table.columns if c not in (concept_col, title_col)]
    if columns is not None:
        wanted = list(dict.fromkeys(columns))
    concepts = sorted({concept for _, concept, _ in table.rows})
    if not concepts:
        raise InputError(f"{path}: column '{concept_col}' names no concept; fill it, or change `concept_col`")
    values: dict[str, pd.Series] = {}
    left_out: list[str] = []
    for column in wanted:
        held = table.cells(column)
        kind, parsed = _parse(held, table.decimal_commas)
        if kind is None:
            if columns is not None:
                raise InputError(f"{path}: column '{column}' {_why_not(held, parsed)}; leave it out")
            left_out.append(column)
            continue
        _no_two_values(path, column, held)
        values[column] = pd.Series({c.concept: v for c, v in zip(held, parsed, strict=True)}).reindex(concepts)
        if kind == "numbers" and table.decimal_commas and (how := _decimals(column, held)) is not None:
            notes.append(how)
        if kind == "dates":
            notes.append(f"{column}: dates, as years with fractions (the middle of the time that each names)")
        bad = [c for c, v in zip(held, parsed, strict=True) if np.isnan(v)]
        if bad:
            first = f"'{bad[0].text}' of {bad[0].concept}"
            no = f"{column}: {counted(len(bad), f'value is no {kind[:-1]} and counts', f'values are no {kind} and count')}"
            notes.append(f"{no} as missing (first: {first})")
    if left_out:
        names = ", ".join(left_out[:_SHOWN]) + (", ..." if len(left_out) > _SHOWN else "")
        notes.append(f"columns of {path} without numbers or dates, left out: {names}")
    titles = {}
    if with_titles and title_col is not None:
        held = table.cells(title_col)
        _no_two_values(path, title_col, held)
        titles = {c.concept: c.text for c in held}
    frame = pd.DataFrame(values, index=pd.Index(concepts, name="concept"), dtype=np.float64)
    return Attributes(frame, list(frame.columns), titles, notes)


def _read(path: Path, concept_col: str, needed: Mapping[str, str], notes: list[str]) -> _Table:
    """``needed``: columns that must be there -> the parameter that names them."""
    table = read_table(path, {concept_col: "`concept_col`"} | dict(needed), (TITLE,), notes.append)
    columns = [name for name in table.columns if name]  # pandas writes its row numbers without a name
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two columns are named '{twice[0]}'; rename one")
    rows = []
    for line, cells in table.rows:
        row = {name: cell.strip() for name, cell in cells.items()}
        if concept := concept_name(row[concept_col]):
            rows.append((line, concept, row))
    return _Table(path, columns, rows, table.delimiter == ";")


def _no_two_values(path: Path, column: str, held: Sequence[_Cell]) -> None:
    first: dict[str, _Cell] = {}
    for cell in held:
        before = first.setdefault(cell.concept, cell)
        if before.text != cell.text:
            raise InputError(
                f"{path}: '{cell.concept}' has {column} '{before.text}' on line {before.line} and '{cell.text}' on line "
                f"{cell.line}; keep one, or name other columns with `AttributeFiles.columns`"
            )


def _decimals(column: str, held: Sequence[_Cell]) -> str | None:
    """How the numbers of a file with semicolons were read, where they could be read otherwise."""
    for mark, name in ((",", "commas"), (".", "points")):
        if (first := next((c.text for c in held if mark in c.text), None)) is not None:
            return f"{column}: {name} are read as decimal {name}, as in '{first}'"
    return None


def _parse(held: Sequence[_Cell], decimal_commas: bool = False) -> tuple[str | None, list[float]]:
    """What the greater part of the cells are, and their values, nan where they are not that."""
    # with commas before decimals a point would separate thousands: such a number is none for certain
    commas = decimal_commas and any(_DECIMAL_COMMA.fullmatch(c.text) for c in held)
    texts = [c.text.replace(".", "?").replace(",", ".") if commas else c.text for c in held]
    numbers = [_number(text) for text in texts]
    dates = [years(c.text) for c in held]
    n, d = (int(np.count_nonzero(~np.isnan(x))) for x in (numbers, dates))
    kind, values, known = ("numbers", numbers, n) if n >= d else ("dates", dates, d)
    return (kind if known and 2 * known >= len(held) else None), values


def _why_not(held: Sequence[_Cell], parsed: Sequence[float]) -> str:
    if not held:
        return "is empty"
    bad = next(c for c, v in zip(held, parsed, strict=True) if np.isnan(v))
    known = int(np.count_nonzero(~np.isnan(parsed)))
    return f"is text: {known} of its {len(held)} values are numbers or dates ('{bad.text}' of {bad.concept} is not)"


def _number(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else np.nan
    return value if np.isfinite(value) else float("nan")


def years(text: str) -> float:
    """The middle of the day, month, year or span of years that a text names, in years; nan where it names none.

    Months and days are two digits, the year comes first; 1901-02 is a month, as ISO 8601 has it. "c.", "ca." and
    "circa" before it are read over.

    >>> years("1889"), years("1884-1886"), round(years("1889-07-02"), 3), years("c. 1889")
    (1889.5, 1885.5, 1889.5, 1889.5)
    """
    text = _CIRCA.sub("", text)
    if span := _YEARS.fullmatch(text):
        first, last = int(span[1]), int(span[2])
        return (first + last + 1) / 2.0 if first <= last else float("nan")
    if found := _DATE.fullmatch(text):
        year, month, day = (int(found[g]) if found[g] else None for g in (1, 3, 4))
        assert year is not None
        if month is None:
            return year + 0.5
        try:
            start = date(year, month, day or 1)
            after = date(year + month // 12, month % 12 + 1, 1)
            whole = (date(year + 1, 1, 1) - date(year, 1, 1)).days
        except ValueError:  # month 13, 30 February, the years 0 and 9999
            return float("nan")
        length = 1 if day else (after - start).days
        return year + ((start - date(year, 1, 1)).days + length / 2.0) / whole
    return int(text) + 0.5 if _YEAR.fullmatch(text) else float("nan")
