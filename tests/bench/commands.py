"""``python -m bench ...``: parse, call, print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iconicity.indexer.command_line import DIRECTORY, option_of, options, takes
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.options import Run

if TYPE_CHECKING:
    from bench.report import Figure


@click.group()
def bench() -> None:
    """Measure speed and memory here, each figure against another taken in the same run.

    \b
    Example:
      python -m bench encode --encoders offline
    """


bench_options = options(
    click.option("--images", type=DIRECTORY, help="Images to measure with.  [default: photographs of the demo extra]"),
    takes(EncoderOptions, "encoders", without=["patch_mode", "precision"]),
    option_of(Run, "device"),
    click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each figure."),
    click.option("--json", "as_json", is_flag=True, help="Figures, options and machine as JSON."),
)
mode_option = click.option("--patch-mode", type=click.Choice(["crop", "token"]), default="crop", show_default=True)
fixed_batch_option = click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
workers_option = click.option("--workers", type=click.IntRange(0), default=0, show_default=True)


@bench.command("encode")
@click.option("--n", type=click.IntRange(1), default=16, show_default=True, help="Images of 768 pixels.")
@mode_option
@fixed_batch_option
@workers_option
@bench_options
def bench_encode_command(
    n: int,
    batch_size: int,
    workers: int,
    images: Path | None,
    repeat: int,
    as_json: bool,
    encoders: EncoderOptions,
    device: str,
) -> int:
    """The pipeline's images/s over those of the raw forward passes.

    \b
    Example:
      python -m bench encode --encoders offline --n 64
    """
    from bench.encode import bench_encode
    from iconicity.indexer.encode.encoder import load_encoders

    figures = bench_encode(load_encoders(encoders, device), images, n, batch_size, workers, repeat)
    return _say_figures(
        figures, as_json, {**vars(encoders), "device": device, "n": n, "batch_size": batch_size, "workers": workers}
    )


@bench.command("score")
@click.option("--references", default="1,5,20", show_default=True, help="Numbers of references, comma-separated.")
@click.option("--n", type=click.IntRange(2), default=12, show_default=True, help="Images to score.")
@mode_option
@fixed_batch_option
@workers_option
@bench_options
def bench_score_command(
    references: str, n: int, batch_size: int, workers: int, images: Path | None, repeat: int,
    as_json: bool, encoders: EncoderOptions, device: str,
) -> int:  # fmt: skip
    """Scoring against an index over a loop that embeds the references again for every image.

    \b
    Example:
      python -m bench score --encoders offline --references 1,20
    """
    from bench.score import bench_score
    from iconicity.indexer.encode.encoder import load_encoders

    try:
        numbers = [int(r) for r in references.split(",")]
    except ValueError as e:
        raise click.UsageError(f"--references {references}: numbers separated by commas, like 1,5,20") from e
    figures = bench_score(load_encoders(encoders, device), images, numbers, n, batch_size, workers, repeat)
    return _say_figures(
        figures, as_json, {**vars(encoders), "device": device, "n": n, "batch_size": batch_size, "workers": workers}
    )


@bench.command("search")
@click.option("--patches", default="12000,250000", show_default=True, help="Numbers of patches, comma-separated.")
@click.option(
    "--synthetic", is_flag=True, help="Random float16 vectors instead of an encoder's: for very large numbers."
)
@bench_options
def bench_search_command(
    patches: str,
    synthetic: bool,
    images: Path | None,
    repeat: int,
    as_json: bool,
    encoders: EncoderOptions,
    device: str,
) -> int:
    """Exact product, approximate index and settled decisions over many patches.

    \b
    Example:
      python -m bench search --encoders offline --patches 12000
    """
    from bench.run import run_search
    from iconicity.indexer.encode.encoder import load_encoders

    try:
        numbers = [int(p) for p in patches.split(",")]
    except ValueError as e:
        raise click.UsageError(f"--patches {patches}: numbers separated by commas") from e
    load = lambda: load_encoders(replace(encoders, patch_mode="token"), device)  # noqa: E731
    figures = run_search(load, images, numbers, synthetic, repeat)
    return _say_figures(
        figures, as_json, {**vars(encoders), "device": device, "patches": patches, "synthetic": synthetic}
    )


@bench.command("scale")
@click.option("--decades", default="2,3,4,5", show_default=True, help="Exponents of ten, comma-separated.")
@workers_option
@click.option("--json", "as_json", is_flag=True, help="Figures, options and machine as JSON.")
def bench_scale_command(decades: str, workers: int, as_json: bool) -> int:
    """Time and peak memory of scoring 10^2 to 10^5 small images.

    \b
    Example:
      python -m bench scale --decades 2,3
    """
    from bench.scale import bench_scale

    try:
        exponents = sorted({int(d) for d in decades.split(",")})
    except ValueError as e:
        raise click.UsageError(f"--decades {decades}: numbers separated by commas, like 2,3") from e
    return _say_figures(bench_scale(exponents, workers), as_json, {"decades": exponents, "workers": workers})


@bench.command("beside")
@click.option("--n", type=click.IntRange(1), default=15, show_default=True, help="References of 768 pixels.")
@click.option("--images", type=DIRECTORY, help="Images to measure with.  [default: photographs of the demo extra]")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each figure.")
@click.option("--json", "as_json", is_flag=True, help="Figures, options and machine as JSON.")
def bench_beside_command(n: int, images: Path | None, repeat: int, as_json: bool) -> int:
    """Time of an index build beside one busy process per core, over that without.

    \b
    Example:
      python -m bench beside
    """
    from bench.beside import bench_beside

    return _say_figures(bench_beside(images, n, repeat), as_json, {"n": n})


@bench.command("cluster")
@click.option("--images", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--actors", default="1,2,4,8", show_default=True, help="Numbers of actors, comma-separated.")
@click.option("--milliseconds", type=click.FloatRange(0), default=8.0, show_default=True, help="Of an actor an image.")
@click.option("--json", "as_json", is_flag=True, help="Figures, options and machine as JSON.")
def bench_cluster_command(images: int, actors: str, milliseconds: float, as_json: bool) -> int:
    """How Ray actors that sleep as long as an encoder works share the images of an index, and what the engine costs.

    \b
    Example:
      python -m bench cluster --images 2000 --actors 1,2
    """
    from bench.cluster import bench_cluster

    try:
        numbers = [int(a) for a in actors.split(",")]
        if min(numbers) < 1:
            raise ValueError
    except ValueError as e:
        raise click.UsageError(f"--actors {actors}: numbers separated by commas, like 1,2,4") from e
    figures = bench_cluster(images, numbers, milliseconds / 1e3)
    return _say_figures(figures, as_json, {"images": images, "actors": numbers, "milliseconds": milliseconds})


def _say_figures(figures: Sequence[Figure], as_json: bool, settings: dict[str, Any]) -> int:
    from bench.report import as_json as json_of
    from bench.report import as_text

    click.echo(json.dumps(json_of(figures, settings), indent=1) if as_json else as_text(figures))
    return 0


@bench.command("simulate")
@click.option(
    "--studies", type=click.IntRange(10), default=2000, show_default=True, help="Synthetic studies of each case."
)
@click.option(
    "--out", type=DIRECTORY, default=Path("simulation"), show_default=True, help="Where its tables go, as CSV."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def bench_simulate_command(studies: int, out: Path, seed: int) -> int:
    """Synthetic studies with known truth: do intervals cover it, do thresholds and p hold what they promise?

    \b
    Example:
      python -m bench simulate --studies 200
    """
    from bench import simulate
    from iconicity.scorer.measure.finding import Finding, as_text, write_finding

    seconds = simulate.summary_seconds(seed=seed)
    click.echo(f"summary of 5 models x 767 concepts x 50 images, 10 000 draws: {seconds:.1f} s\n")
    facts = {"studies": studies, "seed": seed}
    frames = {
        "coverage": simulate.coverage(studies=studies, seed=seed),
        "false_positives": simulate.false_positives(studies=max(10, studies // 10), seed=seed),
        "no_difference": simulate.no_difference(studies=studies, seed=seed),
    }
    for name, frame in frames.items():
        finding = Finding({name: frame}, facts=facts)
        write_finding(finding, out / f"{name}.csv")
        click.echo(f"{name}\n{as_text(finding)}\n")
    return 0
