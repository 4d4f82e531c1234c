"""The draws behind every interval: which units a bootstrap sample holds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from iconicity.indexer.arrays import Float64

DRAWS = 10_000
LEVEL = 0.95
LEAST_EXACT = 5  # units from which on tables show an exact interval


@lru_cache(maxsize=4)
def bootstrap_weights(n: int, draws: int = DRAWS, seed: int = 0) -> Float64:
    """How often each of n units is drawn in each bootstrap sample: (draws, n), rows sum to n.

    Depends on n, draws and seed alone, so that an interval is the same each time and for the same units.
    """
    picks = np.random.default_rng([seed, n]).integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    counts: Float64 = np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)
    counts.flags.writeable = False
    return counts
