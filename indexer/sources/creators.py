"""Who made what: the table concepts.csv beside the folders of concepts, as `iconicity collect` writes it."""

from __future__ import annotations

import unicodedata
import warnings

from iconicity.indexer.places import Place, Remote
from iconicity.indexer.sources.folders import CONCEPTS, concept_name
from iconicity.indexer.sources.tables import Tell, read_table

_CONCEPT, _CREATORS = "concept", ("creator", "artist")


def creators_of(refs: Place, tell: Tell = warnings.warn) -> dict[str, str]:
    """Concept -> creator, as two of them are compared: without case and needless blanks. Empty where there is no table.

    ``tell`` gets a line where a table has no such columns. Object storage has no table. Raises :class:`InputError` for
    one that cannot be read.
    """
    path = refs if isinstance(refs, Remote) else refs / CONCEPTS
    if isinstance(path, Remote) or not path.is_file():
        return {}
    table = read_table(path, {}, (_CONCEPT, *_CREATORS), lambda _: None)
    column = next((name for name in _CREATORS if name in table.columns), None)
    if column is None or _CONCEPT not in table.columns:
        tell(f"{path}: no columns '{_CONCEPT}' and '{_CREATORS[0]}', so that nobody's works are told apart by it")
        return {}
    found = {concept_name(row[_CONCEPT]): _same(row[column]) for _, row in table.rows}
    return {concept: creator for concept, creator in found.items() if concept and creator}


def _same(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
