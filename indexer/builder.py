"""One run of a builder: dedup, embed what is new, write behind, seal. Who may run it, and on what, is build.py's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from iconicity.indexer.encode.engine import Engine, Outcome, Plan, Task
from iconicity.indexer.encode.pixels import Noted
from iconicity.indexer.encode.prepare import Job
from iconicity.indexer.errors import CorruptIndexError, ImageError, IndexFormatError, InputError
from iconicity.indexer.grid import overlaps
from iconicity.indexer.left_out import LeftOut, Skipped, held_left_out
from iconicity.indexer.null.fit import fit_store
from iconicity.indexer.null.thresholds import has_thresholds
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.progress import Progress
from iconicity.indexer.sources.folders import REQUESTS, hashed
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.suffixes import passed_over
from iconicity.indexer.store.files import file_sha256, no_readers
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
_HASHED = 256  # files hashed at once, by some threads: storage answers slowly, and hashing holds no lock
KEEP_DAYS = 7  # older versions on object storage, where nobody can tell who reads them


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
    left_out: list[LeftOut] = field(default_factory=list)  # what the index says of what was given and is not in it
    changed: bool = False


Seen = str | ImageError | None  # SHA-256 of a file that was read, or why it could not be; None: not read yet


class Builder:
    """One run over the references an index is to hold. The caller holds the lock."""

    def __init__(
        self,
        index: Place,
        store: ReferenceStore,
        engine: Engine,
        batch_size: int | None,
        workers: int | Callable[[int], int],
        max_pixels: int,
        progress: Progress,
        command: str,
    ) -> None:
        self.report = BuildReport()
        self._command = command
        self._index = index
        self._store = store
        base = ReferenceStore.open(index, store.version)  # as found: what may be copied from, whatever we write
        assert base is not None
        self._base = base
        self._old = base.references()
        self._by_sha: dict[str, Reference] = {}
        for r in self._old.values():
            if r.kept or r.sha256 not in self._by_sha:
                self._by_sha[r.sha256] = r
        self._engine = engine
        self._batch_size = batch_size
        self._workers = workers
        self._max_pixels = max_pixels
        self._progress = progress
        self._wanted: dict[str, Reference] = {}
        self._copies: list[tuple[Reference, str]] = []
        self._rows: list[Row] = []
        local = (COMMIT_IMAGES, COMMIT_SECONDS)
        self._pace = (REMOTE_COMMIT_IMAGES, REMOTE_COMMIT_SECONDS) if isinstance(index, Remote) else local
        self._committed_at = time.monotonic()
        self._writing: Future[None] | None = None

    def run(self, images: Sequence[Image], skipped: list[Skipped]) -> BuildReport:
        report = self.report
        report.skipped = list(skipped)
        report.notices += passed_over(skipped)
        noted = Noted()
        ordered = sorted(images, key=lambda image: (image.concept, image.id))
        workers = (
            self._workers(sum(not image.stored for image in ordered)) if callable(self._workers) else self._workers
        )
        with ThreadPoolExecutor(1) as writer:
            outcomes = self._engine.run(self._plan(workers), self._tasks(ordered))
            for done, ((image, seen), outcome) in enumerate(outcomes, 1):
                try:
                    self._take(image, seen, outcome)
                    noted.add(outcome.notes, image.path)
                except ImageError as e:
                    report.skipped.append(Skipped(image.path, image.concept, e.reason))
                self._progress("references", done, len(ordered))
                if (
                    len(self._rows) + len(self._copies) >= self._pace[0]
                    or time.monotonic() - self._committed_at > self._pace[1]
                ):
                    self._commit(writer)
            self._commit(writer)
            self._written()
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

    def _plan(self, workers: int) -> Plan:
        settings = self._store.settings
        clip, dino = encoder_specs(settings)
        rows, cols = settings["grid"]
        return Plan(
            clip, dino, (rows, cols), settings["pixels"], settings["dedup_distance"], self._max_pixels, self._batch_size, workers,
            overlaps(settings),
        )  # fmt: skip

    def _tasks(self, ordered: Sequence[Image]) -> Iterator[Task[tuple[Image, Seen]]]:
        """What the index knows by content is not read again, but where dedup revives a row without vectors."""
        for c, seen in self._seen(ordered):
            if isinstance(seen, ImageError):
                yield Task((c, seen), None, c.concept, c.id)
                continue
            known = None if seen is None else self._known(c, seen)
            if known is None:
                yield Task((c, seen), Job(c.path, seen, phash=True), c.concept, c.id)
            else:
                assert seen is not None
                source = self._source(c, seen)
                job = None if source is not None and source.kept else Job(c.path, seen)
                yield Task((c, seen), job, c.concept, c.id, known.phash)

    def _seen(self, ordered: Sequence[Image]) -> Iterator[tuple[Image, Seen]]:
        """Images with their SHA-256, in order. A first build does not hash first: every file is new."""
        iterator = iter(ordered)
        with ThreadPoolExecutor(REQUESTS, "hash") as threads:
            while part := list(islice(iterator, _HASHED)):
                yield from zip(part, threads.map(self._look, part), strict=True)

    def _look(self, c: Image) -> Seen:
        if c.stored:
            return c.sha256
        if not self._old:
            return None
        return hashed(c.path)

    def _known(self, c: Image, sha: str) -> Reference | None:
        """A stored row of these bytes."""
        held = self._old.get(c.id)
        return held if held is not None and held.sha256 == sha else self._by_sha.get(sha)

    def _source(self, c: Image, sha: str) -> Reference | None:
        """The row whose vectors these bytes have, if it has any."""
        held = self._old.get(c.id)
        return held if held is not None and held.kept and held.sha256 == sha else self._by_sha.get(sha)

    def _take(self, candidate: Image, seen: Seen, outcome: Outcome) -> None:
        """Raises :class:`ImageError`; :class:`InputError` when a duplicate whose original goes cannot be read any more."""
        if isinstance(seen, ImageError):
            raise seen
        if outcome.reason is not None:
            if seen is not None and self._known(candidate, seen) is not None:
                raise InputError(
                    f"{candidate.path}: needed again, since what it duplicated goes, but {outcome.reason}; "
                    "restore it, remove it too, or use 'iconicity index build'"
                )
            raise ImageError(candidate.path, outcome.reason)
        sha = seen or outcome.sha256
        known = self._known(candidate, sha) if seen is not None else None
        image_hash = known.phash if known is not None else outcome.phash
        width, height = (known.width, known.height) if known is not None else outcome.size
        reference = Reference(
            candidate.id, candidate.concept, candidate.path, sha, width, height, image_hash, outcome.dup_of is None,
            outcome.dup_of, outcome.dup_distance,
        )  # fmt: skip
        self._wanted[reference.ref_id] = reference
        if reference == self._old.get(candidate.id):
            self.report.unchanged += 1
        elif not reference.kept:
            self._rows.append(Row(reference, None, None))
        elif outcome.vectors is not None:
            self.report.embedded += 1
            self._rows.append(Row(reference, outcome.vectors.clip, outcome.vectors.patches))
        else:
            source = self._source(candidate, sha)
            assert source is not None and source.kept
            self._copies.append((reference, source.ref_id))
            self.report.copied += 1

    def _commit(self, writer: ThreadPoolExecutor) -> None:
        """Write behind: the next batch is embedded while this one is written."""
        self._written()
        rows, copies, self._rows, self._copies = self._rows, self._copies, [], []
        if rows or copies:
            self._writing = writer.submit(self._write_rows, rows, copies)
            self.report.changed = True
        self._committed_at = time.monotonic()

    def _write_rows(self, rows: list[Row], copies: list[tuple[Reference, str]]) -> None:
        held = {r.reference.ref_id: r for r in self._base.rows(sorted({s for _, s in copies}))} if copies else {}
        self._store.upsert([*rows, *(Row(reference, held[s].clip, held[s].patches) for reference, s in copies)])

    def _written(self) -> None:
        """Wait for the last write; what it raised is raised here."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _finish(self, report: BuildReport) -> str:
        """Leave an index that is whole and unchanged as it is, else seal it anew."""
        skipped = [vars(s) for s in report.skipped]
        manifest = manifest_or_none(self._index)
        if not report.changed and manifest is not None and has_thresholds(manifest):
            same = manifest["table_version"] == self._store.version and manifest["skipped"] == skipped
            same = same and held_left_out(manifest) == report.left_out
            if same and manifest["cleaned"]:
                return str(manifest["index_id"])
        report.changed = True
        event = {
            "command": self._command,
            **{k: getattr(report, k) for k in ("embedded", "copied", "unchanged", "removed")},
        }
        return seal(self._index, self._store, skipped, event, self._wanted, left_out=report.left_out)


