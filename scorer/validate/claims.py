"""What must hold of an encoder before its VR may be believed, and the verdict on each rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from iconicity.scorer.validate.evaluate import OPTIONS
from iconicity.scorer.validate.options import SCANS

NAN = float("nan")
# group of cells, its figure, what the figure is, the limit, and 1 where the limit is the least, -1 where it is the most
_WANTED = (
    ("R2", "rho", "Spearman of VR with k", 0.9, 1), ("R2", "vr_error", "mean |VR - k/16|", 0.10, -1),
    ("R2", "recall", "recall of reused cells", 0.8, 1), ("R2", "fpr", "false-positive rate of cells", 0.01, -1),
    ("G", "recall", "recall of repainted cells", 0.8, 1), (SCANS, "recall", "recall of cells of second scans", 0.9, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What must hold at a calibrated threshold, and what was found by one rule.

    ``holds`` is False where the figure misses the limit with its whole interval. It is None where the figure misses it and the
    interval reaches it, so that too few concepts were seen; and where the images were not made (the value is nan).
    """

    rule: str
    claim: str
    value: float
    low: float
    high: float
    wanted: str
    holds: bool | None
    group: str = "R2"

    @property
    def made(self) -> bool:
        """Whether there were images to judge by."""
        return self.holds is not None or not math.isnan(self.value)


def claims(cells: pd.DataFrame) -> list[Claim]:
    """The demands on changed cells (R2), repainted copies (G) and second scans (S), by each of :data:`OPTIONS`.

    R2: rho >= 0.9, |VR - k/16| <= 0.10, recall >= 0.8 at a false-positive rate <= 0.01. G: recall >= 0.8. S: recall >= 0.9.
    """
    found: dict[tuple[str, str], Any] = {(r["rule"], r["group"]): r for r in cells.to_dict("records")}
    return [
        _claim(rule, found.get((rule, wanted[0]), {}), *wanted)
        for rule in OPTIONS
        if (rule, "R2") in found
        for wanted in _WANTED
    ]


def _claim(rule: str, row: Mapping[str, Any], group: str, figure: str, words: str, limit: float, sign: int) -> Claim:
    value, low, high = (float(row.get(name, NAN)) for name in (figure, f"{figure}_low", f"{figure}_high"))
    holds: bool | None = None
    if row:
        nearest = high if sign > 0 else low  # end of the interval on the good side
        missed = not sign * (value - limit) >= 0  # nan too
        holds = None if missed and sign * (nearest - limit) >= 0 else not missed
    return Claim(rule, words, value, low, high, f"{'>=' if sign > 0 else '<='} {limit:.4g}", holds, group)


def verdict(demands: Sequence[Claim]) -> str:
    """``holds``, ``FAILS``, or ``open`` where too few concepts were seen to say, or images of a demand are lacking.

    Second scans may be lacking: not every study has some.
    """
    if any(c.holds is False for c in demands):
        return "FAILS"
    return "open" if any(c.holds is None and (c.made or c.group != SCANS) for c in demands) else "holds"


def finds_repainted(demands: Sequence[Claim]) -> bool | None:
    """Whether some rule finds repainted copies; None where they were not made, or too few were seen to say."""
    judged = [c.holds for c in demands if c.group == "G" and c.made]
    return True if any(judged) else None if not judged or None in judged else False
