"""Score generated images against an index."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iconicity.indexer.store.cache import VectorCache
    from iconicity.scorer.measure.study import open_study
    from iconicity.scorer.measure.summary import summarise
    from iconicity.scorer.options import ScoreOptions, Writing
    from iconicity.scorer.results import open_results
    from iconicity.scorer.scoring import score
    from iconicity.scorer.search import search_image

__all__ = ["ScoreOptions", "VectorCache", "Writing", "open_results", "open_study", "score", "search_image", "summarise"]

_HOME = {
    "ScoreOptions": "iconicity.scorer.options",
    "VectorCache": "iconicity.indexer.store.cache",
    "Writing": "iconicity.scorer.options",
    "open_results": "iconicity.scorer.results",
    "open_study": "iconicity.scorer.measure.study",
    "score": "iconicity.scorer.scoring",
    "search_image": "iconicity.scorer.search",
    "summarise": "iconicity.scorer.measure.summary",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'iconicity.scorer' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
