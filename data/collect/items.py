"""Which item of Wikidata each wanted concept is. A title that fits several is never guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from iconicity.data.collect.client import Client
from iconicity.data.collect.journal import Journal
from iconicity.data.collect.titles import ITEM, Wanted, concept_of
from iconicity.data.collect.wikidata import (
    ASKED,
    Item,
    Names,
    items_named,
    items_of_query,
    read_items,
    read_names,
    same_person,
)
from iconicity.indexer.errors import AnswerError
from iconicity.indexer.progress import Progress
from iconicity.indexer.text import counted

FINDING = "finding items"
T = TypeVar("T")


@dataclass(frozen=True)
class Concept:
    """A wanted concept whose item is known. ``creators``: names of who made it."""

    wanted: Wanted
    item: Item
    creators: str


@dataclass
class Items:
    """Finds items, and keeps what it was told. ``skip`` gets a row that leads to no item, and why.

    ``choices``: cells of the table from which the user chooses.
    """

    client: Client
    journal: Journal
    skip: Callable[[str, str], object]
    choices: list[dict[str, str]] = field(default_factory=list)

    def of_query(self, query: str, at: str) -> tuple[list[Wanted], int]:
        """What a query's rows want, and how many of them name no item."""
        key = f"query {hashlib.sha256(query.encode()).hexdigest()}"
        ids, lost = self.journal.kept(key, tuple[list[str], int], lambda: items_of_query(self.client, query))
        return [Wanted(f"{at}: {i}", "", item=i) for i in ids], lost

    def find(self, wanted: Sequence[Wanted], progress: Progress) -> list[Concept]:
        """The concepts whose item is known, in order."""
        for start in range(0, len(named := [w.item for w in wanted if w.item]), ASKED):
            with suppress(AnswerError):  # each is asked for alone below, and then named
                self._items(named[start : start + ASKED])
        out: list[Concept] = []
        taken = {w.concept for w in wanted}
        for n, w in enumerate(wanted):
            progress(FINDING, n, len(wanted))
            item = self._try(w.where, lambda w=w: self._item_of(w))  # type: ignore[misc]
            if item is not None:
                concept = w.concept or concept_of(item.label, item.id, taken)
                taken.add(concept)
                out.append(Concept(replace(w, concept=concept, title=w.title or item.label), item, self._names(item)))
        progress(FINDING, len(wanted), len(wanted))
        return out

    def _try(self, where: str, ask: Callable[[], T | None]) -> T | None:
        try:
            return ask()
        except AnswerError as e:
            self.skip(where, str(e))
            return None

    def _item_of(self, w: Wanted) -> Item | None:
        if w.item:
            found = self._items([w.item])[w.item]
            if found is None:
                self.skip(w.where, f"Wikidata has no item {w.item}; write another id")
            return found
        ids = self.journal.kept(
            f"search {w.title}", list[str], lambda: items_named(self.client, w.title, self.journal.settings.language)
        )
        works = [item for item in self._items(ids).values() if item is not None and item.is_work]
        fitting = [i for i in works if not w.creator or same_person(w.creator, self._all_names(i))]
        if len(fitting) == 1:
            return fitting[0]
        self._choose(w, fitting or works, fits=bool(fitting))
        return None

    def _choose(self, w: Wanted, candidates: Sequence[Item], fits: bool) -> None:
        if not candidates:
            self.skip(w.where, f"'{w.title}': no item has this name; write its id into the column '{ITEM}'")
            return
        self.choices += [
            {
                "title": w.title, "item": i.id, "label": i.label, "description": i.description,
                "creator": self._names(i), "sitelinks": str(i.sitelinks),
            }
            for i in sorted(candidates, key=lambda i: -i.sitelinks)
        ]  # fmt: skip
        why = f"may be {counted(len(candidates), 'item')}" if fits else f"none of its items is by '{w.creator}'"
        first = max(candidates, key=lambda i: i.sitelinks)
        self.skip(
            w.where,
            f"'{w.title}': {why}, such as {first.id} ({first.description or first.label}); write the id of one into the "
            f"column '{ITEM}'",
        )

    def _items(self, ids: Sequence[str]) -> dict[str, Item | None]:
        """Items by id, asked for where they are not known."""
        language = self.journal.settings.language
        return self._by_id("item", ids, Item | None, lambda new: read_items(self.client, new, language))

    def _by_id(
        self, what: str, ids: Sequence[str], kind: object, ask: Callable[[Sequence[str]], dict[str, T]]
    ) -> dict[str, T]:
        unknown = [i for i in dict.fromkeys(ids) if f"{what} {i}" not in self.journal]
        for start in range(0, len(unknown), ASKED):
            for i, found in ask(unknown[start : start + ASKED]).items():
                self.journal.put(f"{what} {i}", found)
        return {
            i: self.journal.kept(f"{what} {i}", kind, lambda i=i: ask([i])[i])  # type: ignore[misc]
            for i in dict.fromkeys(ids)
        }

    def _creators(self, item: Item) -> list[Names]:
        language = self.journal.settings.language
        found = self._by_id("name", item.creators, Names, lambda new: read_names(self.client, new, language))
        return list(found.values())

    def _names(self, item: Item) -> str:
        """Labels of an item's creators; "" where they cannot be told."""
        found = self._try(item.id, lambda: self._creators(item)) or []
        return ", ".join(names.label for names in found if names.label)

    def _all_names(self, item: Item) -> list[str]:
        return [name for names in self._creators(item) for name in (names.label, *names.others)]
