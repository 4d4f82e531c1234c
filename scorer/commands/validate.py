"""``iconicity validate ladder`` and ``labels``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import (
    DIRECTORY,
    encoder_options,
    options,
    pace_options,
    progress_bar,
    say_note,
    say_skipped,
)
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.help import group
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.findings import (
    cache_option,
    concept_col_option,
    draw_options,
    output_options,
    results_option,
    say,
)
from iconicity.scorer.validate.words import COPIED, NOT_COPIED

if TYPE_CHECKING:
    from iconicity.scorer.validate.evaluate import Claim

WAYS_ON = (
    "no rule meets all demands with these patch vectors; others may: --patch-encoder timm:MODEL,layer=N (try two "
    "thirds of the way to the last), or with pool=gem"
)
TABLES = ("cells", "methods", "rungs", "differences", "improvements", "thresholds")


@group()
def validate() -> None:
    """Does VR separate copying from transforming? On controlled truth, and on outputs that people labelled.

    \b
    Example:
      iconicity validate ladder --refs refs/ --out ladder/ --encoders offline
    """


network_options = options(
    click.option("--sscd", type=DIRECTORY, help="SSCD as TorchScript: a further method."),
    click.option("--lpips", type=DIRECTORY, help="LPIPS as TorchScript of two images in [0, 1]: a further method."),
    click.option("--dreamsim", type=DIRECTORY, help="DreamSim, likewise."),
    click.option("--allow-torchscript", is_flag=True, help="Load these files: each is a program, and runs as you."),
)


@validate.command("ladder")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, required=True, help="One folder of images a concept.")
@click.option("--out", type=DIRECTORY, required=True, help="The folder to write.")
@click.option(
    "--concepts", type=click.IntRange(4), default=60, show_default=True, help="Concepts to manipulate at most."
)
@click.option("--rungs", help="Only these, comma-separated: R0,R1,R2,R3,R4,O,T,N,B.  [default: all]")
@click.option("--embeddings", help="Only these, comma-separated: crop,overlapping,token,whole,class.  [default: all]")
@click.option("--relations", type=DIRECTORY, help="CSV: path, relation (same_work, ..._variant) of further references.")
@click.option("--related", type=DIRECTORY, help="CSV whose --related-col says artist, series or genre.")
@click.option("--related-col", default="artist", show_default=True, help="Its column.")
@concept_col_option
@encoder_options
@network_options
@click.option(
    "--alpha", type=click.FloatRange(0, 0.5, min_open=True), default=0.01, show_default=True,
    help="False-positive rate.",
)  # fmt: skip
@cache_option
@draw_options
@pace_options
@click.option("--table", type=click.Choice(TABLES), default=TABLES[0], show_default=True, help="Which table to show.")
@click.option("--json", "as_json", is_flag=True, help="Flat JSON of what must hold.")
def ladder_command(
    refs: Path, out: Path, concepts: int, rungs: str | None, embeddings: str | None, relations: Path | None, related: Path | None,
    related_col: str, concept_col: str, encoders: EncoderOptions, device: str, sscd: Path | None, lpips: Path | None,
    dreamsim: Path | None, allow_torchscript: bool, alpha: float, cache: Path | None, draws: int, seed: int, batch_size: int | None,
    workers: int | None, table: str, as_json: bool,
) -> int:  # fmt: skip
    """Manipulate references with known truth, and see what VR and other methods make of it.

    Half of the concepts choose thresholds, the other half reports. A second run embeds nothing.

    \b
    Example:
      iconicity validate ladder --refs refs/ --out ladder/ --encoders offline --concepts 24
    """
    if not allow_torchscript and any((sscd, lpips, dreamsim)):
        raise click.UsageError(
            "a TorchScript file is a program that runs as you; add --allow-torchscript if you trust who made it"
        )
    from iconicity.indexer.null.same_work import read_column
    from iconicity.indexer.options import Run
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.scorer.validate.ladder import LadderOptions, read_relations
    from iconicity.scorer.validate.methods import descriptor, distance
    from iconicity.scorer.validate.page import write_page
    from iconicity.scorer.validate.run import validate as run
    from iconicity.scorer.validate.rungs import RUNGS

    given = {"sscd": (descriptor, sscd), "lpips": (distance, lpips), "dreamsim": (distance, dreamsim)}
    held = VectorCache(cache or default_directory())
    found = run(
        refs, out, encoders, held,
        LadderOptions(
            concepts, tuple(RUNGS) if rungs is None else [r.strip() for r in rungs.split(",")], seed,
            None if relations is None else read_relations(relations, say_note),
            None if related is None else read_column(related, related_col, concept_col, "--related-col", say_note),
            None if embeddings is None else [n.strip() for n in embeddings.split(",")], alpha, draws,
        ),
        networks={name: make(path) for name, (make, path) in given.items() if path is not None},
        run=Run(device=device, batch_size=batch_size, workers=workers, progress=progress_bar()),
    )  # fmt: skip
    held.close()
    page = write_page(found, out)
    if table not in found.finding.tables:
        raise click.UsageError(
            f"--table {table}: needs a calibrated threshold: give 24 concepts or more, or a higher --alpha"
        )
    code = say(found.finding, table, (), as_json)
    if not as_json:
        say_claims(found.claims)
        echo_line(str(page))
    return say_skipped(found.ladder.skipped, ()) or code


def say_claims(claims: Sequence[Claim]) -> None:
    """A line a rule, and what may help where none meets all demands."""
    met = []
    for rule, mine in groupby(claims, lambda c: c.rule):
        said = [(c.holds, f"{c.claim} {c.value:.3f}{'' if c.holds else f' (wanted {c.wanted})'}") for c in mine]
        met.append(all(holds for holds, _ in said))
        echo_line(f"{'holds' if met[-1] else 'FAILS'}: {rule}: {', '.join(words for _, words in said)}")
    if met and not any(met):
        echo_line(WAYS_ON)


_LABEL_COLUMNS = {
    "path": "that name the images: MODEL/CONCEPT/FILE, or the path of the file",
    "concept": "of concepts", "label": "of labels", "rater": "of raters, if there is one", "model": "of models, if there is one",
}  # fmt: skip


@validate.command("labels")
@click.option(
    "--csv", "csv_path", type=DIRECTORY, required=True,
    help="CSV with the columns path, concept, label, and where there are several raters or models rater and model.",
)  # fmt: skip
@results_option
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
        click.option(f"--{name}-col", default=name, show_default=True, help=f"Column of the CSV {what}.")
        for name, what in _LABEL_COLUMNS.items()
    )
)
@click.option("--patch-tau", type=click.FloatRange(-1, 1), help="VR threshold.  [default: as the results have it]")
@draw_options
@output_options("scores", "concepts", "raters")
def labels_command(
    csv_path: Path, results: Sequence[Path], copied: Sequence[str], not_copied: Sequence[str], patch_tau: float | None,
    draws: int, seed: int, table: str, out: Sequence[Path], as_json: bool, **columns: str,
) -> int:  # fmt: skip
    """Labelled outputs of real models: does a score tell copies from others of the same concept?

    A label whose word is in neither list is left out, and so is one that names no scored image for certain.

    \b
    Example:
      iconicity validate labels --csv labels.csv --results results/ --copied replica --copied variant
    """
    from iconicity.scorer.measure.study import open_study
    from iconicity.scorer.validate.labelled import read_labels, word
    from iconicity.scorer.validate.labels import validate_labels

    labels = read_labels(csv_path, **columns, tell=say_note)
    study = open_study(list(results), ["gen_path"], tau_vr=patch_tau)
    means_copied = {word(w) for w in copied}
    others = [*not_copied, *(w for w in NOT_COPIED if w not in means_copied)]
    return say(validate_labels(study, labels, copied, others, draws, seed), table, out, as_json)
