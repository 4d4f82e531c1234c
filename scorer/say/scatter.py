"""Scatter plots of pairs of a measure and an attribute: one a file, or all of a model in a grid."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import Tell
from iconicity.indexer.store.files import replacing
from iconicity.indexer.text import counted
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.measures import label
from iconicity.scorer.say.fonts import choose_fonts
from iconicity.scorer.text import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE = "#0072B2"  # of the colour-blind-safe palette of Okabe & Ito
_UNSAFE = re.compile(r"[^\w.@+-]+")


def write_scatters(
    finding: Finding, directory: Path, log: Collection[str] = (), tell: Tell = warnings.warn
) -> list[Path]:
    """Write ``MODEL_MEASURE_ATTRIBUTE.png`` for each pair that is correlated; one dot a concept.

    Attributes in ``log`` get a logarithmic axis, linear below the lowest positive value where there are zeros.
    ``tell`` gets a line on texts that no font can draw.
    Raises :class:`InputError` where one of these is not correlated, or holds a negative value.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    _require_log(finding, log)
    pairs, values = finding.table("pairs"), finding.table("values")
    directory.mkdir(parents=True, exist_ok=True)
    written: dict[Path, None] = {}
    undrawn: dict[str, None] = {}
    for pair in pairs[pairs.spearman.notna()].to_dict("records"):
        path = _free(directory, "_".join(str(pair[k]) for k in ("model", "measure", "attribute")), written)
        figure = Figure(figsize=(5.0, 4.0), dpi=150, layout="constrained")
        _scatter(figure.add_subplot(), pair, _points(values, pair), pair["attribute"] in log, of_model=True)
        undrawn |= dict.fromkeys(choose_fonts(figure))
        with replacing(path) as tmp:
            figure.savefig(tmp, format="png")
        written[path] = None
    for line in undrawn:
        tell(line)
    return list(written)


def correlates(finding: Finding, model: str, log: Collection[str] = ()) -> Figure:
    """One model's measures (rows) against the attributes (columns), a dot a concept, rho and its interval above.

    Raises :class:`InputError` for a model that has no correlation, and for ``log`` as :func:`write_scatters`.
    """
    from matplotlib.figure import Figure

    _require_log(finding, log)
    pairs, values = finding.table("pairs"), finding.table("values")
    mine = pairs[(pairs.model == model) & pairs.spearman.notna()]
    if mine.empty:
        there = ", ".join(pairs[pairs.spearman.notna()].model.unique()) or "none"
        raise InputError(f"{model}: no correlation of this model is defined (of: {there}); name one with `model`")
    measures, attributes = list(dict.fromkeys(mine.measure)), list(dict.fromkeys(mine.attribute))
    size = (2.9 * len(attributes) + 0.4, 2.5 * len(measures) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(measures), len(attributes), squeeze=False)
    drawn = {(r["measure"], r["attribute"]): r for r in mine.to_dict("records")}
    for i, measure in enumerate(measures):
        for j, attribute in enumerate(attributes):
            pair = drawn.get((measure, attribute))
            if pair is None:
                axes[i, j].set_axis_off()
            else:
                _scatter(axes[i, j], pair, _points(values, pair), attribute in log, of_model=False)
    figure.suptitle(_plain(model), fontsize="medium")
    return figure


def _require_log(finding: Finding, log: Collection[str]) -> None:
    pairs, values = finding.table("pairs"), finding.table("values")
    for column in log:
        if column not in set(pairs.attribute):
            raise InputError(f"`log` {column}: no such attribute (there are: {', '.join(pairs.attribute.unique())})")
        if (below := values[values[column] < 0]).size:
            first = below.iloc[0]
            raise InputError(
                f"`log` {column}: {first[column]:g} of {first.concept} is negative; leave `log` {column} out"
            )


def _points(values: pd.DataFrame, pair: Mapping[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Attribute and measure of each concept that has both: (n, 2)."""
    mine = values.loc[values.model == pair["model"], [pair["attribute"], pair["measure"]]].dropna()
    return np.asarray(mine.to_numpy(np.float64))


def _free(directory: Path, name: str, taken: Collection[Path]) -> Path:
    """A file name that no other pair of this run has, though names differ by characters no file should have."""
    stem = _UNSAFE.sub("-", name).lstrip(".-")
    path, i = directory / f"{stem}.png", 2
    while path in taken:
        path, i = directory / f"{stem}-{i}.png", i + 1
    return path


def _scatter(
    axes: Any, pair: Mapping[Any, Any], points: np.ndarray[Any, np.dtype[np.float64]], log: bool, of_model: bool
) -> None:
    x, y = points.T
    axes.scatter(x, y, s=22, color=_BLUE, alpha=0.55, linewidths=0)
    if log:
        if (x == 0).any():
            positive = x[x > 0]
            axes.set_xscale("symlog", linthresh=float(positive.min()) if positive.size else 1.0)
        else:
            axes.set_xscale("log")
    else:
        axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel(_plain(pair["attribute"]) + (" (log scale)" if log else ""))
    axes.set_ylabel(label(pair["measure"]) + (f" of {_plain(pair['model'])}" if of_model else ""))
    axes.set_title(_title(pair), fontsize="medium" if of_model else "x-small")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _title(pair: Mapping[Any, Any]) -> str:
    rho = "not defined" if pd.isna(pair["spearman"]) else number(pair["spearman"])
    ends = (
        "" if pd.isna(pair["spearman_low"]) else f" [{number(pair['spearman_low'])}, {number(pair['spearman_high'])}]"
    )
    return f"Spearman {rho}{ends}, {counted(pair['n'], 'concept')}"


def _plain(text: str) -> str:
    """Text as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
