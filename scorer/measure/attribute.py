"""Attribution over all concepts: is an image's own concept the nearest, and which other one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import SettingsError, typed
from iconicity.indexer.null.same_work import same_works
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.finding import EXACT, Finding, exact_words, interval_columns
from iconicity.scorer.measure.image_null import ImageNull, image_null
from iconicity.scorer.measure.intervals import DRAWS, LEVEL, benjamini_hochberg, interval
from iconicity.scorer.measure.metrics import Float64, passes
from iconicity.scorer.measure.patches import FEW_DRAWS
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.universe import TIE

COLUMNS = ("other_sim", "other_ref_id", "own_rank")  # of the scores, that a study needs here
SHARES = ("own", "same_work", "other", "unprompted", "margin")


def attribute(
    study: Study, index: Index, calibration: Calibration | None = None, *, draws: int = DRAWS, seed: int = 0,
    level: float = LEVEL,
) -> Finding:  # fmt: skip
    """Tables ``models``, ``concepts``, ``confusion`` and ``images`` of results made with scope ``all``.

    An image is attributed to the concept of its nearest reference: ``own``, ``same_work`` (another name of the own
    work: the two share a picture) or ``other``. ``unprompted`` is an ``other`` at or above the CRA threshold that decides: something
    famous is recognised that the prompt did not name; with a ``calibration`` at its threshold of the own concept. ``margin`` is the similarity to the own concept minus that to the best
    other one. p: share of unrelated concepts, with as many references as the own one, that are as similar; q adjusts
    it over all images. Shares of models are means over concepts. ``study`` needs :data:`COLUMNS`.
    Raises :class:`SettingsError` for results of scope ``concept``, or of another index.
    """
    for source in study.sources:
        if source.settings["scope"] != "all":
            raise SettingsError(
                f"{source.path}: compared with the own concept alone; score with `scope` all into a folder of its own"
            )
    study.require_index(index)
    study = study.with_calibration(calibration)
    said: list[str] = []
    tau = decide(study).tau_cra
    if calibration is not None:
        said = calibration.notes_for(study)
        tau = calibration.tau(study, "cra")[study.concept]
    null = image_null(study)
    images = _images(study, index, null, tau)
    notes = [*study.notes, *said]
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
    models = _models(concepts, {"draws": draws, "seed": seed, "level": level})
    notes += exact_words(models)
    scalars = {
        f"{r['model']}/{k}": v
        for r in models.to_dict("records")
        for k, v in r.items()
        if k != "model" and not str(k).endswith(EXACT)
    }
    facts = study.facts() | {"draws": draws, "seed": seed, "level": level}
    facts |= {} if calibration is None else calibration.facts()
    return Finding(
        {"models": models, "concepts": concepts, "confusion": confusion, "images": images}, notes, facts, scalars
    )


def _images(study: Study, index: Index, null: ImageNull | None, tau: Float64) -> pd.DataFrame:
    """A row an image; ``attribution`` is empty where nothing was compared."""
    n = len(study.model)
    other_sim = study.table.column("other_sim").to_numpy().astype(np.float32)
    ids = study.table.column("other_ref_id").to_pylist()
    other = np.array([None if i is None else i.split("/", 1)[0] for i in ids], object)
    concept = np.array(study.concepts, object)[study.concept]
    rank = study.table.column("own_rank").to_numpy(zero_copy_only=False).astype(np.float64)
    own = study.similarity
    pairs = same_works(index, {*study.concepts, *(o for o in other if o is not None)} & index.concepts().keys())
    same = np.array([o is not None and tuple(sorted((c, o))) in pairs for c, o in zip(concept, other, strict=True)])
    compared = study.ok & (~np.isnan(own) | ~np.isnan(other_sim))
    first = (rank == 1) | (np.isnan(other_sim) & ~np.isnan(own))
    attribution = np.where(first, "own", np.where(same, "same_work", "other"))
    p: Float64 = np.full(n, np.nan) if null is None else np.where(compared, null.p_values(), np.nan)
    return pd.DataFrame(
        {
            "model": np.array(study.models, object)[study.model], "concept": concept, "gen_relpath": study.relpaths,
            "attribution": np.where(compared, attribution, ""), "attributed_to": np.where(first, concept, other),
            "own_rank": pd.array(rank).astype("Int64"), "cra_sim": own, "other_sim": other_sim, "other_concept": other,
            "other_ref_id": ids, "margin": own.astype(np.float64) - other_sim, "p": p, "q": benjamini_hochberg(p),
            "unprompted": compared & ~first & ~same & passes(other_sim, tau), "same_work": same & compared,
            "tie": compared & (np.abs(own.astype(np.float64) - other_sim) <= TIE),
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
