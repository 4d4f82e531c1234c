"""``iconicity report`` and ``plot``: parse, call, print."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iconicity.indexer.command_line import DIRECTORY, EXIT_SKIPPED, PLACE, option_of, progress_bar, say_note
from iconicity.indexer.errors import InputError
from iconicity.indexer.help import command
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place, is_url
from iconicity.indexer.text import counted, echo_line
from iconicity.scorer.commands.shared import (
    concept_col_option,
    moved_from,
    moved_images_options,
    moved_references_option,
    results_argument,
    scored_index_option,
    vi_scope_option,
)
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iconicity.scorer.measure.calibrate.calibration import Calibration
    from iconicity.scorer.measure.study import Study

SHOWN = 10  # problems named one by one
NOT_FOUND = (os.strerror(errno.ENOENT), "no such object")  # how a reason ends

calibration_option = click.option(
    "--calibration", type=DIRECTORY, help="Its thresholds and null.  [default: calibration.json of the results, if any]"
)


@command("report")
@click.argument("results", type=RESULTS)
@scored_index_option
@click.option("--out", type=DIRECTORY, help="What to write.  [default: the folder report, or report.html]")
@click.option("--single-file", is_flag=True, help="Write one .html file with everything inside, to send to someone.")
@click.option("--prompt-csv", type=DIRECTORY, help="CSV with the columns title, artist, year of the concepts.")
@concept_col_option
@calibration_option
@vi_scope_option
@moved_images_options
@moved_references_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Processes that decode for thumbnails of many images.",
)
@option_of(Run, "max_pixels")
def report_command(
    results: Path, index: Place | None, out: Path | None, single_file: bool, prompt_csv: Path | None, concept_col: str,
    calibration: Path | None, vi_scope: str, seed: int, workers: int, max_pixels: int, **places: Any,
) -> int:  # fmt: skip
    """Write pages that show which patch of which image came from where; they open from a disk, without a network.

    \b
    Example:
      iconicity report results/ --out report/
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.results import index_of, require_results
    from iconicity.scorer.say.report.build import read_titles, report

    if single_file and out is not None and out.suffix != ".html":
        raise click.UsageError(f"--single-file writes a file: --out {out}.html")
    done = report(
        results, open_index(index or index_of(require_results(results))), out or Path("report.html" if single_file else "report"), single_file=single_file,
        titles=None if prompt_csv is None else read_titles(prompt_csv, concept_col, say_note),
        calibration=_calibration(results, calibration), moved=moved_from(**places), vi_scope=vi_scope, seed=seed, workers=workers,
        max_pixels=max_pixels, progress=progress_bar(),
    )  # fmt: skip
    for path, reason in sorted(done.problems.items())[:SHOWN]:
        echo_line(f"no picture: {path}: {reason}", err=True)
    if len(done.problems) > SHOWN:
        echo_line(f"no picture: {len(done.problems) - SHOWN} more", err=True)
    gone = [p for p, reason in done.problems.items() if reason.endswith(NOT_FOUND)]
    if gone:
        relative = any(not is_url(p) and not Path(p).is_absolute() for p in gone)
        here = "run this where the index and the scores were made, or " if relative else ""
        echo_line(
            f"note: {counted(len(gone), 'file is', 'files are')} not there; {here}say where they lie now with --gen NAME=DIR or "
            "--gen-root (generated images) and --refs (references)",
            err=True,
        )
    echo_line(f"{counted(done.images, 'image')} of {counted(done.concepts, 'concept')}")
    echo_line(str(done.page))
    return EXIT_SKIPPED if done.problems else 0


def _calibration(results: Path, named: Path | None) -> Calibration | None:
    """The calibration that was named, else the one that 'iconicity calibrate' left in the results directory."""
    from iconicity.scorer.measure.calibrate.calibration import read_calibration

    beside = results / "calibration.json"
    if named is None and not beside.is_file():
        return None
    return read_calibration(named or beside)


