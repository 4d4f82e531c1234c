"""Files from somebody else, read as data: their size is bounded, their shape is checked, nothing in them is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic asks for these below Python 3.12
)

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from iconicity.indexer.places import Place, Remote

MAX_JSON = 64 << 20  # bytes of a manifest, a calibration or a meta file
_SHA256 = re.compile("[0-9a-f]{64}")

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(ge=1, le=1024)]
Cosine = Annotated[float, Field(ge=-1.0, le=1.01, allow_inf_nan=False)]  # no cosine reaches 1.01
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
_strict = with_config(ConfigDict(strict=True))


@_strict
class SpecShape(TypedDict):
    """Shape of an encoder's spec."""

    family: str
    name: str
    weights_sha256: str
    preprocess: dict[str, Any]
    pool: str
    dim: Annotated[int, Field(ge=1, le=1 << 20)]
    precision: str
    source: dict[str, str | int | None]
    layer: NotRequired[Annotated[int, Field(ge=1, le=1 << 16)]]


@_strict
class SettingsShape(TypedDict):
    """Shape of an index's settings."""

    clip: SpecShape
    dino: SpecShape
    grid: Annotated[list[Side], Field(min_length=2, max_length=2)]
    patch_mode: Literal["crop", "token"]
    vectors: Literal["float32", "float16"]
    pixels: Literal["shown", "published"]
    dedup_distance: Annotated[int, Field(ge=0, le=64)] | None
    reference_cells: NotRequired[Literal["overlapping"]]


@_strict
class SkippedShape(TypedDict):
    """Shape of the record of a file that could not be used."""

    path: str
    concept: str
    reason: str


@_strict
class LeftOutShape(TypedDict):
    """Shape of a count of inputs that were not used, all for the same reason."""

    kind: str
    n: Count
    of: Count
    concept: str
    first: str


@_strict
class VersionFileShape(TypedDict):
    """Shape of the copy of the file that a table version needs in order to open."""

    name: Annotated[str, StringConstraints(pattern=r"^\d+\.manifest$")]
    base64: str


@_strict
class LogEntryShape(TypedDict):
    """Shape of one entry of an index's log. An entry may also hold counts."""

    when: str
    command: str
    references: Count
    kept: Count
    index_id: Sha256
    files_sha256: Sha256
    iconicity: str | None


class NullRatesShape(TypedDict):
    """Shape of a threshold's false-positive rates: in the half it was fitted on, and in the other half."""

    rate_fit: Share
    rate_check: Share | None
    rate_check_low: Share | None
    rate_check_high: Share | None
    pairs_fit: Count
    pairs_check: Count
    concepts_fit: Count
    concepts_check: Count
    status: Literal["ok", "indicative"]


@_strict
class IndexThresholdShape(NullRatesShape):
    """Shape of one index threshold: for J ``references``, found with draws of ``drawn``. VR strict has no own tau."""

    mode: str
    metric: str
    references: Count
    drawn: Count
    tau: Cosine | None


@_strict
class IndexThresholdsShape(TypedDict):
    """Shape of the thresholds of an index."""

    alpha: Share
    seed: int
    format: int
    concepts: list[str]
    works: list[int]
    queries: list[str]
    rows: list[IndexThresholdShape]
    creators: NotRequired[dict[str, str]]  # not there where none is known


@_strict
class ManifestShape(TypedDict):
    """Shape of an index's manifest."""

    index_id: Sha256  # names a folder in the cache
    settings: SettingsShape
    counts: dict[Literal["concepts", "references", "kept", "dropped"], Count]
    skipped: list[SkippedShape]
    left_out: list[LeftOutShape]
    concepts_digest: Sha256
    table_version: Count
    version_file: VersionFileShape
    cleaned: bool
    versions: dict[str, str]
    created: str
    log: list[LogEntryShape]
    files: dict[str, Sha256]
    thresholds: NotRequired[IndexThresholdsShape]  # not in an index of an earlier version


_Number = Annotated[str, StringConstraints(pattern="^[0-9]{1,6}$")]
_Metric = Literal["cra", "vr", "vr_csls"]


