"""A finding: tables, what to know about them, and flat scalars; written as text, CSV, Parquet, LaTeX or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.cells import csv_text
from iconicity.indexer.errors import InputError
from iconicity.indexer.files import replacing, write_atomically
from iconicity.indexer.manifest import versions
from iconicity.indexer.say import json_text, one_line
from iconicity.scorer.text import number, table

_BESIDE = 2  # columns whose intervals still fit into the line
SUFFIXES = (".csv", ".parquet", ".tex", ".json")
NAMES = {
    "cra": "CRA", "vr_recognised": "VR rec.", "vr_all": "VR all", "vi_recognised": "VI rec.", "vi_all": "VI all",
    "crt": "CRT", "vr_specific": "VR specific", "vr_csls": "VR CSLS", "vr_strict": "VR strict", "vr_whitened": "VR whitened", "vr_whitened_strict": "VR whitened strict", "vr_arranged": "VR arranged", "vr": "VR", "vi": "VI", "references": "J",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Tables by name (the first is the main one), caveats, the facts the numbers rest on, and scalars by path.

    Columns ``x_low`` and ``x_high`` of a table are the ends of the interval of its column ``x``.
    """

    tables: Mapping[str, pd.DataFrame]
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    scalars: Mapping[str, Any] = field(default_factory=dict)

    def table(self, name: str | None = None) -> pd.DataFrame:
        """A table by name, the main one without. Raises :class:`InputError` for a name that is not there."""
        name = name or next(iter(self.tables))
        if name not in self.tables:
            raise InputError(f"no table {name!r}; there are {', '.join(self.tables)}")
        return self.tables[name]


def as_text(finding: Finding, name: str | None = None, hide: Sequence[str] = ()) -> str:
    """A table for a terminal, intervals beside their values, or below where there are many, and the notes."""
    frame = finding.table(name).drop(columns=list(hide), errors="ignore")
    shown = _shown_columns(frame)
    with_interval = {c for c in shown if f"{c}_low" in frame}
    below = len(with_interval) > _BESIDE
    rows: list[list[str]] = []
    for record in frame.to_dict("records"):
        ends = [_interval(record, c) if c in with_interval else "" for c in shown]
        values = [_cell(record[c]) for c in shown]
        rows.append(values if below else [f"{v} {e}".strip() for v, e in zip(values, ends, strict=True)])
        if below and any(ends):
            rows.append(ends)
    lines = [table([NAMES.get(c, c.replace("_", " ")) for c in shown], rows)] if rows else ["(no rows)"]
    return "\n".join([*lines, *(one_line(f"note: {n}") for n in finding.notes)])


def as_json(finding: Finding) -> str:
    """Facts and scalars in one flat object; undefined numbers are null."""
    flat = {**finding.facts, **finding.scalars}
    return json_text({k: _plain(v) for k, v in flat.items()})


def as_latex(finding: Finding, name: str | None = None, hide: Sequence[str] = ()) -> str:
    """A booktabs table, ``value [low, high]`` in one cell, the notes in small print below it."""
    frame = finding.table(name).drop(columns=list(hide), errors="ignore")
    shown = _shown_columns(frame)
    lines = [[NAMES.get(c, c.replace("_", " ")) for c in shown]]
    for r in frame.to_dict("records"):
        lines.append(
            [" ".join(filter(None, [_cell(r[c]), _interval(r, c) if f"{c}_low" in frame else ""])) for c in shown]
        )
    body = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in lines]
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(frame[c]) else "l" for c in shown)
    table_ = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = (
        [rf"\par\smallskip{{\footnotesize {' '.join(_escape(n) + '.' for n in finding.notes)}\par}}"]
        if finding.notes
        else []
    )
    return "\n".join([*table_, *notes]) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _escape(text: str) -> str:
    """Text for a LaTeX table; a bracket or star at the start of a row would be taken for an option of its line break."""
    out = "".join(_TEX.get(c, c) for c in text.replace("\n", " "))
    return f"{{{out[0]}}}{out[1:]}" if out[:1] in ("[", "*") else out


def write_finding(finding: Finding, path: Path, name: str | None = None, hide: Sequence[str] = ()) -> list[Path]:
    """Write a table by the suffix of ``path``, with what it rests on in a ``.meta.json`` beside it.

    LaTeX leaves out the columns that ``hide`` names, as the terminal does. Raises :class:`InputError`.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: the ending names the format, one of {', '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = finding.table(name)
    if path.suffix == ".parquet":
        with replacing(path) as tmp:
            frame.to_parquet(tmp, index=False)
    elif path.suffix == ".csv":
        write_atomically(path, csv_text(frame))
    else:
        write_atomically(path, as_latex(finding, name, hide) if path.suffix == ".tex" else as_json(finding) + "\n")
    meta = {**finding.facts, "notes": list(finding.notes), "versions": versions()}
    beside = path.with_name(f"{path.name}.meta.json")
    write_atomically(beside, json.dumps({k: _plain(v) for k, v in meta.items()}, indent=1, ensure_ascii=False) + "\n")
    return [path, beside]


def _shown_columns(frame: pd.DataFrame) -> list[str]:
    ends = {f"{c}{end}" for c in frame.columns for end in ("_low", "_high") if f"{c}_low" in frame}
    return [c for c in frame.columns if c not in ends]


def _interval(record: Mapping[Any, Any], column: str) -> str:
    low, high = record[f"{column}_low"], record[f"{column}_high"]
    return "" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]"


def _cell(value: Any) -> str:
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return number(float(value))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
