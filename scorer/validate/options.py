"""Options of the ladder, and the rungs that there are. Loads no library."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from iconicity.indexer.flags import Flag, flags

SCANS = "S"
REPAINTED = ("G1", "G2", "G3")  # by strength
RUNGS = {
    "R0": "exact cells", "R1": "whole copies", "R2": "changed cells", "R3": "cells off the grid", "R4": "inpainted cells",
    SCANS: "second scans", "G1": "repainted, near", "G2": "repainted, freer", "G3": "repainted, freest",
    "O": "another layout", "T": "transformed", "N": "something else", "B": "bland",
}  # fmt: skip


def split(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",")]


def named_rungs(text: str | None) -> tuple[str, ...]:
    """The rungs that a text names, all of them by None. G stands for its three strengths.

    >>> named_rungs("R2,G")
    ('R2', 'G1', 'G2', 'G3')
    """
    if text is None:
        return tuple(RUNGS)
    return tuple(rung for word in split(text) for rung in (REPAINTED if word == "G" else (word,)))


@dataclass(frozen=True)
class LadderOptions:
    """What the numbers of a validation depend on, beside the references and the encoders.

    At most so many ``concepts`` are manipulated. ``rungs``: some of :data:`RUNGS`. ``relations``: (concept, file name)
    -> relation, see :func:`read_relations`. ``artists``: concept -> artist, series or genre. ``embeddings``: some of
    :data:`iconicity.scorer.validate.layers.LAYERS`; None: all. ``alpha`` is the false-positive rate of calibrated
    thresholds. ``draws``: bootstrap samples.
    """

    concepts: int = flags(60, Flag("--concepts", "Concepts that are manipulated, at most.", least=4))
    rungs: Collection[str] = flags(
        tuple(RUNGS),
        Flag(
            "--rungs",
            f"Rungs of the ladder, comma-separated: some of {','.join(RUNGS)}. G stands for G1,G2,G3.",
            default=None,
            shown="all",
        ),
        join=named_rungs,
    )
    seed: int = flags(0, Flag("--seed", "Seed of the random draws (donors, manipulations, bootstrap).", least=0))
    relations: Mapping[tuple[str, str], str] | None = flags(
        None,
        Flag(
            "--relations",
            "CSV file of further references, with the columns path and relation. A relation is same_work, or a word with 'variant'.",
            kind="path",
        ),
    )
    artists: Mapping[str, str] | None = flags(
        None,
        Flag("--related", "CSV file that names the artist, series or genre of concepts.", kind="path"),
        Flag("--related-col", "Column of --related that holds the artist, series or genre.", default="artist"),
        Flag(
            "--concept-col",
            "Column of --related that holds the concept name.",
            default="label_clean",
            shown="label_clean, or concept",
        ),
    )
    embeddings: Collection[str] | None = flags(
        None,
        Flag(
            "--embeddings",
            "Ways to embed an image, comma-separated: some of crop,overlapping,token,whole,class.",
            shown="all",
        ),
        join=lambda text: None if text is None else split(text),
    )
    alpha: float = flags(
        0.01, Flag("--alpha", "False-positive rate of calibrated thresholds.", least=0.0, most=0.5, above=True)
    )
    draws: int = flags(10_000, Flag("--draws", "Bootstrap samples of each interval.", least=100, most=1_000_000))
