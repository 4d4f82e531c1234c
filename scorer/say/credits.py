"""Credit lines of references, from a table ``credits.csv`` beside them: columns file, author, licence, licence_url, source."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.sources.folders import CREDITS
from iconicity.indexer.sources.tables import read_table

_PARTS = ("author", "licence", "license", "licence_url", "source")


def credit_line(reference: Place | str) -> str:
    """Author, licence with its address, and source of a reference, in a line; "" where no table names the file.

    The table lies in the folder of the concept, whose ``file`` is the name, or in the folder above, whose ``file`` is
    ``<concept>/<name>``. Object storage has none. Raises :class:`InputError` for a table without a column ``file``.
    """
    path = place(reference)
    if isinstance(path, Remote):
        return ""
    for table, file in (
        (path.parent / CREDITS, path.name),
        (path.parent.parent / CREDITS, f"{path.parent.name}/{path.name}"),
    ):
        line = _credits(table, table.stat().st_mtime_ns).get(file) if table.is_file() else None
        if line:
            return line
    return ""


@lru_cache(maxsize=64)
def _credits(path: Path, _written: int) -> dict[str, str]:
    rows = read_table(path, {"file": ""}, _PARTS).rows
    return {
        row["file"].strip().replace("\\", "/"): ", ".join(
            row[part].strip() for part in _PARTS if row.get(part, "").strip()
        )
        for _, row in rows
    }
