"""Open an index for reading: its manifest, and its rows at the version the manifest names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, mending
from iconicity.indexer.grid import cell_count, overlaps
from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.spec import EncoderSpec, file_sha256
from iconicity.indexer.store.files import Reading
from iconicity.indexer.store.manifest import MANIFEST, counts_digest, encoder_specs, read_manifest
from iconicity.indexer.store.rows import ConceptCount, Reference, ReferenceStore, VectorBlock
from iconicity.indexer.text import counted


@dataclass(frozen=True)
class Index:
    """A finished index. Every read sees the one version its manifest names, and is tested: it is right or an error.

    Rows are tested by their checksums, and their number by concept against the manifest's digest, since damage to
    a concept's name would leave a row out.
    """

    path: Place
    manifest: Mapping[str, Any]
    store: ReferenceStore
    reading: Reading | None = None  # builders leave the version's files alone while this lives

    @property
    def index_id(self) -> str:
        return str(self.manifest["index_id"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Grid, patch mode, pixels, dedup distance, number type and both encoder specs."""
        settings: Mapping[str, Any] = self.manifest["settings"]
        return settings

    @property
    def specs(self) -> tuple[EncoderSpec, EncoderSpec]:
        """The CLIP and the DINO encoder's spec."""
        return encoder_specs(self.settings)

    @property
    def grid(self) -> tuple[int, int]:
        rows, cols = self.settings["grid"]
        return int(rows), int(cols)

    @property
    def overlapping(self) -> bool:
        """Whether the references also have cells at half steps of the grid."""
        return overlaps(self.settings)

    @property
    def reference_cells(self) -> int:
        """Number of cells of one reference."""
        return cell_count(*self.grid, self.overlapping)

    def references(self, concepts: Iterable[str] | None = None) -> dict[str, Reference]:
        """References of some concepts (None: of all), kept and dropped, by ref_id. Raises :class:`CorruptIndexError`."""
        wanted = self._counts if concepts is None else {c for c in concepts if c in self._counts}
        found = self.store.references(wanted)
        self._require_all(Counter(r.concept for r in found.values()), {c: self._counts[c].total for c in wanted})
        return found

    def concepts(self) -> dict[str, ConceptCount]:
        """Each concept's number of references, by name. Raises :class:`CorruptIndexError`."""
        return dict(self._counts)

    def block(self, concepts: Iterable[str]) -> VectorBlock:
        """Vectors of the kept references of some concepts, sorted by ref_id, so that a concept is contiguous.

        Raises :class:`CorruptIndexError`.
        """
        wanted = {c for c in concepts if c in self._counts}
        block = self.store.block(wanted, self.reference_cells)
        self._require_all(Counter(r.concept for r in block.references), {c: self._counts[c].kept for c in wanted})
        return block

    @cached_property
    def _counts(self) -> dict[str, ConceptCount]:
        counts = self.store.concepts()
        if counts_digest({c: (n.total, n.kept) for c, n in counts.items()}) != self.manifest["concepts_digest"]:
            raise CorruptIndexError(
                f"{self.path}: concepts and their references are not those of the manifest; {mending(self.path)}"
            )
        return counts

    def _require_all(self, found: Mapping[str, int], listed: Mapping[str, int]) -> None:
        for concept, n in listed.items():
            if found.get(concept, 0) != n:
                raise CorruptIndexError(
                    f"{self.path}: {found.get(concept, 0)} of {counted(n, 'reference')} of '{concept}' {'is' if n == 1 else 'are'} there; {mending(self.path)}"
                )


def damaged_files(directory: Place, manifest: Mapping[str, Any], data: bool) -> Iterator[Path]:
    """Files whose bytes are not those the manifest lists; with ``data`` also the large ones, else those are not read.

    All are written once. LanceDB checks none; object storage tests its own bytes, and is not read for it.
    """
    if isinstance(directory, Remote):
        return
    for name, digest in manifest["files"].items():
        path = directory / name
        if (data or path.suffix != ".lance") and path.is_file() and file_sha256(path) != digest:
            yield path


def require_whole_files(directory: Place, manifest: Mapping[str, Any], data: bool) -> None:
    """Raises :class:`CorruptIndexError` naming the first of :func:`damaged_files`."""
    for path in damaged_files(directory, manifest, data):
        raise CorruptIndexError(f"{path}: bytes differ from what was written; {mending(directory)}")


def require_no_links(directory: Place) -> None:
    """Raises :class:`IndexFormatError` for a link within an index: what is cleaned up there lies there."""
    if isinstance(directory, Remote):
        return
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118
                raise IndexFormatError(f"{folder}/{name}: is a link; copy the file itself into the index")


def require_same_settings(directory: Place, manifest: Mapping[str, Any], store: ReferenceStore) -> None:
    """Raises :class:`CorruptIndexError` when the manifest and the table tell different settings."""
    if manifest["settings"] != store.settings:
        raise CorruptIndexError(
            f"{directory}: its manifest and its table have different settings; restore it from a copy, or build it again"
        )


def open_index(path: Place | str) -> Index:
    """Open an index by its directory or URL. Raises :class:`IndexFormatError`, :class:`CorruptIndexError` or
    :class:`StorageError`.
    """
    directory = place(path)
    require_no_links(directory)
    reading = Reading(directory) if isinstance(directory, Path) and (directory / MANIFEST).is_file() else None
    manifest = read_manifest(directory)
    require_whole_files(directory, manifest, data=False)
    store = ReferenceStore.require(directory, int(manifest["table_version"]))
    require_same_settings(directory, manifest, store)
    return Index(directory, manifest, store, reading)
