"""What metadata say of generated images: rows of CSV, JSON lines and Parquet files, and the columns we understand."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.errors import InputError

FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"
# The first column that has a value counts.
CONCEPT = ("concept", "label_clean", "slug", "label")
PROMPT = ("prompt", "text", "caption")
SEED, VARIANT = "seed", "variant"
_KNOWN = {FILE_NAME, SEED, VARIANT, *CONCEPT, *PROMPT}
_LINE_BYTES = 4 << 20  # of one image's metadata
_WHOLE = re.compile(r"([+-]?\d{1,19})(?:\.0*)?")  # pandas writes 7.0 where a column has gaps
Row = Mapping[str, Any]


class Fields(NamedTuple):
    """What is known of one image; ``concept`` as written."""

    concept: str | None = None
    seed: int | None = None
    prompt: str | None = None
    variant: str | None = None


def find_metadata(folder: Path) -> Path | None:
    """A folder's metadata file, if any. Raises :class:`InputError` when there are two."""
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1].name}: two lists of the same folder; keep one")
    return found[0] if found else None


def read_rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    """(line, row) of a metadata file, or (line, what is wrong with it); of Parquet the number of the row.

    Raises :class:`InputError` when the file cannot be read at all, or no column is ``file_name``.
    """
    line = 0
    try:
        for line, row in {".csv": _csv, ".jsonl": read_json_lines, ".parquet": _parquet}[path.suffix](path):
            yield line, row
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as e:
        first = " ".join(str(e).split())[:120]
        raise InputError(
            f"{path}:{line + 1}: cannot be read ({first}); mend the file, in UTF-8, or move it away"
        ) from e


def _csv(path: Path) -> Iterator[tuple[int, Row | str]]:
    with path.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        _require_file_name(path, header)
        for values in reader:
            if len(values) > len(header):  # most often a comma in a prompt that is not quoted
                yield reader.line_num, f"{len(values)} fields under a header of {len(header)}; quote the commas"
            elif values:
                yield reader.line_num, dict(zip(header, values, strict=False))


def read_json_lines(path: Path) -> Iterator[tuple[int, Row | str]]:
    """(line, object) of a JSON lines file, or (line, what is wrong with it)."""
    with path.open("rb") as f:
        for line in count(1):
            raw = f.readline(_LINE_BYTES)
            if not raw:
                return
            if len(raw) == _LINE_BYTES and not raw.endswith(b"\n"):
                while (rest := f.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield line, f"a line of more than {_LINE_BYTES >> 20} MB"
            elif not raw.isspace():
                row = parse_object(raw)
                yield line, "not a JSON object" if row is None else row


def _parquet(path: Path) -> Iterator[tuple[int, Row | str]]:
    with pq.ParquetFile(path) as f:
        names = f.schema_arrow.names
        _require_file_name(path, names)
        line = 0
        for batch in f.iter_batches(1024, columns=[n for n in names if n in _KNOWN]):
            for row in batch.to_pylist():
                line += 1
                yield line, row


def _require_file_name(path: Path, columns: list[str]) -> None:
    if FILE_NAME not in columns:
        raise InputError(
            f"{path}: no column '{FILE_NAME}' (columns: {', '.join(columns) or 'none'}); name it so, or move the file away"
        )


def parse_object(data: bytes) -> Row | None:
    """A JSON object, None for anything else."""
    try:
        row = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


class Columns:
    """Reads the columns we understand. A value that cannot be kept is left empty, and counted: the image is good."""

    def __init__(self) -> None:
        self._faults: dict[str, tuple[int, str]] = {}  # kind -> how many, and the first

    def read(self, row: Row, where: str) -> Fields:
        """The fields of a row; ``where`` names it in messages."""
        return Fields(
            self._first(row, CONCEPT, where), self.seed(row.get(SEED), where), self._first(row, PROMPT, where),
            self._first(row, (VARIANT,), where),
        )  # fmt: skip

    def seed(self, value: object, where: str) -> int | None:
        """A seed as a 64-bit integer."""
        if value is None or value != value or not (text := str(value).strip()):  # nan, of JSON or pandas
            return None
        whole = None if isinstance(value, bool) else _WHOLE.fullmatch(text)
        if whole is not None and -(2**63) <= (seed := int(whole[1])) < 2**63:
            return seed
        self.fault(SEED, f"{where}: seed {text[:40]!r} is no 64-bit integer and was left empty")
        return None

    def _first(self, row: Row, names: tuple[str, ...], where: str) -> str | None:
        for name in names:
            value = row.get(name)
            if value is None or value != value:
                continue
            if isinstance(value, str):
                if text := clean(value):
                    return text
            elif name in CONCEPT:
                continue  # a class number names nothing
            elif isinstance(value, int | float):
                return str(value)
            else:
                self.fault(name, f"{where}: {name} is no text and was left empty")
        return None

    def fault(self, kind: str, message: str) -> None:
        """Count a fault; the first of its kind is told."""
        n, first = self._faults.get(kind, (0, message))
        self._faults[kind] = n + 1, first

    def notices(self) -> list[str]:
        """One line for each kind of fault."""
        return [first + (f" ({n} such)" if n > 1 else "") for n, first in self._faults.values()]


def clean(text: str) -> str:
    """Text that can be stored: lone surrogates, which JSON can spell, as escapes. Equal texts are one object."""
    text = text.strip()
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return sys.intern(text)
