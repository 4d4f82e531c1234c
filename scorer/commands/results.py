"""``iconicity results ...``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from iconicity.indexer.command_line import PLACE, say_problems, say_skipped
from iconicity.indexer.display import progress_bar
from iconicity.indexer.help import group
from iconicity.indexer.places import Place
from iconicity.indexer.text import counted, echo_line
from iconicity.scorer.staging import RESULTS

index_of_results = click.option(
    "--index",
    type=PLACE,
    help="Index that the results were scored against.  [default: the location in their meta files]",
)


@group()
def results() -> None:
    """Look after results directories: merge them, remove models, test their bytes.

    \b
    Example:
      iconicity results verify results/
    """


@results.command("merge")
@click.argument("parts", type=RESULTS, nargs=-1, required=True)
@click.option("--out", type=RESULTS, required=True, help="Results directory to write.")
@index_of_results
@click.option(
    "--prune",
    "--replace",
    "prune",
    is_flag=True,
    help="Remove rows of OUT that the parts do not have for the same concepts.",
)
def results_merge(parts: Sequence[Path], out: Path, index: Place | None, prune: bool) -> int:
    """Merge results directories that were scored apart, with --shard or model by model.

    'iconicity index merge' merges indexes.

    \b
    Example:
      iconicity results merge results/1 results/2 --out results-all/
    """
    from iconicity.scorer.merge import merge_results

    merged = merge_results(parts, out, index, progress_bar(), prune=prune)
    code = say_skipped(merged.skipped, merged.notices)
    echo_line(
        f"{out}: {counted(merged.rows, 'row')} of {counted(len(parts), 'part')}, {counted(len(merged.models), 'model')}"
    )
    for path in merged.files:
        echo_line(str(path))
    return code


@results.command("remove")
@click.argument("directory", metavar="RESULTS", type=RESULTS)
@click.option("--model", "models", multiple=True, required=True, help="Model to remove. May be repeated.")
@index_of_results
def results_remove(directory: Path, models: Sequence[str], index: Place | None) -> int:
    """Remove all rows of a model from a results directory.

    The other files of the directory are written again without these rows.

    \b
    Example:
      iconicity results remove results/ --model sd14
    """
    from iconicity.scorer.removing import remove_models

    removed = remove_models(directory, models, index)
    for model, rows in removed.rows.items():
        echo_line(f"{directory}: {model} removed, {rows} rows")
    echo_line(f"{directory}: {removed.kept} rows of other models kept")
    for path in removed.files:
        echo_line(str(path))
    return 0


@results.command("verify")
@click.argument("directory", metavar="RESULTS", type=RESULTS)
def results_verify(directory: Path) -> int:
    """Test every byte of a results directory.

    'iconicity index verify' and 'iconicity cache verify' test indexes and the cache.

    \b
    Example:
      iconicity results verify results/
    """
    from iconicity.scorer.verify import verify_results

    return say_problems(directory, verify_results(directory))
