"""Wikidata: items of a title, of a query, and what is known of an item."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field

from iconicity.data.collect.answers import checked, tidy
from iconicity.data.collect.client import Client
from iconicity.indexer.errors import AnswerError

SEARCHED = 50  # items of a search, the most that the server gives
ASKED = 10  # items in one request
MOST_ITEMS = 10_000  # of a query
_ITEM = "^Q[1-9][0-9]{0,11}$"
_ENTITY = re.compile(r"(?:https?://(?:www\.)?wikidata\.org/(?:entity|wiki)/)?(Q[1-9]\d{0,11})", re.IGNORECASE)
_TIME = re.compile(r"([+-])(\d{1,16})-(\d\d)-(\d\d)T.*", re.ASCII)
_DAY, _MONTH, _YEAR, _DECADE, _CENTURY = 11, 10, 9, 8, 7  # of a date: how precise
CREATOR, INCEPTION, PICTURE, CATEGORY, KIND = "P170", "P571", "P18", "P373", "P31"
# Kinds of items that are no work: pages for disambiguation, categories, lists, templates, names of families and persons.
_NO_WORKS = frozenset({"Q4167410", "Q4167836", "Q13406463", "Q11266439", "Q101352", "Q202444", "Q12308941", "Q11879590"})  # fmt: skip


class Item(BaseModel):
    """What is known of an item. ``date``: as `iconicity correlate` reads dates. ``article``: its title in the Wikipedia ``wiki``."""

    id: str
    label: str = ""
    description: str = ""
    creators: list[str] = Field(default_factory=list, max_length=50)
    date: str = ""
    sitelinks: int = 0
    article: str = ""
    wiki: str = ""
    pictures: list[str] = Field(default_factory=list, max_length=100)
    categories: list[str] = Field(default_factory=list, max_length=20)
    is_work: bool = True


class Names(BaseModel):
    """Label and other names of an item, such as a creator."""

    label: str = ""
    others: list[str] = Field(default_factory=list, max_length=500)


class _Match(BaseModel):
    text: str = ""


class _Hit(BaseModel):
    id: str = Field(pattern=_ITEM)
    label: str = ""
    aliases: list[str] = Field(default_factory=list)
    match: _Match = _Match()


class _Search(BaseModel):
    search: list[_Hit]


class _Text(BaseModel):
    value: str


class _Claim(BaseModel):
    rank: str = "normal"
    mainsnak: dict[str, Any]


class _Entity(BaseModel):
    id: str = Field(pattern=_ITEM)
    labels: dict[str, _Text] = Field(default_factory=dict)
    aliases: dict[str, list[_Text]] = Field(default_factory=dict)
    descriptions: dict[str, _Text] = Field(default_factory=dict)
    claims: dict[str, list[_Claim]] = Field(default_factory=dict)
    sitelinks: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Entities(BaseModel):
    entities: dict[str, dict[str, Any]]


class _Bindings(BaseModel):
    bindings: list[dict[str, dict[str, Any]]]


class _Sparql(BaseModel):
    results: _Bindings


def item_id(text: str) -> str:
    """The id in a cell, which may be an address of Wikidata; "" where there is none.

    >>> item_id("https://www.wikidata.org/wiki/Q12418"), item_id("q45"), item_id("45")
    ('Q12418', 'Q45', '')
    """
    found = _ENTITY.fullmatch(text.strip())
    return found[1].upper() if found else ""


def folded(name: str) -> str:
    """A name without case, accents and surplus blanks, for comparing.

    >>> folded(" Albrecht  DÜRER")
    'albrecht durer'
    """
    parts = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(c for c in parts if not unicodedata.combining(c)).split())


def same_person(given: str, names: Iterable[str]) -> bool:
    """Whether a creator as a user writes it may be one who has these names: all words of it are words of a name, or all of
    a name, of two at least, are words of it.

    >>> same_person("Munch", ["Edvard Munch"]), same_person("Manet", ["Oscar Monet"]), same_person("Jan Steen", ["Jan"])
    (True, False, False)
    """
    words = set(folded(given).split())
    others = [set(folded(name).split()) for name in names]
    return any(words and (words <= other or (len(other) > 1 and other <= words)) for other in others)


def items_named(client: Client, title: str, language: str) -> list[str]:
    """Ids of the items that have this label or alias, in the server's order."""
    query = {
        "action": "wbsearchentities", "format": "json", "search": title, "language": language, "uselang": language,
        "type": "item", "limit": str(SEARCHED),
    }  # fmt: skip
    answer = client.json(client.services.wikidata, query)
    hits = checked(_Search, answer, client.services.wikidata).search
    wanted = folded(title)
    return list(dict.fromkeys(h.id for h in hits if wanted in map(folded, (h.label, h.match.text, *h.aliases))))


def read_items(client: Client, ids: Sequence[str], language: str) -> dict[str, Item | None]:
    """What is known of items, at most :data:`ASKED`; None for one that is not there. One that was merged has its new id."""
    props = "labels|descriptions|claims|sitelinks"
    return {i: None if e is None else _item(e, language) for i, e in _entities(client, ids, language, props).items()}


def read_names(client: Client, ids: Sequence[str], language: str) -> dict[str, Names]:
    """Names of items, at most :data:`ASKED`."""
    return {
        i: Names() if e is None else Names(
            label=_of(e.labels, language), others=[tidy(a.value) for these in e.aliases.values() for a in these][:500]
        )
        for i, e in _entities(client, ids, language, "labels|aliases").items()
    }  # fmt: skip


