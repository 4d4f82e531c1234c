"""One scatter plot a pair of a measure and an attribute."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.files import replacing
from iconicity.scorer.findings.correlate import MEASURES
from iconicity.scorer.findings.finding import Finding
from iconicity.scorer.text import number

_BLUE = "#0072B2"  # of the colour-blind-safe palette of Okabe & Ito
_UNSAFE = re.compile(r"[^\w.@+-]+")


def write_scatters(finding: Finding, directory: Path, log: Collection[str] = ()) -> list[Path]:
    """Write ``MODEL_MEASURE_ATTRIBUTE.png`` for each pair that is correlated; one dot a concept.

    Attributes in ``log`` get a logarithmic axis, linear below the lowest positive value where there are zeros.
    Raises :class:`InputError` where one of these is not correlated, or holds a negative value.
    """
    pairs, values = finding.table("pairs"), finding.table("values")
    for column in log:
        if column not in set(pairs.attribute):
            raise InputError(f"--log {column}: no such attribute (there are: {', '.join(pairs.attribute.unique())})")
        if (below := values[values[column] < 0]).size:
            first = below.iloc[0]
            raise InputError(
                f"--log {column}: {first[column]:g} of {first.concept} is negative; leave --log {column} out"
            )
    directory.mkdir(parents=True, exist_ok=True)
    written: dict[Path, None] = {}
    for pair in pairs[pairs.spearman.notna()].to_dict("records"):
        points = values.loc[values.model == pair["model"], [pair["attribute"], pair["measure"]]].dropna()
        path = _free(directory, "_".join(str(pair[k]) for k in ("model", "measure", "attribute")), written)
        with replacing(path) as tmp:
            _scatter(pair, points.to_numpy(np.float64), pair["attribute"] in log, tmp)
        written[path] = None
    return list(written)


def _free(directory: Path, name: str, taken: Collection[Path]) -> Path:
    """A file name that no other pair of this run has, though names differ by characters no file should have."""
    stem = _UNSAFE.sub("-", name).lstrip(".-")
    path, i = directory / f"{stem}.png", 2
    while path in taken:
        path, i = directory / f"{stem}-{i}.png", i + 1
    return path


def _scatter(pair: Mapping[Any, Any], points: np.ndarray[Any, np.dtype[np.float64]], log: bool, path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    figure = Figure(figsize=(5.0, 4.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
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
    axes.set_ylabel(f"{MEASURES[pair['measure']]} of {_plain(pair['model'])}")
    axes.set_title(_title(pair), fontsize="medium")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")


def _title(pair: Mapping[Any, Any]) -> str:
    rho = "not defined" if pd.isna(pair["spearman"]) else number(pair["spearman"])
    ends = (
        "" if pd.isna(pair["spearman_low"]) else f" [{number(pair['spearman_low'])}, {number(pair['spearman_high'])}]"
    )
    return f"Spearman {rho}{ends}, {pair['n']} concepts"


def _plain(text: str) -> str:
    """Text as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
