"""``iconicity score``, ``summary``, ``search`` and ``cache ...``: parse, call, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iconicity.indexer.command_line import (
    DIRECTORY,
    PLACE,
    TakesUrls,
    csv_options,
    dry_run_option,
    engine_of,
    engine_options,
    index_option,
    links_option,
    loader,
    location_options,
    max_pixels_option,
    progress_bar,
    read_prompt_csv,
    say_problems,
    say_skipped,
    shard_option,
    speed_options,
)
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.help import command, group
from iconicity.indexer.places import Place, is_url, place
from iconicity.indexer.text import counted, echo, echo_line, json_text
from iconicity.scorer.staging import RESULTS

if TYPE_CHECKING:
    from iconicity.indexer.shards import Shard
    from iconicity.scorer.rehearsal import Rehearsal
    from iconicity.scorer.scoring import ScoreReport


class _Generated(TakesUrls):
    """Text: where the images are is not all of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


@command("score")
@click.option("--index", "index", type=PLACE, help="The index directory, or its URL.")
@click.option("--metric", type=click.Choice(["cra", "vr", "all"]), default="all", show_default=True)
@click.option(
    "--gen",
    "--gendir",
    "gen",
    multiple=True,
    metavar="[NAME[@VARIANT]=]DIR",
    type=_Generated(),
    help="A model's images, in a folder or at a URL: one folder a concept, an imagefolder, GenEval's, tar files. May be repeated.",
)
@click.option("--gen-root", type=DIRECTORY, help="Take each subfolder as one model.")
@click.option("--model", help="Name of the one --gen folder.")
@click.option(
    "--out", type=RESULTS, default=Path("results"), show_default=True, help="The results directory, or its URL."
)
@click.option(
    "--mode",
    type=click.Choice(["dynamic", "static"]),
    default="dynamic",
    show_default=True,
    help="All kept references, or the first by name.",
)
@click.option(
    "--scope",
    type=click.Choice(["concept", "all"]),
    default="concept",
    show_default=True,
    help="Compare with the image's own concept, or with every other one too.",
)
@click.option(
    "--search",
    type=click.Choice(["exact", "approximate"]),
    default="exact",
    show_default=True,
    help="Of scope all. Approximate: every hit is true, some are missed, and what is open is counted.",
)
@click.option("--exact", "settle", is_flag=True, help="With approximate search: scan for the patches left open.")
@click.option(
    "--search-shards",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --scope all and --engine ray: divide the references among so many actors, by concept.",
)
@click.option(
    "--k-gen",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Images of a concept and variant that count, by file name.",
)
@click.option(
    "--ic-tau",
    type=click.FloatRange(-1, 1),
    help="CRA threshold.  [default: 0.75 dynamic, 0.70 static, or as OUT has it]",
)
@click.option("--patch-tau", type=click.FloatRange(-1, 1), help="VR threshold.  [default: 0.60, or as OUT has it]")
@click.option("--calibration", type=DIRECTORY, help="A calibration.json: adds decisions at its thresholds.")
@click.option("--note", help="A caveat about these images that every table will carry.")
@click.option("--update", is_flag=True, help="Score every row of OUT again when the index has changed.")
@dry_run_option
@click.option(
    "--replace", is_flag=True, help="Remove rows of the models named whose images are not among those given now."
)
@click.option(
    "--cache", type=DIRECTORY, help="Where vectors are kept.  [default: $ICONICITY_CACHE, or the user's cache folder]"
)
@click.option("--no-cache", is_flag=True, help="Keep none.")
@click.option("--rehash", is_flag=True, help="Read every file again, also where size and times are as they were.")
@click.option("--outcsv", type=DIRECTORY, help="Path of the CSV file (one metric only).")
@click.option("--outmeta", type=DIRECTORY, help="Path of the .meta.json file (one metric only).")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, hidden=True)
@click.option("--encoders", "preset", hidden=True)
@csv_options
@shard_option
@links_option
@click.option(
    "--image-key",
    metavar="KEY",
    help="Which image of a WebDataset sample is scored, as png or mask.png.  [default: jpg, jpeg, png or webp]",
)
@location_options
@speed_options
@engine_options
def score_command(
    index: Place | None, metric: str, gen: Sequence[str], gen_root: Path | None, model: str | None, out: Path, mode: str,
    scope: str, search: str, settle: bool, search_shards: int, k_gen: int, ic_tau: float | None, patch_tau: float | None, calibration: Path | None, note: str | None, update: bool, dry_run: bool, replace: bool, cache: Path | None, no_cache: bool,
    rehash: bool, outcsv: Path | None, outmeta: Path | None, refs: Path | None, preset: str | None, prompt_csv: Path | None,
    slug_col: str, shard: Shard | None, batch_size: int | None, workers: int | None, max_pixels: int, follow_links: bool,
    image_key: str | None, where: Mapping[str, Any], encoders: EncoderOptions, device: str,
) -> int:  # fmt: skip
    """Score generated images against an index: CRA, VR, or both.

    \b
    Example:
      iconicity score --metric vr --index paintings.index --gen sd14=gen/sd14 --out results/
    """
    if index is None:
        hint = f"iconicity index build --refs {refs or 'refs/'} --index refs.index"
        raise click.UsageError(f"--index is missing: references are embedded once, by '{hint}'")
    if refs is not None:
        raise click.UsageError("--refdir belongs to 'iconicity index build'; score takes references from --index")
    if preset is not None:
        raise click.UsageError("--encoders belongs to 'iconicity index build'; score uses the index's own encoders")
    if (outcsv or outmeta) and metric == "all":
        raise click.UsageError("--outcsv and --outmeta need a single metric: --metric cra or --metric vr")
    if no_cache and cache:
        raise click.UsageError("--cache and --no-cache exclude each other")
    if scope == "concept" and (search != "exact" or settle or search_shards > 1):
        raise click.UsageError(
            "--search, --exact and --search-shards belong to --scope all; the own concept is always searched exactly"
        )
    generated = _generated(gen, gen_root, model, follow_links)
    from iconicity.indexer.options import Run, Select
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.measure.calibrate.calibration import read_calibration
    from iconicity.scorer.options import METRICS, ScoreOptions, Writing
    from iconicity.scorer.scoring import score

    opened = open_index(index)
    metrics = METRICS if metric == "all" else (metric,)
    options = ScoreOptions(metrics, mode, scope, search, settle, k_gen, ic_tau, patch_tau)
    select = Select(read_prompt_csv(prompt_csv, slug_col), shard, follow_links, image_key)
    writing = Writing(note, update, replace, outcsv, outmeta)
    if dry_run:
        from iconicity.scorer.rehearsal import rehearse_score

        folder = None if no_cache else cache or default_directory()
        found = rehearse_score(opened, generated, out, options, select=select, writing=writing, cache=folder)
        return _say_rehearsal(found, out)
    load = loader(encoders, device)
    if encoders.global_encoder or encoders.patch_encoder:
        loaded = load(*opened.specs)  # weights named on purpose are checked, also when nothing is left to embed
        load = lambda _clip, _dino: loaded  # noqa: E731
    store = None if no_cache else VectorCache(cache or default_directory())
    engine = engine_of(encoders, device, where)
    run = Run(load, device, engine, batch_size, workers, max_pixels, store, rehash, search_shards, progress_bar())
    held = None if calibration is None else read_calibration(calibration)
    report = score(opened, generated, out, options, calibration=held, select=select, writing=writing, run=run)
    return _say_score(report)


