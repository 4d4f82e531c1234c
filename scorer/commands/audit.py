"""``iconicity check`` and ``reproduce``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import DIRECTORY, EXIT_FOUND, EXIT_SKIPPED, takes_run
from iconicity.indexer.help import command
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place
from iconicity.scorer.commands.shared import (
    Output,
    moved_from,
    moved_images_options,
    output_options,
    scored_index_option,
    takes_results,
)
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from iconicity.scorer.face import Results

_calibration_option = click.option(
    "--calibration", type=DIRECTORY,
    help="Calibration file whose thresholds decide cra_cal, vr_cal and vr_strict.  [default: calibration.json in the first RESULTS]",
)  # fmt: skip


@command("check")
@click.option(
    "--fail-if", "rules", multiple=True, required=True, metavar="RULE",
    help="Rule such as 'vr_strict > 0.5' or 'cra_low >= 50%': a measure, one of > >= < <=, and a number. May be repeated.",
)  # fmt: skip
@click.option(
    "--of", type=click.Choice(["image", "concept", "model"]), default="image", show_default=True,
    help="Apply the rules to each image, concept or model.",
)  # fmt: skip
@click.option(
    "--least-n", type=click.IntRange(1), default=1, metavar="N", show_default=True,
    help="Judge only concepts with at least N images, or models with at least N concepts.",
)  # fmt: skip
@takes_results("failures", "undefined", calibration=_calibration_option)
def check_command(
    results: Results, output: Output, rules: Sequence[str], of: str, least_n: int, draws: int, seed: int
) -> int:
    """List the images, concepts or models that break a rule.

    The exit code is 4 if something breaks a rule, 3 if something could not be judged, else 0.

    \b
    Example:
      iconicity check results/ --fail-if 'vr > 0.5'
      iconicity check results/ --of model --fail-if 'cra_low > 50%' --least-n 10
    """
    from iconicity.scorer.measure.check import Rule, RuleError

    if of == "image" and least_n > 1:
        raise click.UsageError("--least-n counts images or concepts; add --of concept or --of model")
    try:
        for rule in rules:
            Rule.parse(rule)
        found = results.check(*rules, of=of, least_n=least_n, draws=draws, seed=seed).finding
    except RuleError as e:
        raise click.UsageError(str(e)) from e
    output.say(found)
    return EXIT_FOUND if len(found.table("failures")) else EXIT_SKIPPED if len(found.table("undefined")) else 0


@command("reproduce")
@click.argument("results", type=RESULTS)
@scored_index_option
@moved_images_options
@output_options("models", "differences")
@takes_run()
def reproduce_command(
    results: Path, index: Place | None, gen: Sequence[str], gen_root: Path | None, run: Run, output: Output
) -> int:
    """Score the images of results again, and compare each row.

    The command reads the files, and takes nothing from the cache. The exit code is 4 if a row differs, and 3 if files are
    gone or have changed. If files were moved, name their folder with --gen or --gen-root.

    \b
    Example:
      iconicity reproduce results/
      iconicity reproduce results/ --gen sd14=moved/sd14
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.reproduce import reproduce_results
    from iconicity.scorer.results import index_of, require_results

    held = require_results(results)
    opened = open_index(index or index_of(held))
    found = reproduce_results(held, opened, moved=moved_from(gen, gen_root), run=run)
    output.say(found)
    counts = found.table("models")
    return EXIT_FOUND if counts.differ.any() else EXIT_SKIPPED if counts.gone.any() or counts.changed.any() else 0