def manifest_or_none(index: Place) -> dict[str, Any] | None:
    """The manifest, None where a build did not finish or damaged it: a new one is written at the end."""
    try:
        return read_manifest(index)
    except CorruptIndexError:
        return None
    except IndexFormatError:
        if (index / MANIFEST).is_file():
            raise  # another format
        return None


def skipped_files(manifest: Mapping[str, Any]) -> list[Skipped]:
    """The files a manifest says could not be used."""
    return [Skipped(**s) for s in manifest["skipped"]]


def seal(
    index: Place,
    store: ReferenceStore,
    skipped: Sequence[Mapping[str, str]],
    event: Mapping[str, str | int],
    wanted: Mapping[str, Reference] | None = None,
    keep_days: int = KEEP_DAYS,
    left_out: Sequence[LeftOut] | None = None,
) -> str:
    """Compact and sync a table, write the manifest with the thresholds that its references give, drop what only older
    versions need. Returns the index_id.

    ``event`` says what was done, and goes into the manifest's log with the time, the version of this package and
    digests of what the index then holds. ``left_out`` None: as the manifest says.
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
        "version_file": {  # small, and all else hangs on it
            "name": version_file.name,
            "base64": base64.b64encode(version_file.read_bytes()).decode(),
        },
        "versions": made_by,
        "created": now,
    }
    held = manifest_or_none(index)
    said = held_left_out(held) if left_out is None else left_out
    manifest["left_out"] = [item._asdict() for item in said]
    if held is not None and held["index_id"] == identity and has_thresholds(held):
        manifest["thresholds"] = held["thresholds"]
    else:
        manifest["thresholds"] = fit_store(store).to_dict()
    entry = {
        "when": now, **event, "skipped": len(skipped), "references": total, "kept": kept, "index_id": identity,
        "files_sha256": files_digest(identities), "iconicity": made_by.get("iconicity"),
    }  # fmt: skip
    manifest["log"] = [*(held["log"] if held is not None else []), entry]

    digests: dict[Path, str] = {}  # of data files, which are never rewritten: a large index is read once

    def digest_of(path: Path) -> str:
        if path.suffix != ".lance":
            return file_sha256(path)
        if path not in digests:
            digests[path] = file_sha256(path)
        return digests[path]

    def write(cleaned: bool) -> None:
        files = {p.relative_to(str(index)).as_posix(): digest_of(p) for p in store.files()}
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
