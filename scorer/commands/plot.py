"""``iconicity plot ...``: one command for each figure. Parse, call, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from iconicity.scorer.commands.correlate import AttributeFiles, Plots
from iconicity.scorer.commands.shared import (
    Bootstrap,
    Thresholds,
    calibration_beside,
    calibration_beside_option,
    results_argument,
    scored_index_option,
    study_of,
    takes_bootstrap,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iconicity.scorer.measure.finding import Finding


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
        def drawn(out: Sequence[Path], **given: Any) -> int:
            from iconicity.scorer.say.figures import save
            from iconicity.scorer.say.fonts import choose_fonts

            figure = draw(**given)
            for line in choose_fonts(figure):
                say_note(line)
            for path in out:
                echo_line(str(save(figure, path)))
            return 0

        takes_all: Callable[..., Any] = options(results_argument, _out_option, *others)
        return plot.command(name)(takes_all(drawn))

    return made


_out_option = click.option(
    "--out", type=DIRECTORY, required=True, multiple=True, metavar="FILE",
    help="File to write; .pdf, .svg or .png by ending. May be repeated.",
)  # fmt: skip


def _measure_option(text: str) -> Callable[[F], F]:
    return click.option("--measure", metavar="NAME", help=f"{text}  [default: crt]")


def _summary(results: Sequence[Path], bootstrap: Bootstrap) -> Finding:
    from iconicity.scorer.measure.summary import summarise

    return summarise(study_of(results), concepts=False, **vars(bootstrap))


@_figure("bars", takes_bootstrap)
def bars_command(results: Sequence[Path], bootstrap: Bootstrap) -> Figure:
    """Draw bars of CRA, VR, VI and CRT for each model, with intervals.

    \b
    Example:
      iconicity plot bars results/ --out bars.pdf
    """
    from iconicity.scorer.say.figures import bars

    return bars(_summary(results, bootstrap))


@_figure("recognition", takes_bootstrap)
def recognition_command(results: Sequence[Path], bootstrap: Bootstrap) -> Figure:
    """Draw each concept by its recognition (CRA) and its visual independence (VI).

    \b
    Example:
      iconicity plot recognition results/ --out recognition.pdf
    """
    from iconicity.scorer.say.figures import recognition

    return recognition(_summary(results, bootstrap))


@_figure("curves", _measure_option("Measure to draw: cra, vr or crt."), takes_bootstrap)
def curves_command(results: Sequence[Path], measure: str | None, bootstrap: Bootstrap) -> Figure:
    """Draw a measure of each model over all thresholds.

    \b
    Example:
      iconicity plot curves results/ --measure vr --out curves.pdf
    """
    from iconicity.scorer.measure.sweep import sweep
    from iconicity.scorer.say.figures import curves, measure_of

    return curves(sweep(study_of(results), step=0.01, **vars(bootstrap)), measure_of(measure, swept=True))


@_figure("heatmap", _measure_option("Measure to draw: cra, vr, crt, ..."), takes_bootstrap)
def heatmap_command(results: Sequence[Path], measure: str | None, bootstrap: Bootstrap) -> Figure:
    """Draw a heat map of a measure, concepts by models.

    \b
    Example:
      iconicity plot heatmap results/ --measure cra --out heatmap.pdf
    """
    from iconicity.scorer.say.figures import heatmap, measure_of

    return heatmap(_summary(results, bootstrap), measure_of(measure))


@_figure("nulls", calibration_beside_option)
def nulls_command(results: Sequence[Path], calibration: Path | None) -> Figure:
    """Draw similarities to the own concept beside similarities to unrelated concepts.

    \b
    Example:
      iconicity plot nulls results/ --out nulls.pdf
    """
    from iconicity.scorer.measure.calibrate.calibration import own_and_null
    from iconicity.scorer.say.figures import nulls

    held = calibration_beside(results[0], calibration, thresholds=False)
    if held is None:
        raise InputError(f"{results[0]}: has no calibration; run 'iconicity calibrate', or name one with --calibration")
    study = study_of(results)
    taus = {metric: held.taus(metric) for metric in ("cra", "vr")}
    return nulls(own_and_null(study, held), study.with_calibration(held), taus)


@_figure(
    "correlates",
    click.option("--attributes", type=DIRECTORY, required=True, help="CSV file of concepts and their attributes."),
    option_of(AttributeFiles, "concept_col"),
    click.option("--model", help="Model to draw.  [default: the only model of the results]"),
    option_of(Plots, "log"),
    takes_bootstrap,
)
def correlates_command(
    results: Sequence[Path], attributes: Path, concept_col: str, model: str | None, log: Sequence[str], bootstrap: Bootstrap
) -> Figure:  # fmt: skip
    """Draw CRA, VR and CRT of one model over attributes of the concepts.

    \b
    Example:
      iconicity plot correlates results/ --model sd14 --attributes attributes.csv --out correlates.pdf
    """
    from iconicity.scorer.measure.attributes import concept_attributes
    from iconicity.scorer.measure.correlate import correlate
    from iconicity.scorer.say.scatter import correlates

    study = study_of(results)
    if model is None and len(study.models) > 1:
        raise click.UsageError(f"the figure shows one model; name one with --model: {', '.join(study.models)}")
    found = correlate(study, concept_attributes(study.concepts, attributes, concept_col=concept_col), **vars(bootstrap))
    return correlates(found, model or study.models[0], log)


@_figure(
    "evidence",
    click.option(
        "--image", metavar="MODEL/CONCEPT/FILE", required=True,
        help="Generated image to draw. Where the results hold one model, CONCEPT/FILE is enough.",
    ),
    scored_index_option,
    option_of(Run, "max_pixels"),
)  # fmt: skip
def evidence_command(results: Sequence[Path], image: str, index: Place | None, max_pixels: int) -> Figure:
    """Draw a generated image beside the reference whose patches it reuses.

    \b
    Example:
      iconicity plot evidence results/ --image sd14/the_scream/01.png --index paintings.index --out plate.pdf
    """
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.results import index_of
    from iconicity.scorer.say.figures import EVIDENCE_COLUMNS, evidence

    study = study_of(results, Thresholds(), *EVIDENCE_COLUMNS)
    return evidence(study, open_index(index or index_of(study.sources[0])), image, max_pixels=max_pixels)
