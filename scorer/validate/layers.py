"""A ladder through the product's own path: index, score, calibrate. Afterwards nothing is embedded again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from iconicity.indexer.build import build_index
from iconicity.indexer.cached import cache_keys
from iconicity.indexer.encode.encoder import Encoders, family, load_encoders, options_of
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import IndexOptions, Run
from iconicity.indexer.progress import Progress
from iconicity.indexer.spec import FloatArray
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.index import Index, open_index
from iconicity.scorer.measure.calibrate.calibrate import apply_calibration, calibrate
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.measure.image_null import ImageNull, require_null
from iconicity.scorer.measure.metrics import DEFAULT_TAU_VR, Float32, Float64, Ints, share_reaching
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.values import AT_CALIBRATED, Inputs
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.scoring import score
from iconicity.scorer.validate.ladder import Ladder
from iconicity.scorer.validate.options import LadderOptions
from iconicity.scorer.validate.rungs import GRID

LAYERS = {
    "crop": "16 crops", "overlapping": "16 crops against the 49 of the reference at half steps", "token": "tokens of one pass", "whole": "the whole image, mean of tokens",
    "class": "the whole image, class token",
}  # fmt: skip
_BLAND = "B"  # adversaries would fill the null in a share that no real study has; they are compared with it afterwards
_COLUMNS = ("gen_path", "p_ref_id", "p_ref_cell")


@dataclass(frozen=True)
class Calibrated:
    """A calibration of a layer, and the null of its images, row for row as the truth."""

    calibration: Calibration
    null: ImageNull

    def tau(self, metric: str) -> float:
        """Threshold at J = 1; nan where there is none."""
        return self.calibration.taus(metric).get(1, float("nan"))

    def strict(self, p: Float32) -> Float64:
        """VR strict (n,) of patches whose similarities are ``p`` (n, K); nan without a threshold."""
        parts = [(values, np.full(len(p), self.tau(metric))) for values, metric in self.null.strict(p)]
        known = not np.isnan([tau[0] for _, tau in parts]).any()
        return share_reaching(*parts) if known else np.full(len(p), np.nan)


@dataclass(frozen=True)
class Layer:
    """A ladder seen by one way of embedding. Arrays follow the truth's n rows; K cells, 1 for a whole image."""

    name: str
    index: Index
    p: Float32  # (n, K) best similarity to the own reference
    cell: Ints  # (n, K) the reference's cell that gave it
    similarity: Float64  # (n,) CLIP's to the own reference; nan where not scored
    shas: Sequence[str]
    study: Study
    plain: Calibrated | None = None  # None for whole images
    whitened: Calibrated | None = None  # None where the pool's cells could not be whitened, too

    def tau(self, metric: str = "vr") -> float:
        """Calibrated threshold at J = 1; nan where there is none."""
        return float("nan") if self.plain is None else self.plain.tau(metric)

    def inputs(self) -> Inputs:
        """What measures of its images are computed from, at the calibrated thresholds of one reference."""
        n = len(self.p)
        arrays: dict[str, Any] = {
            "similarity": self.similarity, "p": self.p, "tau_cra": np.full(n, self.tau("cra")),
            "tau_vr": np.full(n, self.tau()), "cell": self.cell.astype(np.float64), "grid": (*GRID, self.index.overlapping),
        }  # fmt: skip
        return Inputs(AT_CALIBRATED, np.ones(n, bool), arrays)

    def patches(self, cache: VectorCache) -> FloatArray:
        """Vectors of all cells (n, K, D')."""
        size = self.p.shape[1] * self.index.specs[1].dim
        found = cache.get(sorted(set(self.shas)), cache_keys(self.index)[1], size)
        return np.stack([found[s] for s in self.shas]).reshape(*self.p.shape, -1)


Loaders = Mapping[str, Callable[[], Encoders]]


def loaders(options: EncoderOptions, device: str = "auto") -> Loaders:
    """How to load the encoders of each layer; tokens and the class token alone where the patch encoder has them.

    Whole images are seen by the last layer, by its mean of tokens and its class token: they are what VR is compared with.
    """
    _, patches = options.names()
    own = {"crop": options}
    if "pool" in options_of(family(patches.family)):
        last = patches.but(pool=None, layer=None)
        own["token"] = replace(options, patch_mode="token", patch_encoder=str(patches.but(pool=None)))
        own["class"] = replace(options, patch_encoder=str(last.but(pool="cls")))
        own |= {} if patches == last else {"whole": replace(options, patch_encoder=str(last))}
    return {name: (lambda o=o: load_encoders(o, device)) for name, o in own.items()}  # type: ignore[misc]


