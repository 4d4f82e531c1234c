"""``iconicity summary``, ``sweep``, ``calibrate``, ``attribute``, ``compare``, ``correlate``, ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from iconicity.indexer.command_line import DIRECTORY, index_option, progress_bar, say_note
from iconicity.indexer.help import command
from iconicity.indexer.places import Place
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import (
    cache_option,
    calibration_of,
    calibration_option,
    concept_col_option,
    draw_options,
    output_options,
    results_argument,
    results_option,
    say,
    study_of,
    tau_options,
    vi_scope_option,
)


@command("summary")
@results_argument
@click.option(
    "--aggregate", type=click.Choice(["macro", "micro"]), default="macro", show_default=True,
    help="Mean over concepts, or over images.",
)  # fmt: skip
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("models", "concepts", "missing", "patches")
def summary_command(
    results: Sequence[Path], aggregate: str, vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, **output: Any,
) -> int:  # fmt: skip
    """Print CRA, VR, VI and CRT of each model, with 95 % intervals.

    Several results directories of the same settings are put together. After 'iconicity calibrate', --table patches
    lists each reused patch with how many unrelated concepts match it as well.

    \b
    Example:
      iconicity summary results/ --out table.tex --out table.csv
    """
    from iconicity.scorer.measure.patches import COLUMNS as PATCH_COLUMNS
    from iconicity.scorer.measure.summary import summarise

    study = study_of(results, ic_tau, patch_tau, *PATCH_COLUMNS)
    found = summarise(study, vi_scope=vi_scope, aggregate=aggregate, calibration=calibration_of(calibration), draws=draws, seed=seed,
                      concepts=output["table"] == "concepts", patches=output["table"] == "patches")  # fmt: skip
    return say(found, **output)


@command("sweep")
@results_argument
@click.option("--step", type=float, default=0.05, show_default=True, help="Step between two thresholds.")
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("curves", "grid", "flips")
def sweep_command(
    results: Sequence[Path], step: float, vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, **output: Any,
) -> int:  # fmt: skip
    """CRA, VR and CRT at every threshold, and where two models change places.

    \b
    Example:
      iconicity sweep results/ --step 0.05
    """
    from iconicity.scorer.measure.sweep import sweep

    study, held = study_of(results, ic_tau, patch_tau), calibration_of(calibration)
    found = sweep(study, step=step, vi_scope=vi_scope, calibration=held, draws=draws, seed=seed)
    return say(found, **output)


@command("calibrate")
@results_argument
@index_option
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.01,
    show_default=True,
    help="False-positive rate.",
)
@click.option(
    "--pool", type=click.IntRange(2), default=200, show_default=True, help="Concepts an image is compared with at most."
)
@click.option("--same-work", type=DIRECTORY, help="CSV with a column 'work': concepts of one work are never compared.")
@click.option(
    "--related", type=DIRECTORY, help="CSV whose --related-col says artist, series or genre: a null of its own."
)
@click.option("--related-col", default="artist", show_default=True, help="Its column.")
@concept_col_option
@click.option(
    "--whiten",
    is_flag=True,
    help="Find VR strict of whitened vectors, for encoders that find all patches alike. It takes twice as long.",
)
@click.option(
    "--apply", type=DIRECTORY, help="Take this calibration as it is, and only compare the images with its pool."
)
@click.option(
    "--to", type=DIRECTORY, help="The file to write.  [default: calibration.json in the first results directory]"
)
@cache_option
@draw_options
@output_options("thresholds")
def calibrate_command(
    results: Sequence[Path], index: Place, alpha: float, pool: int, same_work: Path | None, related: Path | None,
    related_col: str, concept_col: str, whiten: bool, apply: Path | None, to: Path | None, cache: Path | None, draws: int,
    seed: int, **output: Any,
) -> int:  # fmt: skip
    """Find the thresholds that unrelated references reach at a chosen rate, for each number of references.

    Images are compared with concepts they have nothing to do with, from vectors that are kept: nothing is embedded.

    \b
    Example:
      iconicity calibrate results/ --index paintings.index --alpha 0.01
    """
    from iconicity.indexer.null.same_work import read_column
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.calibrate.calibrate import CalibrationOptions, apply_calibration, calibrate
    from iconicity.scorer.measure.calibrate.calibration import read_calibration, thresholds_finding
    from iconicity.scorer.measure.judgement import judgements

    if apply is not None:
        context = click.get_current_context()
        fixed = [
            f"--{n.replace('_', '-')}"
            for n in ("alpha", "seed", "pool", "related", "to", "whiten")
            if context.get_parameter_source(n) != ParameterSource.DEFAULT
        ]
        if fixed:
            raise click.UsageError(f"--apply takes a calibration as it is; leave out {', '.join(fixed)}")
    study = study_of(results, None, None)
    vectors = open_index(index), VectorCache(cache or default_directory())
    works = {} if same_work is None else read_column(same_work, "work", concept_col, "", say_note)
    if apply is not None:
        found = read_calibration(apply)
        apply_calibration(study, *vectors, found, works, progress_bar())
    else:
        kin = {} if related is None else read_column(related, related_col, concept_col, "--related-col", say_note)
        found = calibrate(
            study, *vectors, CalibrationOptions(alpha, seed, pool, works, kin, whiten, draws), progress_bar()
        )  # fmt: skip
        path = to or study.sources[0].path / "calibration.json"
        found.write(path)
        echo_line(str(path), err=True)
    finding = thresholds_finding(found)
    said = [j.sentence for j in judgements(study, found, "this calibration")]
    return say(replace(finding, notes=[*finding.notes, *said]), **output)


@command("attribute")
@results_argument
@index_option
@click.option("--ic-tau", type=click.FloatRange(-1, 1), help="CRA threshold.  [default: as the results have it]")
@calibration_option
@draw_options
@output_options("models", "concepts", "confusion", "images")
def attribute_command(
    results: Sequence[Path],
    index: Place,
    calibration: Path | None,
    ic_tau: float | None,
    draws: int,
    seed: int,
    **output: Any,
) -> int:
    """Which concept each image is nearest to: its own, the same work under another name, or another one.

    The results must come from 'iconicity score --scope all'.

    \b
    Example:
      iconicity attribute results-all/ --index paintings.index --table confusion
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.attribute import COLUMNS as NEEDED
    from iconicity.scorer.measure.attribute import attribute

    study = study_of(results, ic_tau, None, *NEEDED)
    return say(attribute(study, open_index(index), calibration_of(calibration), draws=draws, seed=seed), **output)


