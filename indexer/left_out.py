"""Inputs that are not in an index or in results, counted by kind and concept, with one line for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_NAMED = 3  # examples in a line
_OWNERS = 6  # models in a line

NAMED_TWICE = "rows of `Select.concepts` that name a concept once more"
NO_FOLDER = "concepts of `Select.concepts` that have no folder of references"
NOT_NAMED_REFERENCES = "folders of references that `Select.concepts` does not name"
EMPTY = "folders without an image"


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    concept: str
    reason: str

    @property
    def ref_id(self) -> str:
        return f"{self.concept}/{Path(self.path).name}"


class NotCounted(str):
    """A note that counts what was given and is not in the numbers. Every table shows it."""


class LeftOut(NamedTuple):
    """A count of inputs of one kind that are not in the numbers.

    ``kind`` is a phrase that is equal for all models and concepts, so that they can be counted together.
    """

    kind: str
    n: int = 0  # 0: ``kind`` says all
    of: int = 0  # number of inputs of this kind, with those that count; 0: not known
    concept: str = ""  # "": of no single concept
    first: str = ""  # an example


def stored_left_out(by_owner: Mapping[str, Iterable[LeftOut]]) -> dict[str, list[dict[str, Any]]]:
    """Return the counts as JSON holds them, sorted. Owners without counts are left out."""
    ordered = {o: sorted(items, key=lambda i: (i.kind, i.concept, *i)) for o, items in sorted(by_owner.items())}
    return {owner: [i._asdict() for i in items] for owner, items in ordered.items() if items}


def read_left_out(stored: Iterable[Mapping[str, Any]]) -> list[LeftOut]:
    """Read the counts of one owner from JSON."""
    return [LeftOut(**item) for item in stored]


def left_out_lines(by_owner: Mapping[str, Iterable[LeftOut]]) -> list[str]:
    """One :class:`NotCounted` line a kind, with the count of each owner (a model, the index; "" is not named).

    >>> left_out_lines({"A": [LeftOut("images beyond `k_gen` 50, not counted", 10, 60, "one", "one/9.png")]})
    ['images beyond `k_gen` 50, not counted: A 10 of 60; first one/9.png']
    """
    kinds: dict[str, dict[str, list[LeftOut]]] = {}
    for owner, items in by_owner.items():
        for item in dict.fromkeys(items):
            kinds.setdefault(item.kind, {}).setdefault(owner, []).append(item)
    return [_line(kind, owners) for kind, owners in kinds.items()]


def _line(kind: str, owners: Mapping[str, Sequence[LeftOut]]) -> NotCounted:
    counts = []
    for owner, items in owners.items():
        n, of = sum(i.n for i in items), sum(i.of for i in items)
        if n:
            counts.append(f"{owner} {n}".strip() + (f" of {of}" if of else ""))
    first = list(dict.fromkeys(i.first for items in owners.values() for i in items if i.first))
    said = f": {_some(counts, _OWNERS)}" if counts else ""
    return NotCounted(f"{kind}{said}" + (f"; first {_some(first, _NAMED)}" if first else ""))


def _some(texts: Sequence[str], most: int) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def renewed(held: Iterable[LeftOut], new: Iterable[LeftOut], within: Container[str] | None) -> list[LeftOut]:
    """Return the counts after a run over some concepts (None: all): new ones for these, old ones for the others."""
    others = [] if within is None else [item for item in held if item.concept and item.concept not in within]
    return list(dict.fromkeys([*others, *new]))


def rows_left_out(concepts: Sequence[str]) -> list[LeftOut]:
    """Count the rows of a list of concepts that name a concept once more."""
    again = {c: n - 1 for c, n in Counter(concepts).items() if n > 1}
    return [LeftOut(NAMED_TWICE, sum(again.values()), len(concepts), first=f"'{next(iter(again))}'")] if again else []


def held_left_out(manifest: Mapping[str, Any] | None) -> list[LeftOut]:
    """Return the inputs that were left out, by the manifest of an index."""
    return [] if manifest is None else read_left_out(manifest["left_out"])
