"""What the pages show, as plain values: an overview, its sweeps, a list of all images, and parts of each concept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.encode.fit import Facts, seen
from iconicity.indexer.flags import bare
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Reference
from iconicity.scorer.measure.calibrate.calibration import Calibration, own_and_null, thresholds_finding
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.finding import AT, Finding
from iconicity.scorer.measure.image_null import image_null
from iconicity.scorer.measure.judgement import GIVEN, decided_words
from iconicity.scorer.measure.measures import (
    CRA,
    CRA_DECIDED,
    CRT,
    CRT_DECIDED,
    DECIDED,
    VI,
    VI_RECOGNISED,
    VR,
    VR_DECIDED,
    Measure,
    of_concepts,
)
from iconicity.scorer.measure.metrics import GENERIC_SHARE
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.sweep import ModelGrid, grid, model_grids
from iconicity.scorer.say.report.labels import Labels
from iconicity.scorer.say.report.thumbnails import thumbnail_key

COLUMNS = (
    "gen_path",
    "width",
    "height",
    "prompt",
    "seed",
    "cra_ref_id",
    "p_ref_id",
    "p_ref_cell",
    "other_sim",
    "other_ref_id",
    "own_rank",
    "reason",
)
REPLICA = 0.5  # VR from which on a recognised image is called a replica
EXAMPLES = 6  # of each kind, on the first page
EVIDENCE = 200  # images whose patches lie in one file: a page of one image loads no more
_THRESHOLDS = (
    "metric", "references", "tau", "status", "rate_check", "rate_check_low", "rate_check_high", "tau_given", "rate_given",
    "rate_given_low", "rate_given_high",
)  # fmt: skip


@dataclass(frozen=True)
class Sweeps:
    """Each model's macro means at all thresholds in steps of 0.01, equal to those of ``summary`` there."""

    models: Mapping[str, ModelGrid]

    @classmethod
    def of(cls, study: Study, vi_scope: str) -> Sweeps:
        taus = grid()
        return cls({m: g.macro() for m, g in model_grids(study, taus, taus, vi_scope)})

    def curves(self) -> dict[str, Any]:
        return {m: {CRA.key: numbers(g.cra), VR.key: numbers(g.vr_all)} for m, g in self.models.items()}

    def crt(self) -> dict[str, Any]:
        """A row for each tau_cra: large, so that it is a part of its own."""
        return {m: [numbers(row) for row in g.crt] for m, g in self.models.items()}


