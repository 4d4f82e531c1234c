"""The table of measures: what each is called, what it is computed from, and the function that computes it.

A new measure is one function of arrays and one entry of :data:`MEASURES`. Another package adds one by an entry point of
the group ``iconicity.measures`` that names a :class:`Measure`. Tables, rules, exports, reports and the validation of
encoders iterate over :func:`measures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Literal

import numpy as np
import numpy.typing as npt

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.metrics import (
    Float64,
    arranged_reuse,
    passes,
    patch_statistics,
    share_reaching,
    visual_independence,
    visual_reuse,
)

GROUP = "iconicity.measures"  # of entry points
VI_SCOPES = ("recognised", "all")
CALIBRATED = "_cal"  # ends the name of a measure at calibrated thresholds
# What a measure may need, of n images with K patches each. A row in which one of them is not known has no value.
ARRAYS: Mapping[str, str] = {
    "similarity": "(n,) highest cosine of each image to the references of its own concept, by the global encoder",
    "tau_cra": "(n,) threshold of the similarity",
    "p": "(n, K) highest cosine of each patch to the patches of these references, by the patch encoder",
    "tau_vr": "(n,) threshold of p",
    "cell": "(n, K) number of the reference's cell that each patch matches",
    "grid": "rows and columns of the grid of patches, and whether the references' cells overlap; the same for all images",
    "tau_cra_cal": "(n,) threshold of the similarity at a false-positive rate, that the results hold",
    "tau_vr_cal": "(n,) threshold of p at a false-positive rate, that the results hold",
    "strict_p": "(n, K) p, of whitened vectors where the calibration whitens",
    "tau_strict": "(n,) calibrated threshold of strict_p",
    "csls": "(n, K) how much nearer each patch is to its own references than to other concepts",
    "tau_csls": "(n,) calibrated threshold of csls",
    "recognised": "(n,) 1 where an image is recognised at the threshold that decides, else 0",
    "reused": "(n, K) 1 where a patch is reused at the thresholds that decide, else 0",
}
_CALIBRATED_ARRAYS = {"tau_cra_cal", "tau_vr_cal", "strict_p", "tau_strict", "csls", "tau_csls"}


@dataclass(frozen=True)
class Measure:
    """One measure.

    ``key`` is its name in files, rules and scalars, ``label`` its heading in tables. ``function`` takes the arrays that
    ``needs`` names (:data:`ARRAYS`), in this order, and returns a value for each image (n,), within ``bounds``. ``over``:
    the images whose mean is the value of a concept; None: concepts have no such value. ``image``: the name of the value
    of one image, None where images have none. ``complement``: the measure that this one is one minus of. ``times``:
    the value of a concept is multiplied by its value of that measure. ``compared``: compare, sweep and correlate take it.
    ``shown``: it is in the default table.
    """

    key: str
    label: str
    needs: tuple[str, ...]
    function: Callable[..., npt.ArrayLike]
    about: str = ""
    bounds: tuple[float, float] = (0.0, 1.0)
    over: Literal["all", "recognised"] | None = "all"
    image: str | None = ""
    complement: str = ""
    times: str = ""
    compared: bool = True
    shown: bool = True

    @property
    def image_key(self) -> str | None:
        """Name of the value of one image."""
        return self.key if self.image == "" else self.image

    @property
    def thresholded(self) -> bool:
        """Whether the value depends on a threshold."""
        return any(name.startswith("tau_") for name in self.needs)

    @property
    def calibrated_only(self) -> bool:
        """Whether the value exists at calibrated thresholds alone."""
        return bool(_CALIBRATED_ARRAYS & set(self.needs))

    def name(self, calibrated: bool) -> str:
        """Name among values of both kinds of thresholds."""
        return f"{self.key}{CALIBRATED}" if calibrated and not self.calibrated_only else self.key

    def image_name(self, calibrated: bool) -> str | None:
        """Name of the value of one image among values of both kinds of thresholds."""
        name = self.image_key
        return f"{name}{CALIBRATED}" if name and calibrated and not self.calibrated_only else name


def _recognised(similarity: npt.ArrayLike, tau_cra: npt.ArrayLike) -> Float64:
    return passes(similarity, tau_cra).astype(np.float64)


def _reuse(p: npt.ArrayLike, tau_vr: npt.ArrayLike) -> Float64:
    return visual_reuse(p, tau_vr)


def _independence(p: npt.ArrayLike, tau_vr: npt.ArrayLike) -> Float64:
    return visual_independence(p, tau_vr)


def _transformed(similarity: npt.ArrayLike, tau_cra: npt.ArrayLike, p: npt.ArrayLike, tau_vr: npt.ArrayLike) -> Float64:
    return _recognised(similarity, tau_cra) * _independence(p, tau_vr)


def _arranged(
    p: npt.ArrayLike, tau_vr: npt.ArrayLike, cell: npt.ArrayLike, grid: tuple[int, int, bool]
) -> npt.ArrayLike:
    return arranged_reuse(passes(p, np.asarray(tau_vr)[:, None]), cell, *grid)


def _strict(
    strict_p: npt.ArrayLike, tau_strict: npt.ArrayLike, csls: npt.ArrayLike, tau_csls: npt.ArrayLike
) -> Float64:
    return share_reaching((strict_p, tau_strict), (csls, tau_csls))


def _same(similarity: npt.ArrayLike) -> npt.ArrayLike:
    return np.asarray(similarity, np.float64)


def _reused(reused: npt.ArrayLike) -> Float64:
    return np.asarray(np.asarray(reused, np.float64).mean(axis=-1), np.float64)


def _transformed_there(recognised: npt.ArrayLike, reused: npt.ArrayLike) -> Float64:
    return np.asarray(recognised, np.float64) * (1.0 - _reused(reused))


def _of_patches(which: int) -> Callable[[npt.ArrayLike], npt.ArrayLike]:
    return lambda p: patch_statistics(p)[which]


_PATCHES = ("p", "tau_vr")
_COSINE = (-1.0, 1.0)
SIMILARITY = Measure(
    "cra_sim", "CRA similarity", ("similarity",), _same,
    "Highest cosine of the image to a reference of its concept, by the global encoder.",
    bounds=_COSINE, over=None, compared=False, shown=False,
)  # fmt: skip
CRA = Measure(
    "cra", "CRA", ("similarity", "tau_cra"), _recognised,
    "Share of the images that reach the CRA threshold: they are recognised.", image="cra_pass",
)  # fmt: skip
VR_RECOGNISED = Measure(
    "vr_recognised", "VR rec.", _PATCHES, _reuse, "VR of the recognised images.",
    over="recognised", image=None, compared=False, shown=False,
)  # fmt: skip
VR = Measure(
    "vr_all", "VR", _PATCHES, _reuse, "Share of the patches that reach the VR threshold, over all images.", image="vr",
)  # fmt: skip
VI_RECOGNISED = Measure(
    "vi_recognised", "VI rec.", _PATCHES, _independence, "1 - VR of the recognised images.",
    over="recognised", image=None, complement=VR_RECOGNISED.key, compared=False,
)  # fmt: skip
VI = Measure(
    "vi_all", "VI", _PATCHES, _independence, "1 - VR of all images.",
    image="vi", complement=VR.key, compared=False, shown=False,
)  # fmt: skip
CRT = Measure(
    "crt", "CRT", (*CRA.needs, *_PATCHES), _transformed,
    "CRA times the VI of the recognised images: recognised, and not copied.", image=None,
)  # fmt: skip
MAX, MEAN, P90 = (
    Measure(key, label, ("p",), _of_patches(i), about, bounds=_COSINE, over=None, compared=False, shown=False)
    for i, (key, label, about) in enumerate(
        (("vr_max", "highest p", "Highest cosine of a patch."), ("vr_mean", "mean p", "Mean cosine of the patches."),
         ("vr_p90", "90 % p", "Cosine that a tenth of the patches reach."))
    )
)  # fmt: skip
ARRANGED = Measure(
    "vr_arranged", "VR arranged", (*_PATCHES, "cell", "grid"), _arranged,
    "Share of the patches that are reused and moved by one and the same step: shuffled copies have little.",
    compared=False, shown=False,
)  # fmt: skip
CRA_CAL = Measure(
    "cra_cal", "CRA cal.", ("similarity", "tau_cra_cal"), _recognised,
    "CRA at the threshold at a false-positive rate that the results hold.", compared=False,
)  # fmt: skip
VR_CAL = Measure(
    "vr_cal", "VR cal.", ("p", "tau_vr_cal"), _reuse,
    "VR at the threshold at a false-positive rate that the results hold.", compared=False,
)  # fmt: skip
STRICT = Measure(
    "vr_strict", "VR strict", ("strict_p", "tau_strict", "csls", "tau_csls"), _strict,
    "Share of the patches that reach the calibrated VR threshold and are nearer to their own references than to others.",
)  # fmt: skip
CRA_DECIDED = Measure(
    "cra_decided", "CRA decided", ("recognised",), _same,
    "CRA at the thresholds that decide: the results' own where they mean something, else CRA cal.",
    image=None, compared=False, shown=False,
)  # fmt: skip
VR_DECIDED = Measure(
    "vr_decided", "VR decided", ("reused",), _reused,
    "VR at the thresholds that decide: the results' own where they mean something, else VR strict where there is one, else VR cal.",
    image=None, compared=False, shown=False,
)  # fmt: skip
CRT_DECIDED = Measure(
    "crt_decided", "CRT decided", ("recognised", "reused"), _transformed_there,
    "CRA decided times the VI of the recognised images at the same thresholds.", image=None, compared=False, shown=False,
)  # fmt: skip
DECIDED = {CRA.key: CRA_DECIDED, VR.key: VR_DECIDED, CRT.key: CRT_DECIDED}
# In the order of tables and exports.
MEASURES = (
    SIMILARITY, CRA, VR_RECOGNISED, VR, VI_RECOGNISED, VI, CRT, MAX, MEAN, P90, ARRANGED, CRA_CAL, VR_CAL, STRICT,
    CRA_DECIDED, VR_DECIDED, CRT_DECIDED,
)  # fmt: skip


@lru_cache
def measures() -> tuple[Measure, ...]:
    """Our measures, and those that installed packages add.

    Raises :class:`InputError` for an entry point that is no measure, needs an array that does not exist, or takes a
    name that is taken.
    """
    out = list(MEASURES)
    for point in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        by = f"measure {point.name} ({point.value})"
        try:
            found = point.load()
        except Exception as e:  # whatever another package does when it is imported
            raise InputError(f"{by}: cannot be loaded ({type(e).__name__}: {e})") from e
        if not isinstance(found, Measure):
            raise InputError(f"{by}: is no iconicity Measure")
        if unknown := set(found.needs) - ARRAYS.keys():
            raise InputError(f"{by}: needs {min(unknown)!r}; a measure may need {', '.join(ARRAYS)}")
        if {found.key, found.image_key} & {name for m in out for name in (m.key, m.image_key)}:
            raise InputError(f"{by}: the name {found.key!r} is taken")
        out.append(found)
    return tuple(out)


def of_concepts(vi_scope: str = "recognised") -> list[Measure]:
    """Measures that concepts and models have. ``vi_scope`` all: CRT is CRA times the VI of all images."""
    if vi_scope not in VI_SCOPES:
        raise ValueError(f"vi_scope {vi_scope!r}: {' or '.join(VI_SCOPES)}")
    every = replace(CRT, needs=CRA.needs, function=_recognised, times=VI.key)
    return [every if m is CRT and vi_scope == "all" else m for m in measures() if m.over is not None]


def of_images() -> list[Measure]:
    """Measures that single images have."""
    return [m for m in measures() if m.image_key is not None]


def labels() -> dict[str, str]:
    """Heading in tables by the name of a measure of concepts, models or images."""
    out = {m.image_key: m.label for m in measures() if m.image_key}
    return out | {m.key: m.label for m in measures()}


def label(name: str) -> str:
    """What people call a measure at the thresholds its name says: ``VR``, ``VR (calibrated)``, ``VR strict``."""
    key = name.removesuffix(CALIBRATED)
    return labels().get(key, key) + (" (calibrated)" if name != key else "")
