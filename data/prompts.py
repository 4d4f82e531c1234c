"""Tables of prompts: which prompt of which concept, in which variant."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import named_concept
from iconicity.indexer.sources.metadata import NO_VALUE, clean
from iconicity.indexer.sources.tables import Tell, not_used, read_table
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.store.manifest import versions

CONCEPT, VARIANT, PROMPT, NEGATIVE = COLUMNS = ("concept", "variant", "prompt", "negative")
CHANGED = "changed"  # of `iconicity variants`: which words are other ones; for people to read
ORIGINAL = "original"  # the variant of a row that names none
_NAME_BYTES = 255  # of a folder's name


@dataclass(frozen=True)
class Prompt:
    """A prompt of a concept. ``negative``: what the image shall not show."""

    concept: str
    variant: str
    prompt: str
    negative: str = ""


def read_prompts(path: Path, tell: Tell = warnings.warn) -> list[Prompt]:
    """Prompts of a table with the columns concept and prompt, in file order; variant and negative may be there.

    Concepts are named as those of folders. An empty variant is ``original``. ``tell`` gets a line on what a user should
    know. Raises :class:`InputError` for a file that cannot be read, a column that is missing, a table without a prompt,
    a cell that names nothing, and for two rows of one concept, variant and prompt.
    """
    table = read_table(path, {CONCEPT: "", PROMPT: ""}, (VARIANT, NEGATIVE), tell)
    others = not_used(path, set(table.columns) - {*COLUMNS, CHANGED})
    if others is not None:
        tell(others)
    out: list[Prompt] = []
    lines: dict[tuple[str, str, str], int] = {}
    for line, row in table.rows:
        where = f"{path}:{line}"
        cells = {name: cell_text(where, name, row.get(name, "")) for name in COLUMNS}
        concept, prompt = cell_concept(where, cells[CONCEPT]), cells[PROMPT]
        if not prompt:
            raise InputError(f"{where}: its prompt is empty; write one, or delete the line")
        found = Prompt(concept, cells[VARIANT] or ORIGINAL, prompt, cells[NEGATIVE])
        first = lines.setdefault((found.concept, found.variant, found.prompt), line)
        if first != line:
            raise InputError(
                f"{where}: has the concept, variant and prompt of line {first}; delete one of the two, or name another variant"
            )
        out.append(found)
    if not out:
        raise InputError(f"{path}: holds no prompt; write one a line below the header")
    return out


def write_prompts(
    path: Path, prompts: Sequence[Prompt], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Write a table that :func:`read_prompts` reads. ``more``: further columns, a cell a prompt.

    The column negative is there where a prompt has one.
    """
    names = [name for name in COLUMNS if name != NEGATIVE or any(p.negative for p in prompts)]
    rows = zip(prompts, *more.values(), strict=True)
    lines = [csv_line([*(getattr(p, name) for name in names), *cells]) for p, *cells in rows]
    write_atomically(path, csv_line([*names, *more]) + "".join(lines))


def write_origin(path: Path, prompts: Path, **made_with: object) -> None:
    """Write beside a table, as ``.meta.json``, what it was made of: the table ``prompts`` with its SHA-256, and how."""
    facts = {"prompts": prompts.name, "prompts_sha256": file_sha256(prompts), **made_with, "versions": versions()}
    write_atomically(path.with_name(f"{path.name}.meta.json"), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def cell_text(where: str, column: str, cell: str) -> str:
    """Text of a cell, without surrounding blanks. ``where``: file and line of its row.

    Raises :class:`InputError` for a word that stands for no value, and for a NUL.
    """
    text = clean(cell)
    if text in NO_VALUE:
        raise InputError(
            f"{where}: its {column} is '{text}', which counts as empty where images are scored; write another word, or nothing"
        )
    if "\0" in text:
        raise InputError(f"{where}: its {column} holds a NUL; delete it")
    return text


def cell_concept(where: str, cell: str) -> str:
    """Concept that a cell names, as the folder of its images will be called. ``where``: file and line of its row.

    Raises :class:`InputError` where no folder can have that name, or where it would be hidden.
    """
    concept = named_concept(cell)
    if not concept or concept.startswith("."):
        raise InputError(
            f"{where}: its concept {cell[:60]!r} names no folder that can be seen; write a name that does not begin with a dot"
        )
    if len(concept.encode()) > _NAME_BYTES:
        raise InputError(
            f"{where}: its concept {cell[:60]!r}... is longer than a folder's name can be; write one of at most {_NAME_BYTES} bytes"
        )
    return concept
