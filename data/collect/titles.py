"""What a user wants references of: rows of titles, ids of items, or a query."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from iconicity.data.collect.wikidata import item_id
from iconicity.data.prompts import cell_concept, cell_text
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import TABLES
from iconicity.indexer.sources.tables import Tell, not_used, read_table

TITLE, CREATOR, ITEM, CONCEPT = COLUMNS = ("title", "creator", "item", "concept")
_QUERY_BYTES = 64 << 10
_TITLE_LENGTH = 250  # the longest name of an item


@dataclass(frozen=True)
class Wanted:
    """A concept to collect. ``where`` names its row in messages; ``item`` is an id, or "" where the title is looked up.

    ``concept`` is "" where the item's label is to name it.
    """

    where: str
    title: str
    creator: str = ""
    item: str = ""
    concept: str = ""


def read_titles(path: Path, tell: Tell = warnings.warn) -> list[Wanted]:
    """Concepts of a table with a column title or item, in file order; creator and concept may be there.

    ``tell`` gets a line on what a user should know. Raises :class:`InputError` for a table that cannot be read, lacks both
    columns, or holds a row that names nothing, no item, or a concept that another row has named.
    """
    table = read_table(path, {}, COLUMNS, tell)
    if ITEM not in table.columns:
        table_columns = ", ".join(table.columns) or "none"
        if TITLE not in table.columns:
            raise InputError(f"{path}: no column '{TITLE}' (columns: {table_columns}); rename the one that is meant")
    others = not_used(path, set(table.columns) - set(COLUMNS))
    if others is not None:
        tell(others)
    out: list[Wanted] = []
    lines: dict[str, int] = {}
    for line, row in table.rows:
        wanted = _wanted(f"{path}:{line}", {name: row.get(name, "") for name in COLUMNS})
        if wanted.concept and (first := lines.setdefault(wanted.concept, line)) != line:
            raise InputError(
                f"{wanted.where}: its concept '{wanted.concept}' is that of line {first}; delete one, or name another in the "
                f"column '{CONCEPT}'"
            )
        out.append(wanted)
    if not out:
        raise InputError(f"{path}: holds no title; write one a line below the header")
    return out


def _wanted(where: str, row: dict[str, str]) -> Wanted:
    cells = {name: cell_text(where, name, cell) for name, cell in row.items()}
    title, item = cells[TITLE], item_id(cells[ITEM])
    if cells[ITEM] and not item:
        raise InputError(f"{where}: its item {cells[ITEM][:60]!r} is no id of Wikidata; write one such as Q12418")
    if not title and not item:
        raise InputError(f"{where}: names neither a title nor an item; write one, or delete the line")
    if len(title) > _TITLE_LENGTH:
        raise InputError(f"{where}: its title is longer than {_TITLE_LENGTH} characters; write a shorter one")
    named = cells[CONCEPT] or title
    concept = cell_concept(where, named) if named else ""
    if concept in TABLES:
        raise InputError(f"{where}: its concept '{concept}' is the name of a table here; name another")
    return Wanted(where, title, cells[CREATOR], item, concept)


def read_query(path: Path) -> str:
    """A SPARQL query. Raises :class:`InputError` for a file that is none."""
    try:
        with path.open("rb") as f:
            data = f.read(_QUERY_BYTES + 1)
        query = data.decode("utf-8-sig")
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}); name a file that can be read") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: cannot be read as UTF-8; save it as UTF-8") from e
    if len(data) > _QUERY_BYTES or "?item" not in query:
        raise InputError(
            f"{path}: no query of at most {_QUERY_BYTES >> 10} kB that names ?item; its rows are to have ?item"
        )
    return query


def concept_of(label: str, item: str, taken: set[str]) -> str:
    """Concept of an item by its label, by its id where no folder can have that name; one that is not taken yet."""
    try:
        concept = cell_concept("", cell_text("", CONCEPT, label))
    except InputError:
        concept = item.lower()
    if concept in taken or concept in TABLES:
        concept = f"{concept.encode()[:200].decode(errors='ignore')}_{item.lower()}"
    return concept
