"""One run of a builder: dedup, embed new references, write behind, seal. build.py locks and chooses the references."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from typing import Any

from iconicity.indexer.encode.encoder import reproduce
from iconicity.indexer.encode.engine import Engine, Local, Outcome, Plan
from iconicity.indexer.encode.pixels import Noted
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, InputError
from iconicity.indexer.fill import Held, Wanted, fill
from iconicity.indexer.grid import overlaps
from iconicity.indexer.left_out import LeftOut, Skipped, held_left_out
from iconicity.indexer.null.fit import fit_store
from iconicity.indexer.null.thresholds import has_thresholds
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.suffixes import passed_over
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.files import no_readers
from iconicity.indexer.store.manifest import (
    MANIFEST,
    counts_digest,
    encoder_specs,
    files_digest,
    index_id,
    read_manifest,
    versions,
    write_manifest,
)
from iconicity.indexer.store.rows import Reference, ReferenceStore, Row
from iconicity.indexer.store.table import another_wrote

# When a commit is due; a kill loses at most one commit's work. On object storage few and large ones are much quicker.
COMMIT_IMAGES, REMOTE_COMMIT_IMAGES = 256, 5000
COMMIT_SECONDS, REMOTE_COMMIT_SECONDS = 60.0, 600.0
KEEP_DAYS = 7  # age up to which older versions stay on object storage, where readers cannot be seen


@dataclass
class BuildReport:
    """What a build did: image counts, skipped files, notices, and the index's identity."""

    index_id: str = ""
    embedded: int = 0  # images whose vectors were computed
    copied: int = 0  # images whose vectors were taken over from a row with the same bytes
    unchanged: int = 0
    dropped: int = 0  # near-duplicates in the index
    kept: int = 0
    removed: int = 0
    concepts: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)  # inputs that the manifest says are not in the index
    changed: bool = False


class KnownRows:
    """The rows of an index before the build: the references that are known by their content."""

    def __init__(self, references: Mapping[str, Reference]) -> None:
        self._rows = references
        self._by_sha: dict[str, Reference] = {}
        for r in references.values():
            if r.kept or r.sha256 not in self._by_sha:
                self._by_sha[r.sha256] = r

    def sha256(self, image: Image) -> str | None:
        """Return None: a build reads every file, also one that looks unchanged."""
        return None

    def remember(self, image: Image) -> None:
        """Do nothing: the row of the image keeps its SHA-256."""

    def look_up(self, images: Sequence[Image], wanted: Sequence[Wanted]) -> list[Held]:
        """Facts of the row with each image's bytes, and whether it has vectors. Vectors are copied at the commit."""
        return [self._held(image) for image in images]

    def _held(self, image: Image) -> Held:
        row, source = self._row(image), self.source(image)
        if row is None:
            return Held()
        kept = source is not None and source.kept
        return Held(Wanted(kept, kept), Outcome(None, row.sha256, row.phash, (row.width, row.height)))

    def _row(self, image: Image) -> Reference | None:
        """A row with an image's bytes: the image's own row, else any other."""
        own = self._rows.get(image.id)
        return own if own is not None and own.sha256 == image.sha256 else self._by_sha.get(image.sha256 or "")

    def source(self, image: Image) -> Reference | None:
        """The row from which an image's vectors can be copied, or None."""
        own = self._rows.get(image.id)
        if own is not None and own.kept and own.sha256 == image.sha256:
            return own
        return self._by_sha.get(image.sha256 or "")


