"""Score generated images against an index."""

from iconicity.scorer.cache import VectorCache
from iconicity.scorer.results import Results, open_results
from iconicity.scorer.score import ScoreReport, score
from iconicity.scorer.search import search_image
from iconicity.scorer.summary import summarise

__all__ = ["Results", "ScoreReport", "VectorCache", "open_results", "score", "search_image", "summarise"]
