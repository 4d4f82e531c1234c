"""Specific reuse: which patches match their own references better than anything else would match them.

``iconicity calibrate`` leaves the null of every image beside the results; here it is read and used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.finding import AT, EXACT, Finding, exact_words
from iconicity.scorer.measure.metrics import GENERIC_SHARE, Float32, Float64, Ints, excess, passes, specific_reuse
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
        ("cra_median", pa.float32()),
        ("p_reached", pa.list_(pa.float32())),
        ("p_median", pa.list_(pa.float32())),
        ("p_csls", pa.list_(pa.float32())),  # see csls.py
        ("p_whitened", pa.list_(pa.float32())),  # see whiten.py
        ("p_whitened_csls", pa.list_(pa.float32())),
        ("p_best", pa.list_(pa.float32())),  # the draw that matches a patch best, and its reference and cell
        ("p_best_ref_id", pa.list_(pa.string())),
        ("p_best_ref_cell", pa.list_(pa.int16())),
    ]
)


@dataclass(frozen=True)
class ImageNull:
    """The null of each image of a study at its own number of references, row for row.

    ``reached`` and ``median`` are of its CLIP similarity, ``p_*`` of its patches, ``p_csls`` and ``p_whitened`` similarities of
    their own (csls.py, whiten.py); nan where there is no null.
    """

    draws: Ints  # (n,)
    reached: Float64  # (n,)
    median: Float64  # (n,)
    p_reached: Float32  # (n, K)
    p_median: Float32  # (n, K)
    p_csls: Float32  # (n, K)
    p_whitened: Float32  # (n, K)
    p_whitened_csls: Float32  # (n, K)
    table: pa.Table
    facts: Mapping[str, Any]

    def measures(self, p: Float32, tau: float | None) -> dict[str, Float64]:
        """``vr_specific`` and ``excess`` of each image; nan with fewer than :data:`FEW_DRAWS` draws."""
        if tau is None:
            return {}
        enough = self.draws >= FEW_DRAWS
        return {
            "vr_specific": np.where(enough, specific_reuse(p, self.p_reached, tau), np.nan),
            "excess": np.where(enough, excess(p, self.p_median), np.nan),
        }

    def conditions(self, p: Float32) -> dict[str, tuple[tuple[Float32, str], ...]]:
        """Measure -> the values (n, K) that have to reach a threshold for a patch to count, and whose: metrics of ``calibrate``.

        ``vr_csls``: CSLS. ``vr_strict``: p and CSLS. ``vr_whitened`` and ``vr_whitened_strict``: the same of whitened
        vectors, where they were calibrated. p (n, K).
        """
        csls = self.p_csls, "vr_csls"
        out: dict[str, tuple[tuple[Float32, str], ...]] = {"vr_csls": (csls,), "vr_strict": ((p, "vr"), csls)}
        if not np.isnan(self.p_whitened).all():
            white = self.p_whitened, "vr_whitened"
            out |= {
                "vr_whitened": (white,),
                "vr_whitened_strict": (white, (self.p_whitened_csls, "vr_whitened_csls")),
            }
        return out

    def by_thresholds(self, p: Float32, tau: Callable[[str], Float64]) -> dict[str, Float64]:
        """Share of patches (n,) that meet the :meth:`conditions` of each measure, at the thresholds ``tau`` (n,) of each metric;
        nan where a value or threshold lacks."""
        return {
            name: _share(*((values, tau(metric)) for values, metric in parts))
            for name, parts in self.conditions(p).items()
        }

    def p_values(self) -> Float64:
        """Of each image: how often an unrelated concept is as similar, (reached + 1) / (draws + 1); nan without draws."""
        with np.errstate(invalid="ignore"):
            p = (np.rint(self.reached * self.draws) + 1.0) / (self.draws + 1.0)
        return np.asarray(np.where(self.draws > 0, p, np.nan), np.float64)


def _share(*conditions: tuple[Float32, Float64]) -> Float64:
    """Share of the patches (n, K) that reach each condition's threshold (n,); nan where a value or threshold is."""
    hit = np.logical_and.reduce([passes(values, tau[:, None]) for values, tau in conditions])
    known = np.logical_and.reduce([~np.isnan(values).any(axis=1) & ~np.isnan(tau) for values, tau in conditions])
    return np.where(known, hit.mean(axis=1), np.nan)


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
                    "with --apply and the first one's calibration"
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
    reached, _ = patch_matrix(table, "p_reached")
    median, _ = patch_matrix(table, "p_median")
    csls, white, white_csls = (patch_matrix(table, name)[0] for name in ("p_csls", "p_whitened", "p_whitened_csls"))
    number = {c: table.column(c).to_numpy().astype(np.float64) for c in ("cra_reached", "cra_median")}
    draws = table.column("draws").fill_null(0).to_numpy().astype(np.int64)
    return ImageNull(
        draws, number["cra_reached"], number["cra_median"], reached, median, csls, white, white_csls, table, facts
    )