def overview(
    study: Study,
    summary: Finding,
    index: Index,
    sweeps: Sweeps,
    parts: ImageParts,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Models with intervals, a point for each concept and model, curves, examples, and what the numbers rest on."""
    points = _points(study, summary)
    return {
        "id": identity(study),
        "measures": [[m.key, m.label] for m in _listed(study)],
        "models": _models(summary, "given"), "calibrated": [] if calibration is None else _models(summary, "calibrated"),
        "concepts": list(study.concepts),
        "points": [
            [study.models.index(r["model"]), study.concepts.index(r["concept"]), r["images"], r["recognised"],
             *numbers([r[m.key] for m in (CRA, VR, VI_RECOGNISED, VI, CRT)])]
            for r in points.to_dict("records")
        ],
        "labels": {m: b.label for m, b in study.deciding.items()}, "decided": decided_words(study),
        "reached": parts.thresholds(), "start": parts.middle(),
        "curves": sweeps.curves(), "examples": parts.examples(), "tau": dict(study.tau), "replica": REPLICA, "grid": list(index.grid), "steps": 2 if index.overlapping else 1, "evidence": EVIDENCE,
        "vi_scope": summary.facts["vi_scope"], "notes": list(map(bare, summary.notes)), "encoders": dict(study.settings["encoders"]),
        "judged": {m: {"holds": j.holds, "sentence": j.sentence} for m, j in study.judged.items()}, "decides": study.decides,
        **({} if calibration is None else _calibration(study, calibration)),
        "facts": {
            "mode": study.mode, "scope": summary.facts["scope"], "index": study.settings["index_id"],
            "weights": "; ".join(dict.fromkeys(f"{spec.name} {spec.weights_sha256}" for spec in index.specs)),
            "images": int(study.ok.sum()), "skipped": int((~study.ok).sum()),
            "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        },
    }  # fmt: skip


def _listed(study: Study) -> list[Measure]:
    """Measures of the table of models. CRA and VR decided stand there as what they are: CRA, CRA cal., VR strict, ..."""
    twice = {CRA_DECIDED.key, VR_DECIDED.key, *(() if decided_words(study) else (CRT_DECIDED.key,))}
    return [m for m in of_concepts() if m.key not in twice]


def _points(study: Study, summary: Finding) -> pd.DataFrame:
    """The table of concepts, its measures at the thresholds that decide, where fitted ones do."""
    points = summary.table("concepts")
    if AT in points:
        points = points[points[AT] == "given"]
    points = points.copy()
    if not (study.decides and any(b.kind != GIVEN for b in study.deciding.values())):
        return points
    for key, measure in DECIDED.items():
        points[key] = points.get(measure.key, np.nan)
    cra = points[CRA.key]
    points[VI.key] = 1.0 - points[VR.key]
    points[VI_RECOGNISED.key] = points[CRT.key] / cra.where(cra > 0)
    points["recognised"] = (cra.fillna(0.0) * points["images"]).round().astype(int)
    return points


def identity(study: Study) -> str:
    """Which images a report is about: labels that a browser keeps belong to these."""
    columns = [study.table.column(c).to_pylist() for c in ("model", "gen_relpath", "gen_sha256")]
    return hashlib.sha256(repr(list(zip(*columns, strict=True))).encode()).hexdigest()[:16]


def _models(summary: Finding, kind: str) -> list[dict[str, Any]]:
    frame = summary.table("models")
    rows = frame[frame[AT] == kind] if AT in frame else frame
    names = [m.key for m in of_concepts() if m.key in frame]
    return [
        {"name": r["model"], "images": r["images"], "concepts": r["concepts"], "recognised": r["recognised"],
         **{m: numbers([r[m], r[f"{m}_low"], r[f"{m}_high"], r[f"{m}_n"]]) for m in names}}
        for r in rows.to_dict("records")
    ]  # fmt: skip


def _calibration(study: Study, calibration: Calibration) -> dict[str, Any]:
    """The thresholds that unrelated references reach at the chosen rate, and what these reach beside the own ones."""
    rows = thresholds_finding(calibration).table()
    rows = rows[rows.null == "unrelated"]
    histograms = own_and_null(study, calibration)
    return {
        "alpha": calibration.alpha,
        "thresholds": [
            {c: number(r[c]) if isinstance(r[c], float) else r[c] for c in _THRESHOLDS} for r in rows.to_dict("records")
        ],
        "nulls": [
            {"metric": part.metric.iloc[0], "references": int(part.references.iloc[0]),
             **{c: numbers(part[c]) for c in ("low", "own", "null")}}
            for _, part in histograms.groupby(["metric", "references"], sort=False)
        ],
    }  # fmt: skip


def needed_references(study: Study, index: Index) -> dict[str, Reference]:
    """References of the study's concepts, and of the best other concept of each image, by ref_id."""
    others = (i.split("/", 1)[0] for i in study.table.column("other_ref_id").to_pylist() if i)
    return index.references({*study.concepts, *others})


class ImageParts:
    """What is known of each image, image by image: lists to choose from, and the patches behind them.

    ``references``: those of :func:`needed_references`. ``failed``: SHA-256 -> why there is no thumbnail. ``patches``:
    facts of the patch encoder's preprocessing. ``labels``: of people. ``pixels``: how the index reads images, and so the thumbnails.
    """

    def __init__(
        self, study: Study, references: Mapping[str, Reference], failed: Mapping[str, str], patches: Facts, pixels: str,
        labels: Labels | None = None,
    ) -> None:  # fmt: skip
        self._labels = labels
        self._preprocess, self._pixels = patches, pixels
        self._study, self._references, self._failed = study, references, failed
        decision = decide(study)
        self._recognised, self._has_cra = decision.recognised == 1.0, ~np.isnan(decision.recognised)
        self._reused, self._vr = decision.reused, decision.vr
        self._tau = {"cra": decision.tau_cra, "vr": decision.tau_vr}
        self._null = image_null(study)
        own_rank = study.table.column("own_rank").to_pandas()
        self._misattributed = (own_rank.notna() & (own_rank != 1)).to_numpy()
        self._by_concept: dict[str, list[Reference]] = {}
        for r in references.values():
            self._by_concept.setdefault(r.concept, []).append(r)
        # a stable sort keeps the study's order within a concept: place of an image = its place in its concept's part
        self._rows = np.argsort(study.concept, kind="stable")
        self._starts = np.searchsorted(study.concept[self._rows], np.arange(len(study.concepts) + 1))

    def thresholds(self) -> dict[str, list[list[float | None]]]:
        """(number of references, threshold) of each metric at whose fitted thresholds is decided."""
        study = self._study
        references = np.asarray(study.references)[study.concept]
        return {
            m: [
                [int(j), number(self._tau[m][references == j][0])]
                for j in np.unique(references[~np.isnan(self._tau[m])])
            ]
            for m, basis in study.deciding.items()
            if basis.kind != GIVEN
        }

    def middle(self) -> dict[str, float | None]:
        """The middle one of the thresholds of all images, for each metric: where the sliders stand at first."""
        return {
            m: None if self._study.tau[m] is None or np.isnan(tau).all() else number(np.nanmedian(tau))
            for m, tau in self._tau.items()
        }

    def of(self, c: int) -> Any:
        """Rows of the study (by place) of a concept's images."""
        return self._rows[self._starts[c] : self._starts[c + 1]]

    def place(self, i: int) -> dict[str, int]:
        """Concept of an image, and its place in the concept's part."""
        c = int(self._study.concept[i])
        return {"c": c, "k": int(np.searchsorted(self.of(c), i))}

    def reference(self, ref_id: str) -> dict[str, Any]:
        """A reference as a page shows it."""
        found = self._references[ref_id]
        return {
            "concept": found.concept, "file": ref_id.split("/", 1)[1], "thumb": self._thumb(found.sha256),
            "problem": self._failed.get(found.sha256),
        }  # fmt: skip

    def examples(self) -> dict[str, list[list[int]]]:
        """(concept, place in it) of the recognised images with the highest VR and the lowest, one a concept.

        Where no threshold means anything, no image is called recognised or copied: the most similar ones come instead.
        """
        if not self._study.decides:
            return {"similar": self._similar()}
        mean_p = np.nan_to_num(self._study.p, nan=-1.0).mean(axis=1)
        wanted = np.flatnonzero(self._recognised & ~np.isnan(self._vr))
        found: dict[str, list[list[int]]] = {}
        for name, which, sign in (("replica", self._vr >= REPLICA, -1.0), ("transformed", self._vr < REPLICA, 1.0)):
            rows = wanted[which[wanted]]
            rows = rows[np.lexsort((rows, sign * mean_p[rows], sign * self._vr[rows]))]
            _, first = np.unique(self._study.concept[rows], return_index=True)
            chosen = rows[np.sort(first)][:EXAMPLES]
            found[name] = [list(self.place(i).values()) for i in chosen]
        return found

    def _similar(self) -> list[list[int]]:
        """(concept, place in it) of the images that are most similar to a reference, the most similar first."""
        known = np.flatnonzero(self._study.ok)
        score = np.stack([self._study.similarity, self._study.p.mean(axis=1)])[:, known]
        order = known[np.lexsort((known, -np.nan_to_num(score[1], nan=-2.0), -np.nan_to_num(score[0], nan=-2.0)))]
        return [list(self.place(i).values()) for i in order[: 2 * EXAMPLES]]

    def listing(self) -> dict[str, Any]:
        """All images as columns, sorted by concept: enough to filter and sort them without the concepts' parts."""
        study, rows = self._study, self._rows
        names = np.array(study.relpaths, object)[rows]
        return {
            "concept": study.concept[rows].tolist(), "model": study.model[rows].tolist(),
            "file": [n.removeprefix(f"{study.concepts[c]}/") for n, c in zip(names, study.concept[rows], strict=True)],
            "similarity": numbers(study.similarity[rows]), "vr": numbers(self._vr[rows]),
            "recognised": [self._is_recognised(i) for i in rows],
            "misattributed": np.flatnonzero(self._misattributed[rows]).tolist(),
            "unusable": np.flatnonzero(~study.ok[rows]).tolist(),
        }  # fmt: skip

    def concept(self, c: int, titles: Mapping[str, str]) -> dict[str, Any]:
        """References and images of a concept, without their patches."""
        study, name = self._study, self._study.concepts[c]
        own = self._by_concept.get(name, [])
        place = {r.ref_id: i for i, r in enumerate(own)}
        shas = study.table.column("gen_sha256")
        reasons, names = study.table.column("reason"), study.table.column("gen_relpath")
        return {
            "concept": name, **titles,
            "references": [
                {"file": r.ref_id.split("/", 1)[1], "kept": r.kept, "dup_of": place.get(r.dup_of or ""),
                 "distance": r.dup_distance, "thumb": self._thumb(r.sha256), "problem": self._failed.get(r.sha256),
                 "seen": self._seen(r.width, r.height)}
                for r in own
            ],
            "images": [
                {"model": int(study.model[i]), "file": names[i].as_py(), "thumb": self._thumb(shas[i].as_py()),
                 "problem": reasons[i].as_py() or self._failed.get(shas[i].as_py() or ""), "ok": bool(study.ok[i]),
                 "recognised": self._is_recognised(i), "similarity": number(study.similarity[i]),
                 "vr": number(self._vr[i]), "misattributed": bool(self._misattributed[i]),
                 **({} if self._labels is None else {"said": self._labels.said(int(i))})}
                for i in self.of(c)
            ],
        }  # fmt: skip

    def evidence(self, c: int) -> Iterator[list[dict[str, Any]]]:
        """Patches of a concept's images, a few hundred images at a time, in the order of the concept's part."""
        name = self._study.concepts[c]
        place = {r.ref_id: i for i, r in enumerate(self._by_concept.get(name, []))}
        mine = self.of(c)
        for start in range(0, len(mine), EVIDENCE):
            rows = mine[start : start + EVIDENCE]
            table = self._study.table.take(rows).to_pylist()
            yield [self._patches(i, row, place) for i, row in zip(rows, table, strict=True)]

    def _patches(self, i: int, row: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, Any]:
        null = self._null
        found = {
            "prompt": row["prompt"], "seed": row["seed"], "match": place.get(row["cra_ref_id"]),
            "other": self._other(row), "tau": {m: number(tau[i]) for m, tau in self._tau.items()},
        }  # fmt: skip
        if row["p"] is None:
            return found
        generic = (null.p_reached[i] > GENERIC_SHARE).tolist() if null is not None and null.draws[i] else None
        return found | {
            "seen": self._seen(row["width"], row["height"]),
            "p": numbers(row["p"]), "ref": [place.get(r) for r in row["p_ref_id"]], "cell": row["p_ref_cell"],
            "reused": None if np.isnan(self._reused[i]).any() else (self._reused[i] == 1.0).tolist(),
            "generic": generic,
        }  # fmt: skip

    def _seen(self, width: int | None, height: int | None) -> list[float | None] | None:
        """Shares (across, down) of each cell that the patch encoder looks at; None where it looks at all of it."""
        if width is None or height is None:
            return None
        rows, cols = self._study.settings["grid"]
        shares = seen(self._preprocess, max(1, width // cols), max(1, height // rows))
        return None if shares is None or min(shares) == 1.0 else numbers(shares)

    def _is_recognised(self, i: int) -> bool | None:
        return bool(self._recognised[i]) if self._has_cra[i] else None

    def _other(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Best other concept of an image, where scope all compared it."""
        if row["other_ref_id"] not in self._references:
            return None
        first = row["own_rank"] not in (None, 1)
        return self.reference(row["other_ref_id"]) | {"similarity": number(row["other_sim"]), "first": first}

    def _thumb(self, sha256: str | None) -> str | None:
        return thumbnail_key(sha256, self._pixels) if sha256 and sha256 not in self._failed else None


def number(value: Any) -> float | None:
    """A number as JSON has it; None where it is not defined."""
    return None if value is None or np.isnan(value) else round(float(value), 6)


def numbers(values: Any) -> list[float | None]:
    """Numbers as JSON has them."""
    return [number(v) for v in values]
