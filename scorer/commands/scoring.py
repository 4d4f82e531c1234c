"""``iconicity score``, ``search`` and ``cache ...``: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iconicity.indexer.command_line import (
    DIRECTORY,
    PLACE,
    F,
    Reproduced,
    TakesUrls,
    dry_run_option,
    index_option,
    json_option,
    options,
    say_note,
    say_problems,
    say_skipped,
    takes,
    takes_run,
    takes_select,
)
from iconicity.indexer.commands import say_rehearsal
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.help import command, group
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place, is_url, place
from iconicity.indexer.text import counted, echo, echo_line, json_text
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from iconicity.scorer.scoring import ScoreReport


class Generated(TakesUrls):
    """Text: where the images are is not all of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


def _takes_generated(command: F) -> F:
    """Give a command the options that name the images of models, as the parameter ``generated``: model -> location."""

    @wraps(command)
    def gathered(gen: Sequence[str], gen_root: Path | None, model: str | None, select: Select, **given: Any) -> Any:
        generated = generated_by(gen, gen_root, model, select.follow_links)
        return command(generated=generated, select=select, **given)

    return options(
        click.option(
            "--gen",
            "--gendir",
            "gen",
            multiple=True,
            metavar="[NAME[@VARIANT]=]DIR",
            type=Generated(),
            help="Images of a model, in a folder or at a URL: one folder for each concept, an imagefolder, a folder of "
            "GenEval, or tar files. May be repeated.",
        ),
        click.option("--gen-root", type=DIRECTORY, help="Folder whose subfolders hold the images of one model each."),
        click.option("--model", help="Name of the model, where there is one --gen."),
    )(cast(F, gathered))


def _belongs_to_build(name: str, *names: str, instead: str) -> Callable[[F], F]:
    """An option of ``index build`` that users give to ``score``, too: it is refused with the way to go."""

    def refuse(_context: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"{name} belongs to 'iconicity index build'; {instead.format(value)}")

    return click.option(*names, hidden=True, expose_value=False, callback=refuse)


def _index_or_hint(_context: click.Context, _param: click.Parameter, index: Place | None) -> Place:
    if index is None:
        raise click.UsageError(f"--index is missing: references are embedded once, by '{BUILD.format('refs/')}'")
    return index


BUILD = "iconicity index build --refs {} --index refs.index"


@command("score")
@_belongs_to_build("--refdir", "--refs", "--refdir", instead=f"references are embedded once, by '{BUILD}'")
@_belongs_to_build("--encoders", "--encoders", instead="score uses the encoders of the index")
@click.option("--index", type=PLACE, callback=_index_or_hint, help="Index directory, or its URL.")
@takes_select()
@_takes_generated
@click.option(
    "--out", type=RESULTS, default=Path("results"), show_default=True, help="Results directory to write, or its URL."
)
@takes(ScoreOptions, "options")
@click.option(
    "--calibration", type=DIRECTORY, help="Calibration file. The results also hold decisions at its thresholds."
)
@takes(Writing, "writing")
@dry_run_option
@takes_run(engines=True, only=["device", "batch_size", "workers", "max_pixels", "cache", "rehash", "search_shards"])
def score_command(
    index: Place,
    generated: Mapping[str, Place],
    out: Path,
    options: ScoreOptions,
    calibration: Path | None,
    dry_run: bool,
    run: Run,
    **chosen: Any,
) -> int:
    """Score generated images against an index: CRA, VR, or both.

    \b
    Example:
      iconicity score --metric vr --index paintings.index --gen sd14=gen/sd14 --out results/
    """
    if (chosen["writing"].csv or chosen["writing"].meta) and len(options.metrics) > 1:
        raise click.UsageError("--outcsv and --outmeta need a single metric: --metric cra or --metric vr")
    if options.scope == "concept" and (options.search != "exact" or options.settle or run.search_shards > 1):
        raise click.UsageError(
            "--search, --exact and --search-shards belong to --scope all; the own concept is always searched exactly"
        )
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.calibrate.calibration import read_calibration
    from iconicity.scorer.scoring import score

    opened = open_index(index)
    if dry_run:
        from iconicity.scorer.rehearsal import rehearse_score

        folder = None if run.cache is None else run.cache.directory
        return say_rehearsal(rehearse_score(opened, generated, out, options, cache=folder, **chosen), out)
    if isinstance(run.load, Reproduced) and run.load.named:
        loaded = run.load(*opened.specs)  # weights named on purpose are checked, also when nothing is left to embed
        run = replace(run, load=lambda _clip, _dino: loaded)
    held = None if calibration is None else read_calibration(calibration)
    return _say_score(score(opened, generated, out, options, calibration=held, run=run, **chosen))


