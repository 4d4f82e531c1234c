"""Rows that a run would take away: of images that are not given any more, or that another file now stands for."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from iconicity.indexer.cached import CachedFiles
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import hashes
from iconicity.indexer.places import is_url
from iconicity.indexer.store.cache import VectorCache
from iconicity.scorer.choose import Chosen
from iconicity.scorer.results import Results

_COLUMNS = ["concept", "gen_relpath", "gen_path", "gen_sha256", "status"]


@dataclass(frozen=True)
class Lost:
    """Rows of a model that would go, by relative path, with the paths they were scored from; and how many it has.

    ``why``: the first file that was given and could not be used.
    """

    rows: Mapping[str, str]
    of: int
    why: str = ""


def lost_rows(
    held: Results,
    model: str,
    chosen: Chosen,
    asked: Callable[[str], bool],
    cache: VectorCache | None,
    indexed: Container[str] | None = None,
) -> Lost:
    """Rows of a model that scoring ``chosen`` would drop, or give to another file.

    A row stays where its image is listed: at its path, whatever its bytes are now; elsewhere, or under another name,
    with the same bytes. ``asked``: whether the run is about a concept. ``indexed``: concepts that have references
    (None: that does not matter); rows of others go because the index has changed.
    """
    listed = {image.id: image for images in chosen.concepts.values() for image in images}
    more = {f"{concept}/{name}" for concept, names in chosen.beyond.items() for name in names}
    elsewhere: dict[str, tuple[str, str]] = {}  # relative path -> where it was, its SHA-256
    known, of = set[str](), 0
    for batch in held.batches(model, _COLUMNS):
        for row in batch.to_pylist():
            of += 1
            relpath = row["gen_relpath"]
            known.add(relpath)
            image = listed.get(relpath)
            if row["status"] != "ok" or not asked(row["concept"]) or relpath in more:
                continue
            if indexed is not None and row["concept"] not in indexed:
                continue
            if image is None or not _same_file(image.path, row["gen_path"]):
                elsewhere[relpath] = row["gen_path"], row["gen_sha256"]
    if not elsewhere:
        return Lost({}, of)
    moved = [listed[r] for r in elsewhere if r in listed]
    gone = elsewhere.keys() - listed.keys()
    new = [image for r, image in listed.items() if r not in known] if gone else []
    found = hashes([*moved, *new], CachedFiles(cache))
    renamed = {found[image.path] for image in new}
    return Lost(
        {
            relpath: path
            for relpath, (path, sha) in elsewhere.items()
            if (found[listed[relpath].path] != sha if relpath in listed else sha not in renamed)
        },
        of,
        f"{chosen.skipped[0].path}: {chosen.skipped[0].reason}" if chosen.skipped else "",
    )


def require_kept(out: Path, lost: Mapping[str, Lost]) -> None:
    """Raises :class:`InputError` naming how many rows of which models would go, and how to go on."""
    models = {m: each for m, each in lost.items() if each.rows}
    if not models:
        return
    counts = ", ".join(f"{len(each.rows)} of {each.of} rows of {m}" for m, each in models.items())
    first = next(iter(next(iter(models.values())).rows.values()))
    why = next((f" ({each.why})" for each in models.values() if each.why), "")
    raise InputError(
        f"{out}: {counts} would go, first that of {first}, because what is given now does not include these files{why}; nothing "
        "was changed. Remove the rows with `prune`, or keep them: give another model name or `out`, or "
        "join results that were scored apart with 'iconicity results merge'"
    )


def _same_file(path: str, other: str) -> bool:
    if path == other or is_url(path) or is_url(other):
        return path == other
    return Path(path).resolve() == Path(other).resolve()
