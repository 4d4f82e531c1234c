"""References that a build would remove: their files are not among those listed, under any name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iconicity.indexer.builder import KnownRows
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import hashes
from iconicity.indexer.places import Place
from iconicity.indexer.sources.image import Image
from iconicity.indexer.store.rows import Reference


def lost_references(held: Mapping[str, Reference], wanted: Sequence[Image]) -> list[str]:
    """Return the references of ``held`` that are not ``wanted``. The same bytes under a new name are the same reference."""
    lacking = sorted(held.keys() - {image.id for image in wanted})
    if not lacking:
        return []
    renamed = set(hashes((i for i in wanted if not i.stored and i.id not in held), KnownRows({})).values())
    return [ref_id for ref_id in lacking if held[ref_id].sha256 not in renamed]


def require_kept(index: Place, held: Mapping[str, Reference], lost: Sequence[str]) -> None:
    """Raises :class:`InputError` naming how many references would go, and how to go on."""
    if not lost:
        return
    raise InputError(
        f"{index}: {len(lost)} of its {len(held)} references would go, first {lost[0]}, because the images given now do not "
        "include these files; nothing was changed. Remove them with `prune`, or keep them: 'iconicity index "
        "add' adds without removing, and another `index` starts anew"
    )
