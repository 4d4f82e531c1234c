"""Merge finished indexes, such as those of array tasks, into one without embedding anything.

A concept lies whole in one part, since dedup compares all of its references; so rows are taken as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from iconicity.indexer.build import open_or_create, require_room, require_whole_rows
from iconicity.indexer.builder import held_creators, seal, sealed_as, skipped_files
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, InputError, SettingsError, mending
from iconicity.indexer.left_out import LeftOut, Skipped, held_left_out
from iconicity.indexer.places import Place
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.store.files import lock
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.store.manifest import settings_difference
from iconicity.indexer.store.rows import Reference, ReferenceStore, Row, row_checksum
from iconicity.indexer.text import counted

_COMMIT_ROWS = 1024  # rows of one commit, about 50 MB: every commit slows down the next ones
_CONCEPTS = 500  # concepts whose references are compared at once


@dataclass
class MergeReport:
    """What a merge did: rows written and rows that were there already, the files the parts passed over, the identity."""

    index_id: str = ""
    merged: int = 0
    unchanged: int = 0
    concepts: int = 0
    kept: int = 0
    dropped: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)  # inputs of the parts' builds that are in no part
    notices: list[str] = field(default_factory=list)
    changed: bool = False


def merge_indexes(parts: Sequence[Place], index: Place, progress: Progress = no_progress) -> MergeReport:
    """Write the rows of finished indexes into ``index``, which is made where there is none; it then equals a build of all.

    Rows are tested against their checksums on the way, a commit of them in memory at a time. What ``index`` holds of
    other concepts stays. Stopped and run again, it writes what is missing. Raises :class:`SettingsError` when the parts or ``index`` were
    made differently, :class:`InputError` when two hold one concept with other references or bytes,
    :class:`IndexFormatError` for a part that is not finished, :class:`CorruptIndexError`, :class:`LockedError`.
    """
    if not parts:
        raise InputError(f"{index}: no parts to merge; name the indexes that are its parts")
    opened = [_finished(part, index) for part in parts]
    first = opened[0]
    for part in opened[1:]:
        _require_alike(part.path, part.settings, first.path, first.settings)
    source = _sources(opened)
    require_room(index)
    with lock(index, "building this index"):
        store, manifest = open_or_create(index, first.settings, first.store.clip_dim, first.store.patches_len)
        _require_alike(index, store.settings, first.path, first.settings)
        require_whole_rows(store, manifest)
        for part, concepts in source:
            _require_covered(store, part, concepts)
        report = MergeReport()
        held = {ref_id: checksum for ref_id, _, checksum in store.identities()}
        total, done = sum(part.manifest["counts"]["references"] for part, _ in source), 0
        for part, concepts in source:
            rows = _rows(part)
            while chunk := list(islice(rows, _COMMIT_ROWS)):
                own = [row for row in chunk if row.reference.concept in concepts]
                new = [row for row in own if held.get(row.reference.ref_id) != _checksum(row)]
                store.upsert(new)
                report.merged += len(new)
                report.unchanged += len(own) - len(new)
                done += len(chunk)
                progress("references", done, total)
        report.skipped = _skipped([] if manifest is None else skipped_files(manifest), opened)
        report.left_out = _left_out(manifest, opened, store.concepts().keys())
        creators = _creators(manifest, opened, report.notices)
        _finish(index, store, manifest, report, len(parts), creators)
    return report


def _finished(part: Place, index: Place) -> Index:
    """Open a part. Raises :class:`IndexFormatError` when its last build did not finish."""
    if part == index or (isinstance(part, Path) and isinstance(index, Path) and part.resolve() == index.resolve()):
        raise InputError(f"{part}: this is the index to merge into; name other indexes as its parts")
    opened = open_index(part)
    newest = ReferenceStore.open(part)
    if newest is None or newest.version != opened.store.version:
        raise IndexFormatError(f"{part}: its last build did not finish; run the same 'iconicity index build' again")
    return opened


def _require_alike(part: Place, settings: Mapping[str, object], first: Place, others: Mapping[str, object]) -> None:
    what = settings_difference(settings, others, f"{part} against {first}", f"{first} with")
    if what is not None:
        raise SettingsError(f"{part}: made with {what}; build all parts of one index with the same options")


def _sources(opened: Sequence[Index]) -> list[tuple[Index, set[str]]]:
    """Return each part with the concepts that are taken from it: those that no part before it has."""
    owner: dict[str, Index] = {}
    out: list[tuple[Index, set[str]]] = []
    for part in opened:
        new, twice = set(), []
        for concept in part.concepts():
            if concept in owner:
                twice.append(concept)
            else:
                owner[concept] = part
                new.add(concept)
        for concept in twice:
            earlier = owner[concept]
            a, b = earlier.references([concept]), part.references([concept])
            for ref_id in a.keys() & b.keys():
                if a[ref_id].sha256 != b[ref_id].sha256:
                    raise InputError(
                        f"{part.path}: holds other bytes than {earlier.path} under the name {ref_id}; leave one of the "
                        "two out, or build one index of all files"
                    )
            if a.keys() != b.keys():
                raise InputError(
                    f"{part.path}: '{concept}' has other references than in {earlier.path}, first "
                    f"{min(a.keys() ^ b.keys())}; near-duplicates are found within a whole concept, so build it in one part"
                )
        out.append((part, new))
    return out


def _require_covered(store: ReferenceStore, part: Index, concepts: set[str]) -> None:
    """Raises :class:`InputError` when the index to merge into has references of a part's concept that the part has not."""
    ordered = sorted(concepts)
    for start in range(0, len(ordered), _CONCEPTS):
        chunk = ordered[start : start + _CONCEPTS]
        held: dict[str, Reference] = store.references(chunk)
        lost = sorted(held.keys() - part.references(chunk).keys()) if held else []
        if lost:
            raise InputError(
                f"{store.directory}: holds {lost[0]}, a reference of '{held[lost[0]].concept}' that {part.path} lacks; "
                "remove it with 'iconicity index remove', or merge into a new folder"
            )


