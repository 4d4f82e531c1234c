"""``iconicity validate ladder`` and ``labels``: parse, call, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iconicity.indexer.command_line import (
    DIRECTORY,
    F,
    json_option,
    options,
    refs_option,
    say_note,
    say_skipped,
    takes,
    takes_run,
)
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import InputError
from iconicity.indexer.help import group
from iconicity.indexer.options import Run
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.shared import Output, results_option, takes_results
from iconicity.scorer.validate.options import LadderOptions
from iconicity.scorer.validate.words import COPIED, NOT_COPIED

if TYPE_CHECKING:
    from iconicity.scorer.face import Results
    from iconicity.scorer.validate.claims import Claim

WAYS_ON = (
    "No rule meets all demands with these patch vectors. Try --patch-encoder sscd-distilled; or of a ViT layer=N, two thirds "
    "of the way to the last; or pool=gem."
)
TOO_FEW = "open: a figure misses its demand, but its interval does not. Give more concepts to decide it."
NOT_JUDGED = {
    "S": "Second scans (S) could not be judged: --rungs leaves S out, or no reference has another scan that registers with "
    "it, or scikit-image is not installed (pip install 'iconicity[validate]').",
    "G": "Repainted copies (G) were not made. Add G to --rungs for a verdict.",
}
TABLES = ("cells", "copies", "methods", "rungs", "differences", "improvements", "thresholds")


@group()
def validate() -> None:
    """Test whether VR separates copying from transforming.

    The truth comes from manipulated references, or from people who labelled outputs.

    \b
    Example:
      iconicity validate ladder --refs refs/ --out ladder/ --encoders offline
    """


def _takes_networks(command: F) -> F:
    """Give a command the options that name further methods, as the parameter ``networks``: name -> file."""

    @wraps(command)
    def gathered(allow_torchscript: bool, **given: Any) -> Any:
        files = {name: given.pop(name) for name in ("sscd", "lpips", "dreamsim")}
        if not allow_torchscript and any(files.values()):
            raise click.UsageError(
                "a TorchScript file is a program that runs as you; add --allow-torchscript if you trust who made it"
            )
        return command(networks={name: path for name, path in files.items() if path is not None}, **given)

    return options(
        click.option("--sscd", type=DIRECTORY, help="TorchScript file of SSCD, which is measured as a further method."),
        click.option("--lpips", type=DIRECTORY, help="TorchScript file of LPIPS, which takes two images in [0, 1]."),
        click.option(
            "--dreamsim", type=DIRECTORY, help="TorchScript file of DreamSim, which takes two images in [0, 1]."
        ),
        click.option(
            "--allow-torchscript",
            is_flag=True,
            help="Load TorchScript files. Such a file is a program that runs with your rights.",
        ),
    )(cast(F, gathered))


def _relations(path: Path | None) -> Any:
    from iconicity.scorer.validate.ladder import read_relations

    return None if path is None else read_relations(path, say_note)


def _artists(path: Path | None, column: str, concepts: str) -> Any:
    from iconicity.indexer.null.same_work import read_column

    return None if path is None else read_column(path, column, concepts, "--related-col", say_note)


@validate.command("ladder")
@refs_option("Folder with one folder of images for each concept.", DIRECTORY)
@click.option("--out", type=DIRECTORY, required=True, help="Folder to write.")
@takes(LadderOptions, "options", joins={"relations": _relations, "artists": _artists})
@takes(EncoderOptions, "encoders", without=["patch_mode", "precision"])
@_takes_networks
@takes_run(moved=False, only=["device", "batch_size", "workers", "cache"], without=["--no-cache"])
@click.option("--table", type=click.Choice(TABLES), default=TABLES[0], show_default=True, help="Table to show.")
@json_option("Print the demands and their values as flat JSON.")
def ladder_command(
    refs: Path,
    out: Path,
    options: LadderOptions,
    encoders: EncoderOptions,
    networks: Mapping[str, Path],
    run: Run,
    table: str,
    as_json: bool,
) -> int:
    """Measure how well VR and other methods find copies in manipulated references.

    The truth of each manipulation is known. Thresholds are chosen on half of the concepts, and the tables show the other
    half. A second run embeds nothing.

    \b
    Example:
      iconicity validate ladder --refs refs/ --out ladder/ --encoders offline --concepts 24
    """
    from iconicity.scorer.validate.methods import descriptor, distance
    from iconicity.scorer.validate.page import write_page
    from iconicity.scorer.validate.run import validate as write_validation

    make = {"sscd": descriptor, "lpips": distance, "dreamsim": distance}
    assert run.cache is not None
    found = write_validation(
        refs, out, encoders, run.cache, options, networks={n: make[n](p) for n, p in networks.items()}, run=run
    )
    run.cache.close()
    page = write_page(found, out)
    if table not in found.finding.tables:
        raise click.UsageError(
            f"--table {table}: needs a calibrated threshold: give 24 concepts or more, or a higher --alpha"
        )
    code = Output(table, as_json=as_json).say(found.finding)
    if not as_json:
        say_claims(found.claims)
        echo_line(str(page))
    return say_skipped(found.ladder.skipped, ()) or code


def say_claims(claims: Sequence[Claim]) -> None:
    """A line a rule, what could not be judged, and what may help where no rule holds."""
    from iconicity.scorer.validate.claims import finds_repainted, verdict

    verdicts = []
    for rule, demands in ((r, list(d)) for r, d in groupby(claims, lambda c: c.rule)):
        verdicts.append(verdict(demands))
        words = [f"{c.claim} {c.value:.3f}{_missed(c)}" for c in demands if c.made]
        echo_line(f"{verdicts[-1]}: {rule}: {', '.join(words)}")
    if any(c.made and c.holds is None for c in claims):
        echo_line(TOO_FEW)
    for lacking in sorted({c.group for c in claims if not c.made}):
        echo_line(NOT_JUDGED[lacking])
    if finds_repainted(claims) is False:
        echo_line("With this patch encoder VR does not find repainted copies.")
    if verdicts and set(verdicts) == {"FAILS"}:
        echo_line(WAYS_ON)


def _missed(claim: Claim) -> str:
    """What was wanted, where it is not met; with the interval, where that reaches what was wanted."""
    if claim.holds:
        return ""
    ends = f" [{claim.low:.3f}, {claim.high:.3f}]" if claim.holds is None else ""
    return f"{ends} (wanted {claim.wanted})"


_LABEL_COLUMNS = {
    "path": "the image: MODEL/CONCEPT/FILE, or the path of the file",
    "concept": "the concept name", "label": "the label", "rater": "the rater, if there are several", "model": "the model, if there are several",
}  # fmt: skip


@validate.command("labels")
@click.option(
    "--csv", "tables", type=DIRECTORY, multiple=True,
    help="CSV file with the columns path, concept and label, and for several raters or models rater and model. May be "
    "repeated.  [default: each labels*.csv in the results directory and beside it]",
)  # fmt: skip
@click.option(
    "--copied", multiple=True, default=COPIED, show_default=True, metavar="WORD",
    help="Label that means copied, in upper or lower case. May be repeated.",
)  # fmt: skip
@click.option(
    "--not-copied", multiple=True, metavar="WORD",
    help=f"Further label that means not copied, beside {', '.join(NOT_COPIED)}. May be repeated.",
)  # fmt: skip
@options(
    *(
        click.option(
            f"--{name}-col", default=name, show_default=True, help=f"Column of the CSV file that holds {what}."
        )
        for name, what in _LABEL_COLUMNS.items()
    )
)
@takes_results("scores", "concepts", "raters", named=results_option, thresholds=["vr"])
def labels_command(
    results: Results, output: Output, tables: Sequence[Path], copied: Sequence[str], not_copied: Sequence[str], draws: int, seed: int,
    **columns: str,
) -> int:  # fmt: skip
    """Measure how well scores tell copies from other outputs of the same concept, by labels of people.

    The report lets people label images, and downloads labels.csv. Put that file beside the results. A label is left out
    if its word is in neither list, or if it does not name one scored image for certain.

    \b
    Example:
      iconicity validate labels --csv labels.csv --results results/ --copied replica --copied variant
    """
    from iconicity.scorer.validate.labelled import labels_beside, read_labels
    from iconicity.scorer.validate.labels import ENOUGH

    if not tables:
        tables = labels_beside(results.locations)
        if not tables:
            raise InputError(
                f"no labels*.csv lies in {results.locations[0]} or beside it: label images in the report and put labels.csv there, "
                "or name a file with --csv"
            )
        say_note(f"labels of {', '.join(map(str, tables))}")
    labels = [label for path in tables for label in read_labels(path, **columns, tell=say_note)]
    found = results.labels(labels, copied, not_copied, draws=draws, seed=seed).finding
    if not found.table("scores").concepts.any():
        raise InputError(
            f"{', '.join(map(str, tables))}: no concept has both a copy and another image among its labels, so that there is "
            f"nothing to compare; label both kinds in {ENOUGH} concepts or more"
        )
    return output.say(found)
