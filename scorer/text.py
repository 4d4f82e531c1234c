"""Results as plain text tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from iconicity.scorer.results import Results
from iconicity.scorer.summary import ConceptSummary, ModelSummary

COLUMNS = ("images", "concepts", "recognised", "CRA", "VR rec.", "VR all", "VI rec.", "VI all", "CRT")


def number(value: float) -> str:
    return "nan" if math.isnan(value) else f"{value:.3f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *(line(r) for r in rows)])


def summary_table(models: Sequence[ModelSummary], results: Results) -> str:
    """One line a model, the thresholds above, what is undefined below."""
    rows = [
        [m.model, str(m.images), str(m.concepts), str(m.recognised),
         *(number(v) for v in (m.cra, m.vr_recognised, m.vr_all, m.vi_recognised, m.vi_all, m.crt))]
        for m in models
    ]  # fmt: skip
    lines = [
        f"mode {results.mode}, tau_cra {results.tau['cra']}, tau_vr {results.tau['vr']}; means over concepts",
        table(("model", *COLUMNS), rows),
    ]
    lines += [f"{m.model}: undefined: {m.undefined}" for m in models if m.undefined]
    lines += [f"{m.model}: {m.skipped} images could not be used" for m in models if m.skipped]
    lines += [
        f"{m.model}: VI rec. over {m.vi_n} of {m.concepts} concepts (the others have no recognised image)"
        for m in models
        if 0 < m.vi_n < m.concepts
    ]
    return "\n".join(lines)


def concept_table(concepts: Sequence[ConceptSummary]) -> str:
    """One line a model and concept."""
    rows = [
        [f"{c.model} {c.concept}", str(c.images), str(c.recognised),
         *(number(v) for v in (c.cra, c.vr_recognised, c.vr_all, c.vi_recognised, c.vi_all, c.crt))]
        for c in concepts
    ]  # fmt: skip
    return table(("model, concept", "images", *COLUMNS[2:]), rows)


def search_text(hits: Mapping[str, Any]) -> str:
    """Nearest references of the image, then the best cell for each of its patches."""
    image = [[h["ref_id"], number(h["similarity"])] for h in hits["image"]]
    patches = [
        [f"{i}", h[0]["ref_id"], str(h[0]["cell"]), number(h[0]["similarity"])]
        for i, h in enumerate(hits["patches"])
        if h
    ]
    return "\n\n".join(
        [table(("reference", "cosine"), image), table(("patch", "reference", "cell", "cosine"), patches)]
    )
