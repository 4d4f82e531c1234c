"""Thresholds of an index, fitted on its own references and kept in its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from iconicity.indexer.spec import digest_of
from iconicity.indexer.store.schema import IndexThresholdShape

ALPHA = 0.01  # false-positive rate
CRA, VR, CSLS, STRICT = "cra", "vr", "vr_csls", "vr_strict"  # strict: a patch that reaches both of VR and CSLS
STATIC, DYNAMIC = "static", "dynamic"
FORMAT = 1  # of what is fitted and how; another one is fitted again at the next build


@dataclass(frozen=True)
class IndexThresholds:
    """Thresholds of an index from its unrelated references: ``rows`` by mode, metric and number of references.

    ``concepts`` were compared; ``works`` numbers the work that each is; ``queries`` are their first kept references, by
    name (CSLS looks for neighbours among them). ``creators``: of the index's concepts, as far as they are known; works of
    one creator were not compared.
    """

    alpha: float
    seed: int
    format: int
    concepts: list[str]
    works: list[int]
    queries: list[str]
    rows: list[IndexThresholdShape]
    creators: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of all thresholds, of the queries, and of the creators where there are any."""
        return digest_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As the manifest has it: without creators where none is known, as before there were any."""
        return {name: value for name, value in vars(self).items() if name != "creators" or value}

    def taus(self, mode: str, metric: str) -> dict[int, float]:
        """Threshold of a metric by number of references J."""
        rows = (r for r in self.rows if r["mode"] == mode and r["metric"] == metric and r["tau"] is not None)
        return {r["references"]: cast(float, r["tau"]) for r in rows}


def has_thresholds(manifest: Mapping[str, Any], creators: Mapping[str, str] | None = None) -> bool:
    """Whether a manifest has thresholds as this version fits them, with these ``creators`` (None: with any)."""
    held = manifest.get("thresholds")
    if held is None or held["format"] != FORMAT:
        return False
    return creators is None or held.get("creators", {}) == creators


def thresholds_of(manifest: Mapping[str, Any]) -> IndexThresholds | None:
    """The thresholds of an index; None where an earlier version made it."""
    return IndexThresholds(**manifest["thresholds"]) if has_thresholds(manifest) else None