@command("search")
@click.argument("image", type=DIRECTORY)
@index_option
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Hits of the image and of each patch.")
@click.option("--json", "as_json", is_flag=True, help="All hits, as JSON.")
@click.option("--html", type=DIRECTORY, metavar="FILE", help="Write the hits as a page of pictures too.")
@max_pixels_option
@location_options
def search_command(
    image: Path,
    index: Place,
    k: int,
    as_json: bool,
    html: Path | None,
    max_pixels: int,
    encoders: EncoderOptions,
    device: str,
) -> int:
    """Find an image's nearest references over all concepts: by CLIP, and for each of its patches.

    \b
    Example:
      iconicity search suspicious.png --index paintings.index -k 5 --html hits.html
    """
    from iconicity.indexer.options import Run
    from iconicity.indexer.store.cache import default_directory
    from iconicity.indexer.store.index import open_index
    from iconicity.scorer.search import search_image
    from iconicity.scorer.text import search_text

    opened = open_index(index)
    hits = search_image(
        image, opened, k, default_directory(), Run(loader(encoders, device), device, max_pixels=max_pixels)
    )
    echo(json_text(hits) if as_json else search_text(hits))
    if html is not None:
        from iconicity.scorer.say.report.search_page import write_search_page

        write_search_page(
            hits,
            image,
            html,
            grid=opened.grid,
            overlapping=opened.overlapping,
            pixels=opened.settings["pixels"],
            max_pixels=max_pixels,
        )
        echo_line(html, err=True)
    return 0


@group()
def cache() -> None:
    """Look after the vectors of generated images that are kept.

    \b
    Example:
      iconicity cache info
    """


cache_option = click.option("--cache", "directory", type=DIRECTORY, help="The cache.  [default: the user's own]")


@cache.command("info")
@cache_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def cache_info(directory: Path | None, as_json: bool) -> int:
    """Say what the cache holds and how large it is.

    \b
    Example:
      iconicity cache info
    """
    from iconicity.indexer.store.cache import VectorCache, default_directory
    from iconicity.scorer.text import cache_text

    held = VectorCache(directory or default_directory())
    facts = held.info()
    echo(json_text(facts) if as_json else cache_text(str(held.path), facts))
    return 0


@cache.command("verify")
@cache_option
def cache_verify(directory: Path | None) -> int:
    """Test every row the cache holds. A damaged one is never used: it is computed again.

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
    "--older-than", type=click.FloatRange(0), metavar="DAYS", help="Forget vectors that were made so long ago."
)
@click.option("--all", "everything", is_flag=True, help="Forget every vector.")
def cache_clear(directory: Path | None, older_than: float | None, everything: bool) -> int:
    """Forget vectors. What is needed again is embedded again; no result is lost.

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


def _generated(gen: Sequence[str], gen_root: Path | None, model: str | None, follow_links: bool) -> dict[str, Place]:
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
    return dict(pairs)


def _say_rehearsal(found: Rehearsal, out: Path) -> int:
    code = say_skipped(found.skipped, found.notices)
    echo_line(f"dry run: {out}: {found.line()}")
    if found.refused is not None:
        echo_line(f"dry run: the command would be refused: {found.refused}")
    return code


def _say_score(report: ScoreReport) -> int:
    code = say_skipped(report.skipped, report.notices)
    echo_line(f"{counted(report.scored, 'image')} scored, {report.embedded} embedded, {len(report.skipped)} skipped")
    echo_line(", ".join(f"tau_{metric} {tau}" for metric, tau in report.tau.items() if tau is not None))
    for path in report.files:
        echo_line(str(path))
    return code
