"""A table of a finding as an object, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from iconicity.indexer.places import local
from iconicity.scorer.measure.finding import ALL, Finding, Layout, as_text, write_finding

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Table:
    """One table of a finding: text in a terminal, HTML in a notebook, ``frame`` for pandas."""

    finding: Finding
    name: str
    layout: Layout = ALL

    @property
    def frame(self) -> pd.DataFrame:
        """All columns in full precision. Columns ``x_low`` and ``x_high`` are the interval of column ``x``."""
        return self.finding.table(self.name)

    @property
    def notes(self) -> Sequence[str]:
        """What to know about the numbers."""
        return self.finding.notes

    def write(self, path: Path | str) -> list[Path]:
        """The files written: .csv, .parquet, .tex or .json by the ending of ``path``, and a .meta.json beside it."""
        return write_finding(self.finding, local(path), self.name, layout=self.layout)

    def __repr__(self) -> str:
        return as_text(self.finding, self.name, layout=self.layout)

    def _repr_html_(self) -> str:
        frame, shown = self.layout.of(self.finding, self.name)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        digits = self.layout.digits
        return (
            frame[shown].to_html(index=False, na_rep="", float_format=f"{{:.{digits}f}}".format) + f"<ul>{notes}</ul>"
        )
