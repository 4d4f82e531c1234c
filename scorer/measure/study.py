"""All rows of one or more results directories as arrays, and their values per model and concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.left_out import NotCounted
from iconicity.indexer.places import named
from iconicity.indexer.spec import differences
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.caveats import caveats_of
from iconicity.scorer.left_out import left_out_of
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.judgement import Basis, Judgement, beside, decided_words, deciding, judgements
from iconicity.scorer.measure.metrics import Bools, Float32, Ints
from iconicity.scorer.measure.patch_encoders import what_vr_lacks, what_vr_shows
from iconicity.scorer.results import HINTS, SCHEMA, Results, require_results
from iconicity.scorer.text import encoders_line
from iconicity.scorer.thresholds import Thresholds

_COLUMNS = [
    "model",
    "concept",
    "gen_relpath",
    "gen_sha256",
    "variant",
    "status",
    "cra_sim",
    "p",
    "p_csls",
    "n_ref_kept",
    "pixel_notes",
    "cra_area_seen",
    "area_seen",
]
_MAY_DIFFER = {"scope", "search", *HINTS}  # of settings: own maxima do not depend on them
FEW = 30  # concepts below which a finding is called indicative


@dataclass(frozen=True)
class Study:
    """n images of M models and C concepts, sorted by (model, concept, file).

    A model's label is its name, or NAME@VARIANT. ``table`` has the columns that were asked for, row for row.
    """

    table: pa.Table
    models: tuple[str, ...]
    concepts: tuple[str, ...]
    model: Ints  # (n,) place in ``models``
    concept: Ints  # (n,) place in ``concepts``
    ok: Bools  # (n,) False: the file could not be used
    similarity: Float32  # (n,) nan where CRA was not scored
    p: Float32  # (n, K) nan where VR was not scored
    references: Ints  # (C,) J: references the mode compares with
    mode: str
    settings: Mapping[str, Any]
    tau: Mapping[str, float | None]
    sources: tuple[Results, ...]
    named: Calibration | None = None  # the calibration that the user named, for :attr:`judged`

    def with_calibration(self, calibration: Calibration | None) -> Study:
        """The same study, its thresholds judged by a calibration that the user named; None: by the one beside it."""
        return self if calibration is None else replace(self, named=calibration)

    @cached_property
    def judged(self) -> Mapping[str, Judgement]:
        """Metric -> what a decision at its threshold means, for the metrics that have one and were scored."""
        calibration, source = (
            (self.named, "the calibration named") if self.named else (self._beside[0], "calibration.json")
        )
        return {j.metric: j for j in judgements(self, calibration, source)}

    @cached_property
    def _beside(self) -> tuple[Calibration | None, list[str]]:
        return beside(self.sources)

    @property
    def thresholds(self) -> Thresholds | None:
        """The thresholds at a false-positive rate that the results hold; None where they hold none, or not the same ones."""
        first = self.sources[0].thresholds
        return first if all(s.thresholds == first for s in self.sources) else None

    @cached_property
    def deciding(self) -> Mapping[str, Basis]:
        """Metric -> the thresholds at which images are called recognised, and patches reused; none where no threshold holds."""
        return deciding(self)

    @property
    def decides(self) -> bool:
        """Whether images may be called recognised, copied or transformed."""
        return self.judged.keys() <= self.deciding.keys()

    def __repr__(self) -> str:
        counts = f"{counted(len(self.model), 'image')}, models {brief(self.models)}, {counted(len(self.concepts), 'concept')}"
        return f"<Study of {brief([named(str(s.path)) for s in self.sources])}: {counts}>"

    @property
    def relpaths(self) -> list[str]:
        names: list[str] = self.table.column("gen_relpath").to_pylist()
        return names

    @property
    def verdict(self) -> list[str]:
        """What matters most: at which thresholds is decided, and which mean nothing; empty where the results' own decide."""
        void = [j for j in self.judged.values() if not j.holds]
        names = " and ".join(f"the {j.metric.upper()} threshold {j.tau:g}" for j in void)
        nothing = f"{names} {'mean' if len(void) > 1 else 'means'} nothing for these encoders"
        decided = decided_words(self)
        if void and not self.decides:
            way = (
                "use calibrated thresholds" if all(j.chance is not None for j in void) else "run 'iconicity calibrate'"
            )
            return [*filter(None, [decided]), f"no verdict: {nothing}; {way}"]
        return ["; ".join(filter(None, [decided, nothing if void else ""]))] if decided else []

    @property
    def notes(self) -> list[str]:
        """What every table of these results says, the most important first."""
        return list(dict.fromkeys([*self.caveats, *self.background]))

    @property
    def caveats(self) -> list[str]:
        """What a reader must know before the numbers: the user's notes, the verdict, and what is too little."""
        out: list[str] = [note for s in self.sources for note in s.notes] + self.verdict
        if self.tau.get("vr") is not None:
            out += what_vr_lacks(self.settings)
        few = [f"{m} {c}" for m, c in zip(self.models, self.concepts_of(), strict=True) if c < FEW]
        if few:
            out.append(f"indicative: fewer than {FEW} concepts ({brief(few)})")
        bad = np.bincount(self.model[~self.ok], minlength=len(self.models))
        if bad.any():
            per_model = brief([f"{m} {n}" for m, n in zip(self.models, bad, strict=True) if n])
            out.append(NotCounted(f"images that could not be used: {per_model}"))
        lost = sorted(set(np.unique(self.concept).tolist()) - set(np.unique(self.concept[self.ok]).tolist()))
        if lost:
            out.append(NotCounted(f"concepts without a usable image: {brief([self.concepts[c] for c in lost])}"))
        return out

    @property
    def background(self) -> list[str]:
        """What the numbers rest on: encoders, where the thresholds are from, and what is not in the numbers."""
        return [
            encoders_line(self.settings["encoders"].values()),
            *(what_vr_shows(self.settings) if self.tau.get("vr") is not None else ()), *(j.sentence for j in self.judged.values()),
            *([] if self.named else self._beside[1]), *self._held_words(), *left_out_of(self.sources), *caveats_of([self.table]),
        ]  # fmt: skip

    def _held_words(self) -> list[str]:
        if self.named is not None:
            return []
        if self.thresholds is not None:
            t = self.thresholds
            return [f"cal. and strict: at thresholds that {t.alpha:.0%} of unrelated references reach ({t.names})"]
        if any(s.thresholds for s in self.sources):
            return ["cal. and strict are left out: the results hold different thresholds; score them with one index"]
        return []

    def require_index(self, index: Index) -> None:
        """Raises :class:`SettingsError` when the results were scored against another index, or another state of it."""
        mine = self.settings["index_id"]
        if mine != index.index_id:
            raise SettingsError(
                f"{self.sources[0].path}: scored against index {mine[:12]}, {index.path} is {index.index_id[:12]}; "
                "name that one with `index`, or score again with `update`"
            )

    def images_of(self) -> Ints:
        """Usable images of each model and concept: (M, C)."""
        shape = (len(self.models), len(self.concepts))
        code = self.model[self.ok] * shape[1] + self.concept[self.ok]
        return np.bincount(code, minlength=shape[0] * shape[1]).reshape(shape)

    def concepts_of(self) -> list[int]:
        """Number of concepts with a usable image, a model."""
        pairs = np.unique(np.stack([self.model[self.ok], self.concept[self.ok]]), axis=1)[0]
        counts: list[int] = np.bincount(pairs, minlength=len(self.models)).tolist()
        return counts

    def facts(self) -> dict[str, Any]:
        """What the numbers rest on, for meta files and flat JSON."""
        s = self.settings
        return {
            "mode": self.mode, "tau_cra": self.tau["cra"], "tau_vr": self.tau["vr"], "index_id": s["index_id"],
            "scope": ",".join(sorted({r.settings["scope"] for r in self.sources})),
            "patch_mode": s.get("patch_mode"), "results": ",".join(named(str(r.path)) for r in self.sources),
            **{f"encoder_{name}": label for name, label in s["encoders"].items()},
            **{name: fact for j in self.judged.values() for name, fact in j.facts().items()},
            "decided": decided_words(self), **{f"decided_{m}": b.label for m, b in self.deciding.items()},
        }  # fmt: skip