class Builder:
    """One run over the references an index is to hold. The caller holds the lock."""

    def __init__(self, index: Place, store: ReferenceStore, run: Run, command: str) -> None:
        self.report = BuildReport()
        self.creators: dict[str, str] | None = None  # concept -> creator; None: as the index has them
        self._command = command
        self._index = index
        self._store = store
        self._base = ReferenceStore.require(index, store.version)  # before this build: vectors are copied from it
        self._old = self._base.references()
        self._known = KnownRows(self._old)
        self._run = run
        self._wanted: dict[str, Reference] = {}
        self._copies: list[tuple[Reference, str]] = []
        self._rows: list[Row] = []
        local = (COMMIT_IMAGES, COMMIT_SECONDS)
        self._pace = (REMOTE_COMMIT_IMAGES, REMOTE_COMMIT_SECONDS) if isinstance(index, Remote) else local
        self._committed_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "commit")
        self._writing: Future[None] | None = None

    def run(self, images: Sequence[Image], skipped: list[Skipped]) -> BuildReport:
        """Make the index hold exactly these images, and seal it. A first build need not hash first: every file is new."""
        report = self.report
        report.skipped = list(skipped)
        report.notices += passed_over(skipped)
        noted = Noted()
        ordered = sorted(images, key=lambda image: (image.concept, image.id))
        workers = self._run.processes(sum(not image.stored for image in ordered))
        filled = fill(
            ((image, None) for image in ordered),
            lambda _image, _key: Wanted(),
            self._known,
            self,
            partial(self._engine().run, self._plan(workers)),
            references=True,
            hash_first=bool(self._old),
        )
        with self._writer:
            for done, (image, _, outcome) in enumerate(filled, 1):
                noted.add(outcome.notes, image.path)
                self._run.progress("references", done, len(ordered))
        stale = sorted(set(self._old) - set(self._wanted))
        if stale:
            self._store.delete(stale)
            report.removed = len(stale)
            report.changed = True
        report.notices += noted.lines()
        report.skipped.sort(key=lambda s: s.path)
        report.kept = sum(r.kept for r in self._wanted.values())
        report.dropped = len(self._wanted) - report.kept
        report.concepts = len({r.concept for r in self._wanted.values()})
        report.index_id = self._finish(report)
        return report

    def _engine(self) -> Engine:
        """The engine that the run asks for, else this process, with the encoders that the index names."""
        run = self._run
        return run.engine or Local(run.load or (lambda clip, dino: reproduce(clip, dino, device=run.device)))

    def _plan(self, workers: int) -> Plan:
        settings = self._store.settings
        clip, dino = encoder_specs(settings)
        rows, cols = settings["grid"]
        return Plan(
            clip, dino, (rows, cols), settings["pixels"], settings["dedup_distance"], self._run.max_pixels,
            self._run.batch_size, workers, overlaps(settings),
        )  # fmt: skip

    def put(self, image: Image, outcome: Outcome, new: Outcome) -> None:
        """Take a reference, and commit when a batch is full.

        Raises :class:`InputError` when a duplicate whose original goes cannot be read any more.
        """
        source = self._known.source(image)
        if outcome.reason is not None:
            if image.problem is None and source is not None:
                raise InputError(
                    f"{image.path}: needed again, since what it duplicated goes, but {outcome.reason}; "
                    "restore it, remove it too, or use 'iconicity index build'"
                )
            self.report.skipped.append(Skipped(image.path, image.concept, outcome.reason))
            return
        reference = Reference(
            image.id, image.concept, image.path, image.sha256 or "", *outcome.size, outcome.phash, outcome.dup_of is None,
            outcome.dup_of, outcome.dup_distance,
        )  # fmt: skip
        self._wanted[reference.ref_id] = reference
        if reference == self._old.get(image.id):
            self.report.unchanged += 1
        elif not reference.kept:
            self._rows.append(Row(reference, None, None))
        elif outcome.vectors is not None:
            self.report.embedded += 1
            self._rows.append(Row(reference, outcome.vectors.clip, outcome.vectors.patches))
        else:
            assert source is not None and source.kept
            self._copies.append((reference, source.ref_id))
            self.report.copied += 1
        images, seconds = self._pace
        if len(self._rows) + len(self._copies) >= images or time.monotonic() - self._committed_at > seconds:
            self._commit()

    def flush(self) -> None:
        """Commit the references that are left, and wait for the write."""
        self._commit()
        self._written()

    def _commit(self) -> None:
        """Start to write a batch. The next one is embedded meanwhile."""
        self._written()
        rows, copies, self._rows, self._copies = self._rows, self._copies, [], []
        if rows or copies:
            self._writing = self._writer.submit(self._write_rows, rows, copies)
            self.report.changed = True
        self._committed_at = time.monotonic()

    def _write_rows(self, rows: list[Row], copies: list[tuple[Reference, str]]) -> None:
        held = {r.reference.ref_id: r for r in self._base.rows(sorted({s for _, s in copies}))} if copies else {}
        self._store.upsert([*rows, *(Row(reference, held[s].clip, held[s].patches) for reference, s in copies)])

    def _written(self) -> None:
        """Wait for the last write. Raises the error of that write."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _finish(self, report: BuildReport) -> str:
        """Seal the index, unless it is whole and unchanged."""
        skipped = [vars(s) for s in report.skipped]
        sealed = (
            None
            if report.changed
            else sealed_as(manifest_or_none(self._index), self._store, skipped, report.left_out, self.creators)
        )
        if sealed is not None:
            return sealed
        report.changed = True
        event = {
            "command": self._command,
            **{k: getattr(report, k) for k in ("embedded", "copied", "unchanged", "removed")},
        }
        return seal(
            self._index, self._store, skipped, event, self._wanted, left_out=report.left_out, creators=self.creators
        )


def manifest_or_none(index: Place) -> dict[str, Any] | None:
    """The manifest. None after an unfinished build or damage: a new manifest is written at the end."""
    try:
        return read_manifest(index)
    except CorruptIndexError:
        return None
    except IndexFormatError:
        if (index / MANIFEST).is_file():
            raise  # another format
        return None


def sealed_as(
    manifest: Mapping[str, Any] | None,
    store: ReferenceStore,
    skipped: object,
    left_out: object,
    creators: Mapping[str, str] | None = None,
) -> str | None:
    """The index_id when the manifest is of this table, whole, and says the same of files without a row and of creators
    (None: of any); else None.
    """
    if manifest is None or not manifest["cleaned"]:
        return None
    if not has_thresholds(manifest, None if creators is None else in_index(store, creators)):
        return None
    same = manifest["table_version"] == store.version and manifest["skipped"] == skipped
    return str(manifest["index_id"]) if same and held_left_out(manifest) == left_out else None


def skipped_files(manifest: Mapping[str, Any]) -> list[Skipped]:
    """The files that could not be used, by the manifest."""
    return [Skipped(**s) for s in manifest["skipped"]]


def held_creators(manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Concept -> creator, by a manifest."""
    return {} if manifest is None else dict(manifest.get("thresholds", {}).get("creators", {}))


