"""The whole validation of an encoder on a folder of references: ladder, measurement, tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.options import Run
from iconicity.indexer.progress import Progress
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import thresholds_finding
from iconicity.scorer.measure.finding import Finding, write_finding
from iconicity.scorer.measure.measures import MEAN
from iconicity.scorer.measure.measures import STRICT as STRICT_VR
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.measure.study import FEW
from iconicity.scorer.text import encoders_line
from iconicity.scorer.validate.claims import Claim, claims
from iconicity.scorer.validate.evaluate import (
    BASE,
    PUBLISHED,
    Half,
    Rule,
    cell_table,
    copy_table,
    decisions,
    defined,
    difference_table,
    embedded_scores,
    half,
    method_table,
    rung_table,
)
from iconicity.scorer.validate.improve import improvement_table
from iconicity.scorer.validate.ladder import Ladder, write_ladder
from iconicity.scorer.validate.layers import Layer, Loaders, loaders, measure
from iconicity.scorer.validate.methods import PIXELS, PairMethod, View, available
from iconicity.scorer.validate.options import LadderOptions
from iconicity.scorer.validate.untrained import untrained

SHOWN = (
    "vr_0.60",
    "vr",
    STRICT_VR.key,
    "vr_whitened_strict",
    "vr_overlapping",
    "vr_overlapping_strict",
    "vr_overlapping_whitened_strict",
    MEAN.key,
    "vr_token",
    "clip",
)  # methods of the table of rungs


STRICT = ("vr_whitened", "vr_csls")  # metrics that whitening changes


@dataclass(frozen=True)
class Validation:
    """Tables of one encoder, what they rest on, and what a page needs to show images."""

    finding: Finding
    claims: list[Claim]
    ladder: Ladder
    layer: Layer
    reporting: Half
    rules: Mapping[str, Rule]
    plumbing: bool  # True: the patch encoder's weights look random


def validate(
    refs: Path,
    out: Path,
    encoders: EncoderOptions,
    cache: VectorCache,
    options: LadderOptions = LadderOptions(),
    *,
    networks: Mapping[str, PairMethod] | None = None,
    load: Loaders | None = None,
    run: Run = Run(),
) -> Validation:
    """Make a ladder of ``refs`` in ``out``, score it with ``encoders``, and write its tables there.

    ``networks``: further methods of image pairs by name. ``load`` replaces how encoders are loaded. A second run
    embeds nothing. Raises :class:`InputError`, :class:`ModelUnavailableError`.
    """
    load = {name: lru_cache(maxsize=1)(f) for name, f in (load or loaders(encoders, run.device)).items()}
    loaded = load["crop"]()
    specs = {n: getattr(loaded, n).spec for n in ("clip", "dino")}
    ladder = write_ladder(refs, out, options, facts={n: s.fingerprint for n, s in specs.items()}, progress=run.progress)
    layers = measure(ladder, load, cache, options, run=run)
    seed, draws = options.seed, options.draws
    crop = layers["crop"]
    own = _own_cells(crop, ladder)
    view = View(layers, crop.patches(cache), np.stack([own[c] for c in ladder.truth.concept]))
    pixels = {n: m for n, m in PIXELS.items() if available(n)} | dict(networks or {})
    scores = embedded_scores(view) | _pixel_scores(pixels, ladder, crop, cache, run.progress)
    reporting = half(ladder, "B")
    rules = decisions(layers)
    cells = cell_table(rules, reporting, draws, seed)
    tables = {
        "methods": method_table(scores, reporting, draws, seed),
        "copies": copy_table(scores, reporting, draws, seed),
        "cells": cells,
        "rungs": rung_table({n: s for n, s in defined(scores).items() if n in SHOWN}, reporting, draws, seed),
        "differences": difference_table(scores, reporting, draws, seed),
        "thresholds": _thresholds(layers),
    }
    if BASE in rules:
        calibrated = {r: rule for r, rule in rules.items() if r != PUBLISHED}
        tables["improvements"] = improvement_table(calibrated, half(ladder, "A"), reporting, draws, seed)
    demands = claims(cells)
    random = {n for n in ("clip", "dino") if untrained(getattr(loaded, n))}
    notes = _notes(ladder, layers, scores, pixels, random, loaded)
    facts = {
        "references": str(refs), "concepts": len(ladder.halves), "images": len(ladder.truth), "donors": len(ladder.donors),
        "seed": seed, "alpha": options.alpha, "index_id": crop.index.index_id, "tau_vr": crop.tau(), "tau_cra": crop.tau("cra"),
        **{f"encoder_{n}": s.label for n, s in specs.items()}, **{f"weights_{n}": s.weights_sha256 for n, s in specs.items()},
    }  # fmt: skip
    finding = Finding(tables, notes, facts, {f"claim/{c.rule}/{c.claim}": c.value for c in demands})
    for name in tables:
        write_finding(finding, out / f"{name}.csv", name)
    return Validation(finding, demands, ladder, crop, reporting, rules, "dino" in random)


def _own_cells(layer: Layer, ladder: Ladder) -> dict[str, Any]:
    """Concept -> (16, D') vectors of its reference."""
    block = layer.index.block(sorted(ladder.halves))
    return {r.concept: np.asarray(p, np.float32) for r, p in zip(block.references, block.patches, strict=True)}


def _pixel_scores(
    methods: Mapping[str, PairMethod], ladder: Ladder, layer: Layer, cache: VectorCache, progress: Progress
) -> dict[str, Float64]:
    """Methods of image pairs on every image; kept in the cache by the bytes of both."""
    references = {r.concept: r for r in layer.index.references().values() if r.kept}
    pictures: dict[str, Image.Image] = {}  # of references, once one is needed
    out = {name: np.full(len(ladder.truth), np.nan) for name in methods}

    for i, row in enumerate(ladder.truth.itertuples()):
        reference = references[str(row.concept)]
        picture = None
        for name, method in methods.items():
            key = f"pair|{name}|{method.version}|{reference.sha256}"
            held = cache.get([layer.shas[i]], key, 1)
            if layer.shas[i] not in held:
                path = ladder.out / "gen" / str(row.rung) / str(row.gen_relpath)
                picture = picture or _open(path)
                if reference.concept not in pictures:
                    pictures[reference.concept] = _open(reference.path)
                value = np.array([method.measure(picture, pictures[reference.concept])], np.float32)
                cache.put([(layer.shas[i], key, value)])
                held = {layer.shas[i]: value}
            out[name][i] = float(held[layer.shas[i]][0])
        progress("image pairs", i + 1, len(ladder.truth))
    return out


def _open(path: Path | str) -> Image.Image:
    return shared().decode(read_bytes(path), path).image


def _thresholds(layers: Mapping[str, Layer]) -> pd.DataFrame:
    frames = []
    for name, layer in layers.items():
        for how, calibrated in (("", layer.plain), ("whitened ", layer.whitened)):
            if calibrated is not None:
                frame = thresholds_finding(calibrated.calibration).table()
                kept = (frame.references == 1) & (how == "" or frame.metric.isin(STRICT))
                frames.append(frame[kept].assign(patch_mode=f"{how}{name}"))
    return pd.concat(frames, ignore_index=True)


def _notes(
    ladder: Ladder,
    layers: Mapping[str, Layer],
    scores: Mapping[str, Float64],
    pixels: Mapping[str, PairMethod],
    random: set[str],
    encoders: Encoders,
) -> list[str]:
    notes = []
    both = encoders.clip.spec.fingerprint == layers.get("whole", layers["crop"]).index.specs[1].fingerprint
    if "dino" in random:
        notes.append("the patch encoder's weights look random: ONLY PLUMBING IS SHOWN, no figure says what VR is worth")
    if "clip" in random and not both:
        notes.append("CLIP's weights look random: of clip and crt only plumbing is shown")
    notes.append(encoders_line([encoders.clip.spec.label, encoders.dino.spec.label]))
    counts = {h: sum(v == h for v in ladder.halves.values()) for h in "AB"}
    notes.append(
        f"{counted(len(ladder.truth), 'image')} of {counted(len(ladder.halves), 'concept')}; thresholds and variants were chosen on {counts['A']}, "
        f"all figures are of the other {counts['B']}; {counted(len(ladder.donors), 'donor')}"
    )
    if min(counts.values()) < FEW:
        notes.append(f"indicative: fewer than {FEW} concepts in a half")
    if both:
        notes.append("one encoder gives both vectors: clip and dino_mean are the same")
    if np.isnan(layers["crop"].tau()):
        notes.append(
            "no calibrated threshold: too few pairs of concepts; give 24 concepts or more, or a higher `alpha`"
        )
    lacking = [n for n in PIXELS if n not in pixels]
    if lacking:
        notes.append(f"not run: {', '.join(lacking)} (pip install 'iconicity[validate]')")
    weights = [n for n in ("sscd", "lpips", "dreamsim") if n not in pixels]
    if weights:
        notes.append(f"not run, no weights given: {', '.join(weights)}")
    undefined = sorted(n for n, s in scores.items() if np.isnan(s).any())
    if undefined:
        notes.append(f"without a value here: {', '.join(undefined)}")
    return notes
