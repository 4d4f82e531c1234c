"""Attribution over all concepts: is an image's own concept the nearest, which other one is, and what surfaces unprompted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from iconicity.indexer.errors import SettingsError, typed
from iconicity.indexer.null.same_work import Pair, same_works
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.decision import thresholds
from iconicity.scorer.measure.finding import EXACT, Finding, exact_words, interval_columns
from iconicity.scorer.measure.image_null import ImageNull, image_null
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, benjamini_hochberg, interval
from iconicity.scorer.measure.metrics import Bools, Float32, Float64, passes
from iconicity.scorer.measure.patches import FEW_DRAWS
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.surfaced import surfaced_notes, surfaced_references
from iconicity.scorer.measure.universe import TIE

COLUMNS = ("other_sim", "other_ref_id", "own_rank", "prompt")  # of the scores, that a study needs here
_ENDS = ("_low", "_high", EXACT)
SHARES = ("own", "same_work", "other", "unprompted", "margin")


def attribute(
    study: Study, index: Index, calibration: Calibration | None = None, *, draws: int = DRAWS, seed: int = 0,
    level: float = LEVEL,
) -> Finding:  # fmt: skip
    """Tables ``models``, ``concepts``, ``confusion``, ``images`` and ``references`` of results made with scope ``all``.

    An image is attributed to the concept of its nearest reference: ``own``, ``same_work`` (another name of the own
    work: the two share a picture) or ``other``. ``unprompted`` is an ``other`` at or above the CRA threshold that decides
    for its number of references, of a ``calibration`` where one is given: something famous is recognised that the prompt
    did not name. ``references`` lists what surfaced so (:func:`.surfaced.surfaced_references`). ``margin`` is the
    similarity to the own concept minus that to the best other one. p: share of unrelated concepts, with as many references
    as the own one, that are as similar; q adjusts it over all images. Shares of models are means over concepts. An image
    whose concept has no references has neither. ``study`` needs :data:`COLUMNS`. Raises :class:`SettingsError` for results
    of scope ``concept``, or of another index.
    """
    for source in study.sources:
        if source.settings["scope"] != "all":
            raise SettingsError(
                f"{source.path}: compared with the own concept alone; score with `scope` all into a folder of its own"
            )
    study.require_index(index)
    study = study.with_calibration(calibration)
    said = [] if calibration is None else calibration.notes_for(study)
    null = image_null(study)
    options: dict[str, Any] = {"draws": draws, "seed": seed, "level": level}
    others = _others(study, index, calibration)
    images = _images(study, others, null)
    references = surfaced_references(
        images, study.table.column("prompt").to_pylist(), others.tau, others.same_works, **options
    )
    basis = study.deciding.get("cra")
    alpha = calibration.alpha if calibration is not None else basis.alpha if basis is not None else 0.0
    undecided = int(((images.attribution == "other") & np.isnan(others.tau)).sum())
    notes = [*surfaced_notes(references, undecided, alpha, others.concepts), *study.notes, *said]
    frame = images[images.attribution != ""]
    if null is None:
        notes.append(
            f"no p: what chance looks like is not known; run 'iconicity calibrate {typed(study.sources[0].path)}' first"
        )
    else:
        few = int(((null.draws > 0) & (null.draws < FEW_DRAWS) & study.ok).sum())
        if few:
            notes.append(f"indicative: p of {counted(few, 'image')} rests on fewer than {FEW_DRAWS} draws")
    twins = frame[frame.same_work]
    if len(twins):
        pairs = sorted({tuple(sorted(p)) for p in zip(twins.concept, twins.other_concept, strict=True)})
        shown = "; ".join(f"{a} = {b}" for a, b in pairs[:5]) + ("; ..." if len(pairs) > 5 else "")
        notes.append(f"the same work under two names: {shown}; counted as same_work, not as another concept")
    if ties := int(frame.tie.sum()):
        near = "as near to another concept as to"
        notes.append(counted(ties, f"image is {near} its own", f"images are {near} their own"))
    confusion = (
        frame.groupby(["concept", "attributed_to"], observed=True)
        .agg(images=("model", "size"), models=("model", "nunique"), same_work=("attribution", lambda a: (a == "same_work").any()))
        .reset_index()
        .sort_values(["concept", "images", "attributed_to"], ascending=[True, False, True])
        .reset_index(drop=True)
    )  # fmt: skip
    concepts = _concepts(frame)
    models = _models(concepts, options)
    notes += exact_words(models) + exact_words(references, "prompts")
    scalars = {
        f"{r['model']}/{k}": v
        for r in models.to_dict("records")
        for k, v in r.items()
        if k != "model" and not str(k).endswith(EXACT)
    }
    facts = study.facts() | options
    facts |= {} if calibration is None else calibration.facts()
    tables = {
        "models": models,
        "concepts": concepts,
        "confusion": confusion,
        "images": images,
        "references": references,
    }
    columns = {name: [str(c) for c in table if not str(c).endswith(_ENDS)] for name, table in tables.items()}
    return Finding(tables, notes, facts, scalars, columns, undefined="")


@dataclass(frozen=True)
class _Others:
    """The nearest other concept of each of n images: what is known of it."""

    sim: Float32  # (n,) nan where there is none
    ref_ids: Sequence[str | None]
    concept: npt.NDArray[np.object_]  # (n,) None where there is none
    tau: Float64  # (n,) the threshold that decides for its number of references
    same: Bools  # (n,) it is the own work
    same_works: set[Pair]
    concepts: int  # that images are compared with


def _others(study: Study, index: Index, calibration: Calibration | None) -> _Others:
    ids = study.table.column("other_ref_id").to_pylist()
    other = np.array([None if i is None else i.split("/", 1)[0] for i in ids], object)
    counts = {concept: n.kept for concept, n in index.concepts().items()}
    number = np.array([counts.get(o, 0) for o in other], np.int64)
    if study.mode == "static":
        number = np.minimum(number, 1)
    tau = thresholds(study, "cra", number) if calibration is None else calibration.each("cra", number)
    pairs = same_works(index, {*study.concepts, *(o for o in other if o is not None)} & counts.keys())
    own = np.array(study.concepts, object)[study.concept]
    same = np.array([o is not None and tuple(sorted((c, o))) in pairs for c, o in zip(own, other, strict=True)])
    sim = study.table.column("other_sim").to_numpy().astype(np.float32)
    return _Others(sim, ids, other, tau, same, pairs, sum(map(bool, counts.values())))


def _images(study: Study, others: _Others, null: ImageNull | None) -> pd.DataFrame:
    """A row an image; ``attribution`` is empty where nothing was compared."""
    concept = np.array(study.concepts, object)[study.concept]
    rank = study.table.column("own_rank").to_numpy(zero_copy_only=False).astype(np.float64)
    own, sim = study.similarity, others.sim
    compared = study.ok & (~np.isnan(own) | ~np.isnan(sim))
    first = (rank == 1) | (np.isnan(sim) & ~np.isnan(own))
    attribution = np.where(first, "own", np.where(others.same, "same_work", "other"))
    p: Float64 = np.full(len(own), np.nan) if null is None else np.where(compared, null.p_values(), np.nan)
    return pd.DataFrame(
        {
            "model": np.array(study.models, object)[study.model], "concept": concept, "gen_relpath": study.relpaths,
            "attribution": np.where(compared, attribution, ""), "attributed_to": np.where(first, concept, others.concept),
            "own_rank": pd.array(rank).astype("Int64"), "cra_sim": own, "other_sim": sim, "other_concept": others.concept,
            "other_ref_id": others.ref_ids, "margin": own.astype(np.float64) - sim, "p": p, "q": benjamini_hochberg(p),
            "unprompted": compared & ~first & ~others.same & passes(sim, others.tau),
            "same_work": others.same & compared, "tie": compared & (np.abs(own.astype(np.float64) - sim) <= TIE),
        }
    )  # fmt: skip


def _concepts(frame: pd.DataFrame) -> pd.DataFrame:
    flags = frame.assign(**{name: frame.attribution == name for name in ("own", "same_work", "other")})
    groups = flags.groupby(["model", "concept"], observed=True)
    out = groups.agg(
        images=("own", "size"), own=("own", "mean"), same_work=("same_work", "mean"), other=("other", "mean"),
        unprompted=("unprompted", "mean"), margin=("margin", "mean"), median_rank=("own_rank", "median"), best_p=("p", "min"),
    )  # fmt: skip
    elsewhere = flags[~flags.own]
    count = elsewhere.groupby(["model", "concept", "attributed_to"], observed=True).size().rename("n").reset_index()
    count = count.sort_values(["model", "concept", "n", "attributed_to"], ascending=[True, True, False, True])
    top = count.drop_duplicates(["model", "concept"]).set_index(["model", "concept"]).attributed_to
    return out.join(top.rename("most_often")).reset_index()


def _models(concepts: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for model, mine in concepts.groupby("model", observed=True):
        row: dict[str, Any] = {"model": model, "images": int(mine.images.sum()), "concepts": len(mine)}
        for name in SHARES:
            signed = name == "margin"
            bounds = (-2.0, 2.0) if signed else (0.0, 1.0)
            found = interval(mine[[name]].to_numpy(np.float64), bounds=bounds, symmetric=signed, **options)
            row |= {column: each[0] for column, each in interval_columns(name, found).items()}
        rows.append(row)
    return pd.DataFrame(rows)