def measure(
    ladder: Ladder,
    load: Loaders,
    cache: VectorCache,
    options: LadderOptions = LadderOptions(),
    *,
    run: Run = Run(),
) -> dict[str, Layer]:
    """Embed and score a ladder by every one of the embeddings, crop among them, and calibrate those that have cells.

    Raises :class:`InputError`.

    Half A of a calibration is the ladder's choosing half, half B its reporting one.
    """
    names, progress = tuple(LAYERS) if options.embeddings is None else options.embeddings, run.progress
    if not set(names) <= LAYERS.keys() or "crop" not in names:
        raise InputError(f"`embeddings` {','.join(names)}: some of {', '.join(LAYERS)}, and crop among them")
    out: dict[str, Layer] = {}
    shutil.rmtree(ladder.out / "results", ignore_errors=True)  # rows are cheap: vectors are in the cache
    for name in (n for n in LAYERS if n in names):
        source = "crop" if name not in load and name in ("whole", "overlapping") else name
        if source not in load:
            continue
        try:
            encoders = load[source]()
        except InputError:
            if name != "class":  # an encoder without a class token has no such layer
                raise
            continue
        grid = GRID if name in ("crop", "overlapping", "token") else (1, 1)
        path = ladder.out / f"index-{name}"
        cells = "overlapping" if name == "overlapping" else "grid"
        own = replace(run, cache=cache, load=lambda *_, e=encoders: e)
        build_index(ladder.out / "refs", path, encoders, IndexOptions(grid, cells), prune=True, run=own)
        index = open_index(path)
        results = []
        for part in ("main", "bland"):
            rungs = {r: p for r, p in ladder.rungs().items() if (r == _BLAND) == (part == "bland")}
            if not rungs:
                continue
            results.append(ladder.out / "results" / name / part)
            metrics = ("cra", "vr") if name == "crop" else ("vr",)
            scoring = ScoreOptions(metrics, tau_vr=DEFAULT_TAU_VR)
            score(index, rungs, results[-1], scoring, writing=Writing(prune=True), run=own)
        fitted = CalibrationOptions(options.alpha, options.seed, pool=len(ladder.halves), related=options.artists or {})
        out[name] = _layer(name, ladder, index, results)
        if grid == GRID:  # whitened first: the plain calibration is what stays beside the results
            whitened, plain = (
                _calibrated(ladder, index, cache, results, replace(fitted, whiten=white), progress)
                for white in (True, False)
            )
            out[name] = replace(out[name], plain=plain, whitened=whitened if whitened.calibration.whitened else None)
    return out


def _calibrated(
    ladder: Ladder, index: Index, cache: VectorCache, results: Sequence[Path], options: CalibrationOptions,
    progress: Progress,
) -> Calibrated:  # fmt: skip
    """Calibrate a layer's results, the bland images apart, and read the null of all of them."""
    found = calibrate(open_study(results[0]), index, cache, options, progress)
    found.write(results[0] / "calibration.json")
    for bland in results[1:]:
        apply_calibration(open_study(bland), index, cache, found, progress=progress)
    study = open_study(list(results), _COLUMNS)
    null, at = require_null(study), _rows(ladder, study, results[0])
    taken = {f.name: getattr(null, f.name)[at] for f in fields(null) if isinstance(getattr(null, f.name), np.ndarray)}
    return Calibrated(found, replace(null, table=null.table.take(pa.array(at)), **taken))


def _rows(ladder: Ladder, study: Study, results: Path) -> Ints:
    """Rows of the study that the rows of the truth are."""
    rung = np.array(study.models, object)[study.model]
    keys = pd.MultiIndex.from_arrays([rung, study.relpaths])
    at = keys.get_indexer(pd.MultiIndex.from_frame(ladder.truth[["rung", "gen_relpath"]]))
    if (at < 0).any() or not study.ok[at].all():
        raise InputError(f"{results}: lacks images of the ladder; remove {ladder.out} and run again")
    return np.asarray(at, np.int64)


def _layer(name: str, ladder: Ladder, index: Index, results: Sequence[Path]) -> Layer:
    study = open_study(list(results), _COLUMNS)
    at = _rows(ladder, study, results[0])
    cells = study.table.column("p_ref_cell").combine_chunks().flatten().to_numpy().reshape(study.p.shape)
    shas = study.table.column("gen_sha256").take(pa.array(at)).to_pylist()
    similarity = study.similarity[at].astype(np.float64)
    return Layer(name, index, study.p[at], cells[at].astype(np.int64), similarity, shas, study)
