"""The command line: parse, call, print. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from iconicity.indexer.errors import IconicityError

if TYPE_CHECKING:
    from iconicity.indexer.build import BuildReport, LoadEncoders, Progress, Skipped
    from iconicity.indexer.encoders import EncoderChoice
    from iconicity.scorer.scoring import ScoreReport

EXIT_SKIPPED = 3
F = TypeVar("F", bound=Callable[..., Any])
DIRECTORY = click.Path(path_type=Path)


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(f: F) -> F:
        for decorator in reversed(decorators):
            f = decorator(f)
        return f

    return apply


index_option = click.option("--index", "index", type=DIRECTORY, required=True, help="The index directory.")


class _NumberOrAuto(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or the word auto, which is None."""

    name = "auto|N"

    def __init__(self, least: int) -> None:
        self._range = click.IntRange(least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value in (None, "auto") else int(self._range.convert(value, param, ctx))


speed_options = _options(
    click.option(
        "--batch-size", type=_NumberOrAuto(1), default="auto", show_default=True,
        help="Network inputs a forward pass; auto measures.",
    ),
    click.option(
        "--workers", type=_NumberOrAuto(0), default="auto", show_default=True,
        help="Processes that decode and preprocess; 0: none.",
    ),
)  # fmt: skip
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
csv_options = _options(
    click.option("--prompt-csv", type=DIRECTORY, help="Only the concepts named in this CSV file."),
    click.option("--slug-col", default="label_clean", show_default=True, help="Its column of concepts."),
)
model_options = _options(
    click.option("--clip-model", help="CLIP: a hub id, or a folder written by save_pretrained."),
    click.option("--dino-model", help="Patch encoder: any timm model name."),
    click.option("--dino-weights", help="Its weights: a local safetensors file."),
    click.option("--dino-image-size", type=click.IntRange(1), help="Its input size in pixels."),
    device_option,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iconicity")
def cli() -> None:
    """Does a text-to-image model recognise a famous image behind a prompt, and does it copy or transform it?

    \b
    Example:
      iconicity demo
      iconicity index build --refs refs/ --index paintings.index
      iconicity score --metric all --index paintings.index --gen sd14=gen/sd14 --out results/
      iconicity summary results/
    """


@cli.group()
def index() -> None:
    """Build and look after an index of reference images.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index
    """


@index.command("build")
@click.option(
    "--refs",
    "--refdir",
    "refs",
    type=DIRECTORY,
    required=True,
    help="Folder with one folder of images for each concept.",
)
@index_option
@csv_options
@click.option(
    "--encoders",
    type=click.Choice(["paper", "offline"]),
    default="paper",
    show_default=True,
    help="The paper's CLIP and DINOv3, or EfficientNet-Lite0 (no download).",
)
@model_options
@click.option(
    "--pool",
    type=click.Choice(["all", "patch", "cls"]),
    default="all",
    show_default=True,
    help="Which tokens of a patch are averaged.",
)
@click.option("--grid-rows", type=click.IntRange(1), default=4, show_default=True)
@click.option("--grid-cols", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--dedup-distance",
    type=click.IntRange(0, 64),
    default=18,
    show_default=True,
    help="pHash distance at or below which a reference is a duplicate.",
)
@click.option("--no-dedup", is_flag=True, help="Keep every reference.")
@click.option("--no-exif", is_flag=True, help="Leave images as stored, unrotated, as the published scripts do.")
@click.option(
    "--patch-mode",
    type=click.Choice(["crop", "token"]),
    default="crop",
    show_default=True,
    help="Embed each cell alone, or the image once and average its tokens cell by cell (faster; other numbers).",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the forward passes.",
)
@click.option(
    "--vectors",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How vectors are stored; float16 halves the index and moves a cosine by up to 5e-5.",
)
@speed_options
def index_build(
    refs: Path, index: Path, prompt_csv: Path | None, slug_col: str, encoders: str, clip_model: str | None,
    dino_model: str | None, dino_weights: str | None, dino_image_size: int | None, device: str, pool: str,
    grid_rows: int, grid_cols: int, dedup_distance: int, no_dedup: bool, no_exif: bool, patch_mode: str,
    precision: str, vectors: str, **speed: int | None,
) -> int:  # fmt: skip
    """Embed every reference once. Run again, it embeds only what is new or changed.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index --prompt-csv prompts.csv
    """
    from iconicity.indexer.build import build_index
    from iconicity.indexer.encoders import EncoderChoice, load_encoders

    choice = EncoderChoice(
        encoders, clip_model, dino_model, dino_weights, dino_image_size, pool, device, patch_mode, precision
    )
    report = build_index(
        refs,
        index,
        load_encoders(choice),
        concepts=_concepts(prompt_csv, slug_col),
        grid=(grid_rows, grid_cols),
        dedup_distance=None if no_dedup else dedup_distance,
        exif=not no_exif,
        vectors=vectors,
        progress=progress_bar(),
        **_speed(speed),
    )
    return _say_build(report, index)


@index.command("add")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, required=True, help="Folder with new files or concepts.")
@index_option
@csv_options
@model_options
@speed_options
def index_add(
    refs: Path, index: Path, prompt_csv: Path | None, slug_col: str, batch_size: int | None, workers: int | None,
    **models: Any,
) -> int:  # fmt: skip
    """Add new files or concepts to an index; nothing is removed.

    \b
    Example:
      iconicity index add --refs more_refs/ --index paintings.index
    """
    from iconicity.indexer.build import add_references

    concepts = _concepts(prompt_csv, slug_col)
    report = add_references(
        refs, index, load=_loader(models), concepts=concepts, progress=progress_bar(),
        **_speed({"batch_size": batch_size, "workers": workers}),
    )  # fmt: skip
    return _say_build(report, index)


@index.command("remove")
@index_option
@click.option("--concept", "concepts", multiple=True, help="A concept to remove. May be repeated.")
@click.option("--ref", "ref_ids", multiple=True, help="A reference to remove, as <concept>/<file>. May be repeated.")
@model_options
@speed_options
def index_remove(
    index: Path, concepts: Sequence[str], ref_ids: Sequence[str], batch_size: int | None, workers: int | None,
    **models: Any,
) -> int:  # fmt: skip
    """Remove concepts or single references; duplicates of what goes take its place.

    \b
    Example:
      iconicity index remove --index paintings.index --concept water_lilies
    """
    from iconicity.indexer.build import remove_references

    if not concepts and not ref_ids:
        raise click.UsageError("name what to remove with --concept or --ref")
    report = remove_references(
        index, concepts=concepts, ref_ids=ref_ids, load=_loader(models), progress=progress_bar(),
        **_speed({"batch_size": batch_size, "workers": workers}),
    )  # fmt: skip
    return _say_build(report, index)


@index.command("info")
@index_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def index_info(index: Path, as_json: bool) -> int:
    """Say what an index holds: references kept and dropped, encoders, grid, size, versions.

    \b
    Example:
      iconicity index info --index paintings.index
    """
    from iconicity.indexer.info import LISTED, index_facts, info_text

    facts = index_facts(index, concepts=False)
    if as_json or facts["counts"]["references"] <= LISTED:
        facts = index_facts(index)
    click.echo(json.dumps(facts, indent=1, ensure_ascii=False) if as_json else info_text(facts))
    return 0


@index.command("verify")
@index_option
def index_verify(index: Path) -> int:
    """Test every byte of an index: file digests, row checksums, norms, counts.

    \b
    Example:
      iconicity index verify --index paintings.index
    """
    from iconicity.indexer.verify import verify_index

    problems = verify_index(index)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise IconicityError(
            f"{index}: {len(problems)} problems; restore it from a copy, or delete the folder and build it again"
        )
    click.echo(f"{index}: whole")
    return 0


@cli.command("score")
@click.option("--index", "index", type=DIRECTORY, help="The index directory.")
@click.option("--metric", type=click.Choice(["cra", "vr", "all"]), default="all", show_default=True)
@click.option(
    "--gen",
    "--gendir",
    "gen",
    multiple=True,
    metavar="[NAME=]DIR",
    help="A model's images, one folder a concept. May be repeated.",
)
@click.option("--gen-root", type=DIRECTORY, help="Take each subfolder as one model.")
@click.option("--model", help="Name of the one --gen folder.")
@click.option("--out", type=DIRECTORY, default=Path("results"), show_default=True, help="The results directory.")
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
    "--k-gen",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Images of a concept that count, by file name.",
)
@click.option(
    "--ic-tau",
    type=click.FloatRange(-1, 1),
    help="CRA threshold.  [default: 0.75 dynamic, 0.70 static, or as OUT has it]",
)
@click.option("--patch-tau", type=click.FloatRange(-1, 1), help="VR threshold.  [default: 0.60, or as OUT has it]")
@click.option("--update", is_flag=True, help="Score every row of OUT again when the index has changed.")
@click.option(
    "--cache", type=DIRECTORY, help="Where vectors are kept.  [default: $ICONICITY_CACHE, or the user's cache folder]"
)
@click.option("--no-cache", is_flag=True, help="Keep none.")
@click.option("--rehash", is_flag=True, help="Read every file again, also where size and times are as they were.")
@click.option("--outcsv", type=DIRECTORY, help="Path of the CSV file (one metric only).")
@click.option("--outmeta", type=DIRECTORY, help="Path of the .meta.json file (one metric only).")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, hidden=True)
@click.option("--encoders", hidden=True)
@csv_options
@model_options
@speed_options
def score_command(
    index: Path | None, metric: str, gen: Sequence[str], gen_root: Path | None, model: str | None, out: Path, mode: str,
    scope: str, search: str, settle: bool, k_gen: int, ic_tau: float | None, patch_tau: float | None, update: bool, cache: Path | None, no_cache: bool,
    rehash: bool, outcsv: Path | None, outmeta: Path | None, refs: Path | None, encoders: str | None, prompt_csv: Path | None,
    slug_col: str, batch_size: int | None, workers: int | None, **models: Any,
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
    if encoders is not None:
        raise click.UsageError("--encoders belongs to 'iconicity index build'; score uses the index's own encoders")
    if (outcsv or outmeta) and metric == "all":
        raise click.UsageError("--outcsv and --outmeta need a single metric: --metric cra or --metric vr")
    if no_cache and cache:
        raise click.UsageError("--cache and --no-cache exclude each other")
    if scope == "concept" and (search != "exact" or settle):
        raise click.UsageError("--search and --exact belong to --scope all; the own concept is always searched exactly")
    generated = _generated(gen, gen_root, model)
    from iconicity.indexer.index import open_index
    from iconicity.scorer.cache import VectorCache, default_directory
    from iconicity.scorer.scoring import METRICS, score

    opened = open_index(index)
    load = _loader(models)
    if any(models[k] is not None for k in ("clip_model", "dino_model", "dino_weights", "dino_image_size")):
        loaded = load(*opened.specs)  # weights named on purpose are checked, also when nothing is left to embed
        load = lambda _clip, _dino: loaded  # noqa: E731
    store = None if no_cache else VectorCache(cache or default_directory())
    report = score(
        opened, generated, out, metrics=METRICS if metric == "all" else (metric,), mode=mode, scope=scope,
        search=search, settle=settle, tau_cra=ic_tau,
        tau_vr=patch_tau, k_gen=k_gen, concepts=_concepts(prompt_csv, slug_col), update=update, cache=store,
        rehash=rehash, load=lambda: load(*opened.specs), out_csv=outcsv, out_meta=outmeta, progress=progress_bar(),
        device=models["device"], **_speed({"batch_size": batch_size, "workers": workers}),
    )  # fmt: skip
    return _say_score(report)


@cli.command("summary")
@click.argument("results", type=DIRECTORY)
@click.option(
    "--vi-scope",
    type=click.Choice(["recognised", "all"]),
    default="recognised",
    show_default=True,
    help="Images whose VI enters CRT.",
)
@click.option("--per-concept", is_flag=True, help="One line a model and concept.")
@click.option("--json", "as_json", is_flag=True, help="Flat JSON of scalars.")
def summary_command(results: Path, vi_scope: str, per_concept: bool, as_json: bool) -> int:
    """Print CRA, VR, VI and CRT of each model in a results directory.

    \b
    Example:
      iconicity summary results/ --json
    """
    from iconicity.scorer.results import require_results
    from iconicity.scorer.summary import flat_json, summarise
    from iconicity.scorer.text import concept_table, summary_table

    held = require_results(results)
    models, concepts = summarise(held, vi_scope)
    if as_json:
        click.echo(json.dumps(flat_json(models, held), indent=1, ensure_ascii=False))
    else:
        click.echo(concept_table(concepts) if per_concept else summary_table(models, held))
    return 0


@cli.command("search")
@click.argument("image", type=DIRECTORY)
@index_option
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Hits of the image and of each patch.")
@click.option("--json", "as_json", is_flag=True, help="All hits, as JSON.")
@model_options
def search_command(image: Path, index: Path, k: int, as_json: bool, **models: Any) -> int:
    """Find an image's nearest references over all concepts: by CLIP, and for each of its patches.

    \b
    Example:
      iconicity search suspicious.png --index paintings.index -k 5
    """
    from iconicity.indexer.index import open_index
    from iconicity.scorer.cache import default_directory
    from iconicity.scorer.search import search_image
    from iconicity.scorer.text import search_text

    opened = open_index(index)
    hits = search_image(image, opened, k, lambda: _loader(models)(*opened.specs), default_directory())
    click.echo(json.dumps(hits, indent=1, ensure_ascii=False) if as_json else search_text(hits))
    return 0


@cli.group()
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
    from iconicity.scorer.cache import VectorCache, default_directory
    from iconicity.scorer.text import cache_text

    held = VectorCache(directory or default_directory())
    facts = held.info()
    click.echo(json.dumps(facts, indent=1) if as_json else cache_text(str(held.path), facts))
    return 0


@cache.command("clear")
@cache_option
@click.option("--older-than", type=click.FloatRange(0), default=0.0, metavar="DAYS", help="Only what is older.")
def cache_clear(directory: Path | None, older_than: float) -> int:
    """Forget vectors. What is needed again is embedded again; no result is lost.

    \b
    Example:
      iconicity cache clear --older-than 90
    """
    from iconicity.scorer.cache import VectorCache, default_directory

    held = VectorCache(directory or default_directory())
    click.echo(f"{held.path}: {held.clear(older_than)} vectors forgotten")
    return 0


@cli.command("demo")
@click.option("--out", type=DIRECTORY, default=Path("iconicity-demo"), show_default=True, help="Where its files go.")
def demo_command(out: Path) -> int:
    """Index, score and summarise a small sample with known truth; nothing is downloaded.

    \b
    Example:
      iconicity demo --out demo/
    """
    from iconicity.data.demo import run_demo

    click.echo(run_demo(out, progress_bar()))
    return 0


def _concepts(prompt_csv: Path | None, slug_col: str) -> list[str] | None:
    from iconicity.indexer.images import read_concepts

    return None if prompt_csv is None else read_concepts(prompt_csv, slug_col)


def _speed(options: dict[str, int | None]) -> dict[str, Any]:
    """--batch-size and --workers as the functions take them; auto workers depend on the number of images."""
    from iconicity.indexer.pipeline import default_workers

    workers = options["workers"]
    return {"batch_size": options["batch_size"], "workers": default_workers if workers is None else workers}


def _loader(models: dict[str, Any]) -> LoadEncoders:
    from iconicity.indexer.encoders import EncoderChoice, reproduce

    choice: EncoderChoice = EncoderChoice(**models)
    return lambda clip, dino: reproduce(clip, dino, choice)


def _generated(gen: Sequence[str], gen_root: Path | None, model: str | None) -> dict[str, Path]:
    """Model name -> folder, from --gen NAME=DIR, --gen DIR --model NAME, and --gen-root."""
    if not gen and gen_root is None:
        raise click.UsageError("name the generated images: --gen NAME=DIR, or --gen-root DIR")
    if model and (len(gen) != 1 or "=" in gen[0] or gen_root):
        raise click.UsageError("--model names the one --gen folder; with several, write --gen NAME=DIR")
    pairs: list[tuple[str, Path]] = []
    for item in gen:
        name, eq, folder = item.partition("=")
        if eq and not folder:
            raise click.UsageError(f"--gen {item}: names no folder")
        pairs.append((name, Path(folder)) if eq else (model or Path(item).name, Path(item)))
    if gen_root is not None:
        if not gen_root.is_dir():
            raise IconicityError(f"{gen_root}: no such folder; --gen-root names one with a folder for each model")
        pairs += [(p.name, p) for p in sorted(gen_root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    from iconicity.indexer.images import is_text

    names = [n for n, _ in pairs]
    for name in names:
        if not name or names.count(name) > 1 or not is_text(name):
            raise click.UsageError(f"--gen: the model name {name!r} is empty, given twice or not UTF-8")
    return dict(pairs)


def _say_skipped(skipped: Sequence[Skipped], notices: Sequence[str]) -> int:
    for notice in notices:
        click.echo(f"note: {notice}", err=True)
    for s in skipped:
        click.echo(f"skipped: {s.path}: {s.reason}", err=True)
    return EXIT_SKIPPED if skipped else 0


def _say_build(report: BuildReport, index: Path) -> int:
    code = _say_skipped(report.skipped, report.notices)
    if not report.changed:
        click.echo(f"{index}: nothing has changed, 0 images embedded")
    else:
        click.echo(
            f"{index}: {report.embedded} images embedded, {report.copied} copied from known vectors, {report.unchanged} unchanged, "
            f"{report.removed} removed, {len(report.skipped)} skipped"
        )
    click.echo(f"{report.concepts} concepts, {report.kept} references kept, {report.dropped} near-duplicates dropped")
    click.echo(f"index_id {report.index_id}")
    return code


def _say_score(report: ScoreReport) -> int:
    code = _say_skipped(report.skipped, report.notices)
    click.echo(f"{report.scored} images scored, {report.embedded} embedded, {len(report.skipped)} skipped")
    click.echo(", ".join(f"tau_{metric} {tau}" for metric, tau in report.tau.items() if tau is not None))
    for path in report.files:
        click.echo(str(path))
    return code


def progress_bar() -> Progress:
    """A tqdm bar a stage on stderr (images/s, ETA); silent when stderr is no terminal."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total, desc=what, unit="img", file=sys.stderr, disable=None)
        bars[what].update(done - bars[what].n)
        if done >= total:
            bars[what].close()

    return update


def _stop(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the command line and exit with the contract's codes."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except (click.Abort, KeyboardInterrupt, SystemExit) as e:
        click.echo("stopped; run the same command again to go on", err=True)
        code = e.code if isinstance(e, SystemExit) else 130
    except IconicityError as e:
        click.echo(f"error: {e}", err=True)
        code = 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as e:
        name = e.filename if e.filename is not None else "a file"
        click.echo(f"error: {name}: {e.strerror or e}; free space, or see that it may be read and written", err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
