"""A finding: tables, what to know about them, and flat scalars; written as text, CSV, Parquet, LaTeX or JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.csv_cells import csv_text
from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import bare
from iconicity.indexer.left_out import NotCounted
from iconicity.indexer.store.files import replacing, write_atomically
from iconicity.indexer.store.manifest import versions
from iconicity.indexer.text import json_text, one_line
from iconicity.scorer.measure.intervals import LEAST_EXACT, Interval
from iconicity.scorer.measure.measures import labels
from iconicity.scorer.text import number, table

DAGGER = "†"
_BESIDE = 2  # columns whose intervals still fit into the line
AT = "thresholds"  # column of a table that says at which thresholds a row is: given or calibrated
EXACT = "_exact"  # of a column: whether its interval rests on the range of values, since the units agree
SUFFIXES = (".csv", ".parquet", ".tex", ".json")
FEW_NOTES = 3  # that a terminal shows
WIDTH = 120  # columns of a terminal


def headings() -> dict[str, str]:
    """Headings of columns whose names people do not read."""
    aurocs = {f"auroc_{name}": f"AUROC {label}" for name, label in labels().items()}
    flips = {"last_tau": "up to", "first": "ahead", "then": "then ahead"}
    return labels() | aurocs | flips | {"references": "J"}


@dataclass(frozen=True)
class Finding:
    """Tables by name (the first is the main one), caveats, the facts the numbers rest on, and scalars by path.

    Columns ``x_low`` and ``x_high`` of a table are the ends of the interval of its column ``x``, and ``x_exact`` says
    whether that is an exact one.
    """

    tables: Mapping[str, pd.DataFrame]
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    scalars: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)  # columns that a reader sees by default
    undefined: str = "nan"  # what a terminal shows for a number that is not defined

    def table(self, name: str | None = None) -> pd.DataFrame:
        """A table by name, the main one without. Raises :class:`InputError` for a name that is not there."""
        name = name or next(iter(self.tables))
        if name not in self.tables:
            raise InputError(f"no table {name!r}; there are {', '.join(self.tables)}")
        return self.tables[name]


EVERY = "all"  # as a column: every one


@dataclass(frozen=True)
class Layout:
    """How a table is shown in a terminal and in LaTeX; other files hold all columns and digits.

    ``columns``: those that are shown, in this order; empty: those that the finding shows by default; :data:`EVERY`.
    ``notes``: how many notes stand below the table beside those of what is not counted, None: all. ``more``: how a
    reader of a terminal gets the others.
    """

    columns: Sequence[str] = ()
    digits: int = 3
    notes: int | None = None
    more: str = "notes=None"

    def of(self, finding: Finding, name: str | None = None) -> tuple[pd.DataFrame, list[str]]:
        """The table, and the columns of it to show. Raises :class:`InputError` for a column that it lacks.

        By default rows without any value of a shown measure are left out.
        """
        frame = finding.table(name)
        there = _shown_columns(frame)
        default = finding.shown.get(name or next(iter(finding.tables)), there)
        if not self.columns:
            shown = [c for c in default if c in there]
            numbers = [c for c in shown if f"{c}_low" in frame]
            return (frame.dropna(how="all", subset=numbers) if numbers else frame), shown
        if [c.strip().lower() for c in self.columns] == [EVERY]:
            return frame, there
        names = headings()
        known = {_plain_name(names.get(c, c)): c for c in there} | {_plain_name(c): c for c in there}
        for c in self.columns:
            if _plain_name(c) not in known:
                raise InputError(f"`Layout.columns` {c}: the table has no such column; it has {', '.join(there)}")
        return frame, [known[_plain_name(c)] for c in self.columns]

    def chosen(self, notes: Sequence[str], marked: bool) -> tuple[list[str], int]:
        """The notes to show, and how many are left. ``marked``: a dagger stands in the table, so that its note must."""
        if self.notes is None:
            return list(notes), 0
        few = [
            n
            for i, n in enumerate(notes)
            if i < self.notes or isinstance(n, NotCounted) or (marked and n.startswith(DAGGER))
        ]
        return few, len(notes) - len(few)


def _plain_name(text: str) -> str:
    return re.sub(r"[ ._]+", "_", text.strip().lower()).strip("_")


ALL = Layout()


def as_text(finding: Finding, name: str | None = None, layout: Layout = ALL) -> str:
    """A table for a terminal, intervals beside their values, or below where there are many, and the notes.

    A table that is wider than :data:`WIDTH` has fewer decimal places in its intervals. Rows at given and at calibrated
    thresholds stand in tables of their own.
    """
    frame, shown = layout.of(finding, name)
    parts = [("", frame, shown)]
    chosen = not layout.columns and (name or next(iter(finding.tables))) in finding.shown
    if AT in shown and not layout.columns:
        rest = [c for c in shown if c != AT]
        parts = [(f"at {kind} thresholds:", part, rest) for kind, part in frame.groupby(AT, sort=False)]
    lines = []
    for heading, part, columns in parts:
        if chosen and len(part):  # a measure that none of these rows has
            columns = [c for c in columns if not part[c].isna().all()]
        lines += [heading] if heading else []
        lines.append(_text(part, columns, layout.digits, finding.undefined) if len(part) else "(no rows)")
    if not parts:
        lines = ["(no rows)"]
    notes, more = layout.chosen(finding.notes, marked=any(DAGGER in line for line in lines))
    if more:
        notes.append(f"{more} more with {layout.more}")
    return "\n".join([*lines, *(one_line(f"note: {n}") for n in notes)])


def _text(frame: pd.DataFrame, shown: Sequence[str], digits: int, undefined: str) -> str:
    names = headings()
    with_interval = {c for c in shown if f"{c}_low" in frame}
    below = len(with_interval) > _BESIDE
    for ends_digits in range(digits, min(digits, 2) - 1, -1):
        rows: list[list[str]] = []
        for record in frame.to_dict("records"):
            ends = [_interval(record, c, ends_digits) if c in with_interval else "" for c in shown]
            values = [_cell(record[c], digits, undefined) for c in shown]
            rows.append(values if below else [f"{v} {e}".strip() for v, e in zip(values, ends, strict=True)])
            if below and any(ends):
                rows.append(ends)
        text = table([names.get(c, c.replace("_", " ")) for c in shown], rows)
        if len(text.split("\n")[1]) <= WIDTH:
            break
    return text


def as_json(finding: Finding) -> str:
    """Facts and scalars in one flat object; undefined numbers are null."""
    flat = {**finding.facts, **finding.scalars}
    return json_text({k: _plain(v) for k, v in flat.items()})


def as_latex(finding: Finding, name: str | None = None, layout: Layout = ALL) -> str:
    """A booktabs table, ``--`` where there is no value, the notes in small print below it.

    Intervals stand beside their values, or in small print below them where there are many, so that the table fits a page.
    """
    frame, shown = layout.of(finding, name)
    names = headings()
    with_interval = {c for c in shown if f"{c}_low" in frame}
    below = len(with_interval) > _BESIDE
    digits = min(layout.digits, 2) if below else layout.digits
    body = []
    for r in frame.to_dict("records"):
        ends = [_signs(_interval(r, c, digits)) if c in with_interval else "" for c in shown]
        values = [_escape(_cell(r[c], layout.digits, "--")) for c in shown]
        body.append(values if below else [f"{v} {e}".strip() for v, e in zip(values, ends, strict=True)])
        if below and any(ends):
            body.append([rf"{{\scriptsize {e}}}" if e else "" for e in ends])
    lines = [[_escape(names.get(c, c.replace("_", " "))) for c in shown], *body]
    head, *rows = [" & ".join(line) + r" \\" for line in lines]
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(frame[c]) else "l" for c in shown)
    chosen, more = layout.chosen(finding.notes, marked=any(_TEX[DAGGER] in row for row in rows))
    notes = " ".join(
        _escape(bare(n)) + "." for n in [*chosen, *([f"{more} more in the .meta.json file"] if more else [])]
    )
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *rows,
            r"\bottomrule", r"\end{tabular}", *([rf"\par\smallskip{{\footnotesize {notes}\par}}"] if notes else []), "",
        ]
    )  # fmt: skip


_TEX = {
    DAGGER: r"\textdagger{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _escape(text: str) -> str:
    """Text for a LaTeX table; a bracket or star at the start of a row would be taken for an option of its line break."""
    out = _signs(text)
    return f"{{{out[0]}}}{out[1:]}" if out[:1] in ("[", "*") else out


def _signs(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text.replace("\n", " "))


def write_finding(finding: Finding, path: Path, name: str | None = None, layout: Layout = ALL) -> list[Path]:
    """Write a table by the suffix of ``path``, with what it rests on in a ``.meta.json`` beside it.

    LaTeX follows ``layout``; other files hold everything. Raises :class:`InputError`.
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
        write_atomically(path, as_latex(finding, name, layout) if path.suffix == ".tex" else as_json(finding) + "\n")
    meta = {**finding.facts, "notes": list(finding.notes), "versions": versions()}
    beside = path.with_name(f"{path.name}.meta.json")
    write_atomically(beside, json.dumps({k: _plain(v) for k, v in meta.items()}, indent=1, ensure_ascii=False) + "\n")
    return [path, beside]


