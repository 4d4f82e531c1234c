"""References that surface in images whose prompts name something else: which, how often, and by which model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.null.same_work import Pair
from iconicity.indexer.text import counted
from iconicity.scorer.measure.finding import interval_columns
from iconicity.scorer.measure.intervals import interval
from iconicity.scorer.measure.metrics import Bools, Float64, Ints
from iconicity.scorer.text import percent

COLUMNS = (
    "reference", "concept", "model", "images", "surfaced", "share", "share_low", "share_high", "share_exact", "highest_sim",
    "threshold",
)  # fmt: skip
_GROUPS = 1000  # of prompts that are drawn together where there are more, so that the draws fit into memory


def surfaced_references(
    images: pd.DataFrame, prompts: Sequence[str | None], tau: Float64, same: Collection[Pair], **options: Any
) -> pd.DataFrame:
    """A row for each reference and model of which it is the nearest other one, at its threshold, in some image.

    ``images``: the table ``images`` of :func:`.attribute.attribute` (n rows). ``tau`` (n,): threshold of the concept
    that ``other_ref_id`` belongs to. ``same``: concepts that are one work. ``images`` of a row counts the model's images
    that name another work, ``surfaced`` those in which the reference surfaced, and ``share`` is their share in [0, 1].
    Its interval (``options`` of :func:`.intervals.interval`) resamples prompts with all their images; an image without a
    prompt counts as one of its own. The most frequent come first, then the most similar.
    """
    out: list[pd.DataFrame] = []
    compared = images.attribution.to_numpy() != ""
    hit = images.unprompted.to_numpy(bool)
    for model, rows in images.groupby("model", sort=True, observed=True).indices.items():
        mine = rows[compared[rows]]
        at = np.flatnonzero(hit[mine])
        found = images.iloc[mine[at]]
        names, which = np.unique(found.other_ref_id.to_numpy(str), return_inverse=True)
        if not len(names):
            continue
        unit = _units([prompts[i] for i in mine])
        concepts = [name.split("/", 1)[0] for name in names]
        others = _name_others(images.concept.to_numpy()[mine], concepts, same)
        hits = _sums(unit[at], which, np.ones(len(at)), (unit.max() + 1, len(names)))
        of = np.stack([np.bincount(unit, others[:, r], minlength=len(hits)) for r in range(len(names))], axis=1)
        highest = np.full(len(names), -np.inf)
        np.maximum.at(highest, which, found.other_sim.to_numpy(np.float64))
        threshold = np.full(len(names), np.nan)
        threshold[which] = tau[mine[at]]
        frame = {
            "reference": names, "concept": concepts, "model": model, "images": others.sum(axis=0),
            "surfaced": hits.sum(axis=0).astype(np.int64), **interval_columns("share", interval(hits, of, **options)),
            "highest_sim": highest, "threshold": threshold,
        }  # fmt: skip
        out.append(pd.DataFrame(frame))
    if not out:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(out, ignore_index=True)[list(COLUMNS)]
    order = ["surfaced", "highest_sim", "reference", "model"]
    return table.sort_values(order, ascending=[False, False, True, True], ignore_index=True)


def _units(prompts: Sequence[str | None]) -> Ints:
    """What is resampled: images of one prompt together, in at most :data:`_GROUPS` groups."""
    names = [("", i) if prompt is None else (prompt, 0) for i, prompt in enumerate(prompts)]
    return np.asarray(pd.factorize(pd.Series(names))[0] % _GROUPS, np.int64)


def _name_others(own: Sequence[str], concepts: Sequence[str], same: Collection[Pair]) -> Bools:
    """Whether each image names another work than each of some concepts: (n, R)."""
    names, code = np.unique(np.asarray(own, str), return_inverse=True)
    differ = [[a != b and tuple(sorted((a, b))) not in same for b in concepts] for a in names.tolist()]
    return np.array(differ, bool).reshape(len(names), len(concepts))[code]


def _sums(row: Ints, column: Ints, values: Float64, shape: tuple[int, int]) -> Float64:
    flat = np.bincount(row * shape[1] + column, values, minlength=shape[0] * shape[1])
    return np.asarray(flat.reshape(shape), np.float64)


def surfaced_notes(table: pd.DataFrame, undecided: int, alpha: float, concepts: int) -> list[str]:
    """What a reader should know of the table. ``undecided``: images that no threshold decides on. ``alpha``: share of
    unrelated references that reach a threshold, 0 where that is not known. ``concepts``: number of those compared with.
    """
    out = []
    if len(table):
        number, hits = table.reference.nunique(), int(table.surfaced.sum())
        out.append(
            f"surfaced though not named: {counted(number, 'reference')}, in {counted(hits, 'image')}, most often "
            f"{table.reference[0]} ({table.surfaced[0]} of {counted(int(table.images[0]), 'image')} of {table.model[0]}); "
            "`table` references lists them"
        )
        if alpha:
            out.append(
                f"by chance a reference surfaces in up to {percent(alpha)} of the images, and any of {counted(concepts, 'concept')} "
                f"in up to {percent(min(1.0, alpha * concepts))}"
            )
    if undecided:
        out.append(
            f"{counted(undecided, 'image is', 'images are')} nearest to a concept whose number of references has no threshold; not counted as unprompted"
        )
    return out