def require_null(study: Study) -> ImageNull:
    """The nulls of a study's images. Raises :class:`InputError` when there are none."""
    null = image_null(study)
    if null is None:
        raise InputError(
            f"{study.sources[0].path}: what chance looks like is not known yet; run 'iconicity calibrate "
            f"{study.sources[0].path} --index INDEX' first"
        )
    return null


def reused_patches(study: Study, null: ImageNull, tau: float) -> pd.DataFrame:
    """A row each reused patch: what it matches, how many of the draws reach it, the best of them, and the verdict.

    ``verdict`` specific: at most 0.05 of the draws reach it; generic: more; unknown: fewer than :data:`FEW_DRAWS` draws.
    """
    at, patch = np.nonzero(passes(study.p, tau))
    own = {c: study.table.column(c) for c in ("p_ref_id", "p_ref_cell")}
    other = {c: null.table.column(c) for c in ("p_best", "p_best_ref_id", "p_best_ref_cell")}

    def pick(column: Any) -> list[Any]:
        lists = column.take(pa.array(at)).to_pylist()
        return [None if values is None else values[k] for values, k in zip(lists, patch, strict=True)]

    reached = null.p_reached[at, patch]
    known = null.draws[at] >= FEW_DRAWS
    verdict = np.where(known, np.where(reached <= np.float32(GENERIC_SHARE), "specific", "generic"), "unknown")
    return pd.DataFrame(
        {
            "model": np.array(study.models, object)[study.model[at]], "gen_relpath": np.array(study.relpaths, object)[at],
            "patch": patch, "p": study.p[at, patch], "verdict": verdict, "ref_id": pick(own["p_ref_id"]),
            "ref_cell": pick(own["p_ref_cell"]), "reached": reached, "draws": null.draws[at], "other_p": pick(other["p_best"]),
            "other_ref_id": pick(other["p_best_ref_id"]), "other_ref_cell": pick(other["p_best_ref_cell"]),
        }
    )  # fmt: skip


def specific(study: Study, summary: Finding) -> Finding:
    """``models`` and ``concepts`` with VR, specific VR and excess, and ``patches``, the reused ones with a verdict.

    ``study`` needs the columns gen_sha256, p_ref_id and p_ref_cell; ``summary`` is its own. Raises :class:`InputError`.
    """
    null = require_null(study)
    tau = study.tau["vr"]
    if tau is None:
        raise InputError(f"{study.sources[0].path}: has no VR threshold; name one with --patch-tau")
    of_summary = {*exact_words(summary.table("models")), *exact_words(summary.table("concepts"), "images")}
    notes = [note for note in summary.notes if note not in of_summary]  # of columns that are not shown here
    scored = study.ok & ~np.isnan(study.p).any(axis=1)
    without, few = scored & (null.draws == 0), scored & (null.draws > 0) & (null.draws < FEW_DRAWS)
    if without.any():
        notes.append(
            f"{counted(int(without.sum()), 'image has', 'images have')} no null: J not calibrated, or scored since 'iconicity calibrate'"
        )
    if few.any():
        notes.append(
            f"{counted(int(few.sum()), 'image has', 'images have')} a null of fewer than {FEW_DRAWS} draws, too few to call a patch specific "
            "(few concepts have as many references)"
        )
    tables = {}
    for name, keys in (
        ("models", ["model", "images", "concepts"]),
        ("concepts", ["model", "concept", "references", "images"]),
    ):
        frame = summary.table(name)
        if AT in frame:
            frame = frame[frame[AT] == "given"]
        measures = [
            f"{m}{end}" for m in ("vr_all", "vr_specific", "excess") for end in ("", "_low", "_high", EXACT, "_n")
        ]
        tables[name] = frame[[c for c in (*keys, *measures) if c in frame]]
    notes += exact_words(tables["models"]) + exact_words(tables["concepts"], "images")
    tables["patches"] = patches = reused_patches(study, null, tau)
    counts = ", ".join(f"{n} {v}" for v, n in patches.verdict.value_counts().items())
    notes.append(
        f"a patch with p >= {tau} is generic when more than {GENERIC_SHARE} of the draws from other concepts reach it: "
        f"{counts or 'none'} (--table patches)"
    )
    scalars = {k: v for k, v in summary.scalars.items() if "/vr_all" in k or "/vr_specific" in k or "/excess" in k}
    return Finding(tables, notes, summary.facts, scalars)