def _shown_columns(frame: pd.DataFrame) -> list[str]:
    ends = {f"{c}{end}" for c in frame.columns for end in ("_low", "_high", EXACT) if f"{c}_low" in frame}
    return [c for c in frame.columns if c not in ends]


def _interval(record: Mapping[Any, Any], column: str, digits: int) -> str:
    low, high = record[f"{column}_low"], record[f"{column}_high"]
    mark = DAGGER if record.get(f"{column}{EXACT}") is True else ""
    return "" if pd.isna(low) else f"[{low:.{digits}f}, {high:.{digits}f}]{mark}"


def interval_columns(name: str, found: Interval) -> dict[str, Any]:
    """Columns of a measure in a table: its values, the ends of their intervals as tables show them, and ``x_exact``."""
    shown = found.shown()
    return {name: shown.value, f"{name}_low": shown.low, f"{name}_high": shown.high, f"{name}{EXACT}": shown.exact}


def exact_words(frame: pd.DataFrame, units: str = "concepts") -> list[str]:
    """What the dagger means, and which intervals are left out, of a table with ``x_exact`` columns.

    ``units``: what was resampled.
    """
    columns = [str(c).removesuffix(EXACT) for c in frame if str(c).endswith(EXACT)]
    exact = {c: frame[f"{c}{EXACT}"].fillna(False).astype(bool) for c in columns}
    out = []
    if any((exact[c] & frame[f"{c}_low"].notna()).any() for c in columns):
        out.append(
            f"{DAGGER} exact interval: the {units} agree, or nearly, so that it says how many unseen ones may differ"
        )
    names = headings()
    lacking = [names.get(c, c) for c in columns if (exact[c] & frame[f"{c}_low"].isna()).any()]
    if lacking:
        out.append(f"no interval where fewer than {LEAST_EXACT} {units} agree: {', '.join(lacking)}")
    return out


def _cell(value: Any, digits: int = 3, undefined: str = "nan") -> str:
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return undefined if math.isnan(value) else number(float(value), digits)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
