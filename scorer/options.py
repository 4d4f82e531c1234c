"""Options of scoring: what numbers depend on, and how results are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.options import require_one_of

METRICS = ("cra", "vr")
MODES = ("dynamic", "static")
SCOPES = ("concept", "all")
SEARCHES = ("exact", "approximate")


@dataclass(frozen=True)
class ScoreOptions:
    """What the numbers of results depend on, beside the index and the images. The results record them.

    ``mode`` dynamic takes each concept's kept references, static the first by name. ``scope`` all compares with every
    other concept too: exactly, or (``search`` approximate) by an index whose hits are true but may be missed; ``settle``
    then scans for the patches without a hit. The first ``k_gen`` images of a concept and variant count, by file name.
    Thresholds left None are those that the results already have, else the paper's. Raises :class:`InputError` for a
    value that does not exist.
    """

    metrics: Sequence[str] = METRICS
    mode: str = "dynamic"
    scope: str = "concept"
    search: str = "exact"
    settle: bool = False
    k_gen: int = 50
    tau_cra: float | None = None
    tau_vr: float | None = None

    def __post_init__(self) -> None:
        for metric in self.metrics:
            require_one_of("metric", metric, METRICS)
        require_one_of("mode", self.mode, MODES)
        require_one_of("scope", self.scope, SCOPES)
        require_one_of("search", self.search, SEARCHES)
        for name, tau in (("tau_cra", self.tau_cra), ("tau_vr", self.tau_vr)):
            if tau is not None and not -1.0 <= tau <= 1.0:
                raise InputError(f"{name} {tau}: a threshold on a cosine lies between -1 and 1")


@dataclass(frozen=True)
class Writing:
    """What becomes of a results directory that is written.

    ``note`` is a caveat that every table of the results carries. ``update`` scores every row again when the index has
    changed. Rows of a model whose images are not among those given now go only with ``replace``. ``csv`` and ``meta``:
    other paths of the CSV and .meta.json file of a single metric.
    """

    note: str | None = None
    update: bool = False
    replace: bool = False
    csv: Path | str | None = None
    meta: Path | str | None = None
