"""One static page: what holds, the tables, and plates of hits and misses. No script, nothing from a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageOps

from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.flags import bare
from iconicity.indexer.grid import cell_boxes
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.files import replacing, write_atomically
from iconicity.scorer.measure.finding import headings
from iconicity.scorer.measure.metrics import Bools
from iconicity.scorer.say.report.pages import STYLE, asset, template
from iconicity.scorer.text import number
from iconicity.scorer.validate.claims import verdict
from iconicity.scorer.validate.options import RUNGS
from iconicity.scorer.validate.run import Validation
from iconicity.scorer.validate.rungs import GRID
from iconicity.scorer.validate.scores import MOSTLY, count_cells

_SIDE = 300  # pixels of a plate's images
_EACH = 4  # plates of a kind
_TITLES = {
    "methods": "Methods and scores", "copies": "Whole copies against other pictures",
    "cells": "Cells: is the right patch called reused?", "rungs": "What was done, and what was measured",
    "improvements": "What VR's options are worth", "differences": "Our methods less the others", "thresholds": "Thresholds",
}  # fmt: skip
_HINTS = {
    "methods": "auroc_*: mean over concepts of the AUROC within a concept; across_*: over all pairs of concepts, as one threshold for "
               "all would have it; ap_*: average precision; rho: Spearman's with the number of reused cells (R2).",
    "copies": "Mean over concepts of the AUROC within a concept, of each kind of whole copy against pictures that show nothing of the "
              "reference. Repainted copies (G) are nearest to what generators give.",
    "cells": "A cell counts as reused where at least half of its area is the reference's, as not reused where none is. "
             "vr_error: mean |VR - k/16|. *_achieved: at the threshold that 1 % of the group's own cells without reuse reach, "
             "which compares scores and not thresholds.",
    "rungs": "true_vr: share of cells that are the reference's; empty where no number is true.",
    "improvements": "Each rule at the threshold 'iconicity calibrate' gives it on the choosing half, beside VR at its calibrated tau. r3_gain: "
                    "how much nearer VR comes to k/16 over the three offsets. wins: preferred by the choosing half, and the reporting half's interval is above 0.",
    "differences": "AUROC within concepts, paired over concepts.",
    "thresholds": "Of one reference (J = 1), by 'iconicity calibrate'.",
}  # fmt: skip


@dataclass(frozen=True)
class Plate:
    """A picture of a generated image beside its reference, and what it shows."""

    file: str
    caption: str


def write_page(found: Validation, out: Path) -> Path:
    """Write ``out``/index.html, its style and its plates."""
    plates = out / "plates"
    shutil.rmtree(plates, ignore_errors=True)
    plates.mkdir()
    shown = {title: list(_plates(found, kind, out)) for kind, title in _KINDS.items()} if found.rules else {}
    tables = [
        (n, _TITLES[n], _HINTS[n], *_cells(found.finding.tables[n])) for n in _TITLES if n in found.finding.tables
    ]
    write_atomically(out / STYLE, asset(STYLE))
    demands = [list(claims) for _, claims in groupby(found.claims, lambda c: c.rule)]
    page = template("index.html.j2", "iconicity.scorer.validate").render(
        notes=list(map(bare, found.finding.notes)), demands=demands, verdict=verdict, number=number, tables=tables, plates=shown,
        plumbing=found.plumbing, rungs=RUNGS,
    )  # fmt: skip
    write_atomically(out / "index.html", page)
    return out / "index.html"


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """Heads, and rows of (value, interval)."""
    heads = [c for c in frame.columns if not c.endswith(("_low", "_high"))]
    rows = []
    for record in frame.to_dict("records"):
        row = []
        for c in heads:
            low = record.get(f"{c}_low")
            ends = (
                "" if low is None or pd.isna(low) else f"{number(float(low))} to {number(float(record[f'{c}_high']))}"
            )
            row.append((_text(record[c]), ends))
        rows.append(row)
    names = headings()
    return [names.get(c, c.replace("_", " ")) for c in heads], rows


def _text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else number(float(value))
    return str(value)


_KINDS = {
    "hits": "Hits: reused cells that were found", "misses": "Misses: reused cells that were not found",
    "false": "False alarms: cells that show nothing of the reference", "transformed": "Transformed, and most like the reference",
}  # fmt: skip


def _plates(found: Validation, kind: str, out: Path) -> Iterator[Plate]:
    """The images of the reporting half that show a kind best, one a concept."""
    part = found.reporting
    rule = "calibrated" if "calibrated" in found.rules else next(iter(found.rules))
    hit = found.rules[rule].hit[part.rows]
    c = count_cells(hit, part.coverage)
    mixed = part.truth.label.isin(["partial"]).to_numpy()
    key = {
        "hits": c.found * mixed,
        "misses": (c.reused - c.found) * (mixed | part.labelled("copy") | part.labelled("repainted")), "false": c.false,
        "transformed": hit.sum(1) * part.labelled("transformed"),
    }[kind]  # fmt: skip
    seen: set[str] = set()
    references = {r.concept: r for r in found.layer.index.references().values() if r.kept}
    for i in np.lexsort((np.arange(len(key)), -key)).tolist():
        row = part.truth.iloc[i]
        if key[i] <= 0 or len(seen) == _EACH:
            return
        if row.concept in seen:
            continue
        seen.add(row.concept)
        path = out / "gen" / row.rung / row.gen_relpath
        reference = references[row.concept].path
        pictures = [shared().decode(read_bytes(p), p).image for p in (path, reference)]
        file = f"plates/{kind}_{len(seen)}.jpg"
        with replacing(out / file) as tmp:
            _draw(pictures[0], pictures[1], hit[i], part.coverage[i]).save(tmp, "JPEG", quality=85)
        caption = f"{row.concept.replace('_', ' ')}, {row.rung} {row['name'].replace('_', ' ')}: VR {hit[i].mean():.3f} at {rule} tau"
        yield Plate(file, caption + ("" if pd.isna(row.k) else f", true {row.k / hit.shape[1]:.3f}"))


def _draw(image: Image.Image, reference: Image.Image, hit: Bools, coverage: np.ndarray) -> Image.Image:
    """Cells called reused are framed; what is wrong is said in words."""
    left, right = (ImageOps.contain(i, (_SIDE, _SIDE)) for i in (image, reference))
    pen = ImageDraw.Draw(left)
    for box, called, share in zip(cell_boxes(*left.size, *GRID), hit, coverage, strict=True):
        x0, y0, x1, y1 = box
        if called:
            pen.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline="#ff3d92", width=3)
        word = "false" if called and share == 0 else "missed" if not called and share >= MOSTLY else ""
        if word:
            pen.rectangle((x0 + 4, y0 + 4, x0 + 46, y0 + 18), fill="black")
            pen.text((x0 + 7, y0 + 5), word, fill="white")
    out = Image.new("RGB", (left.width + right.width + 8, max(left.height, right.height)), "white")
    out.paste(left, (0, 0))
    out.paste(right, (left.width + 8, 0))
    return out
