"""Open an index for reading: its manifest, and its rows at the version the manifest names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iconicity.indexer.encoders import EncoderSpec
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError
from iconicity.indexer.files import file_sha256
from iconicity.indexer.manifest import encoder_specs, read_manifest
from iconicity.indexer.store import ConceptCount, Reference, ReferenceStore, VectorBlock


@dataclass(frozen=True)
class Index:
    """A finished index. Every read sees the one version its manifest names."""

    path: Path
    manifest: Mapping[str, Any]
    store: ReferenceStore

    @property
    def index_id(self) -> str:
        return str(self.manifest["index_id"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Grid, patch mode, EXIF, dedup distance, number type and both encoder specs."""
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

    def references(self, concepts: Iterable[str] | None = None) -> dict[str, Reference]:
        """References of some concepts (None: of all), kept and dropped, by ref_id."""
        return self.store.references(concepts)

    def concepts(self) -> dict[str, ConceptCount]:
        """Each concept's number of references, by name."""
        return self.store.concepts()

    def block(self, concepts: Iterable[str]) -> VectorBlock:
        """Vectors of the kept references of some concepts, sorted by ref_id, so that a concept is contiguous."""
        rows, cols = self.grid
        return self.store.block(concepts, rows * cols)


def require_whole_versions(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raises :class:`CorruptIndexError` when a file that says what a version of the table holds has changed.

    These are small and never rewritten; LanceDB does not check them.
    """
    for name, digest in manifest["files"].items():
        path = directory / name
        if path.suffix == ".manifest" and path.is_file() and file_sha256(path) != digest:
            raise CorruptIndexError(
                f"{path}: bytes differ from what was written; restore the index from a copy, or delete the folder "
                "and build it again"
            )


def require_no_links(directory: Path) -> None:
    """Raises :class:`IndexFormatError` for a link within an index: what is cleaned up there lies there."""
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118
                raise IndexFormatError(f"{folder}/{name}: a link; an index holds its files itself, copy them there")


def require_same_settings(directory: Path, manifest: Mapping[str, Any], store: ReferenceStore) -> None:
    """Raises :class:`CorruptIndexError` when the manifest and the table tell different settings."""
    if manifest["settings"] != store.settings:
        raise CorruptIndexError(
            f"{directory}: its manifest and its table have different settings; restore it from a copy, or build it again"
        )


def open_index(path: Path | str) -> Index:
    """Open an index directory. Raises :class:`IndexFormatError` or :class:`CorruptIndexError`."""
    directory = Path(path)
    require_no_links(directory)
    manifest = read_manifest(directory)
    require_whole_versions(directory, manifest)
    store = ReferenceStore.open(directory, int(manifest["table_version"]))
    if store is None:
        raise IndexFormatError(f"{directory}: its table is gone; run 'iconicity index build' again")
    require_same_settings(directory, manifest, store)
    return Index(directory, manifest, store)
