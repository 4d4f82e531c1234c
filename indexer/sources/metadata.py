"""Metadata of generated images: the columns that iconicity understands, and the files that hold them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import OpenTable, Row, Tell, not_used, open_table

FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"
# The first column that has a value counts.
CONCEPT = ("concept", "label_clean", "slug", "label")
PROMPT = ("prompt", "text", "caption")
SEED, VARIANT = "seed", "variant"
FLAGGED = "flagged"  # by the safety checker of the model, which most often gives a black image
KNOWN = frozenset({FILE_NAME, SEED, VARIANT, FLAGGED, *CONCEPT, *PROMPT})
IDENTITY = "identity"
# Further columns of `iconicity generate`: what made an image. They are for people and other programs to read.
GENERATED = (
    "negative_prompt", FLAGGED, "steps", "guidance", "scheduler", "size", "precision", "pipeline", "model", "revision",
    "weights_sha256", "config_sha256", "device", "diffusers", "torch", "transformers", "sha256", IDENTITY,
)  # fmt: skip
NO_VALUE = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A", "N/A", "n/a", "NA"})  # as pandas has it
_TRUE = frozenset({"true", "1", "1.0"})
_WHOLE = re.compile(r"([+-]?\d{1,19})(?:\.0*)?")  # pandas writes 7.0 where a column has gaps


class Fields(NamedTuple):
    """Metadata of one image. ``concept`` is as written in the file."""

    concept: str | None = None
    seed: int | None = None
    prompt: str | None = None
    variant: str | None = None
    flagged: bool = False


def find_metadata(folder: Path) -> Path | None:
    """A folder's metadata file, if any. Raises :class:`InputError` when there are two."""
    found = sorted(p for p in folder.iterdir() if p.name.lower() in FILES and p.is_file()) if folder.is_dir() else []
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1].name}: two lists of the same folder; keep one")
    return found[0] if found else None


def open_metadata(path: Path, tell: Tell) -> OpenTable:
    """The rows of a metadata file. Raises :class:`InputError` when no column of CSV or Parquet is ``file_name``."""
    table = open_table(path, KNOWN, tell, only=True)
    if path.suffix.lower() != ".jsonl":  # there each row has fields of its own
        table.require({FILE_NAME: ""})
    return table


class Columns:
    """Reads the columns we understand. A value that cannot be kept is left empty, and counted: the image is good."""

    def __init__(self, ignored: Iterable[str] = ()) -> None:
        self._faults: dict[str, tuple[int, str]] = {}  # kind -> how many, and the first
        self._known = KNOWN.union(ignored)
        self._others: set[str] = set()

    def see(self, names: Iterable[str]) -> None:
        """Take the names of the columns of a file."""
        self._others.update(names)

    def read(self, row: Row, where: str) -> Fields:
        """The fields of a row; ``where`` names it in messages."""
        self._others.update(row)
        return Fields(
            self._first(row, CONCEPT, where),
            self.seed(row.get(SEED), where),
            self._first(row, PROMPT, where),
            self._first(row, (VARIANT,), where),
            str(row.get(FLAGGED, "")).strip().lower() in _TRUE,
        )

    def seed(self, value: object, where: str) -> int | None:
        """A seed as a 64-bit integer."""
        if value is None or value != value or not (text := str(value).strip()):  # nan, of JSON or pandas
            return None
        if self._is_no_value(text, SEED, where):
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
                if (text := clean(value)) and not self._is_no_value(text, name, where):
                    return text
            elif name in CONCEPT:
                continue  # a class number names nothing
            elif isinstance(value, int | float):
                return str(value)
            else:
                self.fault(name, f"{where}: {name} is no text and was left empty")
        return None

    def _is_no_value(self, text: str, name: str, where: str) -> bool:
        if text in NO_VALUE:
            self.fault("no value", f"{where}: {name} '{text}' counts as empty")
            return True
        return False

    def fault(self, kind: str, message: str) -> None:
        """Count a fault; the first of its kind is told."""
        n, first = self._faults.get(kind, (0, message))
        self._faults[kind] = n + 1, first

    def notices(self, place: object) -> list[str]:
        """One line for each kind of fault, and one that names the columns at ``place`` that were not understood."""
        lines = [first + (f" ({n} such)" if n > 1 else "") for n, first in self._faults.values()]
        ours = GENERATED if IDENTITY in self._others else ()
        others = not_used(place, self._others - self._known.union(ours))
        return lines if others is None else [*lines, others]


def clean(text: str) -> str:
    """Text that can be stored: lone surrogates, which JSON can spell, as escapes. Equal texts are one object."""
    text = text.strip()
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return sys.intern(text)