def items_of_query(client: Client, query: str) -> tuple[list[str], int]:
    """Ids in the column ?item of a query's rows, each once, and how many rows name no item."""
    form = {"query": query, "format": "json"}
    answer = client.json(client.services.sparql, form=form)
    rows = checked(_Sparql, answer, client.services.sparql).results.bindings
    found = [item_id(str(row.get("item", {}).get("value", ""))) for row in rows]
    ids = list(dict.fromkeys(filter(None, found)))
    if len(ids) > MOST_ITEMS:
        raise AnswerError(client.services.sparql, f"more than {MOST_ITEMS} items; add a LIMIT to the query")
    return ids, found.count("")


def _entities(client: Client, ids: Sequence[str], language: str, props: str) -> dict[str, _Entity | None]:
    query = {
        "action": "wbgetentities", "format": "json", "ids": "|".join(ids), "props": props, "languages": language,
        "languagefallback": "1",
    }  # fmt: skip
    at = client.services.wikidata
    answer = checked(_Entities, client.json(at, query), at).entities
    for entity in list(answer.values()):  # one that was merged into another stands under either id
        merged = entity.get("redirects")
        if isinstance(merged, dict):
            answer.setdefault(str(merged.get("from")), entity)
    found = {}
    for i in ids:  # MediaWiki's JSON has [] for an object without fields
        fields = {k: v for k, v in answer.get(i, {"missing": ""}).items() if v != []}
        found[i] = None if "missing" in fields else checked(_Entity, fields, at)
    return found


def _of(texts: dict[str, _Text], language: str) -> str:
    chosen = texts.get(language) or next(iter(texts.values()), None)
    return tidy(chosen.value) if chosen else ""


def _item(entity: _Entity, language: str) -> Item:
    # a variant of a language, such as zh-hant, has no Wikipedia of its own
    wikis = {of: entity.sitelinks.get(f"{of.replace('-', '_')}wiki") for of in (language, language.partition("-")[0])}
    wiki, link = next(((of, link) for of, link in wikis.items() if link), ("", {}))
    article = link.get("title", "")
    return Item(
        id=entity.id,
        label=_of(entity.labels, language),
        description=_of(entity.descriptions, language),
        creators=[i for v in _values(entity, CREATOR) if (i := _id_of(v))][:50],
        date=_span([d for v in _values(entity, INCEPTION) if (d := date_text(v))]),
        sitelinks=len(entity.sitelinks),
        article=tidy(article, 255) if isinstance(article, str) else "",
        wiki=wiki,
        pictures=[tidy(v, 255) for v in _values(entity, PICTURE) if isinstance(v, str)][:100],
        categories=[tidy(v, 255) for v in _values(entity, CATEGORY) if isinstance(v, str)][:20],
        is_work=not _NO_WORKS.intersection(map(_id_of, _values(entity, KIND))),
    )


def _values(entity: _Entity, name: str) -> list[Any]:
    """Values of the claims that count: the preferred ones, else all that are not deprecated."""
    claims = entity.claims.get(name, [])
    best = [c for c in claims if c.rank == "preferred"] or [c for c in claims if c.rank == "normal"]
    held = [c.mainsnak.get("datavalue") for c in best if c.mainsnak.get("snaktype") == "value"]
    return [v["value"] for v in held if isinstance(v, dict) and "value" in v]


def _id_of(value: Any) -> str:
    return item_id(str(value.get("id", ""))) if isinstance(value, dict) else ""


def date_text(value: Any) -> str:
    """A date of Wikidata as `iconicity correlate` reads dates; "" where it is less precise than a century.

    >>> [date_text({"time": t, "precision": p}) for t, p in (("+1893-00-00T00:00:00Z", 9), ("+1890-00-00T00:00:00Z", 8))]
    ['1893', '1890-1899']
    """
    time, precision = (value.get("time"), value.get("precision")) if isinstance(value, dict) else ("", 0)
    found = _TIME.fullmatch(time) if isinstance(time, str) else None
    if found is None or not isinstance(precision, int) or int(found[2]) > 9999 or int(found[2]) == 0:
        return ""
    year, month, day = int(found[2]), found[3], found[4]
    if precision < _CENTURY:
        return ""
    if found[1] == "-":
        return f"{year} BC"
    if precision == _CENTURY:
        first = (year - 1) // 100 * 100 + 1
        return f"{first:04d}-{first + 99:04d}"
    if precision == _DECADE:
        return f"{year // 10 * 10:04d}-{year // 10 * 10 + 9:04d}"
    if precision == _YEAR or month == "00":
        return f"{year:04d}"
    return f"{year:04d}-{month}" + (f"-{day}" if precision >= _DAY and day != "00" else "")


def _span(dates: Sequence[str]) -> str:
    """One date of all that are named: from the first year to the last."""
    if len(set(dates)) < 2:
        return dates[0] if dates else ""
    years = [int(y) for d in dates if "BC" not in d for y in re.findall(r"\d{4}(?=$|-)", d)]
    return (
        f"{min(years):04d}-{max(years):04d}"
        if years and min(years) < max(years)
        else f"{years[0]:04d}"
        if years
        else dates[0]
    )
