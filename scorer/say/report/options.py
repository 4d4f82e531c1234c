"""Options of a report. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iconicity.indexer.flags import Flag, flags
from iconicity.scorer.options import CONCEPT_COL, DRAWS, SEED, VI_SCOPE


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows, and whether it is one file.

    ``titles``: concept -> title, artist and year. ``vi_scope``: the images whose VI enters CRT. ``draws``: bootstrap
    samples of the intervals.
    """

    single_file: bool = flags(
        False, Flag("--single-file", "Write one .html file that holds the whole report.", kind="switch")
    )
    titles: Mapping[str, Mapping[str, str]] | None = flags(
        None,
        Flag("--prompt-csv", "CSV file with the columns title, artist and year of each concept.", kind="path"),
        CONCEPT_COL,
    )
    vi_scope: str = flags("recognised", VI_SCOPE)
    draws: int = flags(10_000, DRAWS)
    seed: int = flags(0, SEED)
