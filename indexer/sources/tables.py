"""The one reader of tables that a user gives: CSV, JSON lines and Parquet.

A column is found whatever its case and the blanks around its name. A CSV file may be UTF-8 or UTF-16 with a mark, end
its lines in any way, and separate its cells by commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from iconicity.indexer.csv_cells import plain
from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SEPARATOR = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)  # Excel's own first line
_KINDS = {b"PK\x03\x04": "an Excel workbook or a zip file", b"\xd0\xcf\x11\xe0": "an Excel workbook", b"\x1f\x8b": "compressed"}  # fmt: skip
_LINE_BYTES = 4 << 20  # of one JSON object
_END = "\0"  # a record of its own after whole records, part of the last one after an open quote
_HEAD_LINES = 100  # a header that is longer has a quote that is never closed
_NAMED = 8  # columns in a note
_OURS = {"label_clean": "concept"}  # what the published tables call a column, and what ours do
Row = dict[str, Any]
Line = tuple[int, "Row | str"]  # line of the file, and its cells or what is wrong with them
Tell = Callable[[str], object]


@dataclass(frozen=True)
class OpenTable:
    """A table that is read row by row. ``columns`` are those of the header, of JSON lines those of the first object.

    A column that was asked for has the name it was asked by, any other its own without surrounding blanks.
    """

    path: Path
    columns: Sequence[str]
    lines: Iterator[Line]
    delimiter: str = ","

    def require(self, needed: Mapping[str, str]) -> None:
        """Raise :class:`InputError` for a column that is missing. ``needed``: column -> the option that names it, or ""."""
        for column, mending in needed.items():
            if column not in self.columns:
                known = ", ".join(self.columns) or "none"
                way = f"name one with {mending}" if mending else "rename the one that is meant"
                raise InputError(f"{self.path}: no column '{column}' (columns: {known}); {way}")


@dataclass(frozen=True)
class Table:
    """A table whose rows are all good: (line of the file, text of each column, "" where a cell is empty)."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[tuple[int, dict[str, str]]]
    delimiter: str = ","


def read_table(
    path: Path, needed: Mapping[str, str], optional: Iterable[str] = (), tell: Tell = warnings.warn
) -> Table:
    """All rows of a table as text.

    ``needed``: columns that must be there -> the option that names each. ``tell`` gets a line on what a user should
    know. Raises :class:`InputError` for a file that cannot be read, a column that is missing, a row with a fault.
    """
    table = open_table(path, [*needed, *optional], tell)
    table.require(needed)
    rows = []
    for line, row in table.lines:
        if isinstance(row, str):
            raise InputError(f"{path}:{line}: {row}")
        rows.append((line, dict.fromkeys(table.columns, "") | {name: _text(value) for name, value in row.items()}))
    return Table(path, table.columns, rows, table.delimiter)


def open_table(
    path: Path, names: Collection[str], tell: Tell = warnings.warn, *, only: bool = False, errors: str = "strict"
) -> OpenTable:
    """Open a table by its suffix: .jsonl, .parquet, everything else is CSV.

    ``names``: columns to find. ``only`` leaves other columns of Parquet unread. ``errors``: of bytes that are no
    UTF-8, as of :func:`open`. Raises :class:`InputError`, also while the rows are read.
    """
    columns = Names(names)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        reading = _parquet(path, columns, only)
    else:
        reading = _json_lines(path, columns) if suffix == ".jsonl" else _csv(path, columns, errors)
    header, delimiter = next(reading)
    if delimiter != ",":
        tell(f"{path}: its cells are separated by {DELIMITERS[delimiter]}")
    return OpenTable(path, header, reading, delimiter)


def not_used(path: object, columns: Iterable[str]) -> str | None:
    """A line that names columns of a file that were not understood; None where there are none."""
    names = sorted({name or "(no name)" for name in columns})
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{path}: columns that were not used: {', '.join(names[:_NAMED])}{more}"


def parse_object(data: bytes, names: Names | None = None) -> Row | None:
    """A JSON object, its fields by the names asked for; None for anything else."""
    try:
        row = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    return row if names is None else names.row(row)


