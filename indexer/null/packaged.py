"""Thresholds that come with the package, for the encoders that come with it: for an index of too few concepts to fit its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from iconicity.indexer.null.thresholds import CRA, VR
from iconicity.indexer.store.manifest import encoder_specs
from iconicity.indexer.store.schema import parse_json

FILE = Path(__file__).with_name("packaged.json")  # made by 'make thresholds'


@dataclass(frozen=True)
class Packaged:
    """Thresholds by metric (cra, vr) and number of references. VR strict has none: it depends on the index's references."""

    digest: str
    tau: Mapping[str, Mapping[int, float]]


def key(settings: Mapping[str, Any], mode: str, metric: str) -> dict[str, Any]:
    """Return the key of packaged thresholds: the encoder, and the settings that its vectors depend on."""
    clip, dino = encoder_specs(settings)
    facts = {"metric": metric, "mode": mode, "pixels": settings["pixels"]}
    if metric == CRA:
        return facts | {"encoder": clip.fingerprint}
    cells = settings.get("reference_cells", "grid")
    return facts | {
        "encoder": dino.fingerprint, "grid": settings["grid"], "patch_mode": settings["patch_mode"], "reference_cells": cells,
    }  # fmt: skip


def packaged(settings: Mapping[str, Any], mode: str) -> Packaged | None:
    """Return the packaged thresholds that fit the settings of an index, or None."""
    content = _content()
    tau = {}
    for metric in (CRA, VR):
        wanted = key(settings, mode, metric)
        for entry in content["thresholds"]:
            if all(entry.get(k) == v for k, v in wanted.items()):
                tau[metric] = {int(j): float(t) for j, t in entry["tau"].items()}
    return Packaged(content["digest"], tau) if tau else None


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    data = FILE.read_bytes()
    return {**parse_json(data), "digest": hashlib.sha256(data).hexdigest()}
