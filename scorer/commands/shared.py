"""Options that several commands take, and how a finding is printed and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iconicity.indexer.command_line import DIRECTORY, PLACE, F, option_of, options, takes
from iconicity.indexer.flags import FLAGS_OF, Flag, flags
from iconicity.indexer.places import Place, place
from iconicity.indexer.text import echo, echo_line
from iconicity.scorer.options import DRAWS, SEED
from iconicity.scorer.say.report.options import ReportOptions
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from iconicity.scorer.measure.finding import Finding
    from iconicity.scorer.moved import Moved

# what messages of the library name as Python calls it -> the option of commands
for _name, _flag in {"Results.open": "--results", "Layout.columns": "--columns", "generated": "--gen"}.items():
    FLAGS_OF.setdefault(_name, set()).add(_flag)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds that the user names. None: those that the results were scored at."""

    cra: float | None = flags(
        None, Flag("--ic-tau", "CRA threshold.", least=-1.0, most=1.0, shown="as the results have it")
    )
    vr: float | None = flags(
        None, Flag("--patch-tau", "VR threshold.", least=-1.0, most=1.0, shown="as the results have it")
    )


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn. The fields are called like the parameters of the functions that draw them."""

    draws: int = flags(10_000, DRAWS)
    seed: int = flags(0, SEED)


results_argument = click.argument("results", type=RESULTS, nargs=-1, required=True)
results_option = click.option(
    "--results", type=RESULTS, multiple=True, default=["results"], show_default=True,
    help="Results directory. May be repeated.",
)  # fmt: skip
takes_bootstrap = takes(Bootstrap, "bootstrap")
scored_index_option = click.option(
    "--index",
    type=PLACE,
    help="Index directory, or its URL.  [default: the index that the results were scored against]",
)
calibration_option = click.option(
    "--calibration", type=DIRECTORY, help="Calibration file. The measures at its thresholds are shown, too."
)
calibration_beside_option = click.option(
    "--calibration", type=DIRECTORY, help="Calibration file.  [default: calibration.json of the results, if any]"
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
vi_scope_option = option_of(ReportOptions, "vi_scope")
cache_option = click.option(
    "--cache",
    type=DIRECTORY,
    help="Folder of the cached vectors.  [default: $ICONICITY_CACHE, or the user's cache folder]",
)


def output_options(*tables: str) -> Callable[[F], F]:
    """What every command that shows numbers takes: --table, --columns, --digits, --notes, --out and --json.

    ``tables`` are those of its finding, the first the default. The command gets ``output`` (:class:`Output`).
    """
    taken = options(
        click.option(
            "--table", type=click.Choice(tables), default=tables[0], show_default=True, help="Table to show."
        ),
        click.option(
            "--columns", metavar="A,B",
            help="Columns to show in the terminal and in .tex files, or 'all'. Other files hold all columns.  [default: a few]",
        ),
        click.option(
            "--digits", type=click.IntRange(0, 9), default=3, show_default=True,
            help="Decimal places in the terminal and in .tex files.",
        ),
        click.option(
            "--notes", type=click.Choice(["few", "all"]), default="few", show_default=True,
            help="Notes below the table in the terminal and in .tex files. Other files hold all notes.",
        ),
        click.option(
            "--out", "out", type=DIRECTORY, multiple=True, metavar="FILE",
            help="Write the table; .csv, .parquet, .tex or .json by ending. May be repeated.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the numbers as flat JSON instead of a table."),
    )  # fmt: skip

    def decorated(command: F) -> F:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            output = Output(**{f.name: given.pop(f.name) for f in fields(Output)})
            return command(output=output, **given)

        return taken(cast(F, gathered))

    return decorated


def takes_results(
    *tables: str, named: Any = results_argument, thresholds: Sequence[str] = ("cra", "vr"),
    calibration: Any = calibration_option,
) -> Callable[[F], F]:  # fmt: skip
    """What every command that reads results takes. It gets ``results`` (an :class:`iconicity.Results`), the ``output``,
    and ``draws`` and ``seed``.

    ``tables``: those of its finding, the first the default. ``named``: how the results are named.
    """
    taken: Callable[[F], F] = options(
        named, calibration, takes(Thresholds, "thresholds", only=thresholds), takes_bootstrap, output_options(*tables)
    )

    def decorated(command: F) -> F:
        @wraps(command)
        def gathered(
            results: Sequence[Path],
            calibration: Path | None,
            thresholds: Thresholds,
            bootstrap: Bootstrap,
            **given: Any,
        ) -> Any:
            from iconicity.scorer.face import Results

            opened = Results(results, calibration=calibration, tau_cra=thresholds.cra, tau_vr=thresholds.vr)
            return command(results=opened, **vars(bootstrap), **given)

        return taken(cast(F, gathered))

    return decorated


@dataclass(frozen=True)
class Output:
    """How a finding is shown: the values of :func:`output_options`."""

    table: str
    out: Sequence[Path] = ()
    as_json: bool = False
    columns: str | None = None
    digits: int = 3
    notes: str = "few"

    def say(self, finding: Finding) -> int:
        """Print a finding and write its files."""
        from iconicity.scorer.measure.finding import FEW_NOTES, Layout, as_json, as_text, write_finding

        layout = Layout(
            self.columns.split(",") if self.columns else (),
            self.digits,
            FEW_NOTES if self.notes == "few" else None,
            "--notes all",
        )
        text = as_text(finding, self.table, layout)  # a column that is not there is said before a file is written
        written = [p for path in self.out for p in write_finding(finding, path, self.table, layout)]
        if self.as_json:
            echo(as_json(finding), data=True)
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
