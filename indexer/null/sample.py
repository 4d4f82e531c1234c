"""The references that an index draws its thresholds from: some concepts, and some references of each.

Which ones is fixed by a seed and by names alone, so that a concept that is not drawn moves no threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from iconicity.indexer.arrays import Bools, Float64, Ints
from iconicity.indexer.grid import cell_shape, overlaps
from iconicity.indexer.null.pool import choose, rank
from iconicity.indexer.null.same_work import pairs_of, work_of
from iconicity.indexer.store.rows import Reference, ReferenceStore

SEED = 0
CONCEPTS = 120  # most concepts that are drawn
CELLS = 19_200  # most cells of all drawn references together: 1 200 references of a 4 x 4 grid
PATCHES = 16  # most patches of one query that are compared
COMPARED = 20_000  # references whose pictures are compared with each other to tell concepts of one work


@dataclass(frozen=True)
class Sample:
    """n concepts and R of their references. The first kept reference of a concept, by name, is its query.

    ``draws``: for each concept the places of its references, in the order of the draws; a draw at J takes the first J.
    """

    concepts: tuple[str, ...]
    work: Ints  # (n,) number of the work that each concept is
    related: Bools  # (n, n) pairs that are no unrelated ones: of one work, or of one creator
    fit: Bools  # (n,) whether the concept lies in the half that thresholds are fitted on
    ref_ids: tuple[str, ...]  # (R,)
    first: Ints  # (n,) place of each query among the references
    draws: tuple[Ints, ...]
    clip: Float64  # (R, D) unit rows
    patches: Float64  # (R, K, D') unit rows
    cells: Ints  # (P,) cells of a query that are compared: its patches

    @property
    def pairs(self) -> int:
        """Pairs of concepts in the half that thresholds are fitted on."""
        return int((~self.related & self.fit[:, None] & self.fit).sum())

    @property
    def queries(self) -> Float64:
        """Patches of the queries: (n, P, D')."""
        return self.patches[self.first][:, self.cells]

    @property
    def query_ids(self) -> tuple[str, ...]:
        """Names of the queries (n,)."""
        return tuple(self.ref_ids[i] for i in self.first)


def draw(store: ReferenceStore, creators: Mapping[str, str] = MappingProxyType({})) -> Sample | None:
    """Draw from a table of references and read their vectors; None where fewer than two concepts have a reference.

    ``creators``: concept -> who made it, where that is known.
    """
    settings = store.settings
    rows, cols = settings["grid"]
    down, across = cell_shape(rows, cols, overlaps(settings))
    counts = {c: n.kept for c, n in store.concepts().items() if n.kept}
    concepts = choose(counts, CONCEPTS, SEED)
    if len(concepts) < 2:
        return None
    references = store.references(concepts)
    kept: dict[str, list[str]] = {c: [] for c in concepts}
    for r in references.values():
        if r.kept:
            kept[r.concept].append(r.ref_id)
    each = max(1, CELLS // (down * across * len(concepts)))
    drawn = {c: sorted(ids, key=lambda i: rank(SEED, i))[:each] for c, ids in kept.items()}
    ids = sorted({i for part in drawn.values() for i in part} | {part[0] for part in kept.values()})
    place = {ref_id: i for i, ref_id in enumerate(ids)}
    clip = np.empty((len(ids), store.clip_dim), np.float64)
    patches = np.empty((len(ids), store.patches_len), np.float64)
    for row in store.tested_rows(ids):
        at = place[row.reference.ref_id]
        clip[at], patches[at] = row.clip, row.patches
    known = references if len(references) <= COMPARED else {i: references[i] for i in ids}
    work, fit = works_and_halves(concepts, known)
    return Sample(
        concepts, work, related_pairs(concepts, work, creators), fit, tuple(ids), np.array([place[kept[c][0]] for c in concepts]),
        tuple(np.array([place[i] for i in drawn[c]]) for c in concepts),
        clip, patches.reshape(len(ids), down * across, -1), query_cells(settings),
    )  # fmt: skip


def related_pairs(concepts: Sequence[str], work: Ints, creators: Mapping[str, str]) -> Bools:
    """Pairs (n, n) of concepts that are one work, or works of one creator. Nobody's works are related to each other."""
    names = np.array([creators.get(c, "") for c in concepts], object)
    return np.asarray((work[:, None] == work) | ((names[:, None] == names) & (names != "")), bool)


def query_cells(settings: Mapping[str, Any]) -> Ints:
    """Cells of a reference that stand for the patches of a generated image: those of the grid, :data:`PATCHES` at most."""
    rows, cols = settings["grid"]
    down, across = cell_shape(rows, cols, overlaps(settings))
    step = 2 if overlaps(settings) else 1
    return spread([r * across + c for r in range(0, down, step) for c in range(0, across, step)], PATCHES)


def spread(cells: Sequence[int], most: int) -> Ints:
    """At most so many of some cells, evenly spread.

    >>> spread(range(8), 4).tolist()
    [0, 2, 4, 6]
    """
    n = min(most, len(cells))
    return np.array([cells[i * len(cells) // n] for i in range(n)], np.int64)


def works_and_halves(concepts: Sequence[str], references: Mapping[str, Reference]) -> tuple[Ints, Bools]:
    """Number of the work that each concept is (n,), and which lie in the half to fit on (n,).

    Concepts that share a picture are one work. Works take turns between the halves, in an order that the seed fixes.
    """
    work = work_of(concepts, pairs_of(references.values()))
    order = sorted({work[c] for c in concepts}, key=lambda w: rank(SEED, f"half|{w}"))
    number = {w: i for i, w in enumerate(order)}
    of = np.array([number[work[c]] for c in concepts], np.int64)
    return of, of % 2 == 0