@command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B ...")
@results_option
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("pairs", "concepts")
def compare_command(
    names: Sequence[str], results: Sequence[Path], vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, **output: Any,
) -> int:  # fmt: skip
    """Compare models, or prompt variants (NAME@VARIANT) of one, over the concepts both have.

    Differences are the first minus the second.

    \b
    Example:
      iconicity compare sd14 esd --results results/
      iconicity compare sd14@original sd14@synonym --results prompts/ --table concepts
    """
    from iconicity.scorer.measure.compare import compare

    study, held = study_of(results, ic_tau, patch_tau), calibration_of(calibration)
    found = compare(
        study,
        names,
        vi_scope=vi_scope,
        calibration=held,
        draws=draws,
        seed=seed,
        concepts=output["table"] == "concepts",
    )
    return say(found, **output)


@command("export")
@results_argument
@calibration_option
@tau_options
@draw_options
@output_options("long")
def export_command(
    results: Sequence[Path], calibration: Path | None, ic_tau: float | None, patch_tau: float | None, draws: int, seed: int, **output: Any,
) -> int:  # fmt: skip
    """Write a long table, a row an image and metric, or flat scalars (.json) for W&B or TensorBoard.

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
    study = study_of(results, ic_tau, patch_tau, *NEEDED)
    held = calibration_of(calibration)
    found = export(study, summarise(study, calibration=held, draws=draws, seed=seed, concepts=False), held)
    if output["as_json"]:
        return say(found, **output)
    for path in (p for file in output["out"] for p in write_finding(found, file, output["table"])):
        echo_line(str(path))
    return 0


@command("correlate")
@results_argument
@click.option("--attributes", type=DIRECTORY, help="CSV of concepts and their attributes: numbers, dates.")
@concept_col_option
@click.option(
    "--attribute", "chosen", multiple=True, metavar="COLUMN",
    help="Column of --attributes to correlate. May be repeated.  [default: all that hold numbers or dates]",
)  # fmt: skip
@click.option(
    "--control",
    multiple=True,
    metavar="COLUMN",
    help="Hold this attribute constant in partial correlations, beside J. May be repeated.",
)
@click.option(
    "--captions",
    type=DIRECTORY,
    help="Captions or titles, one a line, or .csv, .parquet, .jsonl: adds textual uniqueness.",
)
@click.option("--caption-col", help="Their column.  [default: caption, text or prompt]")
@click.option(
    "--title-col",
    help="Column of titles in the attributes.  [default: title; without one, the concept's name]",
)
@click.option("--plots", type=DIRECTORY, help="Folder for a scatter plot of each pair, as PNG.")
@click.option(
    "--log",
    multiple=True,
    metavar="COLUMN",
    help="Log scale for this attribute's plots. May be repeated. Correlations are of ranks: they stay the same.",
)
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("pairs", "values")
def correlate_command(
    results: Sequence[Path], attributes: Path | None, concept_col: str, chosen: Sequence[str], control: Sequence[str],
    captions: Path | None, caption_col: str | None, title_col: str | None, plots: Path | None, log: Sequence[str],
    vi_scope: str, calibration: Path | None, ic_tau: float | None, patch_tau: float | None, draws: int, seed: int, **output: Any,
) -> int:  # fmt: skip
    """Rank correlations of CRA, VR and CRT with attributes of the concepts, such as frequency or date.

    Partial correlations always hold constant J, the number of references.

    \b
    Example:
      iconicity correlate results/ --attributes attributes.csv --control year --plots plots/ --log frequency
    """
    if attributes is None and captions is None:
        raise click.UsageError("name the attributes: --attributes FILE, --captions FILE, or both")
    if attributes is None and (chosen or title_col):
        raise click.UsageError("--attribute and --title-col name columns of --attributes, which is missing")
    if captions is None and (caption_col or title_col):
        raise click.UsageError("--caption-col and --title-col belong to --captions, which is missing")
    if log and plots is None:
        raise click.UsageError("--log is a scale of the plots; name their folder with --plots")
    from iconicity.scorer.measure.attributes import concept_attributes
    from iconicity.scorer.measure.correlate import correlate
    from iconicity.scorer.say.scatter import write_scatters

    study = study_of(results, ic_tau, patch_tau)
    held = concept_attributes(
        study.concepts, attributes, concept_col=concept_col, columns=list(chosen) or None,
        controls=control, captions=captions, caption_col=caption_col, title_col=title_col,
    )  # fmt: skip
    found = correlate(
        study,
        held,
        controls=control,
        vi_scope=vi_scope,
        calibration=calibration_of(calibration),
        draws=draws,
        seed=seed,
    )
    drawn = [] if plots is None else write_scatters(found, plots, log, say_note)
    done = say(found, **output)
    for path in drawn:
        echo_line(str(path), err=True)
    return done


COMMANDS = (
    summary_command, sweep_command, calibrate_command, attribute_command, compare_command,
    correlate_command, export_command,
)  # fmt: skip
