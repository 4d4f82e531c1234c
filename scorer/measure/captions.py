"""Textual uniqueness of concepts: how many captions hold their title, and how near the nearest other title is."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import Tell, open_table
from iconicity.indexer.text import counted
from iconicity.scorer.measure.metrics import Float64, Ints

COLUMNS = ("caption", "text", "prompt")  # taken as the captions, the first that is there
UNIQUENESS = ("caption_share", "title_overlap")  # what becomes an attribute
DEFINITION = (
    "caption_share: share of the captions that hold the title's words next to each other, in order; title_overlap: "
    "highest Jaccard overlap (words shared / words in either) with another title; words: runs of letters or digits, "
    "Unicode NFKC, case folded"
)
_WORD = re.compile(r"[^\W_]+")
_BLOCK = 1024  # titles compared at once with all others
_END = ""  # key of a tree's node under which the concepts of a whole title are; no word is empty

_Node = dict[str, Any]


@dataclass(frozen=True)
class Uniqueness:
    """``values``: one row a concept: title, caption_count, caption_share, title_overlap, nearest_title."""

    values: pd.DataFrame
    captions: int
    notes: tuple[str, ...]


def words(text: str) -> list[str]:
    """Runs of letters or digits, NFKC, case folded.

    >>> words("Hokusai's GREAT Wave_2")
    ['hokusai', 's', 'great', 'wave', '2']
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))


def textual_uniqueness(titles: Mapping[str, str], path: Path, caption_col: str | None = None) -> Uniqueness:
    """Count the captions of a file that hold each title, and compare the titles with each other.

    titles: concept -> title. The file has one caption a line, or is .csv, .parquet or .jsonl with a column of them.
    It is read as a stream; blank captions do not count. A title without a word has no value.
    """
    concepts = sorted(titles)
    tokens = [words(titles[c]) for c in concepts]
    told: list[str] = []
    counts, total, replaced = _count(tokens, read_captions(path, caption_col, told.append))
    if total == 0:
        raise InputError(f"{path}: holds no caption; give text with one caption a line, or a column of captions")
    overlap, nearest = title_overlaps(tokens)
    wordless = [c for c, t in zip(concepts, tokens, strict=True) if not t]
    count = np.where([bool(t) for t in tokens], counts, np.nan)
    values = pd.DataFrame(
        {
            "title": [titles[c] for c in concepts],
            "caption_count": count,
            "caption_share": count / total,
            "title_overlap": overlap,
            "nearest_title": [titles[concepts[i]] if i >= 0 else None for i in nearest],
        },
        index=pd.Index(concepts, name="concept"),
    )
    notes = [*told, f"{DEFINITION}; {counted(total, 'caption')} of {path}, {counted(len(concepts), 'title')}"]
    if wordless:
        notes.append(f"titles without a word, so without textual uniqueness: {len(wordless)} (first: {wordless[0]})")
    if replaced:
        notes.append(
            f"{counted(replaced, 'caption holds', 'captions hold')} U+FFFD, or bytes that are not UTF-8 and are read as that"
        )
    return Uniqueness(values, total, tuple(notes))


def _count(titles: list[list[str]], captions: Iterable[str]) -> tuple[Ints, int, int]:
    """Captions that hold each title, captions that are not blank, and those with a replaced character."""
    tree: _Node = {}
    nothing: _Node = {}
    for i, title in enumerate(titles):
        node = tree
        for word in title:
            node = node.setdefault(word, {})
        if title:
            node.setdefault(_END, []).append(i)
    counts = [0] * len(titles)
    total = replaced = 0
    for caption in captions:
        if not caption or caption.isspace():
            continue
        total += 1
        replaced += "\ufffd" in caption
        held = words(caption)
        found: set[int] = set()
        for start, word in enumerate(held):
            node = tree.get(word, nothing)
            at = start + 1
            while node:
                if _END in node:
                    found.update(node[_END])
                if at == len(held):
                    break
                node = node.get(held[at], nothing)
                at += 1
        for i in found:
            counts[i] += 1
    return np.array(counts, np.int64), total, replaced


def title_overlaps(titles: list[list[str]]) -> tuple[Float64, list[int]]:
    """Of each title the highest Jaccard overlap of its set of words with another's, in [0, 1], and which that is.

    The first of several. Place -1 where no other shares a word; overlap nan for a title without words or alone.
    """
    vocabulary: dict[str, int] = {}
    sets = [sorted({vocabulary.setdefault(w, len(vocabulary)) for w in title}) for title in titles]
    size = np.array([len(s) for s in sets], np.float64)
    overlap = np.where((size > 0) & (np.count_nonzero(size) > 1), 0.0, np.nan)
    nearest = [-1] * len(titles)
    indptr = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    indices = np.array([w for s in sets for w in s], np.int64)
    holds = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(titles), max(1, len(vocabulary))))
    for start in range(0, len(titles), _BLOCK):
        shared = (holds[start : start + _BLOCK] @ holds.T).tocsr()
        for k in range(shared.shape[0]):
            row = slice(shared.indptr[k], shared.indptr[k + 1])
            other = np.asarray(shared.indices[row])
            both = np.where(other == start + k, 0.0, shared.data[row])
            if both.any():
                jaccard = both / (size[start + k] + size[other] - both)
                best = jaccard.max()
                overlap[start + k], nearest[start + k] = best, int(other[jaccard == best].min())
    return overlap, nearest


def read_captions(path: Path, column: str | None = None, tell: Tell = warnings.warn) -> Iterator[str]:
    """Captions of a file one after the other, blank ones too. ``tell`` gets a line on what a user should know.

    A row of CSV with more cells than its header has is blank, and counted. Raises :class:`InputError`.
    """
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".parquet"):
        if column is not None:
            raise InputError(f"{path}: is read as text, which has no columns; leave `caption_col` out")
        yield from _text_lines(path)
        return
    table = open_table(path, COLUMNS if column is None else (column,), tell, only=True, errors="replace")
    name = _pick(path, table.columns, column)
    faults: list[str] = []
    for line, row in table.lines:
        if isinstance(row, dict):
            value = row.get(name)
            yield (
                value
                if isinstance(value, str)
                else ""
                if value is None or path.suffix.lower() == ".jsonl"
                else str(value)
            )
        elif path.suffix.lower() == ".jsonl":
            raise InputError(f"{path}:{line}: {row}; give one object a line")
        else:
            faults.append(f"{path}:{line}: {row}")
    if faults:
        tell(faults[0] + (f" ({len(faults)} such)" if len(faults) > 1 else ""))


def _text_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as f:
            yield from f
    except OSError as e:
        raise InputError(
            f"{path}: captions cannot be read ({e.strerror or e}); give text, .csv, .parquet or .jsonl"
        ) from e


def _pick(path: Path, header: Sequence[str], column: str | None) -> str:
    names = COLUMNS if column is None else (column,)
    for name in names:
        if name in header:
            return name
    tried = " or ".join(f"'{c}'" for c in names)
    raise InputError(f"{path}: no column {tried} (columns: {', '.join(header) or 'none'}); name one with `caption_col`")
