"""Collect references: the items of titles, their pictures, and three tables. A run that was ended goes on where it stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from iconicity.data.collect.client import Client
from iconicity.data.collect.items import Concept, Items
from iconicity.data.collect.journal import Fetched, Journal, Settings
from iconicity.data.collect.options import CollectOptions
from iconicity.data.collect.pageviews import last_year, page_views
from iconicity.data.collect.pictures import Pictures
from iconicity.data.collect.tables import (
    CHOICE_COLUMNS,
    CONCEPT_COLUMNS,
    CREDIT_COLUMNS,
    held_table,
    write_rows,
    write_table,
)
from iconicity.data.collect.titles import Wanted
from iconicity.indexer.errors import AnswerError
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.sources.folders import CHOOSE, CONCEPTS, CREDITS
from iconicity.indexer.store.files import lock, sweep
from iconicity.indexer.text import counted

FETCHING = "fetching pictures"


@dataclass
class Report:
    """What a run did. ``skipped``: rows and pictures that could not be used, and why. ``to_choose``: items in choose.csv."""

    concepts: int = 0
    files: int = 0
    fetched: int = 0
    to_choose: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Query:
    """A SPARQL query whose rows name the items. ``where``: its file."""

    text: str
    where: str


def collect(
    wanted: Sequence[Wanted] | Query,
    out: Path,
    client: Client,
    options: CollectOptions,
    progress: Progress = no_progress,
) -> Report:
    """Fetch pictures of each concept into ``out/<concept>/``, and write concepts.csv, credits.csv and choose.csv.

    Answers and files are noted in ``out/.collect.jsonl``: what stands there is not asked for again. A file that a user
    added, changed or deleted is left as it is. Raises :class:`NetworkError` where a server is away, after the tables are
    written; :class:`SettingsError` for a folder of another language or width; :class:`InputError` for a table in ``out``
    that cannot be read; :class:`LockedError`.
    """
    report = Report()
    with lock(out, "collecting references into it"):
        _require_tables(out)
        for folder in (out, *(p for p in out.iterdir() if p.is_dir() and not p.is_symlink())):
            sweep(folder)
        with Journal(out, _settings(options)) as journal:
            _Run(journal, out, client, options, report, progress).go(wanted)
    return report


def plan(wanted: Sequence[Wanted] | Query, out: Path, options: CollectOptions) -> list[str]:
    """Lines on what :func:`collect` would do. No server is asked, and nothing is written. Raises as it does."""
    _require_tables(out)
    with Journal(out, _settings(options), writing=False) as journal:
        if isinstance(wanted, Query):
            return [f"the items of {wanted.where}, with at most {counted(options.per_concept, 'picture')} each"]
        asked = [w for w in wanted if not w.item and f"search {w.title}" not in journal]
        new = [w for w in wanted if w.concept and not journal.group(f"file {w.concept}", Fetched)]
    most = len(wanted) * options.per_concept
    return [
        f"{counted(len(wanted), 'concept')}: {len(wanted) - len(new)} begun or done, {len(new)} new",
        f"{counted(len(asked), 'title')} to look up",
        f"at most {counted(most, 'picture')} of {options.width} pixels width, by about "
        f"{counted(len(asked) + 8 * len(new) + most, 'request')}, one after the other",
    ]


def _settings(options: CollectOptions) -> Settings:
    period = last_year(datetime.now(UTC).date())
    return Settings(language=options.language, width=options.width, period=period)


def _require_tables(out: Path) -> None:
    """Read the tables that are there, so that one which cannot be read is told before the work."""
    held_table(out / CONCEPTS, CONCEPT_COLUMNS)
    held_table(out / CREDITS, CREDIT_COLUMNS)


@dataclass
class _Run:
    journal: Journal
    out: Path
    client: Client
    options: CollectOptions
    report: Report
    progress: Progress

    def skip(self, where: str, why: str) -> None:
        self.report.skipped.append((where, why))

    def go(self, wanted: Sequence[Wanted] | Query) -> None:
        items = Items(self.client, self.journal, self.skip)
        if isinstance(wanted, Query):
            wanted, lost = items.of_query(wanted.text, wanted.where)
            if lost:
                self.report.notices.append(f"{counted(lost, 'row')} of the query without an item, not used")
        concepts = items.find(wanted, self.progress)
        self._choices(items)
        self.report.notices += _same_items(concepts)
        pictures = Pictures(self.client, self.journal, self.out, self.options, self.skip)
        rows: list[dict[str, str]] = []
        try:
            self._all(concepts, pictures, rows)
        finally:  # what is there is listed, also when a server is away
            write_table(self.out / CONCEPTS, CONCEPT_COLUMNS, rows, "item")
            write_table(self.out / CREDITS, CREDIT_COLUMNS, pictures.credits, "sha256", pictures.gone)
            self.report.notices += pictures.notes.lines()
            self.report.fetched = pictures.fetched

    def _all(self, concepts: Sequence[Concept], pictures: Pictures, rows: list[dict[str, str]]) -> None:
        each = self.options.per_concept
        for n, concept in enumerate(concepts):
            standing = pictures.collect(concept, self._shown(n * each, len(concepts) * each))
            self.report.concepts += 1
            self.report.files += standing
            if not standing:
                self.skip(concept.wanted.where, f"'{concept.wanted.concept}': no picture was found")
            rows.append(self._row(concept))
        self.progress(FETCHING, len(concepts) * each, len(concepts) * each)

    def _shown(self, before: int, total: int) -> Callable[[int], object]:
        return lambda standing: self.progress(FETCHING, min(before + standing, total - 1), total)

    def _row(self, concept: Concept) -> dict[str, str]:
        """Cells of a concept in concepts.csv."""
        item, wanted = concept.item, concept.wanted
        return {
            "concept": wanted.concept, "title": wanted.title, "item": item.id, "label": item.label,
            "creator": concept.creators, "date": item.date, "sitelinks": str(item.sitelinks),
            "pageviews": self._views(concept),
        }  # fmt: skip

    def _views(self, concept: Concept) -> str:
        article, wiki = concept.item.article, concept.item.wiki
        if not article:
            return ""
        try:
            views = self.journal.kept(
                f"views {wiki} {article}",
                int | None,
                lambda: page_views(self.client, wiki, article, self.journal.settings.period),
            )
        except AnswerError as e:
            self.skip(concept.wanted.where, str(e))
            return ""
        return "" if views is None else str(views)

    def _choices(self, items: Items) -> None:
        self.report.to_choose = len(items.choices)
        if items.choices:
            write_rows(self.out / CHOOSE, CHOICE_COLUMNS, items.choices)
        else:
            (self.out / CHOOSE).unlink(missing_ok=True)


def _same_items(concepts: Sequence[Concept]) -> list[str]:
    """Lines on concepts that are one item: their references will be the same."""
    by_item: dict[str, list[str]] = defaultdict(list)
    for concept in concepts:
        by_item[concept.item.id].append(concept.wanted.concept)
    return [
        f"{' and '.join(names)} are the same item {item}, and get the same pictures"
        for item, names in by_item.items()
        if len(names) > 1
    ]