def in_index(store: ReferenceStore, creators: Mapping[str, str]) -> dict[str, str]:
    """The creators of those concepts that a table holds."""
    return {concept: creators[concept] for concept in sorted(store.concepts()) if concept in creators}


def seal(
    index: Place,
    store: ReferenceStore,
    skipped: Sequence[Mapping[str, str]],
    event: Mapping[str, str | int],
    wanted: Mapping[str, Reference] | None = None,
    keep_days: int = KEEP_DAYS,
    left_out: Sequence[LeftOut] | None = None,
    creators: Mapping[str, str] | None = None,
) -> str:
    """Compact and sync a table, write the manifest with the thresholds that its references give, drop what only older
    versions need. Returns the index_id.

    ``event`` says what was done, and goes into the manifest's log with the time, the version of this package and
    digests of what the index then holds. ``left_out`` and ``creators`` None: as the manifest says.
    While somebody reads an older version nothing is dropped: the next build does it. On object storage, where that
    cannot be known, versions of the last ``keep_days`` stay; and as nothing locks there, what the table holds is first
    compared with what this build ``wanted``. Raises :class:`LockedError` when another wrote meanwhile.
    """
    store.compact()
    store.sync()
    if isinstance(index, Remote) and wanted is not None and store.references() != wanted:
        raise another_wrote(index)
    identities = store.identities()
    identity = index_id(identities, [s.fingerprint for s in encoder_specs(store.settings)])
    concepts = store.concepts()
    total, kept = sum(c.total for c in concepts.values()), sum(c.kept for c in concepts.values())
    version_file = store.version_file()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    made_by = versions()
    manifest = {
        "index_id": identity,
        "settings": store.settings,
        "counts": {"concepts": len(concepts), "references": total, "kept": kept, "dropped": total - kept},
        "concepts_digest": counts_digest({c: (n.total, n.kept) for c, n in concepts.items()}),
        "skipped": list(skipped),
        "table_version": store.version,
        "version_file": {  # small, and the version cannot be opened without it
            "name": version_file.name,
            "base64": base64.b64encode(version_file.read_bytes()).decode(),
        },
        "versions": made_by,
        "created": now,
    }
    held = manifest_or_none(index)
    said = held_left_out(held) if left_out is None else left_out
    manifest["left_out"] = [item._asdict() for item in said]
    made_by_whom = in_index(store, held_creators(held) if creators is None else creators)
    if held is not None and held["index_id"] == identity and has_thresholds(held, made_by_whom):
        manifest["thresholds"] = held["thresholds"]
    else:
        manifest["thresholds"] = fit_store(store, creators=made_by_whom).to_dict()
    entry = {
        "when": now, **event, "skipped": len(skipped), "references": total, "kept": kept, "index_id": identity,
        "files_sha256": files_digest(identities), "iconicity": made_by.get("iconicity"),
    }  # fmt: skip
    manifest["log"] = [*(held["log"] if held is not None else []), entry]

    data_sha256 = cache(file_sha256)  # data files never change

    def write(cleaned: bool) -> None:
        files = {
            p.relative_to(str(index)).as_posix(): (data_sha256 if p.suffix == ".lance" else file_sha256)(p)
            for p in store.files()
        }
        write_manifest(index, {**manifest, "cleaned": cleaned, "files": files})

    if isinstance(index, Remote):
        write(cleaned=True)
        store.drop_old_versions(timedelta(days=keep_days))
        return identity
    write(cleaned=False)  # from here on readers see the new rows
    with no_readers(index) as alone:
        if alone:
            store.drop_old_versions()
            store.sync()  # what is deleted stays deleted
            write(cleaned=True)
    return identity
