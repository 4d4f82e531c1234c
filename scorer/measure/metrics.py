"""The measures, as pure functions of arrays.

Source: De Rosa Palmini & Cetinic, "The Persistence of Cultural Memory: Investigating Multimodal Iconicity in
Diffusion Models" (arXiv 2511.11435). Where the paper leaves a choice open, the choice is said here.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt

from iconicity.indexer.arrays import Bools as Bools
from iconicity.indexer.arrays import Float32 as Float32
from iconicity.indexer.arrays import Float64 as Float64
from iconicity.indexer.arrays import Ints as Ints

DEFAULT_TAU_CRA = {"static": 0.70, "dynamic": 0.75}
DEFAULT_TAU_VR = 0.60


def passes(similarity: npt.ArrayLike, tau: npt.ArrayLike) -> Bools:
    """similarity >= tau, inclusive as in the published code (the paper's figure says ">"). Both broadcast.

    >>> passes(np.float32([0.6, 0.59]), 0.6).tolist()
    [True, False]
    """
    # A float32 similarity is compared with tau as float32, so that one equal to tau passes whichever way 0.6 rounds.
    decisions: Bools = np.asarray(similarity, np.float32) >= np.asarray(tau, np.float32)
    return decisions


def visual_reuse(p: npt.ArrayLike, tau: npt.ArrayLike) -> Float64:
    """VR: share of patches with similarity >= tau. p (..., K) in [-1, 1], tau one or (...); returns (...) in [0, 1].

    Every VR of the program is computed here, and VR strict in :func:`share_reaching`.

    >>> visual_reuse(np.float32([0.9, 0.7, 0.2, 0.1]), 0.6).item()
    0.5
    """
    share: Float64 = np.asarray(passes(p, np.asarray(tau)[..., None]).mean(axis=-1), np.float64)
    return share


def visual_independence(p: npt.ArrayLike, tau: npt.ArrayLike) -> Float64:
    """VI = 1 - VR, in [0, 1]."""
    independence: Float64 = np.asarray(1.0 - visual_reuse(p, tau), np.float64)
    return independence


def patch_statistics(p: npt.ArrayLike) -> tuple[Float64, Float64, Float64]:
    """(vr_max, vr_mean, vr_p90) over the last axis; the percentile interpolates linearly, as published."""
    a = np.asarray(p, np.float64)
    return np.asarray(a.max(-1)), np.asarray(a.mean(-1)), np.asarray(np.percentile(a, 90, axis=-1))


def own_margin(p: npt.ArrayLike, other: npt.ArrayLike) -> Float64:
    """Mean over patches of (best over the own concept - best over all others). p, other (..., K); in [-2, 2].

    Ours (METRICS: "Beyond the paper"): what every concept's references give alike, sky or paper, cancels.
    """
    margin: Float64 = np.asarray(np.asarray(p, np.float64) - np.asarray(other, np.float64)).mean(axis=-1)
    return margin


def unresolved(found: npt.ArrayLike, upper: npt.ArrayLike, tau: float) -> Bools:
    """Patches whose decision at tau is open: no hit among what was ``found``, and none ruled out by ``upper``."""
    open_: Bools = ~passes(found, tau) & passes(upper, tau)
    return open_


def cra(similarity: npt.ArrayLike, tau: float) -> float:
    """CRA of one concept and model: share of its images recognised, in [0, 1]; nan for no image."""
    decisions = passes(similarity, tau)
    return float(decisions.mean()) if decisions.size else float("nan")


def crt(cra_value: float, mean_vi: float) -> float:
    """CRT = CRA x mean VI, in [0, 1]; 0 when nothing is recognised, where the mean VI is undefined (nan).

    >>> crt(0.0, float("nan"))
    0.0
    """
    return 0.0 if cra_value == 0.0 else cra_value * mean_vi


GENERIC_SHARE = 0.05  # of unrelated draws; a patch that more of them reach is no evidence of reuse


def share_reaching(*conditions: tuple[npt.ArrayLike, npt.ArrayLike]) -> Float64:
    """Share of the patches that reach a threshold in every condition; in [0, 1].

    Each condition: values (n, K) and thresholds (n,). Returns (n,).

    >>> share_reaching((np.float32([[0.9, 0.1]]), [0.5]), (np.float32([[0.0, 0.3]]), [0.2])).tolist()
    [0.0]
    """
    hits = [passes(values, np.asarray(tau)[:, None]) for values, tau in conditions]
    return np.asarray(reduce(np.logical_and, hits).mean(axis=1), np.float64)


def arranged_reuse(hit: npt.ArrayLike, cell: npt.ArrayLike, rows: int, cols: int, overlapping: bool = False) -> Float64:
    """Share of patches that are reused and keep their arrangement: the largest group moved by one and the same step (ours).

    hit, cell (n, rows x cols): whether a patch is reused, and which cell of a reference it matches (``overlapping``: of
    those at half steps). A mirrored arrangement is one, too. Returns (n,) in [0, 1], at most VR: a copy has as much as
    VR, shuffled cells little, which VR alone cannot tell apart.

    >>> arranged_reuse([[True, True, False, True]], [[1, 2, 2, 3]], 2, 2).tolist()
    [0.25]
    """
    hits, cells = np.asarray(hit, bool), np.asarray(cell, np.int64)
    unit, across = (2, 2 * cols - 1) if overlapping else (1, cols)
    row, col = np.divmod(np.arange(rows * cols), cols)
    most = np.zeros(len(hits), np.int64)
    for here in (col, cols - 1 - col):
        down, aside = cells // across - unit * row, cells % across - unit * here
        for k in range(rows * cols):
            with_k = hits & (down == down[:, k : k + 1]) & (aside == aside[:, k : k + 1])
            most = np.maximum(most, np.where(hits[:, k], with_k.sum(axis=1), 0))
    return most / float(rows * cols)
