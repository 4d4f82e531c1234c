"""``iconicity report`` and ``plot``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from iconicity.indexer.options import DIRECTORY, EXIT_SKIPPED, max_pixels_option, progress_bar
from iconicity.indexer.say import echo_line
from iconicity.scorer.findings.commands import concept_col_option, results_argument, vi_scope_option


@click.command("report")
@click.argument("results", type=DIRECTORY)
@click.option(
    "--index", type=DIRECTORY, help="The index directory.  [default: the one the results were scored against]"
)
@click.option("--out", type=DIRECTORY, default=Path("report"), show_default=True, help="The folder to write.")
@click.option("--prompt-csv", type=DIRECTORY, help="CSV with the columns title, artist, year of the concepts.")
@concept_col_option
@vi_scope_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Processes that decode for thumbnails of many images.",
)
@max_pixels_option
def report_command(
    results: Path, index: Path | None, out: Path, prompt_csv: Path | None, concept_col: str, vi_scope: str, seed: int, workers: int,
    max_pixels: int,
) -> int:  # fmt: skip
    """Write pages that show which patch of which image came from where; they open from a disk, without a network.

    \b
    Example:
      iconicity report results/ --out report/
    """
    from iconicity.indexer.index import open_index
    from iconicity.scorer.report.build import read_titles, report
    from iconicity.scorer.results import index_of, require_results

    if index is None:
        held = require_results(results)
        index = index_of(held)
    titles = None if prompt_csv is None else read_titles(prompt_csv, concept_col)
    done = report(
        results,
        open_index(index),
        out,
        titles=titles,
        vi_scope=vi_scope,
        seed=seed,
        workers=workers,
        max_pixels=max_pixels,
        progress=progress_bar(),
    )
    for sha, reason in sorted(done.problems.items()):
        echo_line(f"no picture: {sha[:12]}: {reason}", err=True)
    echo_line(f"{done.images} images of {done.concepts} concepts")
    echo_line(str(done.page))
    return EXIT_SKIPPED if done.problems else 0


@click.command("plot")
@click.argument("figure", type=click.Choice(["bars", "recognition", "curves", "heatmap", "evidence"]))
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
    "--measure",
    type=click.Choice(["cra", "vr_all", "crt"]),
    default="crt",
    show_default=True,
    help="Of curves and heatmap.",
)
@click.option("--image", metavar="MODEL/CONCEPT/FILE", help="Of evidence: a generated image.")
@click.option("--index", type=DIRECTORY, help="Of evidence: the index directory.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@max_pixels_option
def plot_command(
    figure: str, results: Sequence[Path], out: Sequence[Path], measure: str, image: str | None, index: Path | None, seed: int, max_pixels: int,
) -> int:  # fmt: skip
    """Draw a figure for print: bars, recognition against independence, curves, a heat map, or an evidence plate.

    \b
    Example:
      iconicity plot bars results/ --out bars.pdf
      iconicity plot evidence results/ --image sd14/the_scream/01.png --index paintings.index --out plate.pdf
    """
    from iconicity.indexer.index import open_index
    from iconicity.scorer.findings.study import open_study
    from iconicity.scorer.findings.summary import summarise
    from iconicity.scorer.findings.sweep import sweep
    from iconicity.scorer.report import figures

    if figure == "evidence":
        model, _, relpath = (image or "").partition("/")
        if index is None or "/" not in relpath:
            raise click.UsageError("evidence needs --image MODEL/CONCEPT/FILE and --index")
        drawn = figures.evidence(
            open_study(list(results), figures.EVIDENCE_COLUMNS),
            open_index(index),
            model,
            relpath,
            max_pixels=max_pixels,
        )
    elif figure == "curves":
        drawn = figures.curves(sweep(open_study(list(results)), step=0.01, seed=seed), measure)
    else:
        summary = summarise(open_study(list(results)), seed=seed, concepts=False)
        draw = {"bars": figures.bars, "recognition": figures.recognition}
        drawn = draw[figure](summary) if figure in draw else figures.heatmap(summary, measure)
    for path in out:
        echo_line(str(figures.save(drawn, path)))
    return 0
