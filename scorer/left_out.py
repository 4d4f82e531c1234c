"""What was given to score and is not in a model's numbers: the kinds, and what results directories say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from iconicity.indexer.left_out import LeftOut, held_left_out, left_out_lines
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.index import Index
from iconicity.scorer.results import Results

INDEX = ""  # as an owner, beside the models
NO_REFERENCES = "images of concepts that the index has no references for, not scored"
NOT_NAMED = "images of concepts that `Select.concepts` does not name, not scored"
UNKNOWN = "concepts of `Select.concepts` that neither the index nor the images have"
UNUSABLE = "files or rows of metadata that could not be used, without a row in the results"
MISSING = "concepts of the index without an image in these results"
OTHER_SHARDS = "concepts of other shards, without a row in these results"
NO_REFERENCE_FILE = "references that could not be used"


def beyond(k_gen: int) -> str:
    """The kind of images that ``k_gen`` does not count."""
    return f"images beyond `k_gen` {k_gen}, not counted"


def missing(concepts: Iterable[str], present: Collection[str], shard: Shard | None = None) -> list[LeftOut]:
    """The ``concepts`` of the index that a model's rows do not have, those of other shards apart."""
    lacking = sorted(c for c in concepts if c not in present)
    own = lacking if shard is None else [c for c in lacking if c in shard]
    out = [LeftOut(MISSING, len(own), first=f"'{own[0]}'")] if own else []
    other = len(lacking) - len(own)
    return [*out, *([LeftOut(OTHER_SHARDS, other, first=f"this is shard {shard}")] if other else [])]


def of_index(idx: Index) -> list[LeftOut]:
    """What an index says was left out when it was built."""
    skipped = idx.manifest["skipped"]
    unused = [LeftOut(NO_REFERENCE_FILE, len(skipped), first=f"{skipped[0]['path']}")] if skipped else []
    return [*unused, *held_left_out(idx.manifest)]


def merged_left_out(said: Iterable[LeftOut], rows: Collection[str], concepts: Iterable[str]) -> list[LeftOut]:
    """What the parts of a merge said of a model, without what another part's ``rows`` have.

    ``rows``: concepts of the model's rows. ``concepts``: those of the index.
    """
    kept = [
        item
        for item in said
        if item.kind not in (MISSING, OTHER_SHARDS) and not (item.kind == NOT_NAMED and item.concept in rows)
    ]
    return [*kept, *missing(concepts, rows)]


def left_out_of(sources: Sequence[Results]) -> list[str]:
    """One line for each kind of thing that results do not contain. What one of them lacks another may have."""
    by_model: dict[str, list[LeftOut]] = {}
    twice = {m for m, n in Counter(m for r in sources for m in r.models).items() if n > 1}
    for results in sources:
        for owner, items in results.left_out.items():
            apart = (MISSING, OTHER_SHARDS) if owner in twice else ()
            by_model.setdefault(owner, []).extend(i for i in items if i.kind not in apart)
    return left_out_lines(by_model)
