"""``iconicity report``: parse, call, print."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click

from iconicity.indexer.command_line import DIRECTORY, EXIT_SKIPPED, option_of, say_note, takes
from iconicity.indexer.display import progress_bar
from iconicity.indexer.help import command
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place, is_url
from iconicity.indexer.text import counted, echo_line
from iconicity.scorer.commands.shared import (
    calibration_beside_option,
    moved_from,
    moved_images_options,
    moved_references_option,
    scored_index_option,
)
from iconicity.scorer.say.report.options import ReportOptions
from iconicity.scorer.staging import RESULTS

SHOWN = 10  # problems named one by one
NOT_FOUND = (os.strerror(errno.ENOENT), "no such object")  # how a reason ends


def _titles(prompt_csv: Path | None, concept_col: str) -> Any:
    from iconicity.scorer.say.report.build import read_titles

    return None if prompt_csv is None else read_titles(prompt_csv, concept_col, say_note)


@command("report")
@click.argument("results", type=RESULTS)
@scored_index_option
@click.option(
    "--out", type=DIRECTORY, help="Folder or .html file to write.  [default: the folder report, or report.html]"
)
@takes(ReportOptions, "options", joins={"titles": _titles})
@calibration_beside_option
@moved_images_options
@moved_references_option
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Processes that decode images for thumbnails.",
)
@option_of(Run, "max_pixels")
def report_command(
    results: Path, index: Place | None, out: Path | None, options: ReportOptions, calibration: Path | None, workers: int,
    max_pixels: int, **places: Any,
) -> int:  # fmt: skip
    """Write pages that show which patch of which image came from where.

    The pages open from a disk, without a network. Labels of people (labels*.csv beside the results) are shown, too.

    \b
    Example:
      iconicity report results/ --out report/
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.calibrate.calibration import calibration_beside
    from iconicity.scorer.results import index_of, require_results
    from iconicity.scorer.say.report.build import report
    from iconicity.scorer.validate.labels import labels_of_study

    single_file = options.single_file
    if single_file and out is not None and out.suffix != ".html":
        raise click.UsageError(f"--single-file writes a file: --out {out}.html")
    opened = open_index(index or index_of(require_results(results)))
    done = report(
        results, opened, out or Path("report.html" if single_file else "report"), options,
        calibration=calibration_beside(results, calibration), moved=moved_from(**places),
        labels=labels_of_study(results, options.draws, say_note),
        run=Run(workers=workers, max_pixels=max_pixels, progress=progress_bar()),
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
