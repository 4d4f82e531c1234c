"""Results as plain text tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
        encoders_line(results.settings["encoders"].values()),
        table(("model", *COLUMNS), rows),
    ]
    lines += [_undefined(m, results) for m in models if m.undefined]
    lines += [f"{m.model}: {m.skipped} images could not be used" for m in models if m.skipped]
    lines += [
        f"{m.model}: VI rec. over {m.vi_n} of {m.concepts} concepts (the others have no recognised image)"
        for m in models
        if 0 < m.vi_n < m.concepts
    ]
    return "\n".join(lines)


def encoders_line(labels: Iterable[str]) -> str:
    """Which encoders gave the numbers; one that gave both is named once."""
    return "encoders: " + "; ".join(dict.fromkeys(labels))


def _undefined(m: ModelSummary, results: Results) -> str:
    """Why a model's values are nan, in words."""
    words = {
        "none_recognised": f"no image reaches tau_cra {results.tau['cra']} (the highest cra_sim is {number(m.best_cra_sim)}), "
        "so VI rec. does not exist and CRT is 0",
        "cra_not_scored": "CRA was not scored, or the index has no references for its concepts",
        "vr_not_scored": "VR was not scored, or the index has no references for its concepts",
    }
    return f"{m.model}: " + "; ".join(words[w] for w in m.undefined.split(","))


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
        [
            encoders_line(hits["encoders"]),
            table(("reference", "cosine"), image),
            table(("patch", "reference", "cell", "cosine"), patches),
        ]
    )


def cache_text(path: str, facts: Mapping[str, float]) -> str:
    """What the cache holds, a line each."""
    return "\n".join(
        [
            f"cache    {path}",
            f"vectors  {facts['vectors']:.0f}, {facts['vector_bytes'] / 1e6:.1f} MB, oldest {facts['oldest_days']:.1f} days",
            f"files    {facts['files']:.0f} known by size and time",
            f"derived  {facts['derived_bytes'] / 1e6:.1f} MB of memory maps of indexes",
        ]
    )