def brief(names: Sequence[str], most: int = 6) -> str:
    """Some names in a line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def open_study(
    results: Path | str | Sequence[Path | str],
    columns: Sequence[str] = (),
    *,
    tau_cra: float | None = None,
    tau_vr: float | None = None,
) -> Study:
    """Read one or more results directories that were made with the same settings.

    ``columns`` are further columns of the scores to keep in ``table``. Thresholds left None are the directories'
    own. Raises :class:`SettingsError` when settings or thresholds differ, :class:`InputError` when two hold
    the same image of a model.
    """
    paths = [results] if isinstance(results, (str, Path)) else list(results)
    held = [require_results(p) for p in paths]
    tau = {name: _tau(held, name, given) for name, given in (("cra", tau_cra), ("vr", tau_vr))}
    for other in held[1:]:
        for key, first, second in differences(held[0].settings, other.settings, held[0].settings, _MAY_DIFFER):
            raise SettingsError(
                f"{other.path}: made with {key}={second}, {held[0].path} with {first}; only results of the same settings can be "
                "put together"
            )
    wanted = list(dict.fromkeys([*_COLUMNS, *columns]))
    schema = pa.schema([SCHEMA.field(c) for c in wanted] + [("source", pa.int32())])
    parts = [
        batch.append_column("source", pa.array([i] * batch.num_rows, pa.int32())).cast(schema)
        for i, r in enumerate(held)
        for batch in r.batches(columns=wanted)
    ]
    if not any(p.num_rows for p in parts):
        raise InputError(f"{held[0].path}: holds no rows; score images into it first")
    return _study(pa.concat_tables(parts), held, tau)


def _study(table: pa.Table, held: Sequence[Results], tau: Mapping[str, float | None]) -> Study:
    labels = _labels(table)
    order = pd.DataFrame(
        {"m": labels, "c": table.column("concept").to_pylist(), "f": table.column("gen_relpath").to_pylist()}
    )
    order = order.sort_values(["m", "c", "f"], kind="stable")
    table = table.take(pa.array(order.index.to_numpy())).combine_chunks()
    twice = order.duplicated().to_numpy()
    if twice.any():
        at = int(twice.argmax())
        where = " and ".join(str(held[i].path) for i in table.column("source")[at - 1 : at + 1].to_pylist())
        raise InputError(f"{where}: both hold {order.iloc[at].f} of {order.iloc[at].m}; leave one out")
    model, models = pd.factorize(order.m, sort=True)
    concept, concepts = pd.factorize(order.c, sort=True)
    kept = np.zeros(len(concepts), np.int64)
    np.maximum.at(kept, concept, table.column("n_ref_kept").fill_null(0).to_numpy())
    p, _ = patch_matrix(table, "p")
    similarity = table.column("cra_sim").to_numpy().astype(np.float32)
    return Study(
        table, tuple(models), tuple(concepts), model.astype(np.int64), concept.astype(np.int64),
        np.array(table.column("status").to_pylist()) == "ok", similarity, p,
        np.minimum(kept, 1) if held[0].mode == "static" else kept, held[0].mode, held[0].settings, tau, tuple(held),
    )  # fmt: skip


def _labels(table: pa.Table) -> list[str]:
    """NAME, or NAME@VARIANT where the rows of a model say their variant."""
    return [
        m if v is None or m.endswith(f"@{v}") else f"{m}@{v}"
        for m, v in zip(table.column("model").to_pylist(), table.column("variant").to_pylist(), strict=True)
    ]


def _tau(held: Sequence[Results], metric: str, given: float | None) -> float | None:
    if given is not None:
        return given
    for r in held[1:]:
        if r.tau[metric] != held[0].tau[metric]:
            raise SettingsError(
                f"{r.path}: holds tau_{metric} {r.tau[metric]}, {held[0].path} {held[0].tau[metric]}; name one with `tau_{metric}`"
            )
    return held[0].tau[metric]
