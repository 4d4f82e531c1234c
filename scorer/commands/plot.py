"""``iconicity plot ...``: one command for each figure. Parse, call, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iconicity.indexer.command_line import DIRECTORY, F, option_of, options, say_note
from iconicity.indexer.errors import InputError
from iconicity.indexer.help import group
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place
from iconicity.indexer.text import echo_line
from iconicity.scorer.commands.correlate import Plots
from iconicity.scorer.commands.shared import (
    Bootstrap,
    calibration_beside_option,
    results_argument,
    scored_index_option,
    takes_bootstrap,
)
from iconicity.scorer.options import AttributeFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iconicity.scorer.face import Results


@group()
def plot() -> None:
    """Draw a figure for print.

    \b
    Example:
      iconicity plot bars results/ --out bars.pdf
    """


def _figure(name: str, *others: Callable[[F], F]) -> Callable[[Callable[..., Figure]], click.Command]:
    """A command of :func:`plot` that draws a figure of results, with ``others`` as its options, and writes the figure."""

    def made(draw: Callable[..., Figure]) -> click.Command:
        @wraps(draw)
        def drawn(
            results: Sequence[Path], out: Sequence[Path], calibration: Path | None = None, bootstrap: Bootstrap | None = None,
            **given: Any,
        ) -> int:  # fmt: skip
            from iconicity.scorer.face import Results

            opened = Results(results, calibration=calibration)
            return _write([draw(opened, **(vars(bootstrap) if bootstrap else {}), **given)], out)

        takes_all: Callable[..., Any] = options(results_argument, _out_option, *others)
        return plot.command(name)(takes_all(drawn))

    return made


_out_option = click.option(
    "--out", type=DIRECTORY, required=True, multiple=True, metavar="FILE",
    help="File to write; .pdf, .svg or .png by ending. May be repeated.",
)  # fmt: skip


def _measure_option(text: str) -> Callable[[F], F]:
    return click.option("--measure", metavar="NAME", help=f"{text}  [default: crt]")


@_figure("bars", takes_bootstrap)
def bars_command(results: Results, draws: int, seed: int) -> Figure:
    """Draw bars of CRA, VR, VI and CRT for each model, with intervals.

    \b
    Example:
      iconicity plot bars results/ --out bars.pdf
    """
    return results.plot("bars", draws=draws, seed=seed)


@_figure("recognition", takes_bootstrap)
def recognition_command(results: Results, draws: int, seed: int) -> Figure:
    """Draw each concept by its recognition (CRA) and its visual independence (VI).

    \b
    Example:
      iconicity plot recognition results/ --out recognition.pdf
    """
    return results.plot("recognition", draws=draws, seed=seed)


@_figure("curves", _measure_option("Measure to draw: cra, vr or crt."), takes_bootstrap)
def curves_command(results: Results, measure: str | None, draws: int, seed: int) -> Figure:
    """Draw a measure of each model over all thresholds.

    \b
    Example:
      iconicity plot curves results/ --measure vr --out curves.pdf
    """
    return results.plot("curves", measure=measure, draws=draws, seed=seed)


@_figure("heatmap", _measure_option("Measure to draw: cra, vr, crt, ..."), takes_bootstrap)
def heatmap_command(results: Results, measure: str | None, draws: int, seed: int) -> Figure:
    """Draw a heat map of a measure, concepts by models.

    \b
    Example:
      iconicity plot heatmap results/ --measure cra --out heatmap.pdf
    """
    return results.plot("heatmap", measure=measure, draws=draws, seed=seed)


@_figure("nulls", calibration_beside_option)
def nulls_command(results: Results) -> Figure:
    """Draw similarities to the own concept beside similarities to unrelated concepts.

    \b
    Example:
      iconicity plot nulls results/ --out nulls.pdf
    """
    return results.plot("nulls")


@_figure(
    "correlates",
    click.option("--attributes", type=DIRECTORY, required=True, help="CSV file of concepts and their attributes."),
    option_of(AttributeFiles, "concept_col"),
    click.option("--model", help="Model to draw.  [default: the only model of the results]"),
    option_of(Plots, "log"),
    takes_bootstrap,
)
def correlates_command(
    results: Results, attributes: Path, concept_col: str, model: str | None, log: Sequence[str], draws: int, seed: int
) -> Figure:
    """Draw CRA, VR and CRT of one model over attributes of the concepts.

    \b
    Example:
      iconicity plot correlates results/ --model sd14 --attributes attributes.csv --out correlates.pdf
    """
    from iconicity.scorer.say.scatter import correlates

    models = results.models
    if model is None and len(models) > 1:
        raise click.UsageError(f"the figure shows one model; name one with --model: {', '.join(models)}")
    found = results.correlate(AttributeFiles(attributes, concept_col), draws=draws, seed=seed).finding
    return correlates(found, model or models[0], log)


@plot.command("evidence")
@options(
    results_argument,
    click.option(
        "--image", "images", metavar="MODEL/CONCEPT/FILE", multiple=True,
        help="Generated image to draw. Where the results hold one model, CONCEPT/FILE is enough. May be repeated.",
    ),
    click.option("--all-recognised", is_flag=True, help="Draw every recognised image."),
    click.option(
        "--patches", type=click.IntRange(1), default=6, show_default=True,
        help="Most reused patches to draw, the most similar ones first.",
    ),
    scored_index_option,
    option_of(Run, "max_pixels"),
    click.option(
        "--out", type=DIRECTORY, required=True, multiple=True, metavar="FILE",
        help="File to write; .pdf, .svg or .png by ending. Several images are pages of one .pdf, or files with numbers. May be repeated.",
    ),
)  # fmt: skip
def evidence_command(
    results: Sequence[Path], images: Sequence[str], all_recognised: bool, patches: int, index: Place | None, max_pixels: int,
    out: Sequence[Path],
) -> int:  # fmt: skip
    """Draw generated images beside the references whose patches they reuse.

    A PNG has the size of a slide. The caption has the numbers, and the credit of the reference where a credits.csv
    beside the references names it (columns file, author, licence, source).

    \b
    Example:
      iconicity plot evidence results/ --image sd14/the_scream/01.png --index paintings.index --out plate.pdf
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.face import Results
    from iconicity.scorer.results import index_of
    from iconicity.scorer.say.figures import EVIDENCE_COLUMNS, evidence, recognised_images

    if bool(images) == all_recognised:
        raise click.UsageError("name the images: --image MODEL/CONCEPT/FILE, or --all-recognised")
    study = Results(results).study(*EVIDENCE_COLUMNS)
    opened = open_index(index or index_of(study.sources[0]))
    names = list(images) or recognised_images(study)
    if not names:
        raise InputError(f"{study.sources[0].path}: no image is recognised; name one with --image")
    return _write((evidence(study, opened, name, patches, max_pixels) for name in names), out, len(names) > 1)


def _write(figures: Iterable[Figure], out: Sequence[Path], several: bool = False) -> int:
    """Write figures one by one by the endings of ``out``, and say which texts no font can draw."""
    from iconicity.scorer.say.figures import add_page, pages, save
    from iconicity.scorer.say.fonts import choose_fonts

    notes: set[str] = set()
    with ExitStack() as stack:
        books = {path: stack.enter_context(pages(path)) for path in out if several and path.suffix == ".pdf"}
        for n, figure in enumerate(figures, 1):
            for line in choose_fonts(figure):
                if line not in notes:
                    say_note(line)
                notes.add(line)
            for path in out:
                if path in books:
                    add_page(books[path], figure)
                else:
                    echo_line(str(save(figure, path.with_stem(f"{path.stem}-{n}") if several else path)))
    for path in books:
        echo_line(str(path))
    return 0
