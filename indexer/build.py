"""Build an index and keep it equal to its files: what is known by content is never embedded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from iconicity.indexer.dedup import Deduplicator
from iconicity.indexer.embed import Embedder, Vectors
from iconicity.indexer.encoders import EncoderChoice, Encoders, EncoderSpec, reproduce
from iconicity.indexer.errors import CorruptIndexError, ImageError, IndexFormatError, InputError, SettingsError
from iconicity.indexer.files import LOCK, file_sha256, lock
from iconicity.indexer.images import Discovery, concept_name, discover, has_images, read_bytes, sha256_hex, shown
from iconicity.indexer.index import require_whole_versions
from iconicity.indexer.manifest import (
    MANIFEST,
    encoder_specs,
    index_id,
    read_manifest,
    versions,
    write_manifest,
)
from iconicity.indexer.pipeline import Job, Loaded, Loader, Prepared, Recipe
from iconicity.indexer.store import Reference, ReferenceStore, Row, is_table

Progress = Callable[[str, int, int], None]  # (what, done, total)
LoadEncoders = Callable[[EncoderSpec, EncoderSpec], Encoders]

COMMIT_IMAGES = 256
COMMIT_SECONDS = 60.0
VECTORS = ("float32", "float16")


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
class _Candidate:
    """A reference the index is to hold. ``read`` False: the stored row is taken at its word."""

    ref_id: str
    concept: str
    path: str
    read: bool


Seen = str | ImageError | None  # SHA-256 of a file that was read, or why it could not be; None: not read yet


def _no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def build_index(
    refs: Path,
    index: Path,
    encoders: Encoders,
    *,
    concepts: Iterable[str] | None = None,
    grid: tuple[int, int] = (4, 4),
    dedup_distance: int | None = 18,
    exif: bool = True,
    vectors: str = "float32",
    batch_size: int | None = None,
    workers: int | Callable[[int], int] = 0,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Make the index of ``refs/<concept>/*`` at ``index``, or bring it up to date with the files.

    ``concepts`` restricts it to some; ``dedup_distance`` is the inclusive pHash distance of near-duplicates
    (None: keep all); ``vectors`` float16 halves the index and moves a cosine by up to 5e-5. ``batch_size``
    counts network inputs (None: measured), ``workers`` processes that decode and preprocess (a number, or a
    function of the number of images). Raises :class:`InputError` (nothing to index), :class:`SettingsError` (the index was
    made with other settings), :class:`LockedError`.
    """
    settings = _settings(encoders, grid, dedup_distance, exif, vectors)
    found = discover(refs, concepts)
    candidates = _candidates(found)
    if not candidates:
        where = "images lie directly in it; name the folder above" if has_images(refs) else "no images in its folders"
        raise InputError(f"{refs}: {where}: a reference is {refs.name or 'refs'}/<concept>/<file>.jpg, .png, ...")
    _require_room(index)
    with lock(index, "building this index"):
        ReferenceStore.sweep(index)
        held = _manifest_or_none(index)
        if held is not None:
            require_whole_versions(index, held)
        store = ReferenceStore.open(index)
        if store is None:
            rows, cols = grid
            store = ReferenceStore.create(index, settings, encoders.clip.spec.dim, rows * cols * encoders.dino.spec.dim)
        _require_same_settings(index, store.settings, settings)
        builder = _Builder(index, store, lambda _clip, _dino: encoders, batch_size, workers, progress)
        builder.report.notices += _notices(found, concepts)
        if encoders.dino.spec.family == "offline":
            from iconicity.indexer.encoder_offline import WARNING

            builder.report.notices.append(WARNING)
        return builder.run(candidates, _unnamed(found))


