"""Merge results directories into one: models, or shards of concepts, that were scored apart against one index."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.left_out import LeftOut, Skipped, left_out_lines, renewed
from iconicity.indexer.places import Place
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.spec import differences
from iconicity.indexer.store.files import lock, sweep
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.text import counted
from iconicity.scorer.left_out import INDEX, merged_left_out, of_index
from iconicity.scorer.options import METRICS
from iconicity.scorer.replacing import Lost, require_kept
from iconicity.scorer.results import (
    HINTS,
    Record,
    Results,
    index_of,
    open_results,
    require_results,
    writing_scores,
)
from iconicity.scorer.say.csv import skipped_rows
from iconicity.scorer.say.derived import earlier_notices, write_derived
from iconicity.scorer.thresholds import Thresholds


@dataclass
class MergedResults:
    """What a merge of results wrote: how many rows, of which images that could not be used, and which files."""

    rows: int = 0
    models: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def merge_results(
    parts: Sequence[Path],
    out: Path,
    index: Place | None = None,
    progress: Progress = no_progress,
    *,
    prune: bool = False,
) -> MergedResults:
    """Write the rows of several results directories into ``out``, sorted as scoring sorts them, and its derived files.

    A concept of a model is taken whole from the parts; what ``out`` holds of others stays. ``index`` is the one they were scored
    against (None: where their meta file says). A concept's rows are in memory at a time. Raises
    :class:`SettingsError` when settings, thresholds, calibrations or the index differ, :class:`InputError` when two
    parts hold different rows of one image or there is nothing to merge.
    """
    if not parts:
        raise InputError(f"{out}: nothing to merge into it; name the results directories that are its parts")
    if out.is_file():
        raise InputError(f"{out}: a file; name a folder with `out`")
    for path in parts:
        if path.resolve() == out.resolve():
            raise InputError(f"{path}: the directory to merge into is none of its parts; name others")
    opened = [require_results(part) for part in parts]
    first = opened[0]
    for part in opened[1:]:
        _require_alike(part, first)
    idx = open_index(index or _index_of(opened))
    if idx.index_id != first.settings["index_id"]:
        raise SettingsError(
            f"{idx.path}: its index_id is {idx.index_id[:12]}, the results were scored against "
            f"{str(first.settings['index_id'])[:12]}; name that index with `index`"
        )
    merged = MergedResults()
    with lock(out, "writing these results"):
        sweep(out)
        held = open_results(out, first.mode)
        if held is not None:
            _require_alike(held, first)
        if held is not None and not prune:
            require_kept(out, {m: _lost(m, opened, held) for m in held.models})
        sources = [*opened, *([held] if held is not None else [])]
        notes = list(dict.fromkeys(note for r in sources for note in r.notes))
        merged.models = sorted({m for r in sources for m in r.models})
        left_out = {m: _left_out(m, opened, held, idx) for m in merged.models} | {INDEX: of_index(idx)}
        with writing_scores(out, first.mode, first.settings, first.tau, notes, first.thresholds, left_out) as writer:
            for model in merged.models:
                for row in _model_rows(model, opened, held):
                    writer.write(row)
                    merged.rows += 1
                progress("models", merged.models.index(model) + 1, len(merged.models))
        merged.notices = list(dict.fromkeys(n for r in sources for n in earlier_notices(r)))
        asked = [m for m in METRICS if any(list(r.path.glob(f"results_{m}_*.meta.json")) for r in sources)]
        written = require_results(out, first.mode)
        merged.skipped = [Skipped(s["gen_path"], s["concept"], s["reason"]) for s in skipped_rows(written)]
        merged.files = write_derived(written, idx, merged.notices, asked, None, None)
        merged.notices += left_out_lines(left_out)
    return merged


def _index_of(opened: Sequence[Results]) -> Place:
    """The index that a part's meta file names and that is there. Raises :class:`InputError`."""
    for part in opened[:-1]:
        try:
            return index_of(part)
        except InputError:
            continue
    return index_of(opened[-1])


