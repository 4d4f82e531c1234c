"""What fixes an encoder's numbers: a frozen spec and its fingerprint. It is recorded, compared, and needs no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncoderSpec:
    """What fixes an encoder's numbers (all but ``source``), and where its weights were found (``source``)."""

    family: str  # clip, timm, onnx ...: docs/encoders.md
    name: str  # architecture, in its library's words
    weights_sha256: str
    preprocess: Mapping[str, Any]
    pool: str  # all | patch | cls | gem | token (token mode: the cells' mean tokens) | projection (CLIP) | none
    dim: int
    precision: str = "fp32"
    source: Mapping[str, Any] = field(default_factory=dict)
    layer: int | None = None  # after which block or stage, from 1; None: after all

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything but the source: paths and hub ids are hints, not identity."""
        facts = {k: v for k, v in self.to_dict().items() if k != "source"}
        return digest_of(facts)

    @property
    def licence(self) -> str | None:
        """Licence of the weights, where it is known; the source says it, since no number depends on it."""
        found = self.source.get("licence")
        return None if found is None else str(found)

    @property
    def label(self) -> str:
        """Short name for tables, with the start of the weights' SHA-256; says of the offline encoder what it is not."""
        short = self.name.removeprefix("timm ")
        if self.family == "clip":
            short = self.name.split()[1].removesuffix("Model")
        elif self.family == "onnx":
            short = PurePath(str(self.source.get("model"))).name
        short += "" if self.layer is None else f", layer {self.layer}"
        short += f", weights {self.weights_sha256[:8]}"
        return f"{short} (offline: not CLIP or DINO)" if self.family == "offline" else short

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON holds it, without ``layer`` when it is the last one."""
        facts = {k: v for k, v in asdict(self).items() if not (k == "layer" and v is None)}
        return cast(dict[str, Any], json.loads(canonical_json(facts)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EncoderSpec:
        return cls(**{k: data[k] for k in cls.__dataclass_fields__ if k in data or k != "layer"})

    def differences(self, other: EncoderSpec) -> list[str]:
        """``field: own value against other value`` for each fact that differs; of the preprocessing its own facts."""
        mine, theirs = ({"layer": "last", **spec.to_dict()} for spec in (self, other))
        ways = differences(mine.pop("preprocess"), theirs.pop("preprocess"))
        facts = [*differences(mine, theirs, mine, ("source",)), *((f"preprocess {k}", a, b) for k, a, b in ways)]
        return [f"{k}: {_short(a)} against {_short(b)}" for k, a, b in facts]


def differences(
    mine: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str] | None = None, ignore: Container[str] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Each key whose values differ, with both values; a key that is missing has the value None.

    ``keys`` in their order; None: all keys of both, sorted. Every refusal of settings names the first difference.

    >>> list(differences({"grid": 4, "pool": "all"}, {"grid": 4, "mode": "static"}))
    [('mode', None, 'static'), ('pool', 'all', None)]
    """
    for key in sorted({*mine, *other}) if keys is None else keys:
        a, b = mine.get(key), other.get(key)
        if a != b and key not in ignore:
            yield key, a, b


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text[:12] if len(text) == 64 else text


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(value: Any) -> str:
    """SHA-256 of a value as :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
