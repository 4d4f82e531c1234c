"""All rows of one or more results directories as arrays, and their values per model and concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.grid import overlaps
from iconicity.indexer.places import named
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.caveats import caveats_of
from iconicity.scorer.left_out import left_out_of
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.judgement import Judgement, beside, judgements
from iconicity.scorer.measure.metrics import Bools, Float32, Float64, Ints, arranged_reuse, passes
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

    @property
    def decides(self) -> bool:
        """Whether images may be called recognised, copied or transformed at these thresholds."""
        return all(j.holds for j in self.judged.values())

    def __repr__(self) -> str:
        counts = f"{counted(len(self.model), 'image')}, models {brief(self.models)}, {counted(len(self.concepts), 'concept')}"
        return f"<Study of {brief([named(str(s.path)) for s in self.sources])}: {counts}>"

    @property
    def relpaths(self) -> list[str]:
        names: list[str] = self.table.column("gen_relpath").to_pylist()
        return names

    @property
    def notes(self) -> list[str]:
        """Caveats that every table of these results carries."""
        out: list[str] = [note for s in self.sources for note in s.notes]
        out.append(encoders_line(self.settings["encoders"].values()))
        out += [j.sentence for j in self.judged.values()]
        out += [] if self.named else self._beside[1]
        if self.named is None and self.thresholds is not None:
            t = self.thresholds
            out.append(f"cal. and strict: at thresholds that {t.alpha:.0%} of unrelated references reach ({t.names})")
        elif self.named is None and any(s.thresholds for s in self.sources):
            out.append("cal. and strict are left out: the results hold different thresholds; score them with one index")
        out += left_out_of(self.sources)
        bad = np.bincount(self.model[~self.ok], minlength=len(self.models))
        if bad.any():
            out.append(
                f"images that could not be used: {brief([f'{m} {n}' for m, n in zip(self.models, bad, strict=True) if n])}"
            )
        out += caveats_of([self.table])
        lost = sorted(set(np.unique(self.concept).tolist()) - set(np.unique(self.concept[self.ok]).tolist()))
        if lost:
            out.append(f"concepts without a usable image: {brief([self.concepts[c] for c in lost])}")
        few = [f"{m} {c}" for m, c in zip(self.models, self.concepts_of(), strict=True) if c < FEW]
        if few:
            out.append(f"indicative: fewer than {FEW} concepts ({brief(few)})")
        return list(dict.fromkeys(out))

    def require_index(self, index: Index) -> None:
        """Raises :class:`SettingsError` when the results were scored against another index, or another state of it."""
        mine = self.settings["index_id"]
        if mine != index.index_id:
            raise SettingsError(
                f"{self.sources[0].path}: scored against index {mine[:12]}, {index.path} is {index.index_id[:12]}; "
                "name that one with --index, or score again with --update"
            )

    def images_of(self) -> Ints:
        """Usable images of each model and concept: (M, C)."""
        return _sum(self, self.ok)

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
        for key, value in held[0].settings.items():
            if key not in _MAY_DIFFER and other.settings.get(key) != value:
                raise SettingsError(
                    f"{other.path}: made with {key}={other.settings.get(key)}, {held[0].path} with {value}; "
                    "only results of the same settings can be put together"
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
            flag = {"cra": "--ic-tau", "vr": "--patch-tau"}[metric]
            raise SettingsError(
                f"{r.path}: holds tau_{metric} {r.tau[metric]}, {held[0].path} {held[0].tau[metric]}; name one with {flag}"
            )
    return held[0].tau[metric]


Tau = float | Float64 | None  # one for all, one a concept (C,) with nan where there is none, or none at all


@dataclass(frozen=True)
class Cells:
    """Values per model and concept: (M, C) arrays, nan where undefined or not scored.

    ``images`` could be used, ``skipped`` could not; ``values`` has ``cra``, ``vr_recognised``, ``vr_all``,
    ``vi_recognised``, ``vi_all``, ``crt`` and further means over images; ``weights`` the images behind each.
    """

    images: Ints
    skipped: Ints
    recognised: Ints
    best_similarity: Float64
    values: Mapping[str, Float64]
    weights: Mapping[str, Ints]


def cells(
    study: Study,
    tau_cra: Tau,
    tau_vr: Tau,
    vi_scope: str = "recognised",
    further: Mapping[str, Float64] | None = None,
) -> Cells:
    """Values of each model and concept at given thresholds.

    CRT of a concept = CRA x mean VI over its recognised images (``vi_scope`` recognised) or over all of them
    (all), 0 where nothing is recognised. ``further``: more per-image values (n,) to average over all images.
    """
    if vi_scope not in ("recognised", "all"):
        raise ValueError(f"vi_scope {vi_scope!r}: recognised or all")
    recognised, has_cra, vr, has_vr = image_values(study, tau_cra, tau_vr)
    images = _sum(study, study.ok)
    skipped = _sum(study, ~study.ok)
    whole_cra = (images > 0) & (_sum(study, study.ok & ~has_cra) == 0)
    whole_vr = (images > 0) & (_sum(study, study.ok & ~has_vr) == 0)
    n_recognised = np.where(whole_cra, _sum(study, recognised), 0)
    use = np.nan_to_num(vr)
    with np.errstate(divide="ignore", invalid="ignore"):
        cra = np.where(whole_cra, n_recognised / images, np.nan)
        vr_all = np.where(whole_vr, _sum(study, study.ok, use) / images, np.nan)
        vr_recognised = _sum(study, recognised, use) / n_recognised
    vr_recognised = np.where(whole_cra & whole_vr & (n_recognised > 0), vr_recognised, np.nan)
    vi = 1.0 - (vr_recognised if vi_scope == "recognised" else vr_all)
    crt = np.where(whole_cra & whole_vr, np.where(cra == 0.0, 0.0, cra * vi), np.nan)
    values = {
        "cra": cra, "vr_recognised": vr_recognised, "vr_all": vr_all, "vi_recognised": 1.0 - vr_recognised,
        "vi_all": 1.0 - vr_all, "crt": crt,
    }  # fmt: skip
    weights = {name: n_recognised if name.endswith("recognised") else images for name in values}
    for name, each in (further or {}).items():
        lacks = _sum(study, study.ok & np.isnan(each))
        with np.errstate(divide="ignore", invalid="ignore"):
            values[name] = np.where(
                (images > 0) & (lacks == 0), _sum(study, study.ok, np.nan_to_num(each)) / images, np.nan
            )
        weights[name] = images
    best = np.full(images.shape, -np.inf)
    np.fmax.at(best, (study.model, study.concept), study.similarity.astype(np.float64))
    return Cells(images, skipped, n_recognised, np.where(np.isinf(best), np.nan, best), values, weights)


def image_values(study: Study, tau_cra: Tau, tau_vr: Tau) -> tuple[Bools, Bools, Float64, Bools]:
    """Of each image: recognised, whether that is defined, VR (nan where not defined), whether it is defined."""
    t_cra, t_vr = (np.full(len(study.model), np.nan) if t is None else _each(study, t) for t in (tau_cra, tau_vr))
    has_cra = study.ok & ~np.isnan(study.similarity) & ~np.isnan(t_cra)
    has_vr = study.ok & ~np.isnan(study.p).any(axis=1) & ~np.isnan(t_vr)
    recognised = passes(study.similarity, t_cra) & has_cra
    vr = np.where(has_vr, passes(study.p, t_vr[:, None]).mean(axis=1), np.nan)
    return recognised, has_cra, vr, has_vr


def arranged(study: Study, tau_vr: Tau) -> Float64 | None:
    """Of each image the share of patches that are reused in one arrangement: (n,), nan where VR is; None where ``study``
    was read without ``p_ref_cell``."""
    if tau_vr is None or "p_ref_cell" not in study.table.column_names:
        return None
    tau = _each(study, tau_vr)
    found, has = patch_matrix(study.table, "p_ref_cell")
    known = study.ok & has & ~np.isnan(study.p).any(axis=1) & ~np.isnan(tau)
    hit = passes(study.p, tau[:, None]) & known[:, None]
    rows, cols = study.settings["grid"]
    if not known.any():
        return np.full(len(known), np.nan)
    share = arranged_reuse(hit, np.nan_to_num(found), rows, cols, overlaps(study.settings))
    return np.where(known, share, np.nan)


def _each(study: Study, tau: float | Float64) -> Float64:
    array = np.asarray(tau, np.float64)
    return np.full(len(study.model), float(array)) if array.ndim == 0 else array[study.concept]


def _sum(study: Study, which: Bools, values: Float64 | None = None) -> npt.NDArray[Any]:
    """Number of images that are so, or the sum of their values: (M, C)."""
    shape = (len(study.models), len(study.concepts))
    code = study.model[which] * shape[1] + study.concept[which]
    weights = None if values is None else values[which]
    return np.bincount(code, weights, minlength=shape[0] * shape[1]).reshape(shape)
