"""Build an index and keep it equal to its files: what is known by content is never embedded again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from iconicity.indexer.builder import (
    Builder,
    BuildReport,
    held_creators,
    manifest_or_none,
    seal,
    skipped_files,
)
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.errors import IndexFormatError, InputError, LockedError, SettingsError
from iconicity.indexer.given import list_given, lost_references, new_images, require_kept
from iconicity.indexer.grid import cell_count, overlaps
from iconicity.indexer.left_out import (
    EMPTY,
    NO_FOLDER,
    NOT_NAMED_REFERENCES,
    LeftOut,
    held_left_out,
    left_out_lines,
    renewed,
)
from iconicity.indexer.options import IndexOptions, Run, Select
from iconicity.indexer.places import PROBE, Place, Remote, place
from iconicity.indexer.sources.creators import creators_line, creators_of
from iconicity.indexer.sources.folders import CONCEPTS, concept_name
from iconicity.indexer.sources.image import Image, stored_image
from iconicity.indexer.store.disks import require_hard_links
from iconicity.indexer.store.files import LOCK, LOCKS, lock
from iconicity.indexer.store.index import require_no_links, require_same_settings, require_whole_files
from iconicity.indexer.store.manifest import (
    MANIFEST,
    read_manifest,
    settings_difference,
)
from iconicity.indexer.store.rows import Reference, ReferenceStore
from iconicity.indexer.store.table import TABLE, is_table, sweep_table
from iconicity.indexer.text import counted

_PURGED = 256  # rows written at once


def build_index(
    refs: Place | str,
    index: Place | str,
    encoders: Encoders,
    options: IndexOptions = IndexOptions(),
    *,
    prune: bool = False,
    select: Select = Select(),
    run: Run = Run(),
) -> BuildReport:
    """Make the index of ``refs/<concept>/*`` at ``index``, or bring it up to date with the files.

    ``select`` may name a shard without a concept; what the index holds of other shards stays. References whose files
    are not listed now, under any name, go only with ``prune``. An engine of ``run`` loads the same ``encoders`` itself.
    Raises :class:`InputError` (nothing to index), :class:`SettingsError` (the index was made with other options),
    :class:`LockedError`.
    """
    refs, index = place(refs), place(index)
    settings, shard = _settings(encoders, options), select.shard
    given, said = list_given(refs, select), list[str]()
    creators = creators_of(refs, said.append, follow_links=select.follow_links)
    require_room(index)
    with lock(index, "building this index"):
        patches = cell_count(*options.grid, overlaps(settings)) * encoders.dino.spec.dim
        store, held = open_or_create(index, settings, encoders.clip.spec.dim, patches)
        what = settings_difference(store.settings, settings, "index against asked", "asked for")
        if what is not None:
            raise SettingsError(f"{index}: made with {what}; name a new folder with `index`")
        require_whole_rows(store, held)
        builder = Builder(index, store, replace(run, load=lambda _clip, _dino: encoders), "build")
        builder.creators = creators
        builder.report.notices += [*said, *left_out_lines({"": given.left_out})]
        builder.report.left_out = renewed(held_left_out(held), given.left_out, shard)
        if shard is not None and not given.images:
            builder.report.notices.append(
                f"{refs}: none of its {counted(given.n_concepts, 'concept')} falls to shard {shard}"
            )
        references = store.references()
        others = (r for r in references.values() if shard is not None and r.concept not in shard)
        wanted = [*_as_held(others), *given.images]
        if not prune:
            require_kept(index, references, lost_references(references, wanted))
        passed = [] if shard is None or held is None else [s for s in skipped_files(held) if s.concept not in shard]
        report = builder.run(wanted, [*passed, *given.unusable])
        if creators:
            known = held_creators(read_manifest(index))
            report.notices.append(creators_line(len(known), report.concepts, f"{refs}/{CONCEPTS}"))
        return report


def add_references(
    refs: Place | str,
    index: Place | str,
    *,
    select: Select = Select(),
    run: Run = Run(),
) -> BuildReport:
    """Add the files of ``refs`` that the index does not hold; nothing is removed.

    Raises :class:`InputError` when a file's name is in the index with other bytes.
    """
    refs, index = place(refs), place(index)
    given, said = list_given(refs, select), list[str]()
    creators = creators_of(refs, said.append, follow_links=select.follow_links)
    with lock(index, "building this index"):
        store, manifest = _open_for_change(index)
        skipped = skipped_files(manifest)
        held = store.references()
        new = new_images(given.images, held)
        builder = Builder(index, store, run, "add")
        builder.creators = held_creators(manifest) | creators
        builder.report.notices += [*said, *left_out_lines({"": given.left_out})]
        builder.report.left_out = _still(
            held_left_out(manifest),
            given.left_out,
            {r.concept for r in held.values()} | {image.concept for image in new},
        )
        retried = {image.id for image in new}
        old = _as_held(held.values())
        report = builder.run([*old, *new], [*(s for s in skipped if s.ref_id not in retried), *given.unusable])
        if creators:
            known = held_creators(read_manifest(index))
            where = f"{'the index and ' if held_creators(manifest) else ''}{refs}/{CONCEPTS}"
            report.notices.append(creators_line(len(known), report.concepts, where))
        return report


def remove_references(
    index: Place | str,
    *,
    concepts: Sequence[str] = (),
    ref_ids: Sequence[str] = (),
    purge: bool = False,
    run: Run = Run(),
) -> BuildReport:
    """Remove concepts or single references. Duplicates of what goes are revived and embedded.

    A table marks rows as deleted and keeps their bytes until its files are next written as a whole; ``purge`` does
    that now. Raises :class:`InputError` when something named is not in the index, or a revived file is gone,
    :class:`LockedError` when older versions cannot be purged because somebody reads them.
    """
    index = place(index)
    with lock(index, "building this index"):
        store, manifest = _open_for_change(index)
        skipped = skipped_files(manifest)
        finished = manifest["cleaned"] and manifest["table_version"] == store.version  # else it may be gone already
        held = store.references()
        gone = {concept_name(c) for c in concepts}
        known = {r.concept for r in held.values()} | {s.concept for s in skipped}
        unknown = sorted(gone - known) + sorted(set(ref_ids) - set(held) - {s.ref_id for s in skipped})
        if unknown and finished:
            raise InputError(f"{index}: holds no {unknown[0]!r}; 'iconicity index info --json' lists what it holds")
        rest = [r for r in held.values() if r.concept not in gone and r.ref_id not in set(ref_ids)]
        builder = Builder(index, store, run, "remove")
        builder.report.left_out = [i for i in held_left_out(manifest) if not i.concept or i.concept not in gone]
        kept_skips = [s for s in skipped if s.concept not in gone and s.ref_id not in ref_ids]
        report = builder.run(_as_held(rest), kept_skips)
        if purge:
            _purge(index)
        return report


def _purge(index: Place) -> None:
    """Write all rows to new files, and delete the old files. On object storage also while others read the index."""
    store = ReferenceStore.require(index)
    manifest = read_manifest(index)
    rows = iter(store.tested_rows())
    rewritten = store.rewrite(iter(lambda: list(islice(rows, _PURGED)), []))
    seal(index, rewritten, manifest["skipped"], {"command": "purge"}, keep_days=0)
    if not read_manifest(index)["cleaned"]:
        raise LockedError(
            f"{index}: removed, but somebody reads a version that still has it; stop that, and run 'iconicity index "
            "build' or 'add' to have its bytes deleted"
        )


def open_or_create(
    index: Place, settings: Mapping[str, Any], clip_dim: int, patches_len: int
) -> tuple[ReferenceStore, dict[str, Any] | None]:
    """Return the table to write to, made where there is none, and the manifest of the last finished build.

    The caller holds the lock. Raises :class:`CorruptIndexError`: damage must not be written anew as if it were right.
    """
    require_no_links(index)
    sweep_table(index)
    if isinstance(index, Path):
        require_hard_links(index, LOCK)
    held = manifest_or_none(index)
    if held is not None:
        require_whole_files(index, held, data=True)
    return ReferenceStore.open(index) or ReferenceStore.create(index, settings, clip_dim, patches_len), held


def require_room(index: Place) -> None:
    """Raise :class:`IndexFormatError` when the place is a file, or a folder that holds other files and no index."""
    if isinstance(index, Remote):
        found = [n for n in index.names() if n != MANIFEST and not n.startswith(PROBE)]
        if found and f"{TABLE}.lance" not in found:
            raise IndexFormatError(f"{index}: holds other objects and no index; name a new place with `index`")
        return
    if index.is_file():
        raise IndexFormatError(f"{index}: a file; name a new folder with `index`")
    if index.is_dir() and not is_table(index) and any(p.name not in {*LOCKS, MANIFEST} for p in index.iterdir()):
        raise IndexFormatError(f"{index}: holds other files and no index; name a new folder with `index`")


def _settings(encoders: Encoders, options: IndexOptions) -> dict[str, Any]:
    settings = {
        "clip": encoders.clip.spec.to_dict(),
        "dino": encoders.dino.spec.to_dict(),
        "grid": list(options.grid),
        "patch_mode": encoders.patch_mode,
        "vectors": options.vectors,
        "pixels": options.pixels,
        "dedup_distance": options.dedup_distance,
    }
    # left out for the grid's own cells, so that the settings and identity of such an index stay as they were
    if options.reference_cells == "grid":
        return settings
    return settings | {"reference_cells": options.reference_cells}


def _open_for_change(index: Place) -> tuple[ReferenceStore, dict[str, Any]]:
    require_no_links(index)
    manifest = read_manifest(index)
    require_whole_files(index, manifest, data=True)
    sweep_table(index)
    if isinstance(index, Path):
        require_hard_links(index, LOCK)
    store = ReferenceStore.require(index)
    require_same_settings(index, manifest, store)
    require_whole_rows(store, manifest)
    return store, manifest


def require_whole_rows(store: ReferenceStore, manifest: Mapping[str, Any] | None) -> None:
    """Test each row of a build that did not finish: a power cut may have left rows without their bytes.

    Rows of a finished build were tested with its files. On object storage a row never lacks its bytes.
    Raises :class:`CorruptIndexError`.
    """
    if isinstance(store.directory, Remote):
        return
    if manifest is None or manifest["table_version"] != store.version:
        for _ in store.kept_rows():
            pass


def _as_held(references: Iterable[Reference]) -> list[Image]:
    return [stored_image(r.path, r.concept, r.ref_id, r.sha256) for r in references]


def _still(held: Iterable[LeftOut], new: Iterable[LeftOut], concepts: Container[str]) -> list[LeftOut]:
    """The inputs left out after an addition, without the concepts that have references now."""
    items = dict.fromkeys((*held, *new))
    return [i for i in items if i.kind not in (EMPTY, NO_FOLDER, NOT_NAMED_REFERENCES) or i.concept not in concepts]
