"""``iconicity summary``, ``sweep``, ``attribute``, ``compare``, ``export``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from iconicity.indexer.help import command
from iconicity.indexer.places import Place
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import Output, results_option, scored_index_option, takes_results, vi_scope_option

if TYPE_CHECKING:
    from iconicity.scorer.face import Results


@command("summary")
@click.option(
    "--aggregate", type=click.Choice(["macro", "micro"]), default="macro", show_default=True,
    help="macro: mean over concepts. micro: mean over images.",
)  # fmt: skip
@vi_scope_option
@takes_results("models", "concepts", "missing", "patches")
def summary_command(results: Results, output: Output, aggregate: str, vi_scope: str, draws: int, seed: int) -> int:
    """Print CRA, VR, VI and CRT of each model, with 95 % intervals.

    Several results directories with the same settings count as one study. After 'iconicity calibrate', --table patches
    lists each reused patch, and how many unrelated concepts match the patch.

    \b
    Example:
      iconicity summary results/ --out table.tex --out table.csv
    """
    found = results.summary(output.table, aggregate=aggregate, vi_scope=vi_scope, draws=draws, seed=seed)
    return output.say(found.finding)


@command("sweep")
@click.option("--step", type=float, default=0.05, show_default=True, help="Step between two thresholds.")
@vi_scope_option
@takes_results("curves", "grid", "flips")
def sweep_command(results: Results, output: Output, step: float, vi_scope: str, draws: int, seed: int) -> int:
    """Show CRA, VR and CRT at every threshold, and where the order of two models changes.

    \b
    Example:
      iconicity sweep results/ --step 0.05
    """
    return output.say(results.sweep(step=step, vi_scope=vi_scope, draws=draws, seed=seed).finding)


@command("attribute")
@scored_index_option
@takes_results("models", "concepts", "confusion", "images", "references", thresholds=["cra"])
def attribute_command(results: Results, output: Output, index: Place | None, draws: int, seed: int) -> int:
    """Find which concept each image resembles most.

    The answer is its own concept, the same work under another name, or another concept. --table references lists the references that
    surfaced though no prompt named them. The results must come from 'iconicity score --scope all'.

    \b
    Example:
      iconicity attribute results-all/ --table confusion
      iconicity attribute results-all/ --table references --out surfaced.csv
    """
    from iconicity.scorer.face import Index

    return output.say(results.attribute(None if index is None else Index.open(index), draws=draws, seed=seed).finding)


@command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B ...")
@vi_scope_option
@takes_results("pairs", "concepts", named=results_option)
def compare_command(
    names: Sequence[str], results: Results, output: Output, vi_scope: str, draws: int, seed: int
) -> int:
    """Compare models, or prompt variants of one model, over the concepts that both have.

    A variant is written NAME@VARIANT. A difference is the first minus the second.

    \b
    Example:
      iconicity compare sd14 esd --results results/
      iconicity compare sd14@original sd14@synonym --results prompts/ --table concepts
    """
    found = results.compare(*names, table=output.table, vi_scope=vi_scope, draws=draws, seed=seed)
    return output.say(found.finding)


@command("export")
@takes_results("long")
def export_command(results: Results, output: Output, draws: int, seed: int) -> int:
    """Write a long table, or flat scalars for W&B and TensorBoard.

    The table has a row for each image and metric. A file that ends in .json holds the scalars.

    \b
    Example:
      iconicity export results/ --out long.parquet --out scalars.json
    """
    if not output.out and not output.as_json:
        raise click.UsageError("name a file with --out, or take the scalars with --json")
    found = results.export(draws=draws, seed=seed)
    if output.as_json:
        return output.say(found.finding)
    for path in (p for file in output.out for p in found.write(file)):
        echo_line(str(path))
    return 0


COMMANDS = (summary_command, sweep_command, attribute_command, compare_command, export_command)
