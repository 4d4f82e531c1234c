"""Measure the thresholds that come with the package, on a folder of references: ``make thresholds REFS=DIR``.

Each encoder that comes with the package builds an index of the references in a folder that is deleted again. Only the
numbers stay.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iconicity.indexer.build import build_index
from iconicity.indexer.builder import held_creators
from iconicity.indexer.encode.encoder import load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.null.fit import fit
from iconicity.indexer.null.packaged import FILE, key
from iconicity.indexer.null.sample import draw
from iconicity.indexer.null.thresholds import ALPHA, CRA, DYNAMIC, STATIC, VR
from iconicity.indexer.options import IndexOptions, Run
from iconicity.indexer.store.index import open_index

ENCODERS = {
    "offline": EncoderOptions("offline"),
    "sscd": EncoderOptions("offline", patch_encoder="sscd"),
    "sscd-distilled": EncoderOptions("offline-copy"),
}
REFERENCES = 32  # J up to which a threshold is given


def entries(index: Path, encoders: str) -> Iterator[dict[str, Any]]:
    """What the package says of the encoders of an index."""
    opened = open_index(index)
    sample = draw(opened.store, held_creators(opened.manifest))
    if sample is None:
        raise SystemExit(f"{index}: no references")
    rows = fit(sample, range(1, REFERENCES + 1), ALPHA)
    for mode in (STATIC, DYNAMIC):
        for metric in (CRA, VR):
            mine = [r for r in rows if r["mode"] == mode and r["metric"] == metric]
            yield {
                "encoders": encoders, **key(opened.settings, mode, metric), "concepts": len(sample.concepts),
                "rate_check": mine[0]["rate_check"], "tau": {str(r["references"]): r["tau"] for r in mine},
            }  # fmt: skip


def main(refs: str) -> None:
    found: list[dict[str, Any]] = []
    for name, options in ENCODERS.items():
        for pixels in ("shown", "published"):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "index"
                build_index(refs, place, load_encoders(options), IndexOptions(pixels=pixels), run=Run(workers=None))
                known = [{k: v for k, v in e.items() if k != "encoders"} for e in found]
                new = entries(place, name)
                found += [e for e in new if {k: v for k, v in e.items() if k != "encoders"} not in known]
    FILE.write_text(json.dumps({"alpha": ALPHA, "thresholds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