@command("search")
@click.argument("image", type=DIRECTORY)
@index_option
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, help="Number of hits for the image and for each patch."
)
@json_option("Print all hits as JSON.")
@click.option("--html", type=DIRECTORY, metavar="FILE", help="HTML file to write, with pictures of the hits.")
@takes_run(only=["device", "max_pixels"])
def search_command(image: Path, index: Place, k: int, as_json: bool, html: Path | None, run: Run) -> int:
    """Find the references that are nearest to an image and to each of its patches.

    The search covers all concepts.

    \b
    Example:
      iconicity search suspicious.png --index paintings.index -k 5 --html hits.html
    """
    from iconicity.indexer.store.cache import default_directory
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.search import hit_thresholds, search_image
    from iconicity.scorer.text import search_text

    opened = open_index(index)
    hits = search_image(image, opened, k, default_directory(), run)
    echo(json_text(hits) if as_json else search_text(hits), as_json)
    if html is not None:
        from iconicity.scorer.say.report.search_page import write_search_page

        write_search_page(
            hits,
            image,
            html,
            grid=opened.grid,
            overlapping=opened.overlapping,
            pixels=opened.settings["pixels"],
            max_pixels=run.max_pixels,
            thresholds=hit_thresholds(hits, opened),
        )
        echo_line(html, err=True)
    return 0


@group()
def cache() -> None:
    """Look after the cache of vectors of generated images.

    \b
    Example:
      iconicity cache info
    """


cache_option = click.option(
    "--cache",
    "directory",
    type=DIRECTORY,
    help="Folder of the cache.  [default: $ICONICITY_CACHE, or the user's cache folder]",
)


@cache.command("info")
@cache_option
@json_option("Print the facts as JSON.")
def cache_info(directory: Path | None, as_json: bool) -> int:
    """Show what the cache holds and how large it is.

    \b
    Example:
      iconicity cache info
    """
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.scorer.text import cache_text

    held = VectorCache(directory or default_directory())
    facts = held.info()
    echo(json_text(facts) if as_json else cache_text(str(held.path), facts), as_json)
    return 0


@cache.command("verify")
@cache_option
def cache_verify(directory: Path | None) -> int:
    """Test every row of the cache. A damaged row is never used. Its vectors are computed again.

    \b
    Example:
      iconicity cache verify
    """
    from iconicity.indexer.store.cache import VectorCache, default_directory

    held = VectorCache(directory or default_directory())
    return say_problems(str(held.path), held.problems())


@cache.command("clear")
@cache_option
@click.option(
    "--older-than", type=click.FloatRange(0), metavar="DAYS", help="Age in days from which vectors are forgotten."
)
@click.option("--all", "everything", is_flag=True, help="Forget every vector.")
def cache_clear(directory: Path | None, older_than: float | None, everything: bool) -> int:
    """Forget cached vectors. Results stay, and missing vectors are embedded again.

    \b
    Example:
      iconicity cache clear --older-than 90
    """
    from iconicity.indexer.store.cache import VectorCache, default_directory

    if everything == (older_than is not None):
        raise click.UsageError("say which vectors to forget: --older-than DAYS, or --all of them")
    held = VectorCache(directory or default_directory())
    echo_line(f"{held.path}: {counted(held.clear(older_than or 0.0), 'vector')} forgotten")
    return 0


def generated_by(gen: Sequence[str], gen_root: Path | None, model: str | None, follow_links: bool) -> dict[str, Place]:
    """Model name -> folder, from --gen NAME=DIR, --gen DIR --model NAME, and --gen-root."""
    from iconicity.indexer.sources.folders import LEADS_OUT, Inside, is_text, shown

    if not gen and gen_root is None:
        raise click.UsageError("name the generated images: --gen NAME=DIR, or --gen-root DIR")
    if model and (len(gen) != 1 or ("=" in gen[0] and not is_url(gen[0])) or gen_root):
        raise click.UsageError("--model names the one --gen folder; with several, write --gen NAME=DIR")
    pairs: list[tuple[str, Place]] = []
    for item in gen:
        name, eq, folder = ("", "", item) if is_url(item) else item.partition("=")  # a URL may have a = of its own
        if eq and not folder:
            raise click.UsageError(f"--gen {item}: names no folder")
        where = place(folder if eq else item)
        pairs.append((name if eq else model or where.name.removesuffix(".tar"), where))
    if gen_root is not None:
        if not gen_root.is_dir():
            raise IconicityError(f"{gen_root}: no such folder; --gen-root names one with a folder for each model")
        folders = [p for p in sorted(gen_root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        stays = Inside(gen_root, follow_links)
        for p in folders:
            if not stays(p.name):
                raise IconicityError(f"{shown(p)}: {LEADS_OUT}")
        pairs += [(p.name, p) for p in folders]

    names = [n for n, _ in pairs]
    for name in names:
        if not name or names.count(name) > 1 or not is_text(name):
            raise click.UsageError(f"--gen: the model name {name!r} is empty, given twice or not UTF-8")
        if "@" in name and not all(name.rpartition("@")[::2]):
            raise click.UsageError(f"--gen: {name!r} lacks a name or a variant; write NAME@VARIANT=DIR")
    folders_of = [w for _, w in pairs]
    for where in dict.fromkeys(w for w in folders_of if folders_of.count(w) > 1):
        say_note(f"{where}: counts as {' and '.join(n for n, w in pairs if w == where)}, with the same images")
    return dict(pairs)


def _say_score(report: ScoreReport) -> int:
    code = say_skipped(report.skipped, report.notices)
    echo_line(f"{counted(report.scored, 'image')} scored, {report.embedded} embedded, {len(report.skipped)} skipped")
    echo_line(", ".join(f"tau_{metric} {tau}" for metric, tau in report.tau.items() if tau is not None))
    for path in report.files:
        echo_line(str(path))
    return code
