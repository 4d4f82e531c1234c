"""A results directory: one parquet file of raw maxima, one row a generated image; everything else derives from it.

Rows stream by row group, one model each, so that memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.errors import IconicityError, InputError, SettingsError, typed
from iconicity.indexer.grid import cell_count, overlaps
from iconicity.indexer.left_out import LeftOut, read_left_out, stored_left_out
from iconicity.indexer.places import Place, is_url, place
from iconicity.indexer.spec import differences
from iconicity.indexer.store.manifest import versions
from iconicity.indexer.store.schema import ResultsShape, other_format, read_json, require_shape
from iconicity.scorer.parquet import GROUP_ROWS, head_of, read_group, require_readable, require_rows
from iconicity.scorer.signed import is_whole, writing_signed
from iconicity.scorer.thresholds import Thresholds

STUDY = "results"  # what a study calls its results directory
FORMAT = 5
Record = dict[str, Any]
HINTS = frozenset({"published"})  # settings that say where weights came from: equal weights may come from two places

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("concept", pa.string()),
        ("gen_path", pa.string()),
        ("gen_relpath", pa.string()),
        ("gen_sha256", pa.string()),
        ("seed", pa.int64()),
        ("prompt", pa.string()),
        ("variant", pa.string()),
        ("cra_sim", pa.float32()),
        ("cra_ref_id", pa.string()),
        ("p", pa.list_(pa.float32())),
        ("p_ref_id", pa.list_(pa.string())),
        ("p_ref_cell", pa.list_(pa.int16())),
        ("p_csls", pa.list_(pa.float32())),  # of the best own cell, see indexer/null/neighbours.py
        ("width", pa.int32()),  # of the image as it was looked at, in pixels
        ("height", pa.int32()),
        (
            "cra_area_seen",
            pa.float32(),
        ),  # share of its area that the global encoder looks at, see indexer/encode/fit.py
        ("area_seen", pa.float32()),  # and the patch encoder
        ("pixel_notes", pa.string()),  # names of pixels.Note, null: none
        ("n_ref_before", pa.int32()),
        ("n_ref_kept", pa.int32()),
        ("n_ref_dups_removed", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        # scope all: the best of every other concept
        ("other_sim", pa.float32()),
        ("other_ref_id", pa.string()),
        ("own_rank", pa.int32()),
        ("p_other", pa.list_(pa.float32())),
        ("p_other_ref_id", pa.list_(pa.string())),
        ("p_other_ref_cell", pa.list_(pa.int16())),
        ("p_other_upper", pa.list_(pa.float32())),  # proven: no match is better; 1 where nothing is proven
    ]
)


@dataclass(frozen=True)
class Results:
    """A results directory's settings (fixed), thresholds (changeable at no cost; None: none given), and rows on disk."""

    path: Path
    mode: str
    settings: Mapping[str, Any]
    tau: Mapping[str, float | None]
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)  # model -> row groups
    notes: Sequence[str] = ()  # the user's own caveats, shown beside every number
    thresholds: Thresholds | None = None  # at a false-positive rate
    left_out: Mapping[str, Sequence[LeftOut]] = field(default_factory=dict)  # of a model, and of the index

    @property
    def models(self) -> list[str]:
        return sorted(self.groups)

    @property
    def cells(self) -> int:
        """Cells of the grid: values of each list."""
        rows, cols = self.settings["grid"]
        return int(rows * cols)

    @property
    def reference_cells(self) -> int:
        """Cells of a reference: numbers of cells lie below."""
        rows, cols = self.settings["grid"]
        return cell_count(rows, cols, overlaps(self.settings))

    @property
    def scores(self) -> Path:
        return scores_path(self.path, self.mode)

    def batches(self, model: str | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Rows of a model (None: of all, by model), sorted by (concept, file), at most ``GROUP_ROWS`` at once."""
        wanted = [(m, g) for m in (self.models if model is None else [model]) for g in self.groups.get(m, ())]
        try:
            with pq.ParquetFile(self.scores, page_checksum_verification=True) as f:
                for m, g in wanted:
                    yield require_rows(read_group(f, g, columns), self.cells, self.reference_cells, m)
        except (OSError, ValueError, pa.ArrowException) as e:
            raise _unreadable(self.scores, e) from e

    def rows(self, model: str) -> list[Record]:
        """A model's rows in memory."""
        return [row for batch in self.batches(model) for row in batch.to_pylist()]

    def table(self) -> pa.Table:
        """Every row in memory, sorted by (model, concept, file)."""
        return pa.concat_tables([b.cast(SCHEMA) for b in self.batches()] or [SCHEMA.empty_table()]).combine_chunks()


def results_in(folder: Path) -> Path:
    """The results directory that a folder is, or that lies in it, the folder of a whole study."""
    below = folder / STUDY
    return below if not any(folder.glob("scores_*.parquet")) and any(below.glob("scores_*.parquet")) else folder


def scores_path(directory: Path, mode: str) -> Path:
    return directory / f"scores_{mode}.parquet"


def _unreadable(path: Path, error: Exception) -> IconicityError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return IconicityError(f"{path}: cannot be read as results ({first}); delete it and score again")


def open_results(directory: Path | str, mode: str | None = None) -> Results | None:
    """Open a results directory; None when it holds no results yet.

    Raises :class:`SettingsError` when ``mode`` is not the directory's own, :class:`IconicityError` when the
    file cannot be read.
    """
    directory = Path(directory)
    found = [m for m in ("dynamic", "static") if scores_path(directory, m).is_file()]
    if not found:
        return None
    if mode is not None and mode not in found:
        raise SettingsError(
            f"{directory}: holds results of mode={found[0]}, asked for {mode}; name a new folder with `out`"
        )
    path = scores_path(directory, mode or found[0])
    try:
        with pq.ParquetFile(path) as f:
            head = head_of(f)
            if head["format"] != FORMAT:
                raise IconicityError(
                    f"{path}: {other_format(head['format'], FORMAT, head.get('written_by'))}, or score again into a new folder"
                )
            if not is_whole(path):
                raise IconicityError(f"{path}: bytes differ from what was written; delete it and score again")
            require_shape(head, ResultsShape)
            require_readable(f, SCHEMA)
            groups: dict[str, list[int]] = {}
            for i in range(f.num_row_groups):
                for model in require_rows(read_group(f, i, ["model"]), 0, 0)["model"].slice(0, 1).to_pylist():
                    groups.setdefault(model, []).append(i)
            left_out = {m: read_left_out(items) for m, items in head["left_out"].items()}
            return Results(
                directory, mode or found[0], head["settings"], head["tau"], groups, head["notes"],
                None if head["thresholds"] is None else Thresholds.from_dict(head["thresholds"]), left_out,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as e:
        raise _unreadable(path, e) from e


def require_results(directory: Path | str, mode: str | None = None) -> Results:
    """Results that must be there. Raises :class:`InputError`."""
    results = open_results(directory, mode)
    if results is None and (Path(directory) / "manifest.json").is_file():
        raise InputError(
            f"{directory}: an index; name a results directory, made with 'iconicity score --index {typed(directory)} --out results'"
        )
    if results is None:
        what = "holds no scores_*.parquet" if Path(directory).exists() else "no such folder"
        raise InputError(
            f"{directory}: {what}; name a results directory or the folder of a study, or make results with "
            f"'iconicity score --out {typed(directory)}'"
        )
    return results


def meta_of(results: Results) -> dict[str, Any]:
    """The meta file of a results directory, as far as it can be read: one of its metrics'."""
    for path in sorted(results.path.glob("results_*.meta.json")):
        try:
            meta = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(meta, dict):
            return meta
    return {}


def index_of(results: Results) -> Place:
    """The index that results were scored against: where their meta file says, else beside them, as in a study that moved.

    Raises :class:`InputError` where there is none.
    """
    named = meta_of(results).get("index")
    path = named.get("path") if isinstance(named, dict) else None
    if not isinstance(path, str) or "\0" in path or not (is_url(path) or Path(path).is_dir()):
        path = str(results.path.parent / "index")
        if not Path(path).is_dir():
            raise InputError(
                f"{results.path}: the index it was scored against is not where it was; name it with `index`"
            )
    return place(path)


def require_same_settings(held: Results, asked: Mapping[str, Any], update: bool) -> None:
    """Raises :class:`SettingsError` naming the first setting that differs. ``update`` lets the index differ."""
    # what update cannot mend comes first
    keys = sorted(dict.fromkeys(("reference_cells", *asked)), key=lambda key: key == "index_id")
    for key, old, value in differences(held.settings, asked, keys, {*HINTS, *(("index_id",) if update else ())}):
        if key == "index_id":
            raise SettingsError(
                f"{held.path}: scored against index {str(old)[:12]}, this one is {value[:12]}; add `update` to score every row again"
            )
        raise SettingsError(
            f"{held.path}: holds results with {key}={old}, asked for {value}; name a new folder with `out`"
        )


class ScoresWriter:
    """Takes rows, sorted by (model, concept, file), into row groups of one model each."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[Record] = []

    def write(self, row: Record) -> None:
        """Add a row."""
        if self._rows and (len(self._rows) >= GROUP_ROWS or self._rows[-1]["model"] != row["model"]):
            self.flush()
        self._rows.append(row)

    def copy(self, group: pa.Table) -> None:
        """Add a row group as it is."""
        self.flush()
        self._writer.write_table(group.cast(self._schema), row_group_size=GROUP_ROWS)

    def flush(self) -> None:
        """Write the rows at hand."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema), row_group_size=GROUP_ROWS)
            self._rows = []


@contextmanager
def writing_scores(
    directory: Path,
    mode: str,
    settings: Mapping[str, Any],
    tau: Mapping[str, float | None],
    notes: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    left_out: Mapping[str, Sequence[LeftOut]] | None = None,
) -> Iterator[ScoresWriter]:
    """A writer of a results directory's parquet file, which takes the old one's place when the block ends well."""
    head = {
        "format": FORMAT, "written_by": versions()["iconicity"], "settings": dict(settings), "tau": dict(tau), "notes": list(notes),
        "thresholds": None if thresholds is None else thresholds.to_dict(),
        "left_out": stored_left_out(left_out or {}),
    }  # fmt: skip
    with writing_signed(scores_path(directory, mode), SCHEMA, head) as file:
        writer = ScoresWriter(file, file.schema)
        yield writer
        writer.flush()
