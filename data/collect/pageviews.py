"""How often an article of a Wikipedia was read, by the pageviews interface."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field

from iconicity.data.collect.answers import checked
from iconicity.data.collect.client import Client
from iconicity.indexer.errors import AnswerError


class _Month(BaseModel):
    views: Annotated[int, Field(ge=0, le=10**12)]


class _Views(BaseModel):
    items: list[_Month]


def last_year(today: date) -> tuple[str, str]:
    """First and last day of the twelve whole months before a day, as YYYYMMDD.

    >>> last_year(date(2026, 3, 5))
    ('20250301', '20260228')
    """
    first = today.replace(day=1)
    return f"{first.year - 1}{first.month:02d}01", (first - timedelta(days=1)).strftime("%Y%m%d")


def page_views(client: Client, wiki: str, article: str, period: tuple[str, str]) -> int | None:
    """Views by people in a period, on all devices; None where nothing is known of the article."""
    name = quote(article.replace(" ", "_"), safe="")
    parts = (f"{wiki}.wikipedia.org", "all-access", "user", name, "monthly", *period)
    at = "/".join((client.services.pageviews, *parts))
    try:
        answer = client.json(at)
    except AnswerError as e:
        if e.status == 404:
            return None
        raise
    return sum(month.views for month in checked(_Views, answer, client.services.pageviews).items)
