"""What people said of the images, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iconicity.indexer.flags import bare
from iconicity.scorer.measure.finding import Finding, headings


@dataclass(frozen=True)
class Labels:
    """Labels of a study's images: row of the study -> rater -> word. ``agreement`` says how well scores tell copies apart,
    a row a score in its main table.
    """

    votes: Mapping[int, Mapping[str, str]]
    agreement: Finding

    def said(self, row: int) -> list[list[str]]:
        """(word, rater) of an image, by rater."""
        return [[word, rater] for rater, word in sorted(self.votes.get(row, {}).items())]

    def overview(self) -> dict[str, Any]:
        """AUROC of each score within concepts, and what to know about it."""
        names = headings()
        rows = [
            {"score": names.get(r["score"], r["score"]), "concepts": int(r["concepts"]), "verdict": r["verdict"],
             **{k: None if r[k] != r[k] else round(float(r[k]), 4) for k in ("auroc", "auroc_low", "auroc_high")}}
            for r in self.agreement.table().to_dict("records")
        ]  # fmt: skip
        return {"rows": rows, "notes": list(map(bare, self.agreement.notes[:4]))}
