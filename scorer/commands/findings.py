"""``iconicity summary``, ``sweep``, ``attribute``, ``compare``, ``export``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.command_line import index_option, takes
from iconicity.indexer.help import command
from iconicity.indexer.places import Place
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import (
    Bootstrap,
    Thresholds,
    calibration_of,
    calibration_option,
    output_options,
    results_argument,
    results_option,
    say,
    study_of,
    takes_bootstrap,
    takes_thresholds,
    vi_scope_option,
)


@command("summary")
@results_argument
@click.option(
    "--aggregate", type=click.Choice(["macro", "micro"]), default="macro", show_default=True,
    help="macro: mean over concepts. micro: mean over images.",
)  # fmt: skip
@vi_scope_option
@calibration_option
@takes_thresholds
@takes_bootstrap
@output_options("models", "concepts", "missing", "patches")
def summary_command(
    results: Sequence[Path], aggregate: str, vi_scope: str, calibration: Path | None, thresholds: Thresholds,
    bootstrap: Bootstrap, **output: Any,
) -> int:  # fmt: skip
    """Print CRA, VR, VI and CRT of each model, with 95 % intervals.

    Several results directories with the same settings count as one study. After 'iconicity calibrate', --table patches
    lists each reused patch, and how many unrelated concepts match the patch.

    \b
    Example:
      iconicity summary results/ --out table.tex --out table.csv
    """
    from iconicity.scorer.measure.patches import COLUMNS as PATCH_COLUMNS
    from iconicity.scorer.measure.summary import summarise

    study = study_of(results, thresholds, *PATCH_COLUMNS)
    found = summarise(study, vi_scope=vi_scope, aggregate=aggregate, calibration=calibration_of(calibration), **vars(bootstrap),
                      concepts=output["table"] == "concepts", patches=output["table"] == "patches")  # fmt: skip
    return say(found, **output)


@command("sweep")
@results_argument
@click.option("--step", type=float, default=0.05, show_default=True, help="Step between two thresholds.")
@vi_scope_option
@calibration_option
@takes_thresholds
@takes_bootstrap
@output_options("curves", "grid", "flips")
def sweep_command(
    results: Sequence[Path], step: float, vi_scope: str, calibration: Path | None, thresholds: Thresholds,
    bootstrap: Bootstrap, **output: Any,
) -> int:  # fmt: skip
    """Show CRA, VR and CRT at every threshold, and where the order of two models changes.

    \b
    Example:
      iconicity sweep results/ --step 0.05
    """
    from iconicity.scorer.measure.sweep import sweep

    study, held = study_of(results, thresholds), calibration_of(calibration)
    found = sweep(study, step=step, vi_scope=vi_scope, calibration=held, **vars(bootstrap))
    return say(found, **output)


@command("attribute")
@results_argument
@index_option
@takes(Thresholds, "thresholds", only=["cra"])
@calibration_option
@takes_bootstrap
@output_options("models", "concepts", "confusion", "images")
def attribute_command(
    results: Sequence[Path],
    index: Place,
    calibration: Path | None,
    thresholds: Thresholds,
    bootstrap: Bootstrap,
    **output: Any,
) -> int:
    """Find which concept each image resembles most.

    The answer is its own concept, the same work under another name, or another concept. The results must come from 'iconicity score --scope all'.

    \b
    Example:
      iconicity attribute results-all/ --index paintings.index --table confusion
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.attribute import COLUMNS as NEEDED
    from iconicity.scorer.measure.attribute import attribute

    study = study_of(results, thresholds, *NEEDED)
    return say(attribute(study, open_index(index), calibration_of(calibration), **vars(bootstrap)), **output)


@command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B ...")
@results_option
@vi_scope_option
@calibration_option
@takes_thresholds
@takes_bootstrap
@output_options("pairs", "concepts")
def compare_command(
    names: Sequence[str], results: Sequence[Path], vi_scope: str, calibration: Path | None, thresholds: Thresholds,
    bootstrap: Bootstrap, **output: Any,
) -> int:  # fmt: skip
    """Compare models, or prompt variants of one model, over the concepts that both have.

    A variant is written NAME@VARIANT. A difference is the first minus the second.

    \b
    Example:
      iconicity compare sd14 esd --results results/
      iconicity compare sd14@original sd14@synonym --results prompts/ --table concepts
    """
    from iconicity.scorer.measure.compare import compare

    study, held = study_of(results, thresholds), calibration_of(calibration)
    found = compare(
        study,
        names,
        vi_scope=vi_scope,
        calibration=held,
        **vars(bootstrap),
        concepts=output["table"] == "concepts",
    )
    return say(found, **output)


@command("export")
@results_argument
@calibration_option
@takes_thresholds
@takes_bootstrap
@output_options("long")
def export_command(
    results: Sequence[Path], calibration: Path | None, thresholds: Thresholds,
    bootstrap: Bootstrap, **output: Any,
) -> int:  # fmt: skip
    """Write a long table, or flat scalars for W&B and TensorBoard.

    The table has a row for each image and metric. A file that ends in .json holds the scalars.

    \b
    Example:
      iconicity export results/ --out long.parquet --out scalars.json
    """
    from iconicity.scorer.measure.export import COLUMNS as NEEDED
    from iconicity.scorer.measure.export import export
    from iconicity.scorer.measure.finding import write_finding
    from iconicity.scorer.measure.summary import summarise

    if not output["out"] and not output["as_json"]:
        raise click.UsageError("name a file with --out, or take the scalars with --json")
    study = study_of(results, thresholds, *NEEDED)
    held = calibration_of(calibration)
    found = export(study, summarise(study, calibration=held, **vars(bootstrap), concepts=False), held)
    if output["as_json"]:
        return say(found, **output)
    for path in (p for file in output["out"] for p in write_finding(found, file, output["table"])):
        echo_line(str(path))
    return 0


COMMANDS = (summary_command, sweep_command, attribute_command, compare_command, export_command)
