"""The references that a command was given: the files it is about, what is left out, and what would go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iconicity.indexer.builder import KnownRows
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import hashes
from iconicity.indexer.left_out import EMPTY, NO_FOLDER, NOT_NAMED_REFERENCES, LeftOut, Skipped, rows_left_out
from iconicity.indexer.options import Select
from iconicity.indexer.places import Place
from iconicity.indexer.sources.folders import LEADS_OUT, folder_images, has_images
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.listing import Listing, grouped
from iconicity.indexer.sources.suffixes import not_images, passed_over
from iconicity.indexer.store.rows import Reference


@dataclass(frozen=True)
class Given:
    """References sorted by concept and name, and the number of concepts in all shards."""

    images: list[Image]
    unusable: list[Skipped]
    left_out: list[LeftOut]
    n_concepts: int


def list_given(refs: Place, select: Select) -> Given:
    """List the images ``refs/<concept>/*`` of the selected concepts and shard.

    Raises :class:`InputError` when no image lies there.
    """
    named, shard = None if select.concepts is None else list(select.concepts), select.shard
    found = grouped(folder_images(refs, named, select.follow_links), refs, [])
    if not any(found.concepts.values()):
        raise _no_images(refs, found.skipped)
    n_concepts = len(found.concepts)
    if shard is not None:
        found.concepts = {c: images for c, images in found.concepts.items() if c in shard}
        found.skipped = [s for s in found.skipped if s.concept in shard]
        found.not_asked_for = [c for c in found.not_asked_for if c in shard]
        named = None if named is None else [c for c in named if c in shard]
    images = [image for images in found.concepts.values() for image in images]
    return Given(images, found.skipped, _left_out(found, named), n_concepts)


def _no_images(refs: Place, skipped: Sequence[Skipped]) -> InputError:
    linked = [s.path for s in skipped if s.reason == LEADS_OUT]
    if linked:
        return InputError(f"{linked[0]}: {LEADS_OUT}")
    told = passed_over(skipped)
    where = f"no images in its folders that can be used ({told[0]})" if told else "no images in its folders"
    if has_images(refs):
        where = "images lie directly in it; name the folder above"
    return InputError(f"{refs}: {where}: a reference is {refs.name or 'refs'}/<concept>/<file>.jpg, .png, ...")


def new_images(images: Sequence[Image], held: Mapping[str, Reference]) -> list[Image]:
    """Return the images that an index does not hold. Raises :class:`InputError` where a name has other bytes there."""
    there = [image for image in images if image.id in held]
    found = hashes(there, KnownRows({}))
    for image in there:
        if found[image.path] not in (None, held[image.id].sha256):
            raise InputError(
                f"{image.path}: the index holds other bytes under this name; use 'iconicity index build' to replace it"
            )
    return [image for image in images if image.id not in held]


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


def _left_out(found: Listing, concepts: Sequence[str] | None) -> list[LeftOut]:
    """Return the inputs of a build that are not in an index of the images ``found``."""
    out = [LeftOut(EMPTY, 1, concept=c, first=found.folders[c]) for c, images in found.concepts.items() if not images]
    out += [LeftOut(NOT_NAMED_REFERENCES, 1, concept=c, first=f"'{c}'") for c in found.not_asked_for]
    if concepts is not None:
        linked = {s.concept for s in found.skipped if s.reason == LEADS_OUT}
        lacking = sorted(set(concepts) - found.concepts.keys() - linked)
        out += [LeftOut(NO_FOLDER, 1, concept=c, first=f"'{c}'") for c in lacking] + rows_left_out(concepts)
    return out + [LeftOut(line) for line in not_images(found.ignored)]
