"""Licences as a server names them, compared with the patterns that a user allows. None is ever assumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_VERSION = re.compile(r"-\d[\d.]*(-[a-z]{2,6})?")  # 4.0, or 3.0 of a country


def licence_slug(name: str) -> str:
    """A licence's short name as one word.

    >>> licence_slug("CC BY-SA 3.0 de"), licence_slug("Public domain")
    ('cc-by-sa-3.0-de', 'public-domain')
    """
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def is_allowed(name: str, patterns: Sequence[str]) -> bool:
    """Whether a licence is one of ``patterns``, in any version; without patterns every licence is, and a missing one.

    >>> [is_allowed(n, ["cc-by", "cc0"]) for n in ("CC BY 4.0", "CC BY-SA 4.0", "CC0", "")]
    [True, False, True, False]
    """
    if not patterns:
        return True
    slug = licence_slug(name)
    return any(_fits(slug, pattern) for pattern in patterns)


def _fits(slug: str, pattern: str) -> bool:
    if "*" in pattern:
        return bool(slug) and fnmatchcase(slug, pattern)
    return slug == pattern or (slug.startswith(pattern) and _VERSION.fullmatch(slug[len(pattern) :]) is not None)
