"""``iconicity calibrate``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from click.core import ParameterSource

from iconicity.indexer.command_line import DIRECTORY, EXIT_SKIPPED, say_note, takes
from iconicity.indexer.display import progress_bar
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.help import command
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import Output, cache_option, output_options, results_argument, scored_index_option
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.options import CONCEPT_COL

# options of the command line that say what a calibration is, and which one that was made already settles
MADE_BY = ("alpha", "seed", "pool", "related", "to", "whiten")


@dataclass(frozen=True)
class Relations:
    """CSV files that say which concepts belong together: the same work, or the same artist, series or genre."""

    same_work: Path | None = flags(
        None,
        Flag("--same-work", "CSV file whose column 'work' names the work. Concepts of one work are never compared.", kind="path"),
    )  # fmt: skip
    related: Path | None = flags(
        None, Flag("--related", "CSV file of artists, series or genres. Related concepts get thresholds of their own.", kind="path")
    )  # fmt: skip
    related_col: str = flags(
        "artist", Flag("--related-col", "Column of --related that holds the artist, series or genre.")
    )
    concept_col: str = flags("label_clean", CONCEPT_COL)

    def works(self) -> dict[str, str]:
        """Concept -> work."""
        return {} if self.same_work is None else self._read(self.same_work, "work", "")

    def relatives(self) -> dict[str, str]:
        """Concept -> artist, series or genre."""
        return {} if self.related is None else self._read(self.related, self.related_col, "--related-col")

    def _read(self, path: Path, column: str, flag: str) -> dict[str, str]:
        from iconicity.indexer.null.same_work import read_column

        return read_column(path, column, self.concept_col, flag, say_note)


@command("calibrate")
@results_argument
@scored_index_option
@takes(CalibrationOptions, "options")
@takes(Relations, "relations")
@click.option(
    "--apply", type=DIRECTORY, help="Calibration file to use as it is. The images are compared with its concepts."
)
@click.option(
    "--to", type=DIRECTORY, help="Calibration file to write.  [default: calibration.json in the first RESULTS]"
)
@cache_option
@output_options("thresholds")
def calibrate_command(
    results: Sequence[Path], index: Place | None, options: CalibrationOptions, relations: Relations, apply: Path | None, to: Path | None,
    cache: Path | None, output: Output,
) -> int:  # fmt: skip
    """Find the CRA and VR thresholds at a chosen false-positive rate.

    Each number of references has thresholds of its own. Generated images are compared with references of unrelated
    concepts. The command reads stored vectors and embeds nothing.

    \b
    Example:
      iconicity calibrate results/ --alpha 0.01
    """
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.scorer.face import Index, Results

    if apply is not None:
        context = click.get_current_context()
        given = [n for n in MADE_BY if context.get_parameter_source(n) != ParameterSource.DEFAULT]
        if given:
            names = ", ".join(f"--{n}" for n in given)
            raise click.UsageError(f"--apply takes a calibration as it is; leave out {names}")
    opened, run = Results(results), Run(cache=VectorCache(cache or default_directory()), progress=progress_bar())
    options = replace(options, works=relations.works(), related={} if apply else relations.relatives())
    found = opened.calibrate(None if index is None else Index.open(index), options, apply=apply, to=to, run=run)
    if apply is None:
        echo_line(str(to or opened.locations[0] / "calibration.json"), err=True)
    fitted = apply is not None or found.finding.table("thresholds").tau.notna().any()
    return output.say(found.finding) or (0 if fitted else EXIT_SKIPPED)
