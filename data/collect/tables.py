"""The tables beside the references. What a user wrote into them stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.sources.tables import Table, read_table
from iconicity.indexer.store.files import write_atomically

CONCEPT_COLUMNS = ("concept", "title", "item", "label", "creator", "date", "sitelinks", "pageviews")
CREDIT_COLUMNS = ("file", "author", "licence", "licence_url", "source", "retrieved", "sha256", "found_by", "url")
CHOICE_COLUMNS = ("title", "item", "label", "description", "creator", "sitelinks")
Rows = Sequence[Mapping[str, str]]


def held_table(path: Path, columns: Sequence[str]) -> Table | None:
    """A table that is there, by its first column; None where there is none. Raises :class:`InputError`."""
    return read_table(path, {columns[0]: ""}, columns[1:], lambda line: None) if path.is_file() else None


def write_table(path: Path, columns: Sequence[str], rows: Rows, same: str, gone: Collection[str] = ()) -> None:
    """Write rows, whose first column names them, over those of a table that is there.

    A row that is there with the same value of ``same`` keeps its cells, and any row keeps the columns that are not ours.
    Rows of other names stay, except those of ``gone``. Raises :class:`InputError` for a table that cannot be read.
    """
    key, table = columns[0], held_table(path, columns)
    before = {} if table is None else {row[key]: row for _, row in table.rows}
    more = [] if table is None else [name for name in table.columns if name and name not in columns]
    merged = []
    for row in rows:
        old = before.get(row[key], {})
        kept = old if old.get(same) == row[same] else {name: old.get(name, "") for name in more}
        merged.append({**row, **{name: cell for name, cell in kept.items() if cell}})
    named = {row[key] for row in rows}
    merged += [row for name, row in before.items() if name not in named and name not in gone]
    write_rows(path, [*columns, *more], merged)


def write_rows(path: Path, columns: Sequence[str], rows: Rows) -> None:
    """Write a table. An empty text is a cell without a value."""
    lines = [csv_line([row.get(name) or None for name in columns]) for row in rows]
    write_atomically(path, csv_line(columns) + "".join(lines))
