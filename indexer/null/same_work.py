"""Concepts that are the same work under two names: they share a picture, or the user says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from iconicity.indexer.sources.folders import read_concept_rows
from iconicity.indexer.sources.tables import Tell
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Reference

NEAR = 8  # bits of 64 two pHashes of the same picture may differ; of unrelated ones 32 +- 4 do
_BLOCK = 2048

Pair = tuple[str, str]  # of concepts, sorted


def same_works(index: Index, concepts: Iterable[str], works: Mapping[str, str] | None = None) -> set[Pair]:
    """Pairs among some concepts that share a reference (same bytes, or pHash at most :data:`NEAR` bits apart).

    ``works``: concept -> name of the work, from the user; concepts of one work are pairs too.
    """
    wanted = sorted(set(concepts))
    pairs = pairs_of(index.references(wanted).values())
    by_work: dict[str, set[str]] = {}
    for concept, work in (works or {}).items():
        by_work.setdefault(work, set()).add(concept)
    return pairs | _all_pairs(g & set(wanted) for g in by_work.values())


def pairs_of(references: Iterable[Reference]) -> set[Pair]:
    """Pairs of concepts that share one of these references (same bytes, or pHash at most :data:`NEAR` bits apart)."""
    held = list(references)
    names = np.array([r.concept for r in held])
    hashes = np.array([int(r.phash, 16) for r in held], np.uint64)
    pairs: set[Pair] = set()
    for start in range(0, len(held), _BLOCK):
        near = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, :]) <= NEAR
        for i, j in zip(*np.nonzero(near), strict=True):
            a, b = str(names[start + i]), str(names[j])
            if a < b:
                pairs.add((a, b))
    by_sha: dict[str, set[str]] = {}
    for r in held:
        by_sha.setdefault(r.sha256, set()).add(r.concept)
    return pairs | _all_pairs(by_sha.values())


def sharing(own: Iterable[Reference], others: Iterable[Reference]) -> set[str]:
    """Concepts of ``others`` that share a picture with one of the ``own`` references, as :func:`pairs_of` says."""
    own, others = list(own), list(others)
    mine, theirs = (np.array([int(r.phash, 16) for r in part], np.uint64) for part in (own, others))
    near = (np.bitwise_count(mine[:, None] ^ theirs[None, :]) <= NEAR).any(axis=0)
    shas = {r.sha256 for r in own}
    return {r.concept for r, same in zip(others, near.tolist(), strict=True) if same or r.sha256 in shas}


def _all_pairs(groups: Iterable[set[str]]) -> set[Pair]:
    """Every pair of names within a group."""
    return {pair for g in groups for pair in combinations(sorted(g), 2)}


def work_of(concepts: Iterable[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Concept -> first name of the works it is joined with by pairs, itself when there are none."""
    first = {c: c for c in concepts}

    def root(c: str) -> str:
        while first.setdefault(c, c) != c:
            c = first[c]
        return c

    for a, b in sorted(pairs):
        low, high = sorted((root(a), root(b)))
        first[high] = low
    return {c: root(c) for c in list(first)}


def read_column(path: Path, column: str, key: str, flag: str, tell: Tell = warnings.warn) -> dict[str, str]:
    """Concept -> value of a table's column; empty cells are left out.

    ``flag``: what names the column, or "". ``tell`` gets a line on what a user should know. Raises
    :class:`InputError`.
    """
    rows = read_concept_rows(path, {key: "`concept_col`", column: flag}, tell=tell)
    return {concept: value for concept, row in rows if (value := row[column].strip())}
