"""Build an index and keep it equal to its files: what is known by content is never embedded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from iconicity.indexer.dedup import Deduplicator, phash
from iconicity.indexer.embed import DEFAULT_BATCH, Embedder, Prepared
from iconicity.indexer.encoders import EncoderChoice, Encoders, EncoderSpec, reproduce
from iconicity.indexer.errors import ImageError, IndexFormatError, InputError, SettingsError
from iconicity.indexer.images import Discovery, concept_name, decode, discover, read_bytes, sha256_hex
from iconicity.indexer.manifest import (
    MANIFEST,
    builder_lock,
    encoder_specs,
    file_sha256,
    index_id,
    read_manifest,
    versions,
    write_manifest,
)
from iconicity.indexer.store import Reference, ReferenceStore, Row

Progress = Callable[[str, int, int], None]  # (what, done, total)
LoadEncoders = Callable[[EncoderSpec, EncoderSpec], Encoders]

COMMIT_IMAGES = 256
COMMIT_SECONDS = 60.0
_EMBED_IMAGES = 8  # images prepared before their forward passes run: bounds memory


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    concept: str
    reason: str


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
    batch_size: int = DEFAULT_BATCH,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Make the index of ``refs/<concept>/*`` at ``index``, or bring it up to date with the files.

    ``concepts`` restricts it to some; ``dedup_distance`` is the inclusive pHash distance of near-duplicates
    (None: keep all). Raises :class:`InputError` (nothing to index), :class:`SettingsError` (the index was
    made with other settings), :class:`IndexLockedError`.
    """
    settings = _settings(encoders, grid, dedup_distance, exif)
    found = discover(refs, concepts)
    candidates = _candidates(found)
    if not candidates:
        raise InputError(f"{refs}: no images in its concept folders (refs/<concept>/*.jpg, .png, ...)")
    with builder_lock(index):
        ReferenceStore.sweep(index)
        store = ReferenceStore.open(index)
        if store is None:
            if any(p.name not in {".lock", MANIFEST} for p in index.iterdir()):
                raise IndexFormatError(f"{index}: holds other files and no index; name a new folder with --index")
            rows, cols = grid
            store = ReferenceStore.create(index, settings, encoders.clip.spec.dim, rows * cols * encoders.dino.spec.dim)
        _require_same_settings(index, store.settings, settings)
        builder = _Builder(index, store, lambda _clip, _dino: encoders, batch_size, progress)
        builder.report.notices += _notices(found, concepts)
        return builder.run(candidates, [])


