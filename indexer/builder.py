"""One run of a builder: dedup, embed what is new, write behind, seal. Who may run it, and on what, is build.py's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from iconicity.indexer.dedup import Deduplicator
from iconicity.indexer.embed import Embedder, Vectors
from iconicity.indexer.encoders import Encoders, EncoderSpec
from iconicity.indexer.errors import CorruptIndexError, ImageError, IndexFormatError, InputError
from iconicity.indexer.files import file_sha256, no_readers
from iconicity.indexer.images import read_bytes, sha256_hex
from iconicity.indexer.manifest import (
    MANIFEST,
    counts_digest,
    encoder_specs,
    files_digest,
    index_id,
    read_manifest,
    versions,
    write_manifest,
)
from iconicity.indexer.patches import overlaps
from iconicity.indexer.pipeline import Job, Loaded, Loader, Prepared, Recipe
from iconicity.indexer.progress import Progress
from iconicity.indexer.store import Reference, ReferenceStore, Row

LoadEncoders = Callable[[EncoderSpec, EncoderSpec], Encoders]

COMMIT_IMAGES = 256
COMMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    concept: str
    reason: str

    @property
    def ref_id(self) -> str:
        return f"{self.concept}/{Path(self.path).name}"


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
    changed: bool = False


@dataclass(frozen=True)
class Candidate:
    """A reference the index is to hold. ``read`` False: the stored row is taken at its word."""

    ref_id: str
    concept: str
    path: str
    read: bool


Seen = str | ImageError | None  # SHA-256 of a file that was read, or why it could not be; None: not read yet


class Builder:
    """One run over the references an index is to hold. The caller holds the lock."""

    def __init__(
        self,
        index: Path,
        store: ReferenceStore,
        load: LoadEncoders,
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
        self._load = load
        self._batch_size = batch_size
        self._workers = workers
        self._max_pixels = max_pixels
        self._progress = progress
        self._encoders: Encoders | None = None
        self._wanted: dict[str, Reference] = {}
        self._copies: list[tuple[Reference, str]] = []
        self._rows: list[Row] = []
        self._committed_at = time.monotonic()
        self._writing: Future[None] | None = None

    def run(self, candidates: Sequence[Candidate], skipped: list[Skipped]) -> BuildReport:
        report = self.report
        report.skipped = list(skipped)
        ordered = sorted(candidates, key=lambda c: (c.concept, c.ref_id))
        workers = self._workers(sum(c.read for c in ordered)) if callable(self._workers) else self._workers
        with Loader(self._recipe, workers) as loader, ThreadPoolExecutor(1) as writer:
            loaded = loader.map(self._jobs(ordered))
            decided = self._decide(loaded, loader, len(ordered))
            for reference, vectors in self._embed(decided):
                if vectors is not None:
                    report.embedded += 1
                    self._rows.append(Row(reference, vectors.clip, vectors.patches))
                if (
                    len(self._rows) + len(self._copies) >= COMMIT_IMAGES
                    or time.monotonic() - self._committed_at > COMMIT_SECONDS
                ):
                    self._commit(writer)
            self._commit(writer)
            self._written()
        stale = sorted(set(self._old) - set(self._wanted))
        if stale:
            self._store.delete(stale)
            report.removed = len(stale)
            report.changed = True
        report.skipped.sort(key=lambda s: s.path)
        report.kept = sum(r.kept for r in self._wanted.values())
        report.dropped = len(self._wanted) - report.kept
        report.concepts = len({r.concept for r in self._wanted.values()})
        report.index_id = self._finish(report)
        return report

    def _get_encoders(self) -> Encoders:
        if self._encoders is None:
            self._encoders = self._load(*encoder_specs(self._store.settings))
        return self._encoders

    def _recipe(self) -> Recipe:
        settings = self._store.settings
        rows, cols = settings["grid"]
        return Recipe.of(self._get_encoders(), (rows, cols), settings["exif"], self._max_pixels, overlaps(settings))

    def _jobs(self, ordered: Sequence[Candidate]) -> Iterator[tuple[tuple[Candidate, Seen], Job | None]]:
        """Files whose bytes the index knows need no job. A first build does not hash first: every file is new."""
        for c in ordered:
            held = self._old.get(c.ref_id)
            if not c.read:
                assert held is not None
                yield (c, held.sha256), None
                continue
            sha = None
            if self._old:
                try:
                    sha = sha256_hex(read_bytes(Path(c.path)))
                except ImageError as e:
                    yield (c, e), None
                    continue
            known = sha is not None and sha in self._by_sha
            yield (c, sha), None if known else Job(c.path, sha, phash=True)

    def _decide(
        self, loaded: Iterable[tuple[tuple[Candidate, Seen], Loaded | None]], loader: Loader, total: int
    ) -> Iterator[tuple[Reference, Prepared | None]]:
        """Dedup each concept in file-name order; what is kept and has no vectors yet goes on prepared."""
        done = 0
        for _concept, group in groupby(loaded, key=lambda item: item[0][0].concept):
            dedup = Deduplicator(self._store.settings["dedup_distance"])
            for (candidate, seen), found in group:
                done += 1
                try:
                    yield self._take(candidate, seen, found, loader, dedup)
                except ImageError as e:
                    self.report.skipped.append(Skipped(candidate.path, candidate.concept, e.reason))
                self._progress("references", done, total)

    def _take(
        self, candidate: Candidate, seen: Seen, found: Loaded | None, loader: Loader, dedup: Deduplicator
    ) -> tuple[Reference, Prepared | None]:
        if isinstance(seen, ImageError):
            raise seen
        held = self._old.get(candidate.ref_id)
        if found is None:
            assert seen is not None
            sha = seen
            known = held if held is not None and held.sha256 == sha else self._by_sha[sha]
            image_hash, (width, height) = known.phash, (known.width, known.height)
        else:
            if found.prepared is None:
                raise ImageError(candidate.path, found.reason or "")
            sha, image_hash, (width, height) = found.sha256, found.phash, found.prepared.size
        dup_of, distance = dedup.offer(candidate.ref_id, image_hash)
        kept = dup_of is None
        reference = Reference(
            candidate.ref_id, candidate.concept, candidate.path, sha, width, height, image_hash, kept, dup_of, distance
        )
        self._wanted[reference.ref_id] = reference
        source = held if held is not None and held.kept and held.sha256 == sha else self._by_sha.get(sha)
        if reference == held:
            self.report.unchanged += 1
        elif not kept:
            self._rows.append(Row(reference, None, None))
        elif source is not None and source.kept:
            self._copies.append((reference, source.ref_id))
            self.report.copied += 1
        else:
            return reference, found.prepared if found else self._revived(candidate, sha, loader)
        return reference, None

    @staticmethod
    def _revived(candidate: Candidate, sha: str, loader: Loader) -> Prepared:
        """A duplicate whose original goes. Raises :class:`InputError` when its file is gone or changed."""
        loaded = loader.load(Job(candidate.path, sha))
        if loaded.prepared is None:
            raise InputError(
                f"{candidate.path}: needed again, since what it duplicated goes, but {loaded.reason}; "
                "restore it, remove it too, or use 'iconicity index build'"
            )
        return loaded.prepared

    def _embed(
        self, decided: Iterator[tuple[Reference, Prepared | None]]
    ) -> Iterator[tuple[Reference, Vectors | None]]:
        """The weights are loaded when the first image needs them."""
        for first in decided:
            if first[1] is None:
                yield first[0], None
                continue
            rows, cols = self._store.settings["grid"]
            overlapping = overlaps(self._store.settings)
            embedder = Embedder(self._get_encoders(), (rows, cols), self._batch_size, overlapping)
            yield from embedder.map(chain([first], decided))

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
        if not report.changed and manifest is not None:
            same = manifest["table_version"] == self._store.version and manifest["skipped"] == skipped
            if same and manifest["cleaned"]:
                return str(manifest["index_id"])
        report.changed = True
        event = {
            "command": self._command,
            **{k: getattr(report, k) for k in ("embedded", "copied", "unchanged", "removed")},
        }
        return seal(self._index, self._store, skipped, event)


def manifest_or_none(index: Path) -> dict[str, Any] | None:
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
    index: Path, store: ReferenceStore, skipped: Sequence[Mapping[str, str]], event: Mapping[str, str | int]
) -> str:
    """Compact and sync a table, write the manifest, drop what only older versions need. Returns the index_id.

    ``event`` says what was done, and goes into the manifest's log with the time, the version of this package and
    digests of what the index then holds.
    While somebody reads an older version nothing is dropped: the next build does it.
    """
    store.compact()
    store.sync()
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
    entry = {
        "when": now, **event, "references": total, "kept": kept, "index_id": identity,
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
        files = {p.relative_to(index).as_posix(): digest_of(p) for p in store.files()}
        write_manifest(index, {**manifest, "cleaned": cleaned, "files": files})

    write(cleaned=False)  # from here on readers see the new rows
    with no_readers(index) as alone:
        if alone:
            store.drop_old_versions()
            store.sync()  # what is deleted stays deleted
            write(cleaned=True)
    return identity