@command("plot")
@click.argument(
    "figure", type=click.Choice(["bars", "recognition", "curves", "heatmap", "nulls", "correlates", "evidence"])
)
@results_argument
@click.option(
    "--out",
    "out",
    type=DIRECTORY,
    required=True,
    multiple=True,
    metavar="FILE",
    help=".pdf, .svg or .png by ending. May be repeated.",
)
@click.option(
    "--measure", metavar="NAME", help="Measure that curves and heatmap draw: cra, vr, crt, ...  [default: CRT]"
)
@calibration_option
@click.option("--attributes", type=DIRECTORY, help="Of correlates: CSV of concepts and their attributes.")
@concept_col_option
@click.option("--model", help="Of correlates: the model.  [default: the only one]")
@click.option("--log", multiple=True, metavar="COLUMN", help="Of correlates: log scale for this attribute.")
@click.option(
    "--image",
    metavar="MODEL/CONCEPT/FILE",
    help="Generated image that evidence draws; of one model CONCEPT/FILE is enough.",
)
@click.option(
    "--index",
    type=PLACE,
    help="Index directory or URL, for evidence.  [default: the one the results were scored against]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@option_of(Run, "max_pixels")
def plot_command(
    figure: str, results: Sequence[Path], out: Sequence[Path], measure: str | None, calibration: Path | None, attributes: Path | None,
    concept_col: str, model: str | None, log: Sequence[str], image: str | None, index: Place | None, seed: int, max_pixels: int,
) -> int:  # fmt: skip
    """Draw a figure for print: bars, recognition against independence, curves, a heat map, own similarities beside
    those of unrelated concepts (nulls), correlates, or an evidence plate.

    \b
    Example:
      iconicity plot bars results/ --out bars.pdf
      iconicity plot nulls results/ --out nulls.pdf
      iconicity plot correlates results/ --model sd14 --attributes attributes.csv --out correlates.pdf
      iconicity plot evidence results/ --image sd14/the_scream/01.png --index paintings.index --out plate.pdf
    """
    from iconicity.scorer.measure.study import open_study
    from iconicity.scorer.say import figures
    from iconicity.scorer.say.fonts import choose_fonts

    if calibration is not None and figure != "nulls":
        raise click.UsageError(f"--calibration belongs to the figure 'nulls'; leave it out of '{figure}'")
    paths = list(results)
    if figure == "evidence":
        from iconicity.indexer.store.index import open_index
        from iconicity.scorer.results import index_of

        if image is None:
            raise click.UsageError("evidence draws one image; name it with --image MODEL/CONCEPT/FILE")
        study = open_study(paths, figures.EVIDENCE_COLUMNS)
        drawn = figures.evidence(study, open_index(index or index_of(study.sources[0])), image, max_pixels=max_pixels)
    elif figure == "correlates":
        drawn = _correlates(open_study(paths), attributes, concept_col, model, log, seed)
    elif figure == "nulls":
        from iconicity.scorer.measure.calibrate.calibration import own_and_null

        held = _calibration(paths[0], calibration)
        if held is None:
            raise InputError(
                f"{paths[0]}: has no calibration; run 'iconicity calibrate', or name one with --calibration"
            )
        study = open_study(paths)
        drawn = figures.nulls(
            own_and_null(study, held), study.with_calibration(held), {m: held.taus(m) for m in ("cra", "vr")}
        )
    elif figure == "curves":
        from iconicity.scorer.measure.sweep import sweep

        drawn = figures.curves(sweep(open_study(paths), step=0.01, seed=seed), figures.measure_of(measure, True))
    else:
        from iconicity.scorer.measure.summary import summarise

        summary = summarise(open_study(paths), seed=seed, concepts=False)
        draw = {"bars": figures.bars, "recognition": figures.recognition}
        drawn = draw[figure](summary) if figure in draw else figures.heatmap(summary, figures.measure_of(measure))
    for line in choose_fonts(drawn):
        say_note(line)
    for path in out:
        echo_line(str(figures.save(drawn, path)))
    return 0


def _correlates(
    study: Study, attributes: Path | None, concept_col: str, model: str | None, log: Sequence[str], seed: int
) -> Figure:
    from iconicity.scorer.measure.attributes import concept_attributes
    from iconicity.scorer.measure.correlate import correlate
    from iconicity.scorer.say.scatter import correlates

    if attributes is None:
        raise click.UsageError("correlates needs --attributes FILE")
    if model is None and len(study.models) > 1:
        raise click.UsageError(f"correlates draws one model: --model, one of {', '.join(study.models)}")
    found = correlate(study, concept_attributes(study.concepts, attributes, concept_col=concept_col), seed=seed)
    return correlates(found, model or study.models[0], log)
