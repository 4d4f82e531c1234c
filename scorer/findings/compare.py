"""Two models, or two prompt variants of one, over the same concepts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.say import counted
from iconicity.scorer.findings.finding import EXACT, Finding, exact_words
from iconicity.scorer.findings.statistics import (
    DRAWS,
    LEVEL,
    benjamini_hochberg,
    effect_size,
    holm,
    interval,
    label_permutation_p,
    sign_flip_p,
)
from iconicity.scorer.findings.study import Cells, Study, cells, image_values
from iconicity.scorer.metrics import Bools, Float64, Ints

MEASURES = ("cra", "vr_all", "crt")


def compare(
    study: Study,
    names: Sequence[str],
    *,
    vi_scope: str = "recognised",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    concepts: bool = True,
) -> Finding:
    """Tables ``pairs`` and ``concepts`` of every two of the named models (NAME or NAME@VARIANT), the first minus the second.

    ``pairs``: mean difference over the concepts both have, with its interval over concepts, p by exchanging the two
    within concepts (sign flips), Holm's p over all pairs and measures, and Cohen's d_z. ``concepts``: the same of each
    concept, p by exchanging images between the two, q over the whole table; left out when ``concepts`` is False.
    Raises :class:`InputError` for a name the results do not hold, or a pair without a common concept.
    """
    if len(set(names)) < 2:
        variants = [m for m in study.models if any(m.startswith(f"{n}@") for n in names)]
        hint = f"; its variants are {', '.join(variants)}" if variants else ""
        raise InputError(f"name two different models or more; the results hold {', '.join(study.models)}{hint}")
    places = [_place(study, name) for name in dict.fromkeys(names)]
    found = cells(study, study.tau["cra"], study.tau["vr"], vi_scope)
    notes = list(study.notes)
    rows: list[dict[str, Any]] = []
    parts: list[pd.DataFrame] = []
    for a, b in combinations(places, 2):
        shared = (found.images[a] > 0) & (found.images[b] > 0)
        label = f"{study.models[a]} - {study.models[b]}"
        if not shared.any():
            raise InputError(f"{label}: the two have no concept in common, so that nothing can be paired")
        alone = int(((found.images[a] > 0) ^ (found.images[b] > 0)).sum())
        if alone:
            notes.append(
                f"{label}: {counted(alone, 'concept')} that only one of the two has {'is' if alone == 1 else 'are'} left out"
            )
        for name in MEASURES:
            rows.append(_pair(study, found, a, b, shared, name, draws, seed, level))
        if concepts:
            parts += _by_concept(study, found, a, b, np.flatnonzero(shared), vi_scope, draws, seed)
    pairs = pd.DataFrame(rows)
    pairs.insert(list(pairs).index("p") + 1, "p_holm", holm(pairs.p.to_numpy()))
    tables = {"pairs": pairs}
    if concepts:
        table = pd.concat(parts, ignore_index=True)
        tables["concepts"] = table.assign(q=benjamini_hochberg(table.p.to_numpy()))
    notes += [
        f"{r['a']} - {r['b']}: {r['measure']} is undefined in every common concept" for r in rows if r["concepts"] == 0
    ]
    notes += exact_words(pairs)
    facts = study.facts() | {"vi_scope": vi_scope, "draws": draws, "seed": seed, "level": level}
    scalars = {
        f"{r['a']} vs {r['b']}/{r['measure']}/{k}": r[k]
        for r in pairs.to_dict("records")
        for k in ("difference", "difference_low", "difference_high", "p", "p_holm", "effect_size", "concepts")
    }
    return Finding(tables, notes, facts, scalars)


def _place(study: Study, name: str) -> int:
    if name in study.models:
        return study.models.index(name)
    close = difflib.get_close_matches(name, study.models, 1)
    hint = f" (is it '{close[0]}'?)" if close else ""
    raise InputError(
        f"{study.sources[0].path}: holds no model '{name}'{hint}; it holds {', '.join(study.models)}; other results are named with --results"
    )


def _pair(
    study: Study, found: Cells, a: int, b: int, shared: Bools, name: str, draws: int, seed: int, level: float
) -> dict[str, Any]:
    x, y = found.values[name][a, shared], found.values[name][b, shared]
    both = ~(np.isnan(x) | np.isnan(y))
    difference = np.where(both, x - y, np.nan)
    ends = interval(
        difference[:, None], bounds=(-1.0, 1.0), symmetric=True, draws=draws, seed=seed, level=level
    ).shown()
    mean = [float(v[both].mean()) if both.any() else float("nan") for v in (x, y)]
    return {
        "a": study.models[a], "b": study.models[b], "measure": name, "concepts": int(both.sum()),
        "value_a": mean[0], "value_b": mean[1],
        "difference": ends.value[0], "difference_low": ends.low[0], "difference_high": ends.high[0],
        f"difference{EXACT}": bool(ends.exact[0]),
        "p": sign_flip_p(difference, draws, seed), "effect_size": effect_size(difference),
    }  # fmt: skip


def _by_concept(
    study: Study, found: Cells, a: int, b: int, shared: Ints, vi_scope: str, draws: int, seed: int
) -> list[pd.DataFrame]:
    recognised, _, vr, _ = image_values(study, study.tau["cra"], study.tau["vr"])
    hit, vi = recognised.astype(np.float64), 1.0 - vr
    # what an image adds to each measure; under vi_scope all CRT is a product of two means
    images: dict[str, tuple[Float64, Float64 | None]] = {
        "cra": (hit, None), "vr_all": (vr, None), "crt": (hit * vi, None) if vi_scope == "recognised" else (hit, vi),
    }  # fmt: skip
    rows = {
        (m, c): np.flatnonzero(study.ok & (study.model == m) & (study.concept == c)) for m in (a, b) for c in shared
    }
    out: list[pd.DataFrame] = []
    for name in MEASURES:
        values, factor = images[name]
        x, y = found.values[name][a, shared], found.values[name][b, shared]
        p = np.full(len(shared), np.nan)
        sizes = {i: (len(rows[a, c]), len(rows[b, c])) for i, c in enumerate(shared)}
        for size in sorted(set(sizes.values())):  # concepts with as many images on each side are taken at once
            at = [i for i, s in sizes.items() if s == size and not np.isnan(x[i] - y[i])]
            if not at:
                continue
            pooled = np.stack([np.concatenate([rows[a, shared[i]], rows[b, shared[i]]]) for i in at], axis=1)
            p[at] = label_permutation_p(
                values[pooled], size[0], None if factor is None else factor[pooled], draws=draws, seed=seed
            )
        out.append(
            pd.DataFrame(
                {
                    "a": study.models[a], "b": study.models[b], "measure": name,
                    "concept": np.array(study.concepts, object)[shared], "images_a": found.images[a, shared],
                    "images_b": found.images[b, shared], "value_a": x, "value_b": y, "difference": x - y, "p": p,
                }
            )
        )  # fmt: skip
    return out
