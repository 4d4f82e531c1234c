"""What scoring would do: nothing is written, not even a lock or a cache, and no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from iconicity.indexer.cached import missing_vectors
from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import Skipped, left_out_lines
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.choose import choose_images
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.replacing import Lost, require_kept
from iconicity.scorer.results import open_results, require_same_settings
from iconicity.scorer.scoring import ScoringRun, settings_of


@dataclass
class Rehearsal:
    """Images that a run would look at and embed, and rows that it would take away or give to other files."""

    images: int = 0
    embed: int = 0
    lost: Mapping[str, Lost] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    refused: str | None = None  # why the run would end before it changes anything

    def line(self) -> str:
        """The counts."""
        gone = ", ".join(f"{len(each.rows)} of {each.of} rows of {m}" for m, each in self.lost.items() if each.rows)
        return (
            f"would score {counted(self.images, 'image')}, embed {self.embed}, remove or replace {gone or 'no rows'}, "
            f"skip {len(self.skipped)}; nothing was written"
        )


def rehearse_score(
    idx: Index,
    generated: Mapping[str, Place],
    out: Path,
    options: ScoreOptions = ScoreOptions(),
    *,
    select: Select = Select(),
    writing: Writing = Writing(),
    cache: Path | None = None,
) -> Rehearsal:
    """What :func:`score` would do with these images. ``cache``: a folder of vectors. Raises what that would raise of them."""
    given = choose_images(idx, generated, options, select)
    held = open_results(out, options.mode)
    if held is not None:
        require_same_settings(held, settings_of(idx, options), writing.update)
    known = None if cache is None else VectorCache.for_reading(cache)
    job = ScoringRun(idx, options, {"cra": None, "vr": None}, held, given, Run(cache=known))
    found = Rehearsal(given.total, lost=job.lost(), skipped=[s for c in given.work.values() for s in c.skipped])
    found.embed = missing_vectors(idx, known, job.requests(), job.wanted)
    found.notices = left_out_lines({m: job.left_out(m) for m in job.models if m in job.changed})
    if not writing.prune:
        try:
            require_kept(out, found.lost)
        except InputError as e:
            found.refused = str(e)
    return found
