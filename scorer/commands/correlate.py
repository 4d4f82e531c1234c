"""``iconicity correlate``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import say_note, takes
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.help import command
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import Output, takes_results, vi_scope_option
from iconicity.scorer.options import AttributeFiles

if TYPE_CHECKING:
    from iconicity.scorer.face import Results


@dataclass(frozen=True)
class Plots:
    """Scatter plots that are written beside the table."""

    folder: Path | None = flags(None, Flag("--plots", "Folder for a scatter plot of each pair, as PNG.", kind="path"))
    log: Sequence[str] = flags(
        (),
        Flag(
            "--log",
            "Log scale for this attribute's plots. Rank correlations stay the same. May be repeated.",
            metavar="COLUMN",
            repeats=True,
        ),
    )


@command("correlate")
@takes(AttributeFiles, "attributes")
@takes(Plots, "plots")
@vi_scope_option
@takes_results("pairs", "values")
def correlate_command(
    results: Results, output: Output, attributes: AttributeFiles, plots: Plots, vi_scope: str, draws: int, seed: int
) -> int:
    """Correlate CRA, VR and CRT with attributes of the concepts, such as frequency or date.

    The coefficients are rank correlations. Partial correlations always hold constant J, the number of references.

    \b
    Example:
      iconicity correlate results/ --attributes attributes.csv --control year --plots plots/ --log frequency
    """
    if attributes.path is None and attributes.captions is None:
        raise click.UsageError("name the attributes: --attributes FILE, --captions FILE, or both")
    if attributes.path is None and (attributes.columns or attributes.title_col):
        raise click.UsageError("--attribute and --title-col name columns of --attributes, which is missing")
    if attributes.captions is None and (attributes.caption_col or attributes.title_col):
        raise click.UsageError("--caption-col and --title-col belong to --captions, which is missing")
    if plots.log and plots.folder is None:
        raise click.UsageError("--log is a scale of the plots; name their folder with --plots")
    from iconicity.scorer.say.scatter import write_scatters

    found = results.correlate(attributes, vi_scope=vi_scope, draws=draws, seed=seed).finding
    drawn = [] if plots.folder is None else write_scatters(found, plots.folder, plots.log, say_note)
    done = output.say(found)
    for path in drawn:
        echo_line(str(path), err=True)
    return done