class Names(dict[str, str]):
    """Name of a file's column -> the name that was asked for, or its own without blanks; filled as columns come."""

    def __init__(self, asked: Iterable[str]) -> None:
        self.asked = dict.fromkeys(asked)
        self._folded = {_fold(name): name for name in self.asked}

    def __missing__(self, own: str) -> str:
        bare = own.replace("\ufeff", "").strip()
        self[own] = bare if bare in self.asked else self._folded.get(_fold(own), bare)
        return self[own]

    def _adopt(self, own: Collection[str]) -> None:
        """Let a column with our name stand for the published one that was asked for and is not there."""
        for published, ours in _OURS.items():
            if published in self.asked and ours not in self.asked:
                named = [name for name in own if _fold(name) == ours]
                if len(named) == 1 and all(self[name] != published for name in own):
                    self[named[0]] = published

    def header(self, path: Path, own: Sequence[str]) -> list[str]:
        """Names of a header. Of columns that differ by case the exact one is meant, and one that has our name in place of
        the published one. Raises :class:`InputError`.
        """
        self._adopt(own)
        names = [self[name] for name in own]
        for name, n in Counter(names).items():
            if n > 1 and name in self.asked:
                bare = [other.replace("\ufeff", "").strip() for other in own]
                if bare.count(name) != 1:
                    raise InputError(f"{path}: {n} columns are named '{name}'; rename all but one")
                names = [b if a == name != b else a for a, b in zip(names, bare, strict=True)]
        return names

    def row(self, row: Row) -> Row:
        """An object by the names asked for; of fields that differ by case the exact one is meant."""
        self._adopt(row)
        out = {self[name]: value for name, value in row.items()}
        if len(out) == len(row):
            return out
        return {(name if self[name] in row else self[name]): value for name, value in row.items()}


def _fold(name: str) -> str:
    bare = unicodedata.normalize("NFC", name.replace("\ufeff", "")).strip()
    return re.sub(r"\s+", "_", bare).casefold()


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)


@contextmanager
def _reading(path: Path, encoding: str = "utf-8") -> Iterator[None]:
    """Turn errors of reading a file into :class:`InputError` with one line."""
    try:
        yield
    except UnicodeDecodeError as e:
        raise InputError(
            f"{_place(path, encoding)}: cannot be read as {encoding.removesuffix('-sig').upper()} (byte "
            f"0x{e.object[e.start]:02x}); save it as UTF-8"
        ) from e
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}); name a file that can be read") from e


def _place(path: Path, encoding: str) -> str:
    """File and line of the first byte that is no text; the file alone where it cannot be read again."""
    if not path.is_file():
        return str(path)
    data = path.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as e:
        breaks = re.findall(rb"\r\n|\r|\n", data[: e.start])
        return f"{path}:{len(breaks) + 1}"
    return str(path)


def _encoding(path: Path, start: bytes) -> str:
    """Return the encoding by a file's mark. Raises :class:`InputError` for a file that is no text."""
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: is {kind}, no text; save it as CSV (in Excel: 'CSV UTF-8')")
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _csv(path: Path, names: Names, errors: str) -> Generator[Any]:
    """(columns, delimiter), then lines. The file is opened once: it may be a pipe."""
    with _reading(path), path.open("rb") as raw:
        encoding = _encoding(path, raw.peek(4)[:4])
        with _reading(path, encoding), io.TextIOWrapper(raw, encoding, errors, newline="") as text:
            header, delimiter, line = _header(path, text, names)
            columns = names.header(path, header)
            yield columns, delimiter
            yield from _csv_rows(path, text, columns, delimiter, line)


def _header(path: Path, text: Iterator[str], names: Names) -> tuple[list[str], str, int]:
    """Cells of the header, the delimiter, and how many lines that took.

    The delimiter is the one under which most of the columns asked for are there, then the one that gives most cells.
    """
    head: list[str] = []
    lines = quotes = 0
    among = tuple(DELIMITERS)
    for one in text:
        lines += 1
        if not head and len(among) > 1 and (separator := _SEPARATOR.fullmatch(one)):
            among = (separator[1],)
        elif head or not one.isspace():
            head.append(one)
            quotes += one.count('"')
            if quotes % 2 == 0 or len(head) == _HEAD_LINES:
                break
    if any("\0" in one for one in head):
        raise InputError(f"{path}: its header holds NUL bytes; save it as UTF-8")
    if not head:
        return [], ",", lines
    read = {d: cells for d in among if (cells := _record(head, d)) is not None}
    if not read:
        raise _open_quote(path, head, lines)
    best = max(read, key=lambda d: (sum(names[c] in names.asked for c in read[d]), len(read[d])))
    return read[best], best, lines


