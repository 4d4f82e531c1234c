"""Open an index for reading: its manifest, and its rows at the version the manifest names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iconicity.indexer.encoders import EncoderSpec
from iconicity.indexer.errors import IndexFormatError
from iconicity.indexer.manifest import encoder_specs, read_manifest
from iconicity.indexer.store import Reference, ReferenceStore, VectorBlock


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
        """Grid, patch mode, EXIF, dedup distance and both encoder specs."""
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

    def references(self) -> dict[str, Reference]:
        """Every reference, kept and dropped, by ref_id."""
        return self.store.references()

    def block(self, concepts: Iterable[str] | None = None) -> VectorBlock:
        """Vectors of the kept references of some concepts (None: all), sorted by ref_id."""
        rows, cols = self.grid
        return self.store.block(concepts, rows * cols)


def open_index(path: Path | str) -> Index:
    """Open an index directory. Raises :class:`IndexFormatError` or :class:`CorruptIndexError`."""
    directory = Path(path)
    manifest = read_manifest(directory)
    store = ReferenceStore.open(directory, int(manifest["table_version"]))
    if store is None:
        raise IndexFormatError(f"{directory}: its table is gone; run 'iconicity index build' again")
    return Index(directory, manifest, store)
