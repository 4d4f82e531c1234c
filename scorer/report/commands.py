"""``iconicity report``: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path

import click

from iconicity.indexer.options import DIRECTORY, EXIT_SKIPPED, progress_bar


@click.command("report")
@click.argument("results", type=DIRECTORY)
@click.option(
    "--index", type=DIRECTORY, help="The index directory.  [default: the one the results were scored against]"
)
@click.option("--out", type=DIRECTORY, default=Path("report"), show_default=True, help="The folder to write.")
@click.option("--prompt-csv", type=DIRECTORY, help="CSV with the columns title, artist, year of the concepts.")
@click.option("--concept-col", default="label_clean", show_default=True, help="Its column of concepts.")
@click.option(
    "--vi-scope",
    type=click.Choice(["recognised", "all"]),
    default="recognised",
    show_default=True,
    help="Images whose VI enters CRT.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Processes that make thumbnails of many images.",
)
def report_command(
    results: Path, index: Path | None, out: Path, prompt_csv: Path | None, concept_col: str, vi_scope: str, seed: int, workers: int
) -> int:  # fmt: skip
    """Write pages that show which patch of which image came from where; they open from a disk, without a network.

    \b
    Example:
      iconicity report results/ --out report/
    """
    from iconicity.indexer.errors import InputError
    from iconicity.indexer.index import open_index
    from iconicity.scorer.report.build import read_titles, report
    from iconicity.scorer.results import require_results

    if index is None:
        held = require_results(results)
        known = [
            json.loads(p.read_text(encoding="utf-8")).get("index", {}).get("path")
            for p in sorted(held.path.glob("results_*.meta.json"))
        ]
        if not known or not Path(known[0]).is_dir():
            raise InputError(f"{results}: the index it was scored against is not where it was; name it with --index")
        index = Path(known[0])
    titles = None if prompt_csv is None else read_titles(prompt_csv, concept_col)
    done = report(
        results,
        open_index(index),
        out,
        titles=titles,
        vi_scope=vi_scope,
        seed=seed,
        workers=workers,
        progress=progress_bar(),
    )
    for sha, reason in sorted(done.problems.items()):
        click.echo(f"no picture: {sha[:12]}: {reason}", err=True)
    click.echo(f"{done.images} images of {done.concepts} concepts")
    click.echo(str(done.page))
    return EXIT_SKIPPED if done.problems else 0