def add_references(
    refs: Path,
    index: Path,
    *,
    load: LoadEncoders | None = None,
    concepts: Iterable[str] | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Add the files of ``refs`` that the index does not hold; nothing is removed.

    Raises :class:`InputError` when a file's name is in the index with other bytes.
    """
    found = discover(refs, concepts)
    with builder_lock(index):
        store, skipped = _open_for_change(index)
        held = store.references()
        new = [c for c in _candidates(found) if c.ref_id not in held]
        for c in _candidates(found):
            if c.ref_id in held and _sha_or_none(Path(c.path)) not in {None, held[c.ref_id].sha256}:
                raise InputError(
                    f"{c.path}: the index holds other bytes under this name; use 'iconicity index build' to replace it"
                )
        builder = _Builder(index, store, load or _reproduce, batch_size, progress)
        builder.report.notices += _notices(found, concepts)
        retried = {c.path for c in new}
        old = [_Candidate(r.ref_id, r.concept, r.path, read=False) for r in held.values()]
        return builder.run([*old, *new], [s for s in skipped if s.path not in retried])


def remove_references(
    index: Path,
    *,
    concepts: Sequence[str] = (),
    ref_ids: Sequence[str] = (),
    load: LoadEncoders | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress = _no_progress,
) -> BuildReport:
    """Remove concepts or single references. Duplicates of what goes are revived and embedded.

    Raises :class:`InputError` when something named is not in the index, or a revived file is gone.
    """
    with builder_lock(index):
        store, skipped = _open_for_change(index)
        held = store.references()
        gone = {concept_name(c) for c in concepts}
        unknown = sorted(gone - {r.concept for r in held.values()}) + sorted(set(ref_ids) - set(held))
        if unknown:
            raise InputError(f"{index}: holds no {unknown[0]!r}; 'iconicity index info --json' lists what it holds")
        rest = [r for r in held.values() if r.concept not in gone and r.ref_id not in set(ref_ids)]
        builder = _Builder(index, store, load or _reproduce, batch_size, progress)
        kept_skips = [s for s in skipped if s.concept not in gone]
        return builder.run([_Candidate(r.ref_id, r.concept, r.path, read=False) for r in rest], kept_skips)


def _reproduce(clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
    return reproduce(clip, dino, EncoderChoice())


def _sha_or_none(path: Path) -> str | None:
    try:
        return sha256_hex(read_bytes(path))
    except ImageError:
        return None


def _settings(encoders: Encoders, grid: tuple[int, int], distance: int | None, exif: bool) -> dict[str, Any]:
    return {
        "clip": encoders.clip.spec.to_dict(),
        "dino": encoders.dino.spec.to_dict(),
        "grid": list(grid),
        "patch_mode": "crop",
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
    for key in ("grid", "patch_mode", "exif", "dedup_distance"):
        if held.get(key) != asked[key]:
            raise SettingsError(
                f"{index}: made with {key}={held.get(key)}, asked for {asked[key]}; name a new folder with --index"
            )


def _open_for_change(index: Path) -> tuple[ReferenceStore, list[Skipped]]:
    manifest = read_manifest(index)
    ReferenceStore.sweep(index)
    store = ReferenceStore.open(index)
    if store is None:
        raise IndexFormatError(f"{index}: its table is gone; run 'iconicity index build' again")
    return store, [Skipped(**s) for s in manifest["skipped"]]


def _candidates(found: Discovery) -> list[_Candidate]:
    return [
        _Candidate(f"{folder.concept}/{path.name}", folder.concept, path.as_posix(), read=True)
        for folder in found.folders
        for path in folder.files
    ]


def _notices(found: Discovery, concepts: Iterable[str] | None) -> list[str]:
    notices = [f"{folder.path}: no images in this folder" for folder in found.folders if not folder.files]
    if concepts is not None:
        notices += [
            f"concept '{c}': listed, but {found.root} has no folder for it"
            for c in concepts
            if c not in found.concept_set()
        ]
    if found.ignored:
        notices.append(
            f"{len(found.ignored)} files or folders are no images by name and were ignored, first {found.ignored[0]}"
        )
    return notices


class _Builder:
    """One run over the references an index is to hold. The caller holds the lock."""

    def __init__(
        self, index: Path, store: ReferenceStore, load: LoadEncoders, batch_size: int, progress: Progress
    ) -> None:
        self.report = BuildReport()
        self._index = index
        self._store = store
        base = ReferenceStore.open(index, store.version)  # as found: what may be copied from, whatever we write
        assert base is not None
        self._base = base
        self._load = load
        self._batch_size = batch_size
        self._progress = progress
        self._embedder: Embedder | None = None
        self._prepared: list[tuple[Reference, Prepared]] = []
        self._copies: list[tuple[Reference, str]] = []
        self._rows: list[Row] = []
        self._committed_at = time.monotonic()

    def run(self, candidates: Sequence[_Candidate], skipped: list[Skipped]) -> BuildReport:
        report = self.report
        old = self._base.references()
        by_sha: dict[str, Reference] = {}
        for r in old.values():
            if r.kept or r.sha256 not in by_sha:
                by_sha[r.sha256] = r
        report.skipped = list(skipped)
        wanted: dict[str, Reference] = {}
        ordered = sorted(candidates, key=lambda c: (c.concept, c.ref_id))
        done = 0
        for _concept, group in groupby(ordered, key=lambda c: c.concept):
            dedup = Deduplicator(self._store.settings["dedup_distance"])
            for candidate in group:
                done += 1
                try:
                    reference = self._take(candidate, old.get(candidate.ref_id), by_sha, dedup)
                except ImageError as e:
                    report.skipped.append(Skipped(candidate.path, candidate.concept, e.reason))
                else:
                    wanted[reference.ref_id] = reference
                self._progress("references", done, len(ordered))
        self._embed()
        self._commit()
        stale = sorted(set(old) - set(wanted))
        if stale:
            self._store.delete(stale)
            report.removed = len(stale)
            report.changed = True
        report.skipped.sort(key=lambda s: s.path)
        report.kept = sum(r.kept for r in wanted.values())
        report.dropped = len(wanted) - report.kept
        report.concepts = len({r.concept for r in wanted.values()})
        report.index_id = self._finish(report)
        return report

    def _take(
        self, candidate: _Candidate, held: Reference | None, by_sha: dict[str, Reference], dedup: Deduplicator
    ) -> Reference:
        image: Image.Image | None = None
        data: bytes | None = None
        path = Path(candidate.path)
        known = held
        if candidate.read:
            data = read_bytes(path)
            sha = sha256_hex(data)
            if held is None or held.sha256 != sha:
                known = by_sha.get(sha)
        else:
            assert held is not None
            sha = held.sha256
        if known is None:
            assert data is not None
            image = decode(data, path, self._store.settings["exif"])
            image_hash, (width, height) = phash(image), image.size
        else:
            image_hash, width, height = known.phash, known.width, known.height
        dup_of, distance = dedup.offer(candidate.ref_id, image_hash)
        kept = dup_of is None
        reference = Reference(
            candidate.ref_id, candidate.concept, candidate.path, sha, width, height, image_hash, kept, dup_of, distance
        )
        source = known if known is not None and known.kept else by_sha.get(sha)
        if reference == held:
            self.report.unchanged += 1
        elif not kept:
            self._queue(Row(reference, None, None))
        elif source is not None and source.kept:
            self._copies.append((reference, source.ref_id))
            self.report.copied += 1
        else:
            if image is None:
                image = decode(
                    self._same_bytes(path, sha) if data is None else data, path, self._store.settings["exif"]
                )
            self._prepared.append((reference, self._get_embedder().prepare(image)))
            if len(self._prepared) >= _EMBED_IMAGES:
                self._embed()
        return reference

    def _same_bytes(self, path: Path, sha: str) -> bytes:
        """Bytes of a duplicate that is revived. Raises :class:`InputError` when the file is gone or changed."""
        try:
            data = read_bytes(path)
        except ImageError as e:
            raise InputError(
                f"{path}: needed again, since what it duplicated goes, but {e.reason}; restore it or remove it too"
            ) from e
        if sha256_hex(data) != sha:
            raise InputError(f"{path}: needed again, but its bytes have changed; use 'iconicity index build'")
        return data

    def _get_embedder(self) -> Embedder:
        if self._embedder is None:
            settings = self._store.settings
            rows, cols = settings["grid"]
            self._embedder = Embedder(self._load(*encoder_specs(settings)), rows, cols, self._batch_size)
        return self._embedder

    def _embed(self) -> None:
        if not self._prepared:
            return
        vectors = self._get_embedder().embed([p for _, p in self._prepared])
        for (reference, _), v in zip(self._prepared, vectors, strict=True):
            self._queue(Row(reference, v.clip, v.patches))
        self.report.embedded += len(self._prepared)
        self._prepared = []

    def _queue(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= COMMIT_IMAGES or time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        if self._copies:
            held = {r.reference.ref_id: r for r in self._base.rows(sorted({s for _, s in self._copies}))}
            self._rows += [Row(reference, held[s].clip, held[s].patches) for reference, s in self._copies]
            self._copies = []
        if self._rows:
            self._store.upsert(self._rows)
            self.report.changed = True
            self._rows = []
        self._committed_at = time.monotonic()

    def _finish(self, report: BuildReport) -> str:
        """Compact, sync, write the manifest, drop what only older versions need."""
        skipped = [vars(s) for s in report.skipped]
        if not report.changed and (self._index / MANIFEST).is_file():
            manifest = read_manifest(self._index)
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
