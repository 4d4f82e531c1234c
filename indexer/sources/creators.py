"""Who made what: the table concepts.csv beside the folders of concepts, as `iconicity collect` writes it."""

from __future__ import annotations

import os
import unicodedata
import warnings

from iconicity.indexer.errors import InputError
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.sources.folders import CONCEPTS, LEADS_OUT, Inside, concept_name
from iconicity.indexer.sources.tables import Tell, read_table
from iconicity.indexer.text import counted

_CONCEPT, _CREATORS = "concept", ("creator", "artist")


def creators_of(refs: Place, tell: Tell = warnings.warn, *, follow_links: bool = False) -> dict[str, str]:
    """Concept -> creator, as two of them are compared: without case and needless blanks. Empty where there is no table.

    A cell is compared as a whole, also where it names several. ``tell`` gets a line on a table that is not used: it has
    no such columns, or leads out of ``refs`` without ``follow_links``. Object storage has no table. Raises
    :class:`InputError` for one that cannot be read.
    """
    path = refs if isinstance(refs, Remote) else refs / CONCEPTS
    if isinstance(path, Remote) or not os.path.lexists(path):
        return {}
    if not Inside(refs, follow_links)(CONCEPTS):
        tell(f"{path}: {LEADS_OUT}")
        return {}
    if not path.is_file():  # opening a pipe would wait forever
        raise InputError(f"{path}: no regular file; put the table of concepts there, or remove it")
    table = read_table(path, {}, (_CONCEPT, *_CREATORS), lambda _: None)
    column = next((name for name in _CREATORS if name in table.columns), None)
    if column is None or _CONCEPT not in table.columns:
        tell(f"{path}: no columns '{_CONCEPT}' and '{_CREATORS[0]}', so that it names no creators")
        return {}
    found = {concept_name(row[_CONCEPT]): _same(row[column]) for _, row in table.rows}
    return {concept: creator for concept, creator in found.items() if concept and creator}


def creators_line(known: int, concepts: int, where: str) -> str:
    """Of how many of some concepts a creator is known, where from, and what that changes."""
    return f"creators of {known} of {counted(concepts, 'concept')} by {where}: pairs of one creator are left out of the thresholds"


def _same(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
