"""What is to be said of the images of results: one line a kind, from the rows themselves, so that it stays with them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from iconicity.indexer.encode.pixels import Noted, named_notes
from iconicity.indexer.text import counted
from iconicity.scorer.results import Results

COLUMNS = ("model", "gen_relpath", "pixel_notes", "cra_area_seen", "area_seen")
LITTLE = 0.8  # share of an image's area below which what was looked at is said
_SEEN = {"cra_area_seen": "of the whole image (CRA)", "area_seen": "of the patches (VR)"}


def caveats(results: Results) -> list[str]:
    """Caveats of all rows of a results directory."""
    return caveats_of(results.batches(columns=COLUMNS))


def caveats_of(batches: Iterable[pa.Table]) -> list[str]:
    """Caveats of some rows; an image is named ``MODEL/CONCEPT/FILE``."""
    noted, counts, images = Noted(), dict.fromkeys(_SEEN, 0), 0
    least: dict[str, tuple[float, str]] = {}
    for batch in batches:
        for row in batch.select(COLUMNS).to_pylist():
            name = f"{row['model']}/{row['gen_relpath']}"
            noted.add(named_notes(row["pixel_notes"]), name)
            images += row["area_seen"] is not None
            for column in _SEEN:
                if row[column] is not None and row[column] < LITTLE:
                    counts[column] += 1
                    least[column] = min(least.get(column, (2.0, "")), (row[column], name))
    parts = [
        f"{what} of {counts[column]} of {counted(images, 'image')} (least {least[column][0]:.2f}: {least[column][1]})"
        for column, what in _SEEN.items()
        if counts[column]
    ]
    if parts:
        noted_area = " and ".join(parts)
        return [
            *noted.lines(),
            f"area: the encoders look at centres, less than {LITTLE:g} {noted_area}; `fit` squash looks at all",
        ]
    return noted.lines()
