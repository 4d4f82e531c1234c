"""A simulation that judges the statistics: synthetic studies whose truth is known, and how often we are right about it.

Nothing is re-implemented here: intervals, thresholds and p come from the functions that users' numbers come from.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from iconicity.indexer.null.design import Design
from iconicity.indexer.null.pool import Pool
from iconicity.scorer.measure.calibrate.thresholds import ConceptCounts, Thresholds
from iconicity.scorer.measure.intervals import holm, interval, label_permutation_p, sign_flip_p
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.results import SCHEMA, writing_scores

CONCEPTS = (10, 30, 100, 767)
RATES = (0.05, 0.5, 0.95)
SPREADS = (1.0, 2.0, 8.0)  # Beta concentration of concepts' rates: 1 all or nothing, 8 rather alike
IMAGES = 50
PATCHES = 16
REUSE = 0.3  # mean share of reused patches
STUDIES = 2000
DRAWS = 2000


def coverage(
    concepts: Sequence[int] = CONCEPTS,
    rates: Sequence[float] = RATES,
    spreads: Sequence[float] = SPREADS,
    studies: int = STUDIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of 95 % intervals that hold the truth: CRA, VR of recognised images, CRT, and a paired CRA difference.

    A concept's rate of recognition is Beta with the given mean and concentration, that of reuse Beta with mean 0.3;
    its 50 images, and their 16 patches, are binomial. The truth is the mean over all concepts there could be.
    """
    rows: list[dict[str, Any]] = []
    for n in concepts:
        for rate in rates:
            for spread in spreads:
                rng = np.random.default_rng([seed, n, round(100 * rate), round(10 * spread)])
                one, two = (_study(rng, n, studies, rate, spread) for _ in range(2))
                measures = {
                    "cra": (one["cra"], (0.0, 1.0), rate),
                    "vr_recognised": (one["vr_recognised"], (0.0, 1.0), REUSE),
                    "crt": (one["crt"], (0.0, 1.0), rate * (1.0 - REUSE)),
                    "difference": (one["cra"] - two["cra"], (-1.0, 1.0), 0.0),
                }
                row: dict[str, Any] = {"concepts": n, "rate": rate, "spread": spread, "studies": studies}
                for name, (values, bounds, truth) in measures.items():
                    found = interval(values, bounds=bounds, symmetric=name == "difference", draws=draws)
                    known = ~np.isnan(found.low)
                    holds = (found.low <= truth) & (truth <= found.high)
                    row[name] = float(holds[known].mean()) if known.any() else float("nan")
                    row[f"{name}_width"] = float(np.median(found.high[known] - found.low[known]))
                rows.append(row)
    return pd.DataFrame(rows)


def _study(rng: np.random.Generator, n: int, studies: int, rate: float, spread: float) -> dict[str, Float64]:
    """Values of n concepts in each of many studies: (n, studies)."""
    theta = rng.beta(rate * spread, (1.0 - rate) * spread, (n, studies))
    rho = rng.beta(2.0 * REUSE, 2.0 * (1.0 - REUSE), (n, studies))
    recognised = rng.binomial(IMAGES, theta)
    reused = rng.binomial(recognised * PATCHES, rho)
    with np.errstate(invalid="ignore", divide="ignore"):
        vr = reused / (recognised * PATCHES)  # nan where nothing is recognised
    cra = recognised / IMAGES
    return {"cra": cra, "vr_recognised": vr, "crt": np.where(recognised == 0, 0.0, cra * (1.0 - np.nan_to_num(vr)))}


