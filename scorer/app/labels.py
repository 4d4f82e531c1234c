"""The table of labels of a study, as 'iconicity validate labels' reads it. People may edit it, too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import read_table
from iconicity.indexer.store.files import turn, write_atomically

COLUMNS = ("path", "concept", "label", "rater", "model")
_CHARACTERS = 4096  # of a cell
Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    """Rows of the table, one an image and rater; none where there is no file. Raises :class:`InputError`."""
    return _read(path)[1]


def count(path: Path) -> int:
    """Number of labels, 0 for a table that cannot be read: that is said where labels are shown."""
    with suppress(InputError):
        return len(read(path))
    return 0


def save(path: Path, given: Mapping[str, Any]) -> Rows:
    """Save one label, or with an empty one take it away; other columns and rows stay. Returns all rows.

    Raises :class:`InputError` for a label without an image, and for a table that cannot be read, which stays as it is.
    """
    row = {column: given.get(column, "") for column in COLUMNS}
    if not row["path"] or not all(isinstance(v, str) and len(v) <= _CHARACTERS for v in row.values()):
        raise InputError("a label needs the path of an image, and short texts")
    with turn(path.with_name(".labels.lock")):
        columns, rows = _read(path)
        held = next((r for r in rows if (r["path"], r["rater"]) == (row["path"], row["rater"])), None)
        if not row["label"]:
            rows = [r for r in rows if r is not held]
        elif held is None:
            rows.append(row)
        else:
            held.update(row)
        write_atomically(
            path, "".join(csv_line(cells) for cells in (columns, *([r.get(c, "") for c in columns] for r in rows)))
        )
    return rows


def _read(path: Path) -> tuple[list[str], Rows]:
    if not path.exists():
        return list(COLUMNS), []
    table = read_table(path, dict.fromkeys(COLUMNS[:3], ""), COLUMNS[3:], lambda _: None)
    columns = [*table.columns, *(c for c in COLUMNS if c not in table.columns)]
    return columns, [dict.fromkeys(columns, "") | row for _, row in table.rows]
