"""manifest.json: what an index is, written last; and the lock of its single builder."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, mending, typed
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.spec import EncoderSpec, differences, digest_of
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.store.schema import ManifestShape, other_format, read_json, require_inside, require_shape

FORMAT = 3
MANIFEST = "manifest.json"
_PACKAGES = ("iconicity", "lancedb", "numpy", "pillow", "imagehash", "timm", "torch", "torchvision", "transformers")


def index_id(identities: Sequence[tuple[str, str, str]], fingerprints: Sequence[str]) -> str:
    """SHA-256 over the sorted (ref_id, sha256, row checksum) and the encoders' fingerprints."""
    return digest_of([sorted(identities), list(fingerprints)])


def digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own ``digest``."""
    return digest_of({k: v for k, v in manifest.items() if k != "digest"})


def counts_digest(counts: Mapping[str, Sequence[int]]) -> str:
    """SHA-256 over each concept's (total, kept): a read by concept can tell that a row is missing."""
    return digest_of(counts)


def files_digest(identities: Sequence[tuple[str, str, str]]) -> str:
    """SHA-256 over the sorted (ref_id, SHA-256 of the file): which files an index was made from."""
    return digest_of(sorted(i[:2] for i in identities))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_manifest(directory: Place, manifest: dict[str, Any]) -> None:
    """Replace the manifest as a whole."""
    manifest = {**manifest, "format": FORMAT}
    manifest["digest"] = digest(manifest)
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if isinstance(directory, Remote):
        (directory / MANIFEST).write_bytes(text.encode())
    else:
        write_atomically(directory / MANIFEST, text)


def read_manifest(directory: Place) -> dict[str, Any]:
    """Raises :class:`IndexFormatError` (no index, unfinished, another format), :class:`CorruptIndexError` or
    :class:`StorageError`.
    """
    path = directory / MANIFEST
    if isinstance(directory, Path):
        _require_manifest(directory)
    try:
        manifest = cast(dict[str, Any], read_json(path))
        found, by = manifest.get("format"), manifest.get("versions")
    except (OSError, ValueError, AttributeError) as e:
        if isinstance(directory, Remote) and isinstance(e, FileNotFoundError):
            raise IndexFormatError(
                f"{directory}: no {MANIFEST}: no index is there, or its build did not finish; run 'iconicity index build "
                f"--refs DIR --index {typed(directory)}'"
            ) from e
        raise CorruptIndexError(f"{path}: cannot be read ({e}); {mending(directory)}") from e
    # Where only the format number is damaged, the test of the digest below says so.
    if found != FORMAT and manifest.get("digest") != digest({**manifest, "format": FORMAT}):
        raise IndexFormatError(
            f"{path}: index {other_format(found, FORMAT, by.get('iconicity') if isinstance(by, dict) else None)}; "
            "or build the index again"
        )
    if manifest.get("digest") != digest(manifest):
        raise CorruptIndexError(f"{path}: does not match its own digest; {mending(directory)}")
    try:
        require_shape(manifest, ManifestShape)
        require_inside(manifest["files"])
    except ValueError as e:
        raise IndexFormatError(f"{path}: not what iconicity writes ({e}); build the index again") from e
    return manifest


def _require_manifest(directory: Path) -> None:
    if directory.is_file():
        raise IndexFormatError(f"{directory}: a file, not an index; name the folder of one with `index`")
    if not directory.is_dir():
        raise IndexFormatError(
            f"{directory}: no such index; make one with 'iconicity index build --refs DIR --index {directory}'"
        )
    if not (directory / MANIFEST).is_file():
        raise IndexFormatError(
            f"{directory}: no {MANIFEST}: not an index, or its build did not finish; run 'iconicity index build' again"
        )


def encoder_specs(settings: Mapping[str, Any]) -> tuple[EncoderSpec, EncoderSpec]:
    """The CLIP and the DINO spec of an index's settings."""
    return EncoderSpec.from_dict(settings["clip"]), EncoderSpec.from_dict(settings["dino"])


def settings_difference(held: Mapping[str, Any], asked: Mapping[str, Any], order: str, other: str) -> str | None:
    """The first setting in which two indexes differ, in words: ``order`` says whose of two values comes first, and
    ``other`` leads to the second one.
    """
    for role, have, want in zip(("global", "patch"), encoder_specs(held), encoder_specs(asked), strict=True):
        if have.fingerprint != want.fingerprint:
            facts = (
                "; ".join(have.differences(want)) if have.label == want.label else f"{have.label} against {want.label}"
            )
            return f"another {role} encoder ({order}): {facts}"
    keys = ("grid", "reference_cells", "patch_mode", "pixels", "dedup_distance", "vectors")
    one, two = ({"reference_cells": "grid", **settings} for settings in (held, asked))
    return next((f"{key}={a}, {other} {b}" for key, a, b in differences(one, two, keys)), None)
