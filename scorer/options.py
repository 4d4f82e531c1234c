"""Options of scoring: what numbers depend on, and how results are written. Flags that several options share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.options import require_one_of

METRICS = ("cra", "vr")
MODES = ("dynamic", "static")
SCOPES = ("concept", "all")
SEARCHES = ("exact", "approximate")
CONCEPT_COL = Flag(
    "--concept-col",
    "Column of the CSV file that holds the concept name.",
    default="label_clean",
    shown="label_clean, or concept",
)
DRAWS = Flag("--draws", "Bootstrap samples for each interval.", least=100, most=1_000_000)
SEED = Flag("--seed", "Seed of the random draws.", least=0)
VI_SCOPE = Flag("--vi-scope", "Images whose VI enters CRT.", choices=("recognised", "all"))


@dataclass(frozen=True)
class ScoreOptions:
    """What the numbers of results depend on, beside the index and the images. The results record them.

    ``mode`` dynamic takes each concept's kept references, static the first by name. ``scope`` all compares with every
    other concept too: exactly, or (``search`` approximate) by an index whose hits are true but may be missed; ``settle``
    then scans for the patches without a hit. The first ``k_gen`` images of a concept and variant count, by file name.
    Thresholds left None are those that the results already have, else the paper's. Raises :class:`InputError` for a
    value that does not exist.
    """

    metrics: Sequence[str] = flags(
        METRICS,
        Flag("--metric", "Metric to score.", choices=(*METRICS, "all"), default="all"),
        join=lambda metric: METRICS if metric == "all" else (metric,),
    )
    mode: str = flags(
        "dynamic",
        Flag("--mode", "References of a concept: all kept ones, or (static) the first by name.", choices=MODES),
    )
    scope: str = flags(
        "concept",
        Flag(
            "--scope",
            "Concepts that an image is compared with: its own, or (all) every other one, too.",
            choices=SCOPES,
        ),
    )
    search: str = flags(
        "exact",
        Flag(
            "--search",
            "Search of --scope all. An approximate search finds true matches and may miss some; patches that it leaves "
            "open are counted.",
            choices=SEARCHES,
        ),
    )
    settle: bool = flags(
        False,
        Flag("--exact", "Scan all references for the patches that an approximate search leaves open.", kind="switch"),
    )
    k_gen: int = flags(50, Flag("--k-gen", "Images of a concept and variant that count, by file name.", least=1))
    tau_cra: float | None = flags(
        None,
        Flag("--ic-tau", "CRA threshold.", least=-1.0, most=1.0, shown="0.75 dynamic, 0.70 static, or as OUT has it"),
    )
    tau_vr: float | None = flags(
        None, Flag("--patch-tau", "VR threshold.", least=-1.0, most=1.0, shown="0.60, or as OUT has it")
    )

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
    changed. Rows of a model whose images are not among those given now go only with ``prune``. ``csv`` and ``meta``:
    other paths of the CSV and .meta.json file of a single metric.
    """

    note: str | None = flags(None, Flag("--note", "Caveat about these images that every table of the results carries."))
    update: bool = flags(
        False, Flag("--update", "Score every row of OUT again when the index has changed.", kind="switch")
    )
    prune: bool = flags(
        False,
        Flag(
            "--prune",
            "Remove rows of the models named whose images are not among those given now.",
            kind="switch",
            also=("--replace",),
        ),
    )
    csv: Path | str | None = flags(
        None, Flag("--outcsv", "Path of the CSV file, where a single metric is scored.", kind="path")
    )
    meta: Path | str | None = flags(
        None, Flag("--outmeta", "Path of the .meta.json file, where a single metric is scored.", kind="path")
    )


@dataclass(frozen=True)
class AttributeFiles:
    """Where attributes of concepts are read. The fields are called like the parameters of ``concept_attributes``."""

    path: Path | None = flags(
        None, Flag("--attributes", "CSV file of concepts and their attributes: numbers, dates.", kind="path")
    )
    concept_col: str = flags("label_clean", CONCEPT_COL)
    columns: Sequence[str] | None = flags(
        None,
        Flag(
            "--attribute",
            "Column of --attributes to correlate. May be repeated.",
            shown="all that hold numbers or dates",
            default=(),
            metavar="COLUMN",
            repeats=True,
        ),
        join=lambda named: list(named) or None,
    )
    controls: Sequence[str] = flags(
        (),
        Flag(
            "--control",
            "Hold this attribute constant in partial correlations, beside J. May be repeated.",
            metavar="COLUMN",
            repeats=True,
        ),
    )
    captions: Path | None = flags(
        None,
        Flag(
            "--captions",
            "File of captions or titles, one a line, or .csv, .parquet, .jsonl. It adds textual uniqueness.",
            kind="path",
        ),
    )
    caption_col: str | None = flags(
        None,
        Flag("--caption-col", "Column of --captions that holds the caption.", shown="caption, text or prompt"),
    )
    title_col: str | None = flags(
        None,
        Flag(
            "--title-col",
            "Column of --attributes that holds the title.",
            shown="title; without one, the concept's name",
        ),
    )
