"""Options of a calibration. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iconicity.indexer.flags import Flag, flags
from iconicity.scorer.options import DRAWS, SEED


@dataclass(frozen=True)
class CalibrationOptions:
    """What a calibration rests on.

    ``alpha``: the false-positive rate. ``pool``: how many concepts images are compared with at most. ``works``:
    concept -> work, for concepts that are the same work. ``related``: concept -> artist, series or genre; pairs of
    related concepts have a null of their own. ``whiten``: VR strict is found of whitened vectors (whiten.py).
    ``draws``: bootstrap samples of the intervals.
    """

    alpha: float = flags(
        0.01, Flag("--alpha", "False-positive rate of the thresholds.", least=0.0, most=0.5, above=True)
    )
    seed: int = flags(0, SEED)
    pool: int = flags(200, Flag("--pool", "Concepts with which an image is compared, at most.", least=2))
    works: Mapping[str, str] = field(default_factory=dict)
    related: Mapping[str, str] = field(default_factory=dict)
    whiten: bool = flags(
        False,
        Flag(
            "--whiten",
            "Find VR strict of whitened vectors, for encoders whose patches all resemble each other. Calibration then takes "
            "twice as long.",
            kind="switch",
        ),
    )
    draws: int = flags(10_000, DRAWS)
