"""``iconicity collect``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.data.collect.options import CollectOptions
from iconicity.indexer.command_line import DIRECTORY, EXIT_SKIPPED, say_note, takes
from iconicity.indexer.display import progress_bar
from iconicity.indexer.help import command
from iconicity.indexer.sources.folders import CHOOSE
from iconicity.indexer.text import counted, echo_line

if TYPE_CHECKING:
    from iconicity.data.collect.collect import Query
    from iconicity.data.collect.titles import Wanted


@command("collect")
@click.option(
    "--titles",
    type=DIRECTORY,
    help="CSV file of what to collect: columns title, and where you like creator, item (an id of Wikidata) and concept.",
)
@click.option(
    "--sparql", type=DIRECTORY, help="File of a SPARQL query for Wikidata whose rows name ?item, in place of --titles."
)
@click.option("--out", type=DIRECTORY, required=True, help="Folder for the references, concepts.csv and credits.csv.")
@click.option(
    "--contact",
    required=True,
    metavar="ADDRESS",
    help="Your e-mail address or page. Wikimedia's servers get it with each request, as they demand.",
)
@takes(CollectOptions, "options")
@click.option(
    "--dry-run", is_flag=True, help="Show what the command would do. No server is asked, and nothing is written."
)
def collect_command(
    titles: Path | None, sparql: Path | None, out: Path, contact: str, options: CollectOptions, dry_run: bool
) -> int:  # fmt: skip
    """Fetch reference images of pictures from Wikimedia Commons, with their credits, dates and popularity.

    A title that fits several items of Wikidata is never guessed: choose.csv lists the items, and you put the id of one
    into the column item. What stands in the folder is not fetched again.

    \b
    Example:
      iconicity collect --titles titles.csv --out refs/ --contact you@example.org
    """
    from iconicity.data.collect.client import Client, services, user_agent
    from iconicity.data.collect.collect import collect, plan

    client = Client(user_agent(contact), services(), say_note)
    wanted = _wanted(titles, sparql)
    if dry_run:
        for line in plan(wanted, out, options):
            echo_line(line)
        return 0
    report = collect(wanted, out, client, options, progress_bar())
    for notice in report.notices:
        say_note(notice)
    for where, why in report.skipped:
        echo_line(f"skipped: {where}: {why}", err=True)
    if report.to_choose:
        echo_line(f"{counted(report.to_choose, 'item')} to choose from: {out / CHOOSE}", err=True)
    echo_line(
        f"{counted(report.concepts, 'concept')}, {counted(report.files, 'picture')} ({report.fetched} new), "
        f"{len(report.skipped)} skipped: {out}"
    )
    return EXIT_SKIPPED if report.skipped else 0


def _wanted(titles: Path | None, sparql: Path | None) -> Sequence[Wanted] | Query:
    from iconicity.data.collect.collect import Query
    from iconicity.data.collect.titles import read_query, read_titles

    if titles is not None and sparql is None:
        return read_titles(titles, say_note)
    if sparql is not None and titles is None:
        return Query(read_query(sparql), str(sparql))
    raise click.UsageError("name what to collect once: --titles FILE or --sparql FILE")