def _rows(part: Index) -> Iterator[Row]:
    """Every row of a part, tested. Raises :class:`CorruptIndexError`, also when some are missing."""
    n = 0
    for row in part.store.tested_rows():
        n += 1
        yield row
    if n != part.manifest["counts"]["references"]:
        raise CorruptIndexError(
            f"{part.path}: {n} of {counted(part.manifest['counts']['references'], 'reference is', 'references are')} there; {mending(part.path)}"
        )


def _checksum(row: Row) -> str:
    return row_checksum(row.reference, row.clip, row.patches)


def _skipped(held: Sequence[Skipped], opened: Sequence[Index]) -> list[Skipped]:
    """Return the files that the parts skipped, and those that the index skipped of concepts that no part knows."""
    passed = {s for part in opened for s in skipped_files(part.manifest)}
    known = {s.concept for s in passed}.union(*(part.concepts() for part in opened))
    return sorted(passed | {s for s in held if s.concept not in known}, key=lambda s: (s.path, s.concept, s.reason))


def _left_out(manifest: Mapping[str, Any] | None, opened: Sequence[Index], concepts: Collection[str]) -> list[LeftOut]:
    """Return the inputs that parts and index left out, without the concepts that one of them has."""
    said = [held_left_out(manifest), *(held_left_out(part.manifest) for part in opened)]
    return [i for i in dict.fromkeys(item for items in said for item in items) if i.concept not in concepts]


def _creators(manifest: Mapping[str, Any] | None, opened: Sequence[Index], notices: list[str]) -> dict[str, str]:
    """Who made what, by the parts; by the index, of concepts that no part has. Of parts that differ the first is followed."""
    known = {c for part in opened for c in part.concepts()}
    creators = {c: creator for c, creator in held_creators(manifest).items() if c not in known}
    differ = set[str]()
    for part in opened:
        for concept, creator in held_creators(part.manifest).items():
            if creators.setdefault(concept, creator) != creator:
                differ.add(concept)
    if differ:
        notices.append(
            f"the parts name different creators of {counted(len(differ), 'concept')}, first {min(differ)}: the first "
            "part that names one is followed"
        )
    return creators


def _finish(
    index: Place, store: ReferenceStore, manifest: Mapping[str, Any] | None, report: MergeReport, parts: int,
    creators: Mapping[str, str],
) -> None:  # fmt: skip
    """Seal the index, unless it is whole and unchanged."""
    skipped = [vars(s) for s in report.skipped]
    sealed = sealed_as(manifest, store, skipped, report.left_out, creators)
    if sealed is not None:
        report.index_id = sealed
    else:
        event: dict[str, str | int] = {"command": "merge", "merged": report.merged, "unchanged": report.unchanged}
        report.index_id = seal(
            index, store, skipped, event | {"parts": parts}, left_out=report.left_out, creators=creators
        )
        report.changed = True
    counts = store.concepts()
    report.concepts, report.kept = len(counts), sum(n.kept for n in counts.values())
    report.dropped = sum(n.total for n in counts.values()) - report.kept
