"""The null of each image, which ``iconicity calibrate`` leaves beside the results: written and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.errors import InputError, SettingsError, typed
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.metrics import Float32, Float64, Ints
from iconicity.scorer.measure.study import Study
from iconicity.scorer.parquet import GROUP_ROWS, head_of, read_group, require_readable, require_rows
from iconicity.scorer.signed import is_whole, writing_signed

FEW_DRAWS = 20  # below it a share of 0.05 cannot be told from 0
_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("gen_relpath", pa.string()),
        ("gen_sha256", pa.string()),
        ("draws", pa.int32()),  # other concepts with at least J references
        ("cra_reached", pa.float32()),  # share of the draws with a similarity of at least the image's own
        ("p_reached", pa.list_(pa.float32())),
        ("p_csls", pa.list_(pa.float32())),  # see csls.py; of whitened vectors where there are any
        ("p_whitened", pa.list_(pa.float32())),  # see whiten.py
        ("p_best", pa.list_(pa.float32())),  # the draw that matches a patch best, and its reference and cell
        ("p_best_ref_id", pa.list_(pa.string())),
        ("p_best_ref_cell", pa.list_(pa.int16())),
    ]
)


@dataclass(frozen=True)
class ImageNull:
    """The null of each image of a study at its own number of references, row for row; nan where there is none.

    ``reached`` and ``p_reached``: share of the draws that reach the CLIP similarity and the similarity of each patch.
    ``p_csls`` and ``p_whitened``: similarities of the patches to their own concept (csls.py, whiten.py).
    """

    draws: Ints  # (n,)
    reached: Float64  # (n,)
    p_reached: Float32  # (n, K)
    p_csls: Float32  # (n, K)
    p_whitened: Float32  # (n, K)
    table: pa.Table
    facts: Mapping[str, Any]

    @property
    def whitened(self) -> bool:
        """Whether VR strict is found of whitened vectors."""
        return not np.isnan(self.p_whitened).all()

    def strict(self, p: Float32) -> tuple[tuple[Float32, str], ...]:
        """What a patch must reach for VR strict: values (n, K), and the metric of ``calibrate`` whose threshold counts.

        ``p`` (n, K): similarities of the patches to their own concept.
        """
        first = (self.p_whitened, "vr_whitened") if self.whitened else (p, "vr")
        return (first, (self.p_csls, "vr_csls"))

    def p_values(self) -> Float64:
        """Of each image: how often an unrelated concept is as similar, (reached + 1) / (draws + 1); nan without draws."""
        with np.errstate(invalid="ignore"):
            p = (np.rint(self.reached * self.draws) + 1.0) / (self.draws + 1.0)
        return np.asarray(np.where(self.draws > 0, p, np.nan), np.float64)


def null_path(directory: Path, mode: str) -> Path:
    return directory / f"null_{mode}.parquet"


def write_null(directory: Path, mode: str, rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Path:
    """Write the nulls of a results directory's images."""
    path = null_path(directory, mode)
    waiting = iter(rows)
    with writing_signed(path, _SCHEMA, facts) as file:
        while group := list(islice(waiting, GROUP_ROWS)):
            file.write_table(pa.Table.from_pylist(group, file.schema))
    return path


def image_null(study: Study) -> ImageNull | None:
    """Nulls of a study's images; None when no results directory has any. ``study`` needs no further columns.

    Images scored since, or with other bytes, or against another index, have none. Raises :class:`InputError` for a
    file that cannot be read, :class:`SettingsError` when the directories were compared with different pools.
    """
    parts: list[pa.Table] = []
    facts: dict[str, Any] = {}
    for i, source in enumerate(study.sources):
        path = null_path(source.path, source.mode)
        if not path.is_file():
            continue
        try:
            if not is_whole(path):
                raise ValueError("bytes differ from what was written")
            with pq.ParquetFile(path, page_checksum_verification=True) as f:
                held = head_of(f)
                require_readable(f, _SCHEMA)
                groups = [
                    require_rows(read_group(f, g), source.cells, source.reference_cells)
                    for g in range(f.num_row_groups)
                ]
                part = pa.concat_tables([*groups, _SCHEMA.empty_table()])
                same = held["index_id"] == source.settings["index_id"]
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as e:
            raise InputError(f"{path}: cannot be read ({str(e)[:120]}); run 'iconicity calibrate' again") from e
        if same:
            if facts and held != facts:
                raise SettingsError(
                    f"{path}: another null than that of {study.sources[0].path}; calibrate them together, or the second "
                    "with `apply` and the first one's calibration"
                )
            facts = held
            parts.append(part.append_column("source", pa.array([i] * part.num_rows, pa.int32())))
    if not parts:
        return None
    table = pa.concat_tables(parts).combine_chunks()
    keys = [table.column(c).to_pylist() for c in ("source", "model", "gen_relpath", "gen_sha256")]
    at = {key: i for i, key in enumerate(zip(*keys, strict=True))}
    mine = [study.table.column(c).to_pylist() for c in ("source", "model", "gen_relpath", "gen_sha256")]
    rows = pa.array([at.get(key) for key in zip(*mine, strict=True)], pa.int64())
    table = table.take(rows)
    reached = table.column("cra_reached").to_numpy().astype(np.float64)
    draws = table.column("draws").fill_null(0).to_numpy().astype(np.int64)
    p_reached, p_csls, p_whitened = (patch_matrix(table, n)[0] for n in ("p_reached", "p_csls", "p_whitened"))
    return ImageNull(draws, reached, p_reached, p_csls, p_whitened, table, facts)


def require_null(study: Study) -> ImageNull:
    """The nulls of a study's images. Raises :class:`InputError` when there are none."""
    null = image_null(study)
    if null is None:
        raise InputError(
            f"{study.sources[0].path}: what chance looks like is not known yet; run 'iconicity calibrate "
            f"{typed(study.sources[0].path)}' first"
        )
    return null
