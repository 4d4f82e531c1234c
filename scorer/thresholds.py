"""Thresholds at a false-positive rate, one for each number of references, and where each comes from.

They come from the index that was scored against, fitted on its references; where it has none, from the package, for the
encoders that come with it; or from a calibration that the user names, which comes before both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from iconicity.indexer.arrays import Float64, Ints
from iconicity.indexer.null.packaged import packaged
from iconicity.indexer.null.thresholds import ALPHA, CRA, CSLS, STATIC, VR, thresholds_of
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted

INDEX, PACKAGE, CALIBRATION = "index references", "package", "calibration"
NEEDED = 21  # concepts: a half of 11 has 110 pairs, which can show a rate of 1 %


@dataclass(frozen=True)
class Thresholds:
    """``tau`` and ``source`` by metric (cra, vr, vr_csls) and number of references J; ``digests``: SHA-256 of each source.

    A patch is reused strictly when it reaches the thresholds of both vr and vr_csls.
    """

    alpha: float
    digests: Mapping[str, str] = field(default_factory=dict)
    tau: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    source: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def each(self, metric: str, references: Sequence[int] | Ints) -> Float64:
        """Threshold of a metric for each of some numbers of references: (n,), nan where there is none."""
        known = self.tau.get(metric, {})
        return np.array([known.get(int(j), np.nan) for j in references], np.float64)

    def sources(self, metric: str, references: Sequence[int] | Ints) -> list[str | None]:
        """Where each of these thresholds comes from."""
        known = self.source.get(metric, {})
        return [known.get(int(j)) for j in references]

    @property
    def names(self) -> str:
        """Where the thresholds come from, each source with the start of its digest."""
        return ", ".join(f"{source} {digest[:12]}" for source, digest in self.digests.items())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "alpha": self.alpha, "digests": dict(self.digests),
            **{name: {m: {str(j): v for j, v in each.items()} for m, each in getattr(self, name).items()} for name in ("tau", "source")},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Thresholds:
        tau, source = (
            {m: {int(j): v for j, v in each.items()} for m, each in data[name].items()} for name in ("tau", "source")
        )
        return cls(data["alpha"], data["digests"], tau, source)


def thresholds_for(index: Index, mode: str, named: Thresholds | None) -> tuple[Thresholds | None, list[str]]:
    """The thresholds that travel with an index, else with the package, for each number of references it has; and notes.

    ``named``: those of a calibration that the user names, or has named for these results, come before both. None where
    there is no threshold at all.
    """
    if named is not None and CALIBRATION in named.digests:
        return named, []
    held = thresholds_of(index.manifest)
    shipped = packaged(index.settings, mode)
    wanted = {1} if mode == STATIC else {n.kept for n in index.concepts().values() if n.kept}
    tau: dict[str, dict[int, float]] = {}
    source: dict[str, dict[int, str]] = {}
    own = {} if held is None else {m: held.taus(mode, m) for m in (CRA, VR, CSLS)}
    for name, known in ((INDEX, own), (PACKAGE, {} if shipped is None else shipped.tau)):
        for metric, taus in known.items():
            for j in sorted(wanted & taus.keys() - tau.get(metric, {}).keys()):
                tau.setdefault(metric, {})[j] = taus[j]
                source.setdefault(metric, {})[j] = name
    used = {s for each in source.values() for s in each.values()}
    digests = {INDEX: held.digest} if held is not None and INDEX in used else {}
    if shipped is not None and PACKAGE in used:
        digests[PACKAGE] = shipped.digest
    notes = []
    if held is None:
        notes.append(
            f"{index.path}: has no thresholds of its own, since an earlier version made it; run the same 'iconicity index "
            "build' again (nothing is embedded), then score again"
        )
    elif lacking := [m.upper() for m in (CRA, VR) if wanted - tau.get(m, {}).keys()]:
        concepts = index.manifest["counts"]["concepts"]
        few = f"it has {counted(concepts, 'concept')}, {NEEDED} are needed"
        if concepts >= NEEDED:
            few = f"too few pairs of its {concepts} concepts are unrelated"
        notes.append(
            f"{' and '.join(lacking)} of {index.path} have no threshold at a known false-positive rate: {few}, and none "
            "comes with the package for these encoders"
        )
    before = "" if named is None else named.digests.get(INDEX, "")
    if before and before != digests.get(INDEX):
        notes.append(
            f"{index.path}: its thresholds are no longer those that these results were decided at ({before[:12]}); all of "
            "their rows are decided anew, also those of models that this run does not name"
        )
    if not tau:
        return None, notes
    return Thresholds(ALPHA, digests, tau, source), notes


def beside_given(tau_cra: float | None, tau_vr: float | None, thresholds: Thresholds | None) -> list[str]:
    """Sentences on the thresholds that the user gave, where there are others beside them."""
    return [
        f"{metric} is at the threshold {tau} that was given, {metric}_cal at those of {thresholds.names}"
        for metric, tau in ((CRA, tau_cra), (VR, tau_vr))
        if tau is not None and thresholds is not None
    ]
