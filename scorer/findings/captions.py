"""Textual uniqueness of concepts: how many captions hold their title, and how near the nearest other title is."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from iconicity.indexer.errors import InputError
from iconicity.scorer.metrics import Float64, Ints

COLUMNS = ("caption", "text", "prompt")  # taken as --caption-col, the first that is there
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
    counts, total, replaced = _count(tokens, read_captions(path, caption_col))
    if total == 0:
        raise InputError(f"{path}: holds no caption; give text with one caption a line, or a column of captions")
    overlap, nearest = title_overlaps(tokens)
    wordless = [c for c, t in zip(concepts, tokens, strict=True) if not t]
    count = np.where([bool(t) for t in tokens], counts, np.nan)
    values = pd.DataFrame(
        {
            "title": [titles[c] for c in concepts], "caption_count": count, "caption_share": count / total,
            "title_overlap": overlap, "nearest_title": [titles[concepts[i]] if i >= 0 else None for i in nearest],
        },
        index=pd.Index(concepts, name="concept"),
    )  # fmt: skip
    notes = [f"{DEFINITION}; {total} captions of {path}, {len(concepts)} titles"]
    if wordless:
        notes.append(f"titles without a word, so without textual uniqueness: {len(wordless)} (first: {wordless[0]})")
    if replaced:
        notes.append(f"{replaced} captions hold U+FFFD, or bytes that are not UTF-8 and are read as that")
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


def read_captions(path: Path, column: str | None = None) -> Iterator[str]:
    """Captions of a file one after the other, blank ones too. Raises :class:`InputError`."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(path, column)
            return
        with path.open(encoding="utf-8-sig", errors="replace", newline="" if suffix == ".csv" else None) as f:
            if suffix == ".csv":
                rows = csv.reader(f)
                at = _pick(path, next(rows, []), column)
                yield from (row[at] if at < len(row) else "" for row in rows)
            elif suffix == ".jsonl":
                yield from _jsonl(path, f, column)
            elif column is not None:
                raise InputError(f"{path}: is read as text, which has no columns; leave --caption-col out")
            else:
                yield from f
    except (OSError, csv.Error) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        raise InputError(f"{path}: captions cannot be read ({reason}); give text, .csv, .parquet or .jsonl") from e


def _pick(path: Path, header: list[str], column: str | None) -> int:
    for name in COLUMNS if column is None else (column,):
        if name in header:
            return header.index(name)
    tried = " or ".join(f"'{c}'" for c in (COLUMNS if column is None else (column,)))
    raise InputError(f"{path}: no column {tried} (columns: {', '.join(header) or 'none'}); name one with --caption-col")


def _parquet(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as f, pq.ParquetFile(f) as file:
            name = file.schema_arrow.names[_pick(path, file.schema_arrow.names, column)]
            for batch in file.iter_batches(columns=[name]):
                yield from (str(c) for c in batch.column(0).cast(pa.string()).to_pylist() if c is not None)
    except pa.ArrowException as e:
        first = str(e).splitlines()[0]
        raise InputError(f"{path}: captions cannot be read ({first}); give a Parquet file with a text column") from e


def _jsonl(path: Path, lines: Iterable[str], column: str | None) -> Iterator[str]:
    """The column is that of the first record; records without it are blank."""
    name = None
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{path}: line {number} is not JSON ({e}); give one object a line") from e
        if not isinstance(record, dict):
            raise InputError(f"{path}: line {number} is no JSON object; give one object a line")
        if name is None:
            keys = list(record)
            name = keys[_pick(path, keys, column)]
        value = record.get(name)
        yield value if isinstance(value, str) else ""
