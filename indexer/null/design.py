"""Which pairs of a generated and another concept count as unrelated, which as related, and in which half they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from iconicity.indexer.arrays import Bools
from iconicity.indexer.null.pool import Pool, rank
from iconicity.indexer.null.same_work import Pair, work_of


def half_of(work: str, seed: int) -> str:
    """A or B: the half a work lies in, by its name alone.

    >>> half_of("the_great_wave", 0) in ("A", "B")
    True
    """
    return "AB"[int(rank(seed, f"half|{work}"), 16) & 1]


class Design:
    """Halves and pairs, fixed by the seed and the names, so that another concept moves none.

    ``half`` of each concept is A or B; names of the same work lie in one half, and are never paired. ``related``:
    concept -> artist, series or genre.
    """

    def __init__(
        self, concepts: Iterable[str], pool: Pool, same: Iterable[Pair], related: Mapping[str, str], seed: int
    ) -> None:
        self.pool = pool
        self.related = related
        pairs = set(same)
        work = work_of([*concepts, *pool.concepts], pairs)
        self.half = {c: half_of(w, seed) for c, w in work.items()}
        self._partners: dict[str, set[str]] = {}
        for c, w in work.items():
            self._partners.setdefault(w, set()).add(c)
        self._work = work
        self.column_half = np.array([self.half[pool.concepts[i]] for i in pool.of], "<U1")

    def work(self, concept: str) -> str:
        """The work a concept is, by one of its names."""
        return self._work.get(concept, concept)

    def others(self, concept: str) -> Bools:
        """Columns of the pool that an image of a concept may be compared with: (R,)."""
        return self.pool.columns_of({concept, *self._partners.get(self.work(concept), ())})

    def is_related(self, concept: str) -> Bools:
        """Columns of concepts by the same artist, of the same series or genre: (R,)."""
        mine = self.related.get(concept)
        kin = np.array([mine is not None and self.related.get(d) == mine for d in self.pool.concepts], bool)
        return np.asarray(kin[self.pool.of], bool)
