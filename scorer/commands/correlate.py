"""``iconicity correlate``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.command_line import say_note, takes
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.help import command
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import (
    Bootstrap,
    Thresholds,
    calibration_of,
    calibration_option,
    output_options,
    results_argument,
    say,
    study_of,
    takes_bootstrap,
    takes_thresholds,
    vi_scope_option,
)
from iconicity.scorer.options import CONCEPT_COL


@dataclass(frozen=True)
class AttributeFiles:
    """Where attributes of concepts are read. The fields are called like the parameters of ``concept_attributes``."""

    path: Path | None = flags(
        None, Flag("--attributes", "CSV file of concepts and their attributes: numbers, dates.", kind="path")
    )
    concept_col: str = flags("label_clean", CONCEPT_COL)
    columns: Sequence[str] | None = flags(
        None,
        Flag(
            "--attribute",
            "Column of --attributes to correlate. May be repeated.",
            shown="all that hold numbers or dates",
            default=(),
            metavar="COLUMN",
            repeats=True,
        ),
        join=lambda named: list(named) or None,
    )
    controls: Sequence[str] = flags(
        (),
        Flag(
            "--control",
            "Hold this attribute constant in partial correlations, beside J. May be repeated.",
            metavar="COLUMN",
            repeats=True,
        ),
    )
    captions: Path | None = flags(
        None,
        Flag(
            "--captions",
            "File of captions or titles, one a line, or .csv, .parquet, .jsonl. It adds textual uniqueness.",
            kind="path",
        ),
    )
    caption_col: str | None = flags(
        None,
        Flag("--caption-col", "Column of --captions that holds the caption.", shown="caption, text or prompt"),
    )
    title_col: str | None = flags(
        None,
        Flag(
            "--title-col",
            "Column of --attributes that holds the title.",
            shown="title; without one, the concept's name",
        ),
    )


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
@results_argument
@takes(AttributeFiles, "attributes")
@takes(Plots, "plots")
@vi_scope_option
@calibration_option
@takes_thresholds
@takes_bootstrap
@output_options("pairs", "values")
def correlate_command(
    results: Sequence[Path], attributes: AttributeFiles, plots: Plots, vi_scope: str, calibration: Path | None,
    thresholds: Thresholds, bootstrap: Bootstrap, **output: Any,
) -> int:  # fmt: skip
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
    from iconicity.scorer.measure.attributes import concept_attributes
    from iconicity.scorer.measure.correlate import correlate
    from iconicity.scorer.say.scatter import write_scatters

    study = study_of(results, thresholds)
    found = correlate(
        study,
        concept_attributes(study.concepts, **vars(attributes)),
        controls=attributes.controls,
        vi_scope=vi_scope,
        calibration=calibration_of(calibration),
        **vars(bootstrap),
    )
    drawn = [] if plots.folder is None else write_scatters(found, plots.folder, plots.log, say_note)
    done = say(found, **output)
    for path in drawn:
        echo_line(str(path), err=True)
    return done