def false_positives(
    concepts: Sequence[int] = CONCEPTS,
    references: Sequence[int] = (1, 5),
    alpha: float = 0.01,
    studies: int = 200,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """What a calibrated tau really lets through, and how often its interval on half B holds that.

    The similarity of image i of concept c to reference r of concept d is 0.3 + 0.05 a_c + 0.05 b_d + 0.1 e_cir, all
    standard normal: some concepts look like everything, some references too. Of 10 images a concept, at most 200
    concepts in the pool, as in use. The true rate at tau is an integral.
    """
    rows: list[dict[str, Any]] = []
    for n in concepts:
        for j in references:
            rates: list[float] = []
            holds: list[bool] = []
            for s in range(studies):
                found = _calibrated(np.random.default_rng([seed, n, j, s]), n, j, alpha, draws, s)
                if found is None:
                    continue
                true = _true_rate(found["tau"], j)
                rates.append(true)
                if found["rate_check_low"] is not None:
                    holds.append(found["rate_check_low"] <= true <= found["rate_check_high"])
            rates_ = np.array(rates or [np.nan])
            low, middle, high = np.quantile(rates_, [0.05, 0.5, 0.95])
            rows.append(
                {"concepts": n, "references": j, "alpha": alpha, "studies": studies, "calibrated": len(rates),
                 "mean_rate": rates_.mean(), "rate_5": low, "median_rate": middle, "rate_95": high,
                 "coverage": float(np.mean(holds)) if holds else float("nan")}
            )  # fmt: skip
    return pd.DataFrame(rows)


_A, _B, _E, _MEAN = 0.05, 0.05, 0.1, 0.3


def _calibrated(rng: np.random.Generator, n: int, j: int, alpha: float, draws: int, seed: int) -> dict[str, Any] | None:
    """One study's threshold at J, by the real tables; None when it is not calibrated."""
    names = [f"c{i:04d}" for i in range(n)]
    size = min(n, 200)
    of = np.repeat(np.arange(size), j)
    draw = np.tile(np.arange(1, j + 1), size)
    empty = np.empty((size * j, 1))
    pool = Pool(tuple(names[:size]), of, draw, ("",) * (size * j), empty, empty[:, :, None])
    design = Design(names, pool, (), {}, seed)
    tables = Thresholds(design, "cra", None, alpha, draws, seed)
    own, other = rng.standard_normal(n) * _A, rng.standard_normal(size) * _B
    for half in "AB":
        for c, name in enumerate(names):
            if design.half[name] != half:
                continue
            noise = rng.standard_normal((10, size, j)) * _E
            null = np.maximum.accumulate(_MEAN + own[c] + other[None, :, None] + noise, axis=2)
            counts = ConceptCounts(tables, name, half)
            counts.add(np.clip(null.reshape(10, -1), -1.0, 1.0).astype(np.float32))
            counts.close()
        if half == "A":
            tables.settle()
    row = next(r for r in tables.rows() if r["null"] == "unrelated" and r["references"] == j)
    return None if row["tau"] is None else row


def _true_rate(tau: float, j: int) -> float:
    """P(maximum of j references >= tau) for a new concept and a new other one, by Gauss-Hermite quadrature."""
    x, w = special.roots_hermitenorm(80)
    shared = _MEAN + np.hypot(_A, _B) * x
    inside = stats.norm.cdf((tau - shared) / _E) ** j
    return float(1.0 - (w * inside).sum() / w.sum())


def no_difference(
    concepts: Sequence[int] = (8, 30, 100), studies: int = STUDIES, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """P(p <= a) where nothing differs: paired models, images of one concept, attribution, and Holm's family.

    Each is to be at most a, up to 3 standard errors of the simulation (``limit``).
    """
    rows: list[dict[str, Any]] = []
    for test, n, p in _null_p(concepts, studies, draws, seed):
        for a in (0.01, 0.05, 0.1):
            share = float((p <= a).mean())
            limit = a + 3.0 * np.sqrt(a * (1.0 - a) / len(p))
            rows.append(
                {
                    "test": test,
                    "n": n,
                    "a": a,
                    "share": share,
                    "limit": limit,
                    "studies": len(p),
                    "holds": share <= limit,
                }
            )
    return pd.DataFrame(rows)


def _null_p(concepts: Sequence[int], studies: int, draws: int, seed: int) -> Iterator[tuple[str, int, Float64]]:
    for n in concepts:
        rng = np.random.default_rng([seed, n])
        one, two = (rng.binomial(10, theta) / 10 for theta in [rng.beta(1, 3, (n, studies))] * 2)
        yield "sign flips (compare)", n, np.array([sign_flip_p(d, draws) for d in (one - two).T])
        family = [rng.binomial(10, rng.beta(1, 3, (n, studies))) / 10 for _ in range(3)]
        pairs = [family[0] - family[1], family[0] - family[2], family[1] - family[2]]
        least = [float(holm([sign_flip_p(d[:, s], draws) for d in pairs]).min()) for s in range(studies)]
        yield "Holm over 3 pairs (compare)", n, np.array(least)
    for n in (4, 10, 50):
        rng = np.random.default_rng([seed, n, 1])
        images = rng.binomial(16, rng.beta(1, 2, (2 * n, studies))) / 16
        yield "images of a concept (compare)", n, label_permutation_p(images, n, draws=draws)
    for n in (19, 100, 200):
        rng = np.random.default_rng([seed, n, 2])
        similarity = rng.standard_normal((studies, n + 1)) + rng.standard_normal((studies, 1))
        reached = (similarity[:, 1:] >= similarity[:, :1]).sum(axis=1)
        yield "unrelated image (attribute)", n, (reached + 1.0) / (n + 1.0)


def summary_seconds(models: int = 5, concepts: int = 767, images: int = IMAGES, seed: int = 0) -> float:
    """Seconds from a results directory of random rows on disk to the table of models, 10 000 draws."""
    rng = np.random.default_rng(seed)
    settings = {key: "x" for key in ("index_id", "clip", "dino", "pool", "patch_mode", "scope")}
    base = dict.fromkeys(SCHEMA.names) | {"status": "ok", "n_ref_kept": 3}
    with tempfile.TemporaryDirectory() as folder:
        with writing_scores(
            Path(folder), "dynamic", settings | {"encoders": {"clip": "x"}}, {"cra": 0.75, "vr": 0.6}
        ) as writer:
            for m in range(models):
                for c in range(concepts):
                    similarity = rng.uniform(0.4, 1.0, images).astype(np.float32).tolist()
                    p = rng.uniform(0.2, 0.9, (images, PATCHES)).astype(np.float32).tolist()
                    for i in range(images):
                        writer.write(
                            base | {"model": f"m{m}", "concept": f"c{c:04d}", "gen_relpath": f"c{c:04d}/{i:03d}.png",
                                    "gen_sha256": f"{m}/{c}/{i}", "cra_sim": similarity[i], "p": p[i]}
                        )  # fmt: skip
        start = time.perf_counter()
        summarise(open_study(folder), concepts=False)
        return time.perf_counter() - start
