"""What two folders hold, and what is wrong with it, before anything runs. Only names are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from iconicity.indexer.flags import bare
from iconicity.indexer.left_out import LeftOut, left_out_lines
from iconicity.indexer.options import Select
from iconicity.indexer.sources.suffixes import passed_over
from iconicity.indexer.store.rows import ConceptCount
from iconicity.indexer.text import counted, one_line
from iconicity.scorer.app.study import folder_at
from iconicity.scorer.choose import choose
from iconicity.scorer.left_out import missing
from iconicity.scorer.models import models_at, require_apart
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.thresholds import NEEDED


def check(refs: str, gen: str, out: Path) -> dict[str, Any]:
    """Concepts, models and images that a run would compare, and a line on each kind of input that it would leave out.

    Raises :class:`InputError` for folders that a run would refuse.
    """
    from iconicity.indexer.given import list_given

    references, generated = folder_at(refs), folder_at(gen)
    models = models_at(generated, references)
    require_apart(references, models.generated.values(), out)
    given = list_given(references, Select())
    counts = {c: ConceptCount(n, n) for c, n in Counter(image.concept for image in given.images).items()}
    left_out = {"references": [*given.left_out, *map(LeftOut, passed_over(given.unusable))]}
    rows = []
    for model, at in models.generated.items():
        chosen = choose(model, at, counts, None, ScoreOptions(), Select())
        left_out[model] = [*chosen.left_out, *missing(counts, chosen.concepts)]
        rows.append({"model": one_line(model), "images": chosen.total, "concepts": len(chosen.concepts)})
    notes = [*models.notices, *left_out_lines(left_out)]
    if len(counts) < NEEDED:
        notes.append(
            f"{counted(len(counts), 'concept')}: from {NEEDED} on thresholds are fitted to your own references; with fewer, those "
            "that come with the program are used, which some encoders have. Ranges are wide."
        )
    return {
        "references": f"{counted(len(counts), 'concept')}, {counted(len(given.images), 'reference image')}",
        "models": rows,
        "notes": list(bare(one_line(n)) for n in notes),
        "ready": any(row["images"] for row in rows),
    }