def _lost(model: str, parts: Sequence[Results], held: Results) -> Lost:
    """Rows of ``held`` that the rows of the parts would take the place of, though they are not of the same file."""
    columns = ["concept", "gen_relpath", "gen_path", "gen_sha256", "status"]
    given = {row["gen_relpath"]: row for r in parts for b in r.batches(model, columns) for row in b.to_pylist()}
    concepts = {row["concept"] for row in given.values()}
    rows = [row for b in held.batches(model, columns) for row in b.to_pylist()]
    lost: dict[str, str] = {}
    for row in rows:
        new = given.get(row["gen_relpath"])
        same = new is not None and any(new[c] == row[c] for c in ("gen_path", "gen_sha256"))
        if row["status"] == "ok" and row["concept"] in concepts and not same:
            lost[row["gen_relpath"]] = row["gen_path"]
    return Lost(lost, len(rows))


def _left_out(model: str, parts: Sequence[Results], held: Results | None, idx: Index) -> list[LeftOut]:
    """What is left out of a model: of its concepts that the parts have what they say, of others what ``held`` says."""
    present = [set(b.column("concept").to_pylist()) for r in parts for b in r.batches(model, ["concept"])]
    given = set[str]().union(*present)
    items = list(dict.fromkeys(item for part in parts for item in part.left_out.get(model, ())))
    if held is not None:
        items = renewed(held.left_out.get(model, ()), items, given if items or given else ())
        present += [set(b.column("concept").to_pylist()) for b in held.batches(model, ["concept"])]
    return merged_left_out(items, set[str]().union(*present), idx.concepts())


def _require_alike(part: Results, first: Results) -> None:
    """Raises :class:`SettingsError` naming what two results directories were not scored alike in."""
    for key, a, b in differences(part.settings, first.settings, ignore=HINTS):
        raise _unlike(part, first, key, a, b, "score both alike")
    for metric in ("cra", "vr"):
        a, b = part.tau[metric], first.tau[metric]
        if a != b:
            raise _unlike(
                part, first, f"tau_{metric}", a, b, f"score one of them again with the other's `tau_{metric}`"
            )
    if part.thresholds != first.thresholds:
        a, b = (_thresholds_name(r.thresholds) for r in (part, first))
        raise _unlike(part, first, "thresholds", a, b, "score both again with one `calibration`, or both without")


def _unlike(part: Results, first: Results, key: str, a: object, b: object, fix: str) -> SettingsError:
    return SettingsError(f"{part.path}: scored with {key}={a}, {first.path} with {b}; {fix}")


def _thresholds_name(thresholds: Thresholds | None) -> str:
    return "none" if thresholds is None else thresholds.names


def _model_rows(model: str, parts: Sequence[Results], held: Results | None) -> Iterator[Record]:
    """A model's rows in order. Rows of a concept that the parts have replace those ``held``."""
    streams = [_rows(part, model, at) for at, part in enumerate([*parts, *([held] if held is not None else [])])]
    merged = heapq.merge(*streams, key=lambda item: item[:3])
    for concept, group in groupby(merged, key=lambda item: item[0]):
        items = list(group)
        given = [item for item in items if item[2] < len(parts)] or items
        rows: dict[str, tuple[int, Record]] = {}
        for _, relpath, at, row in given:
            earlier = rows.setdefault(relpath, (at, row))
            column = next((c for c in row if repr(row[c]) != repr(earlier[1][c])), None)  # nan is nan
            if column is not None:
                raise InputError(
                    f"{parts[at].path}: its row of {model}/{relpath} is another than in {parts[earlier[0]].path} "
                    f"(first in {column}); leave one of the two out, or score the image once"
                )
        if len({at for at, _ in rows.values()}) > 1:
            _require_few(model, concept, [row for _, row in rows.values()], parts)
        yield from (row for _, row in rows.values())


def _rows(results: Results, model: str, at: int) -> Iterator[tuple[str, str, int, Record]]:
    for batch in results.batches(model):
        for row in batch.to_pylist():
            yield row["concept"], row["gen_relpath"], at, row


def _require_few(model: str, concept: str, rows: Sequence[Record], parts: Sequence[Results]) -> None:
    """Raises :class:`InputError` where parts add up to more images of a concept than one run would have counted."""
    k_gen = parts[0].settings.get("k_gen")
    if not isinstance(k_gen, int):
        return
    for variant, n in Counter(row["variant"] for row in rows).items():
        if n > k_gen:
            of = "" if variant is None else f" (variant {variant})"
            raise InputError(
                f"{parts[0].path} and others: {counted(n, 'image')} of '{concept}' by {model}{of}, where `k_gen` counts {k_gen}; "
                "score the images of a concept in one part"
            )
