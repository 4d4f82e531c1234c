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
batch_option = click.option(
    "--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Network inputs a forward pass."
)
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
@batch_option
def index_build(
    refs: Path, index: Path, prompt_csv: Path | None, slug_col: str, encoders: str, clip_model: str | None,
    dino_model: str | None, dino_weights: str | None, dino_image_size: int | None, device: str, pool: str,
    grid_rows: int, grid_cols: int, dedup_distance: int, no_dedup: bool, no_exif: bool, batch_size: int,
) -> int:  # fmt: skip
    """Embed every reference once. Run again, it embeds only what is new or changed.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index --prompt-csv prompts.csv
    """
    from iconicity.indexer.build import build_index
    from iconicity.indexer.encoders import EncoderChoice, load_encoders

    choice = EncoderChoice(encoders, clip_model, dino_model, dino_weights, dino_image_size, pool, device)
    report = build_index(
        refs,
        index,
        load_encoders(choice),
        concepts=_concepts(prompt_csv, slug_col),
        grid=(grid_rows, grid_cols),
        dedup_distance=None if no_dedup else dedup_distance,
        exif=not no_exif,
        batch_size=batch_size,
        progress=progress_bar(),
    )
    return _say_build(report, index)


@index.command("add")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, required=True, help="Folder with new files or concepts.")
@index_option
@csv_options
@model_options
@batch_option
def index_add(refs: Path, index: Path, prompt_csv: Path | None, slug_col: str, batch_size: int, **models: Any) -> int:
    """Add new files or concepts to an index; nothing is removed.

    \b
    Example:
      iconicity index add --refs more_refs/ --index paintings.index
    """
    from iconicity.indexer.build import add_references

    concepts = _concepts(prompt_csv, slug_col)
    report = add_references(
        refs, index, load=_loader(models), concepts=concepts, batch_size=batch_size, progress=progress_bar()
    )
    return _say_build(report, index)


@index.command("remove")
@index_option
@click.option("--concept", "concepts", multiple=True, help="A concept to remove. May be repeated.")
@click.option("--ref", "ref_ids", multiple=True, help="A reference to remove, as <concept>/<file>. May be repeated.")
@model_options
@batch_option
def index_remove(index: Path, concepts: Sequence[str], ref_ids: Sequence[str], batch_size: int, **models: Any) -> int:
    """Remove concepts or single references; duplicates of what goes take its place.

    \b
    Example:
      iconicity index remove --index paintings.index --concept water_lilies
    """
    from iconicity.indexer.build import remove_references

    if not concepts and not ref_ids:
        raise click.UsageError("name what to remove with --concept or --ref")
    report = remove_references(
        index, concepts=concepts, ref_ids=ref_ids, load=_loader(models), batch_size=batch_size, progress=progress_bar()
    )
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
    from iconicity.indexer.info import index_facts, info_text

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
            f"{index}: {len(problems)} problems; run 'iconicity index build' again, or restore it from a copy"
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
    "--k-gen",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Images of a concept that count, by file name.",
)
@click.option("--ic-tau", type=float, help="CRA threshold.  [default: 0.75 dynamic, 0.70 static, or as OUT has it]")
@click.option("--patch-tau", type=float, help="VR threshold.  [default: 0.60, or as OUT has it]")
@click.option("--update", is_flag=True, help="Score every row of OUT again when the index has changed.")
@click.option("--cache", type=DIRECTORY, help="Where vectors of generated images are kept.")
@click.option("--no-cache", is_flag=True, help="Keep none.")
@click.option("--rehash", is_flag=True, help="Read every file again, also where size and times are as they were.")
@click.option("--outcsv", type=DIRECTORY, help="Name of the CSV file (one metric only).")
@click.option("--outmeta", type=DIRECTORY, help="Name of the .meta.json file (one metric only).")
@click.option("--refs", "--refdir", "refs", type=DIRECTORY, hidden=True)
@csv_options
@model_options
@batch_option
def score_command(
    index: Path | None, metric: str, gen: Sequence[str], gen_root: Path | None, model: str | None, out: Path, mode: str,
    k_gen: int, ic_tau: float | None, patch_tau: float | None, update: bool, cache: Path | None, no_cache: bool,
    rehash: bool, outcsv: Path | None, outmeta: Path | None, refs: Path | None, prompt_csv: Path | None, slug_col: str,
    batch_size: int, **models: Any,
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
    if (outcsv or outmeta) and metric == "all":
        raise click.UsageError("--outcsv and --outmeta need a single metric: --metric cra or --metric vr")
    if no_cache and cache:
        raise click.UsageError("--cache and --no-cache exclude each other")
    generated = _generated(gen, gen_root, model)
    from iconicity.indexer.index import open_index
    from iconicity.scorer.cache import VectorCache, default_directory
    from iconicity.scorer.scoring import METRICS, score

    opened = open_index(index)
    load = _loader(models)
    if any(models[k] is not None for k in ("clip_model", "dino_model", "dino_weights", "dino_image_size")):
        encoders = load(*opened.specs)  # weights named on purpose are checked, also when nothing is left to embed
        load = lambda _clip, _dino: encoders  # noqa: E731
    store = None if no_cache else VectorCache(cache or default_directory())
    report = score(
        opened, generated, out, metrics=METRICS if metric == "all" else (metric,), mode=mode, tau_cra=ic_tau,
        tau_vr=patch_tau, k_gen=k_gen, concepts=_concepts(prompt_csv, slug_col), update=update, cache=store,
        rehash=rehash, load=lambda: load(*opened.specs), batch_size=batch_size, out_csv=outcsv, out_meta=outmeta,
        progress=progress_bar(),
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
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="All hits, as JSON.")
@model_options
def search_command(image: Path, index: Path, k: int, as_json: bool, **models: Any) -> int:
    """Find an image's nearest references over all concepts: by CLIP, and for each of its patches.

    \b
    Example:
      iconicity search suspicious.png --index paintings.index -k 5
    """
    from iconicity.indexer.index import open_index
    from iconicity.scorer.search import search_image
    from iconicity.scorer.text import search_text

    opened = open_index(index)
    hits = search_image(image, opened, k, lambda: _loader(models)(*opened.specs))
    click.echo(json.dumps(hits, indent=1, ensure_ascii=False) if as_json else search_text(hits))
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
        pairs.append((name, Path(folder)) if eq else (model or Path(item).name, Path(item)))
    if gen_root is not None:
        if not gen_root.is_dir():
            raise IconicityError(f"{gen_root}: no such folder; --gen-root names one with a folder for each model")
        pairs += [(p.name, p) for p in sorted(gen_root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    names = [n for n, _ in pairs]
    for name in names:
        if not name or names.count(name) > 1:
            raise click.UsageError(f"--gen: the model name '{name}' is empty or given twice")
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
            f"{index}: {report.embedded} images embedded, {report.copied} taken over, {report.unchanged} unchanged, "
            f"{report.removed} removed, {len(report.skipped)} skipped"
        )
    click.echo(f"{report.concepts} concepts, {report.kept} references kept, {report.dropped} near-duplicates dropped")
    click.echo(f"index_id {report.index_id}")
    return code


def _say_score(report: ScoreReport) -> int:
    code = _say_skipped(report.skipped, report.notices)
    click.echo(f"{report.scored} images scored, {report.embedded} embedded, {len(report.skipped)} skipped")
    click.echo(f"tau_cra {report.tau['cra']}, tau_vr {report.tau['vr']}")
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
    sys.exit(code)


if __name__ == "__main__":
    main()