@_strict
class ResultsThresholdsShape(TypedDict):
    """Shape of the calibrated thresholds in a results directory, by metric and number of references."""

    alpha: Share
    digests: dict[str, str]
    tau: dict[_Metric, dict[_Number, Cosine]]
    source: dict[_Metric, dict[_Number, str]]


@_strict
class ResultsSettingsShape(TypedDict):
    """Shape of the settings of a results directory. The settings may hold further keys."""

    index_id: str
    scope: Literal["concept", "all"]
    encoders: dict[Literal["clip", "dino"], str]
    grid: Annotated[list[Side], Field(min_length=2, max_length=2)]
    mode: Literal["dynamic", "static"]
    reference_cells: NotRequired[Literal["overlapping"]]
    published: NotRequired[dict[Literal["cra", "vr"], str]]


@_strict
class ResultsShape(TypedDict):
    """Shape of the head of a results directory."""

    settings: ResultsSettingsShape
    tau: dict[Literal["cra", "vr"], Cosine | None]
    notes: list[str]
    thresholds: ResultsThresholdsShape | None
    left_out: dict[str, list[LeftOutShape]]


@_strict
class ThresholdShape(TypedDict):
    """Shape of one calibrated threshold."""

    null: Literal["unrelated", "related", "all"]
    metric: Literal["cra", "vr", "vr_whitened", "vr_csls"]
    references: Annotated[int, Field(ge=1, lt=10**6)]
    status: str
    tau: Cosine | None
    rate_check: NotRequired[Share | None]
    rate_given: NotRequired[Share | None]


@_strict
class NullShape(TypedDict):
    """Shape of a null: the similarities that unrelated references reach."""

    metric: Literal["cra", "vr"]
    references: Annotated[int, Field(ge=1, lt=10**6)]
    reached: list[Share]


@_strict
class CalibrationShape(TypedDict):
    """Shape of a calibration file."""

    alpha: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: int
    index_id: str
    settings: dict[str, Any]
    pool: list[str]
    halves: dict[str, list[str]]
    same_work: list[list[str]]
    thresholds: list[ThresholdShape]
    nulls: list[NullShape]
    notes: list[str]


@lru_cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def require_shape(value: Any, shape: Any) -> None:
    """Check a value against a shape. Raises ValueError that names the field that does not fit."""
    try:
        _adapter(shape).validate_python(value)
    except (ValidationError, RecursionError) as e:
        if isinstance(e, RecursionError):
            raise ValueError("nested too deep") from None
        first = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise ValueError(f"{where}: {first['msg']}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def parse_json(data: bytes | str) -> Any:
    """Parse JSON. Raises ValueError for NaN, infinities, syntax errors and too deep nesting."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(path: Place, most: int = MAX_JSON) -> Any:
    """Parse a JSON file. Raises OSError, or ValueError when the file has more than ``most`` bytes or is not JSON."""
    if isinstance(path, Remote):
        data = path.read_bytes()
    else:
        with path.open("rb") as f:
            data = f.read(most + 1)
    if len(data) > most:
        raise ValueError(f"more than {most >> 20} MB")
    return parse_json(data)


def is_sha256(text: str) -> bool:
    """Whether a text is a SHA-256 in hexadecimal. Only such a text may become part of a file name."""
    return _SHA256.fullmatch(text) is not None


def require_inside(names: Iterable[str]) -> None:
    """Raises ValueError for a file name that leads out of its folder."""
    for name in names:
        if name.startswith("/") or "\0" in name or ".." in PurePosixPath(name).parts:
            raise ValueError(f"files: {name[:80]!r} leads out of the folder")


def other_format(found: object, own: int, written_by: object) -> str:
    """Say that a format is not read, and which version of iconicity reads it."""
    if isinstance(found, int) and found > own:
        by = f"iconicity {written_by[:40]}" if isinstance(written_by, str) else "a later iconicity"
        return f"format {found}, written by {by}; this version reads format {own}: use {by} or later"
    return f"format {str(found)[:40]}, this version reads format {own}"