def add_references(
    refs: Path,
    index: Path,
    *,
    load: LoadEncoders | None = None,
    concepts: Iterable[str] | None = None,
    batch_size: int | None = None,
    workers: int | Callable[[int], int] = 0,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Add the files of ``refs`` that the index does not hold; nothing is removed.

    Raises :class:`InputError` when a file's name is in the index with other bytes.
    """
    found = discover(refs, concepts)
    with lock(index, "building this index"):
        store, skipped = _open_for_change(index)
        held = store.references()
        new = [c for c in _candidates(found) if c.ref_id not in held]
        for c in _candidates(found):
            if c.ref_id in held and _sha_or_none(Path(c.path)) not in {None, held[c.ref_id].sha256}:
                raise InputError(
                    f"{c.path}: the index holds other bytes under this name; use 'iconicity index build' to replace it"
                )
        builder = _Builder(index, store, load or _reproduce, batch_size, workers, progress)
        builder.report.notices += _notices(found, concepts)
        retried = {c.ref_id for c in new}
        old = [_Candidate(r.ref_id, r.concept, r.path, read=False) for r in held.values()]
        return builder.run([*old, *new], [*(s for s in skipped if s.ref_id not in retried), *_unnamed(found)])


def remove_references(
    index: Path,
    *,
    concepts: Sequence[str] = (),
    ref_ids: Sequence[str] = (),
    load: LoadEncoders | None = None,
    batch_size: int | None = None,
    workers: int | Callable[[int], int] = 0,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Remove concepts or single references. Duplicates of what goes are revived and embedded.

    Raises :class:`InputError` when something named is not in the index, or a revived file is gone.
    """
    with lock(index, "building this index"):
        store, skipped = _open_for_change(index)
        held = store.references()
        gone = {concept_name(c) for c in concepts}
        known = {r.concept for r in held.values()} | {s.concept for s in skipped}
        unknown = sorted(gone - known) + sorted(set(ref_ids) - set(held) - {s.ref_id for s in skipped})
        if unknown:
            raise InputError(f"{index}: holds no {unknown[0]!r}; 'iconicity index info --json' lists what it holds")
        rest = [r for r in held.values() if r.concept not in gone and r.ref_id not in set(ref_ids)]
        builder = _Builder(index, store, load or _reproduce, batch_size, workers, progress)
        kept_skips = [s for s in skipped if s.concept not in gone and s.ref_id not in ref_ids]
        return builder.run([_Candidate(r.ref_id, r.concept, r.path, read=False) for r in rest], kept_skips)


def _require_room(index: Path) -> None:
    """Raises :class:`IndexFormatError` for a file, and for a folder that holds other things and no index."""
    if index.is_file():
        raise IndexFormatError(f"{index}: a file; name a new folder with --index")
    if index.is_dir() and not is_table(index) and any(p.name not in {LOCK, MANIFEST} for p in index.iterdir()):
        raise IndexFormatError(f"{index}: holds other files and no index; name a new folder with --index")


def _manifest_or_none(index: Path) -> dict[str, Any] | None:
    """The manifest, None where a build did not finish or damaged it: a new one is written at the end."""
    try:
        return read_manifest(index)
    except CorruptIndexError:
        return None
    except IndexFormatError:
        if (index / MANIFEST).is_file():
            raise  # another format
        return None


def _reproduce(clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
    return reproduce(clip, dino, EncoderChoice())


def _sha_or_none(path: Path) -> str | None:
    try:
        return sha256_hex(read_bytes(path))
    except ImageError:
        return None


def _settings(
    encoders: Encoders, grid: tuple[int, int], distance: int | None, exif: bool, vectors: str
) -> dict[str, Any]:
    if vectors not in VECTORS:
        raise InputError(f"vectors {vectors}: choose one of {', '.join(VECTORS)}")
    return {
        "clip": encoders.clip.spec.to_dict(),
        "dino": encoders.dino.spec.to_dict(),
        "grid": list(grid),
        "patch_mode": encoders.patch_mode,
        "vectors": vectors,
        "exif": exif,
        "dedup_distance": distance,
    }


def _require_same_settings(index: Path, held: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, want, got in zip(("clip", "dino"), encoder_specs(held), encoder_specs(asked), strict=True):
        if want.fingerprint != got.fingerprint:
            raise SettingsError(
                f"{index}: made with another {name} encoder (index against asked): {'; '.join(want.differences(got))}; "
                "name a new folder with --index"
            )
    for key in ("grid", "patch_mode", "exif", "dedup_distance", "vectors"):
        if held.get(key) != asked[key]:
            raise SettingsError(
                f"{index}: made with {key}={held.get(key)}, asked for {asked[key]}; name a new folder with --index"
            )


def _open_for_change(index: Path) -> tuple[ReferenceStore, list[Skipped]]:
    manifest = read_manifest(index)
    require_whole_versions(index, manifest)
    ReferenceStore.sweep(index)
    store = ReferenceStore.open(index)
    if store is None:
        raise IndexFormatError(f"{index}: its table is gone; run 'iconicity index build' again")
    return store, [Skipped(**s) for s in manifest["skipped"]]


def _candidates(found: Discovery) -> list[_Candidate]:
    return [
        _Candidate(f"{folder.concept}/{name}", folder.concept, (folder.path / name).as_posix(), read=True)
        for folder in found.folders
        for name in folder.names
    ]


def _unnamed(found: Discovery) -> list[Skipped]:
    return [Skipped(shown(path), concept, "file name is not UTF-8; rename it") for concept, path in found.unnamed]


def _notices(found: Discovery, concepts: Iterable[str] | None) -> list[str]:
    notices = [f"{folder.path}: no images in this folder" for folder in found.folders if not folder.names]
    if concepts is not None:
        notices += [
            f"concept '{c}': listed, but {found.root} has no folder for it"
            for c in concepts
            if c not in found.concept_set()
        ]
    if found.ignored:
        notices.append(
            f"{len(found.ignored)} files or folders are no images by name and were ignored, first {shown(found.ignored[0])}"
        )
    return notices


class _Builder:
    """One run over the references an index is to hold. The caller holds the lock."""

    def __init__(
        self,
        index: Path,
        store: ReferenceStore,
        load: LoadEncoders,
        batch_size: int | None,
        workers: int | Callable[[int], int],
        progress: Progress,
    ) -> None:
        self.report = BuildReport()
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
        self._progress = progress
        self._encoders: Encoders | None = None
        self._wanted: dict[str, Reference] = {}
        self._copies: list[tuple[Reference, str]] = []
        self._rows: list[Row] = []
        self._committed_at = time.monotonic()
        self._writing: Future[None] | None = None

    def run(self, candidates: Sequence[_Candidate], skipped: list[Skipped]) -> BuildReport:
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
        rows, cols = self._store.settings["grid"]
        return Recipe.of(self._get_encoders(), (rows, cols), self._store.settings["exif"])

    def _jobs(self, ordered: Sequence[_Candidate]) -> Iterator[tuple[tuple[_Candidate, Seen], Job | None]]:
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
        self, loaded: Iterable[tuple[tuple[_Candidate, Seen], Loaded | None]], loader: Loader, total: int
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
        self, candidate: _Candidate, seen: Seen, found: Loaded | None, loader: Loader, dedup: Deduplicator
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
    def _revived(candidate: _Candidate, sha: str, loader: Loader) -> Prepared:
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
            embedder = Embedder(self._get_encoders(), (rows, cols), self._batch_size)
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
        """Compact, sync, write the manifest, drop what only older versions need."""
        skipped = [vars(s) for s in report.skipped]
        manifest = _manifest_or_none(self._index)
        if not report.changed and manifest is not None:
            same = manifest["table_version"] == self._store.version and manifest["skipped"] == skipped
            if same and manifest["cleaned"]:
                return str(manifest["index_id"])
        report.changed = True
        self._store.compact()
        self._store.sync()
        identity = index_id(self._store.identities(), [s.fingerprint for s in encoder_specs(self._store.settings)])
        manifest = {
            "index_id": identity,
            "settings": self._store.settings,
            "counts": {
                "concepts": report.concepts,
                "references": report.kept + report.dropped,
                "kept": report.kept,
                "dropped": report.dropped,
            },
            "skipped": skipped,
            "table_version": self._store.version,
            "versions": versions(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._write({**manifest, "cleaned": False})  # from here on readers see the new rows
        self._store.drop_old_versions()
        self._write({**manifest, "cleaned": True})
        return identity

    def _write(self, manifest: dict[str, Any]) -> None:
        files = {p.relative_to(self._index).as_posix(): file_sha256(p) for p in self._store.files()}
        write_manifest(self._index, {**manifest, "files": files})
