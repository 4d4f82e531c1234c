"""``iconicity check`` and ``reproduce``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.options import (
    EXIT_SKIPPED,
    loader,
    model_options,
    progress_bar,
    speed,
    speed_options,
)
from iconicity.indexer.places import Place
from iconicity.scorer.findings.commands import (
    output_options,
    results_argument,
    say,
    scored_index_option,
    study_of,
    tau_options,
)
from iconicity.scorer.staging import RESULTS


@click.command("check")
@results_argument
@click.option(
    "--fail-if", "rules", multiple=True, required=True, metavar="RULE",
    help="Like 'vr_specific > 0.5': a measure, one of > >= < <=, a number. May be repeated.",
)  # fmt: skip
@click.option(
    "--of", type=click.Choice(["image", "concept", "model"]), default="image", show_default=True, help="What is judged."
)
@tau_options
@output_options("failures", "undefined")
def check_command(
    results: Sequence[Path], rules: Sequence[str], of: str, ic_tau: float | None, patch_tau: float | None, table: str,
    out: Sequence[Path], as_json: bool,
) -> int:  # fmt: skip
    """List what breaks a rule; exit code 1 if anything does, 3 if something could not be judged, else 0.

    \b
    Example:
      iconicity check results/ --fail-if 'vr_specific > 0.5'
    """
    from iconicity.scorer.findings.check import check

    found = check(study_of(results, ic_tau, patch_tau, "p_ref_cell"), rules, of)
    say(found, table, out, as_json)
    return 1 if len(found.table("failures")) else EXIT_SKIPPED if len(found.table("undefined")) else 0


@click.command("reproduce")
@click.argument("results", type=RESULTS)
@scored_index_option
@output_options("models", "differences")
@model_options
@speed_options
def reproduce_command(
    results: Path, index: Place | None, table: str, out: Sequence[Path], as_json: bool, batch_size: int | None,
    workers: int | None, max_pixels: int, **models: Any,
) -> int:  # fmt: skip
    """Score the images of RESULTS once more, from the files, and compare; exit code 1 if a row differs.

    Nothing is taken from the cache. Where files are gone or have other bytes the exit code is 3.

    \b
    Example:
      iconicity reproduce results/
    """
    from iconicity.indexer.index import open_index
    from iconicity.scorer.reproduce import reproduce_results
    from iconicity.scorer.results import index_of, require_results

    held = require_results(results)
    opened = open_index(index or index_of(held))
    load = loader(models)
    found = reproduce_results(
        held, opened, lambda: load(*opened.specs), device=models["device"], progress=progress_bar(),
        **speed({"batch_size": batch_size, "workers": workers, "max_pixels": max_pixels}),
    )  # fmt: skip
    say(found, table, out, as_json)
    counts = found.table("models")
    return 1 if counts.differ.any() else EXIT_SKIPPED if counts.gone.any() else 0