def _record(lines: Sequence[str], delimiter: str) -> list[str] | None:
    """Cells of the one record that these lines are; None where a quote is left open, or may join rows.

    Text after a closing quote is kept where the record is one line. In more lines it says that a quote is missing.
    """
    try:
        found = list(csv.reader([*lines, _END], delimiter=delimiter, strict=len(lines) > 1, skipinitialspace=True))
    except csv.Error:
        return None
    return found[0] if len(found) == 2 and found[1] == [_END] else None


def _open_quote(path: Path, record: Sequence[str], line: int) -> InputError:
    return InputError(
        f"{path}:{line - len(record) + 1}: cannot be read: a quote in {record[0].strip()[:60]!r} is not closed, or not "
        'doubled; write a quote inside of a quoted cell as ""'
    )


def _csv_rows(path: Path, text: Iterator[str], columns: Sequence[str], delimiter: str, line: int) -> Iterator[Line]:
    taken: list[str] = []  # lines of the record at hand

    def lines() -> Iterator[str]:
        for one in text:
            taken.append(one)
            yield one

    reader = csv.reader(lines(), delimiter=delimiter, skipinitialspace=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as e:
            raise InputError(f"{path}:{line + 1}: cannot be read ({e}); look for a quote that is not closed") from e
        if cells is None:
            return
        first, line = line + 1, line + len(taken)
        if len(taken) > 1 or taken[0].count('"') % 2:  # a quote may have swallowed rows
            checked = _record(taken, delimiter)
            if checked is None:
                raise _open_quote(path, taken, line)
            cells = checked
        taken.clear()
        if any(cells[len(columns) :]):  # most often a comma in a prompt that is not quoted
            sort = DELIMITERS[delimiter]
            yield first, f"{counted(len(cells), 'cell')} under a header of {len(columns)}; quote cells that hold {sort}"
        elif any(cells):
            yield first, {name: plain(cell) for name, cell in zip(columns, cells, strict=False)}


def _json_lines(path: Path, names: Names) -> Generator[Any]:
    with _reading(path), path.open("rb") as f:
        if _encoding(path, f.peek(4)[:4]) == "utf-16":
            raise InputError(f"{path}: is UTF-16; save it as UTF-8")
        lines = read_json_lines(f, names)
        first = next(lines, (0, ""))
        yield list(first[1]) if isinstance(first[1], dict) else [], ","
        if first[0]:
            yield first
        yield from lines


def read_json_lines(f: io.BufferedReader, names: Names) -> Iterator[Line]:
    """(line, object) of a JSON lines file, or (line, what is wrong with it)."""
    for line in count(1):
        raw = f.readline(_LINE_BYTES)
        if not raw:
            return
        if len(raw) == _LINE_BYTES and not raw.endswith(b"\n"):
            while (rest := f.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield line, f"a line of more than {_LINE_BYTES >> 20} MB"
        elif not raw.isspace():
            row = parse_object(raw, names)
            yield line, "not a JSON object" if row is None else row


def _parquet(path: Path, names: Names, only: bool) -> Generator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _reading(path), path.open("rb") as raw, pq.ParquetFile(raw) as f:
            own = f.schema_arrow.names
            columns = names.header(path, own)
            yield columns, ","
            wanted = {o: c for o, c in zip(own, columns, strict=True) if c in names.asked or not only}
            line = 0
            for batch in f.iter_batches(1024, columns=list(wanted)):
                for row in batch.to_pylist():
                    line += 1
                    yield line, {wanted[name]: value for name, value in row.items()}
    except pa.ArrowException as e:
        first = " ".join(str(e).split())[:120]
        raise InputError(f"{path}: cannot be read as Parquet ({first}); write it again") from e
