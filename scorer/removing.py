"""Take models out of a results directory: their rows, and what the derived files say of them."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.places import Place
from iconicity.indexer.store.files import lock, sweep
from iconicity.indexer.store.index import open_index
from iconicity.scorer.options import METRICS
from iconicity.scorer.results import Results, index_of, require_results, writing_scores
from iconicity.scorer.say.derived import earlier_notices, write_derived


@dataclass
class Removed:
    """What a removal did: rows of each model that went, rows that stayed, and the files that were written."""

    rows: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    files: list[Path] = field(default_factory=list)


def remove_models(directory: Path, models: Collection[str], index: Place | None = None) -> Removed:
    """Remove the rows of some models, and write the derived files without them.

    ``index``: the one they were scored against (None: where the meta file says). Raises :class:`InputError` for a model
    that the results do not hold and when no model would be left, :class:`SettingsError` for another index.
    """
    require_results(directory)
    with lock(directory, "writing these results"):
        sweep(directory)
        held = require_results(directory)
        _require_known(held, models)
        idx = open_index(index or index_of(held))
        if idx.index_id != held.settings["index_id"]:
            raise SettingsError(
                f"{directory}: scored against index {str(held.settings['index_id'])[:12]}, {idx.path} is {idx.index_id[:12]}; "
                "name that one with `index`, or score again with `update`"
            )
        removed = Removed()
        notices = earlier_notices(held)
        asked = [m for m in METRICS if list(directory.glob(f"results_{m}_*.meta.json"))]
        left_out = {owner: items for owner, items in held.left_out.items() if owner not in models}
        with writing_scores(
            directory, held.mode, held.settings, held.tau, held.notes, held.thresholds, left_out
        ) as writer:
            for model in held.models:
                for group in held.batches(model):
                    if model in models:
                        removed.rows[model] = removed.rows.get(model, 0) + group.num_rows
                    else:
                        removed.kept += group.num_rows
                        writer.copy(group)
        removed.files = write_derived(require_results(directory, held.mode), idx, notices, asked, None, None)
    return removed


def _require_known(held: Results, models: Collection[str]) -> None:
    for model in models:
        if model not in held.models:
            close = difflib.get_close_matches(model, held.models, 1)
            meant = f" (is it '{close[0]}'?)" if close else f"; its models are {', '.join(held.models)}"
            raise InputError(f"{held.path}: holds no model '{model}'{meant}")
    if set(models) >= set(held.models):
        raise InputError(f"{held.path}: no model would be left; delete the folder instead")
