"""What is to be said of the images of results: one line a kind, from the rows themselves, so that it stays with them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from iconicity.indexer.pixels import Noted, named_notes
from iconicity.scorer.results import Results

COLUMNS = ("model", "gen_relpath", "pixel_notes")


def caveats(results: Results) -> list[str]:
    """Caveats of all rows of a results directory."""
    return caveats_of(results.batches(columns=COLUMNS))


def caveats_of(batches: Iterable[pa.Table]) -> list[str]:
    """Caveats of some rows; an image is named ``MODEL/CONCEPT/FILE``."""
    noted = Noted()
    for batch in batches:
        for model, relpath, names in zip(*(batch.column(c).to_pylist() for c in COLUMNS), strict=True):
            if names is not None:
                noted.add(named_notes(names), f"{model}/{relpath}")
    return noted.lines()
