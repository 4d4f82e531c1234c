"""``iconicity summary``, ``sweep``, ``calibrate``, ``attribute``, ``compare``, ``correlate``, ``export``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from iconicity.indexer.command_line import DIRECTORY, PLACE, F, index_option, options, progress_bar, say_note
from iconicity.indexer.help import command
from iconicity.indexer.places import Place, place
from iconicity.indexer.text import echo, echo_line
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from iconicity.scorer.measure.calibrate.calibration import Calibration
    from iconicity.scorer.measure.finding import Finding
    from iconicity.scorer.measure.study import Study
    from iconicity.scorer.moved import Moved

results_argument = click.argument("results", type=RESULTS, nargs=-1, required=True)
results_option = click.option(
    "--results", type=RESULTS, multiple=True, default=["results"], show_default=True,
    help="A results directory. May be repeated.",
)  # fmt: skip
tau_options = options(
    click.option("--ic-tau", type=click.FloatRange(-1, 1), help="CRA threshold.  [default: as the results have it]"),
    click.option("--patch-tau", type=click.FloatRange(-1, 1), help="VR threshold.  [default: as the results have it]"),
)
draw_options = options(
    click.option(
        "--draws", type=click.IntRange(100, 1_000_000), default=10_000, show_default=True, help="Bootstrap samples."
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is drawn."),
)
scored_index_option = click.option(
    "--index", type=PLACE, help="The index directory, or its URL.  [default: the one the results were scored against]"
)
calibration_option = click.option(
    "--calibration", type=DIRECTORY, help="Show the values at the thresholds of this calibration.json too."
)
moved_images_options = options(
    click.option(
        "--gen", multiple=True, metavar="NAME=DIR",
        help="Folder where a model's images lie now, if they were moved. May be repeated.",
    ),
    click.option(
        "--gen-root", type=DIRECTORY, help="Folder where the folders of all models lie now, if they were moved."
    ),
)  # fmt: skip
moved_references_option = click.option(
    "--refs", type=PLACE, help="Folder where the references lie now, if they were moved."
)
vi_scope_option = click.option(
    "--vi-scope", type=click.Choice(["recognised", "all"]), default="recognised", show_default=True,
    help="Images whose VI enters CRT.",
)  # fmt: skip
cache_option = click.option(
    "--cache", type=DIRECTORY, help="Where the vectors are.  [default: $ICONICITY_CACHE, or the user's cache folder]"
)
concept_col_option = click.option(
    "--concept-col", default="label_clean", show_default=True, help="Its column of concepts."
)


def output_options(*tables: str) -> Callable[[F], F]:
    """--table, --out and --json of a finding whose tables are these, the first the default."""
    return options(
        click.option(
            "--table", type=click.Choice(tables), default=tables[0], show_default=True, help="Which table to show."
        ),
        click.option(
            "--out", "out", type=DIRECTORY, multiple=True, metavar="FILE",
            help="Write the table; .csv, .parquet, .tex or .json by ending. May be repeated.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Flat JSON of scalars."),
    )  # fmt: skip


layout_options = options(
    click.option(
        "--columns", metavar="A,B", help="Columns to show in the terminal and in .tex files; other files hold all.  [default: most]"
    ),
    click.option(
        "--digits", type=click.IntRange(0, 9), default=3, show_default=True,
        help="Decimal places in the terminal and in .tex files.",
    ),
)  # fmt: skip


def say(
    finding: Finding, table: str, out: Sequence[Path], as_json: bool, hide: Sequence[str] = (),
    columns: str | None = None, digits: int = 3,
) -> int:  # fmt: skip
    """Print a finding and write its files."""
    from iconicity.scorer.measure.finding import Layout, as_text, write_finding
    from iconicity.scorer.measure.finding import as_json as json_of

    layout = Layout(hide, columns.split(",") if columns else (), digits)
    text = as_text(finding, table, layout=layout)  # a column that is not there is said before a file is written
    written = [p for path in out for p in write_finding(finding, path, table, layout=layout)]
    if as_json:
        echo(json_of(finding))
        for note in finding.notes:
            echo_line(f"note: {note}", err=True)
        return 0
    echo(text)
    for path in written:
        echo_line(str(path), err=True)
    return 0


def moved_from(gen: Sequence[str], gen_root: Path | None, refs: Place | None = None) -> Moved:
    """What --gen, --gen-root and --refs say of files that were moved."""
    from iconicity.scorer.moved import Moved

    pairs = [item.partition("=") for item in gen]
    for (name, _, folder), item in zip(pairs, gen, strict=True):
        if not name or not folder:
            raise click.UsageError(f"--gen {item}: write NAME=DIR, the model and the folder where its images lie now")
    return Moved({name: place(folder) for name, _, folder in pairs}, gen_root, refs)


def study_of(results: Sequence[Path], ic_tau: float | None, patch_tau: float | None, *columns: str) -> Study:
    """Results directories as a study, at thresholds of their own or given ones."""
    from iconicity.scorer.measure.study import open_study

    return open_study(list(results), columns, tau_cra=ic_tau, tau_vr=patch_tau)


def calibration_of(path: Path | None) -> Calibration | None:
    """The calibration that the user named."""
    from iconicity.scorer.measure.calibrate.calibration import read_calibration

    return None if path is None else read_calibration(path)


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
@layout_options
def summary_command(
    results: Sequence[Path], aggregate: str, vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, table: str, out: Sequence[Path], as_json: bool,
    columns: str | None, digits: int,
) -> int:  # fmt: skip
    """Print CRA, VR, VI and CRT of each model, with 95 % intervals.

    Several results directories of the same settings are put together. After 'iconicity calibrate', --table patches
    lists each reused patch with how many unrelated concepts match it as well.

    \b
    Example:
      iconicity summary results/ --out table.tex --out table.csv
    """
    from iconicity.scorer.measure.patches import COLUMNS as PATCH_COLUMNS
    from iconicity.scorer.measure.summary import SHORT, summarise

    study = study_of(results, ic_tau, patch_tau, *PATCH_COLUMNS)
    found = summarise(study, vi_scope=vi_scope, aggregate=aggregate, calibration=calibration_of(calibration), draws=draws, seed=seed,
                      concepts=table == "concepts", patches=table == "patches")  # fmt: skip
    return say(found, table, out, as_json, SHORT, columns, digits)


@command("sweep")
@results_argument
@click.option("--step", type=float, default=0.05, show_default=True, help="Step between two thresholds.")
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("curves", "grid", "flips")
@layout_options
def sweep_command(
    results: Sequence[Path], step: float, vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, table: str, out: Sequence[Path], as_json: bool, columns: str | None, digits: int,
) -> int:  # fmt: skip
    """CRA, VR and CRT at every threshold, and where two models change places.

    \b
    Example:
      iconicity sweep results/ --step 0.05
    """
    from iconicity.scorer.measure.sweep import sweep

    study, held = study_of(results, ic_tau, patch_tau), calibration_of(calibration)
    found = sweep(study, step=step, vi_scope=vi_scope, calibration=held, draws=draws, seed=seed)
    return say(found, table, out, as_json, (), columns, digits)


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
    seed: int, table: str, out: Sequence[Path], as_json: bool,
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
    return say(replace(finding, notes=[*finding.notes, *said]), table, out, as_json)


@command("attribute")
@results_argument
@index_option
@click.option("--ic-tau", type=click.FloatRange(-1, 1), help="CRA threshold.  [default: as the results have it]")
@draw_options
@output_options("models", "concepts", "confusion", "images")
def attribute_command(
    results: Sequence[Path],
    index: Place,
    ic_tau: float | None,
    draws: int,
    seed: int,
    table: str,
    out: Sequence[Path],
    as_json: bool,
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
    return say(attribute(study, open_index(index), draws=draws, seed=seed), table, out, as_json)


@command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B ...")
@results_option
@vi_scope_option
@calibration_option
@tau_options
@draw_options
@output_options("pairs", "concepts")
@layout_options
def compare_command(
    names: Sequence[str], results: Sequence[Path], vi_scope: str, calibration: Path | None, ic_tau: float | None,
    patch_tau: float | None, draws: int, seed: int, table: str, out: Sequence[Path], as_json: bool, columns: str | None, digits: int,
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
        study, names, vi_scope=vi_scope, calibration=held, draws=draws, seed=seed, concepts=table == "concepts"
    )
    return say(found, table, out, as_json, (), columns, digits)


@command("export")
@results_argument
@calibration_option
@tau_options
@draw_options
@output_options("long")
def export_command(
    results: Sequence[Path], calibration: Path | None, ic_tau: float | None, patch_tau: float | None, draws: int, seed: int, table: str,
    out: Sequence[Path], as_json: bool,
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

    if not out and not as_json:
        raise click.UsageError("name a file with --out, or take the scalars with --json")
    study = study_of(results, ic_tau, patch_tau, *NEEDED)
    held = calibration_of(calibration)
    found = export(study, summarise(study, calibration=held, draws=draws, seed=seed, concepts=False), held)
    if as_json:
        return say(found, table, out, as_json)
    for path in (p for file in out for p in write_finding(found, file, table)):
        echo_line(str(path))
    return 0


@command("correlate")
@results_argument
@click.option("--attributes", type=DIRECTORY, help="CSV of concepts and their attributes: numbers, dates.")
@concept_col_option
@click.option("--columns", metavar="A,B", help="Its columns to use.  [default: all that hold numbers or dates]")
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
    results: Sequence[Path], attributes: Path | None, concept_col: str, columns: str | None, control: Sequence[str],
    captions: Path | None, caption_col: str | None, title_col: str | None, plots: Path | None, log: Sequence[str],
    vi_scope: str, calibration: Path | None, ic_tau: float | None, patch_tau: float | None, draws: int, seed: int,
    table: str, out: Sequence[Path], as_json: bool,
) -> int:  # fmt: skip
    """Rank correlations of CRA, VR and CRT with attributes of the concepts, such as frequency or date.

    Partial correlations always hold constant J, the number of references.

    \b
    Example:
      iconicity correlate results/ --attributes attributes.csv --control year --plots plots/ --log frequency
    """
    if attributes is None and captions is None:
        raise click.UsageError("name the attributes: --attributes FILE, --captions FILE, or both")
    if attributes is None and (columns or title_col):
        raise click.UsageError("--columns and --title-col name columns of --attributes, which is missing")
    if captions is None and (caption_col or title_col):
        raise click.UsageError("--caption-col and --title-col belong to --captions, which is missing")
    if log and plots is None:
        raise click.UsageError("--log is a scale of the plots; name their folder with --plots")
    from iconicity.scorer.measure.attributes import concept_attributes
    from iconicity.scorer.measure.correlate import SHORT, correlate
    from iconicity.scorer.say.scatter import write_scatters

    study = study_of(results, ic_tau, patch_tau)
    held = concept_attributes(
        study.concepts, attributes, concept_col=concept_col, columns=None if columns is None else columns.split(","),
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
    done = say(found, table, out, as_json, SHORT)
    for path in drawn:
        echo_line(str(path), err=True)
    return done


COMMANDS = (
    summary_command, sweep_command, calibrate_command, attribute_command, compare_command,
    correlate_command, export_command,
)  # fmt: skip
