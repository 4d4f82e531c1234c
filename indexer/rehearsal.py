"""Dry runs: tell what a change of an index would do, without writing a file or a lock and without loading a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from iconicity.indexer.builder import KnownRows
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import Wanted, decide
from iconicity.indexer.given import Given, list_given, lost_references, new_images, require_kept
from iconicity.indexer.left_out import Skipped, left_out_lines
from iconicity.indexer.options import Select
from iconicity.indexer.places import Place
from iconicity.indexer.sources.creators import creators_of
from iconicity.indexer.sources.folders import concept_name
from iconicity.indexer.sources.image import Image
from iconicity.indexer.store.manifest import read_manifest
from iconicity.indexer.store.rows import Reference, ReferenceStore


class Rehearsed(Protocol):
    """What a command would do, and why it would be refused."""

    skipped: list[Skipped]
    notices: list[str]
    refused: str | None

    def line(self) -> str: ...


@dataclass
class Rehearsal:
    """Reference images that a command would embed, take over, replace and remove, before near-duplicates are looked for."""

    embed: int = 0
    copy: int = 0  # known by content
    replace: int = 0  # embedded again, as their bytes are others now
    unchanged: int = 0
    remove: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    refused: str | None = None  # why the command would end before it changes anything

    def line(self) -> str:
        """Return the counts as one line."""
        first = f", first {self.remove[0]}" if self.remove else ""
        return (
            f"would embed {self.embed} before near-duplicates are left out, copy {self.copy}, embed again {self.replace}, leave {self.unchanged} unchanged, "
            f"remove {len(self.remove)}{first}, skip {len(self.skipped)}; nothing was written"
        )


def rehearse_build(
    refs: Place,
    index: Place,
    *,
    prune: bool = False,
    select: Select = Select(),
) -> Rehearsal:
    """Tell what :func:`build_index` would do with the options that the index was made with."""
    given, shard = list_given(refs, select), select.shard
    store = ReferenceStore.open(index)
    held = {} if store is None else store.references()
    mine = {ref_id: r for ref_id, r in held.items() if shard is None or r.concept in shard}
    out = _looked_at(given, given.images, held)
    creators_of(refs, out.notices.append, follow_links=select.follow_links)
    lost = lost_references(mine, given.images)
    out.remove = sorted(mine.keys() - {image.id for image in given.images})
    if not prune:
        try:
            require_kept(index, held, lost)
        except InputError as e:
            out.refused = str(e)
    return out


def rehearse_add(refs: Place, index: Place, *, select: Select = Select()) -> Rehearsal:
    """Tell what :func:`add_references` would do. Raises the same :class:`InputError`."""
    given = list_given(refs, select)
    held = _references(index)
    new = new_images(given.images, held)
    out = _looked_at(given, new, held)
    creators_of(refs, out.notices.append, follow_links=select.follow_links)
    out.unchanged = len(held)
    return out


def rehearse_remove(index: Place, *, concepts: Sequence[str] = (), ref_ids: Sequence[str] = ()) -> Rehearsal:
    """Tell what :func:`remove_references` would remove, and which near-duplicates would take its place."""
    held = _references(index)
    named = {concept_name(c) for c in concepts}
    skipped = {
        (s["concept"], f"{s['concept']}/{s['path'].rpartition('/')[2]}") for s in read_manifest(index)["skipped"]
    }
    unknown = sorted(named - {r.concept for r in held.values()} - {c for c, _ in skipped})
    unknown += sorted(set(ref_ids) - held.keys() - {r for _, r in skipped})
    if unknown:
        raise InputError(f"{index}: holds no {unknown[0]!r}; 'iconicity index info --json' lists what it holds")
    gone = {r.ref_id for r in held.values() if r.concept in named or r.ref_id in ref_ids}
    revived = {r.dup_of for r in held.values() if r.ref_id not in gone and r.dup_of in gone}
    return Rehearsal(embed=len(revived), unchanged=len(held) - len(gone) - len(revived), remove=sorted(gone))


def _references(index: Place) -> dict[str, Reference]:
    read_manifest(index)  # says what is wrong
    return ReferenceStore.require(index).references()


def _looked_at(given: Given, images: Sequence[Image], held: dict[str, Reference]) -> Rehearsal:
    out = Rehearsal(skipped=list(given.unusable), notices=left_out_lines({"": given.left_out}))
    asked = ((image, None) for image in images)
    for task in decide(asked, lambda _image, _key: Wanted(), KnownRows(held), references=True):
        image, known = task.key.image, task.key.held.has.facts
        if image.problem is not None:
            out.skipped.append(Skipped(image.path, image.concept, image.problem))
        elif image.id in held and held[image.id].sha256 == image.sha256:
            out.unchanged += 1
        elif known:
            out.copy += 1
        elif image.id in held:
            out.replace += 1
        else:
            out.embed += 1
    return out
