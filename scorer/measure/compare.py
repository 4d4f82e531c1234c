"""Two models, or two prompt variants of one, over the same concepts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding, exact_words, interval_columns
from iconicity.scorer.measure.intervals import (
    DRAWS,
    LEVEL,
    benjamini_hochberg,
    effect_size,
    holm,
    interval,
    label_permutation_p,
    sign_flip_p,
)
from iconicity.scorer.measure.metrics import Bools, Ints
from iconicity.scorer.measure.study import Study
from iconicity.scorer.measure.values import Compared, compared_values


def compare(
    study: Study,
    names: Sequence[str],
    *,
    vi_scope: str = "recognised",
    calibration: Calibration | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    concepts: bool = True,
) -> Finding:
    """Tables ``pairs`` and ``concepts`` of every two of the named models (NAME or NAME@VARIANT), the first minus the second.

    ``pairs``: mean difference over the concepts both have, with its interval over concepts, p by exchanging the two
    within concepts (sign flips), Holm's p over all pairs and measures, and Cohen's d_z. ``concepts``: the same of each
    concept, p by exchanging images between the two, q over the whole table; left out when ``concepts`` is False.
    A ``calibration`` adds the measures at its thresholds (:func:`compared_values`), which then count in Holm's p and q too.
    Raises :class:`InputError` for a name the results do not hold, or a pair without a common concept.
    """
    if len(set(names)) < 2:
        variants = [m for m in study.models if any(m.startswith(f"{n}@") for n in names)]
        hint = f"; its variants are {', '.join(variants)}" if variants else ""
        raise InputError(f"name two different models or more; the results hold {', '.join(study.models)}{hint}")
    places = [_place(study, name) for name in dict.fromkeys(names)]
    study = study.with_calibration(calibration)
    measures, said = compared_values(study, vi_scope, calibration)
    images = study.images_of()
    notes = [*study.notes, *said]
    rows: list[dict[str, Any]] = []
    parts: list[pd.DataFrame] = []
    for a, b in combinations(places, 2):
        shared = (images[a] > 0) & (images[b] > 0)
        label = f"{study.models[a]} - {study.models[b]}"
        if not shared.any():
            raise InputError(f"{label}: the two have no concept in common, so that nothing can be paired")
        alone = int(((images[a] > 0) ^ (images[b] > 0)).sum())
        if alone:
            notes.append(
                f"{label}: {counted(alone, 'concept')} that only one of the two has {'is' if alone == 1 else 'are'} left out"
            )
        names_ = {"a": study.models[a], "b": study.models[b]}
        for name, measure in measures.items():
            rows.append(names_ | {"measure": name} | _pair(measure, a, b, shared, draws, seed, level))
        if concepts:
            parts += _by_concept(study, measures, a, b, np.flatnonzero(shared), draws, seed)
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
    facts |= {} if calibration is None else calibration.facts()
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
        f"{study.sources[0].path}: holds no model '{name}'{hint}; it holds {', '.join(study.models)}; name other results with `Results.open`"
    )


def _pair(measure: Compared, a: int, b: int, shared: Bools, draws: int, seed: int, level: float) -> dict[str, Any]:
    x, y = measure.cells[a, shared], measure.cells[b, shared]
    both = ~(np.isnan(x) | np.isnan(y))
    difference = np.where(both, x - y, np.nan)
    reach = measure.measure.bounds[1] - measure.measure.bounds[0]
    ends = interval(difference[:, None], bounds=(-reach, reach), symmetric=True, draws=draws, seed=seed, level=level)
    mean = [float(v[both].mean()) if both.any() else float("nan") for v in (x, y)]
    return {
        "concepts": int(both.sum()),
        "value_a": mean[0], "value_b": mean[1],
        **{column: each[0] for column, each in interval_columns("difference", ends).items()},
        "p": sign_flip_p(difference, draws, seed), "effect_size": effect_size(difference),
    }  # fmt: skip


def _by_concept(
    study: Study, measures: Mapping[str, Compared], a: int, b: int, shared: Ints, draws: int, seed: int
) -> list[pd.DataFrame]:
    rows = {
        (m, c): np.flatnonzero(study.ok & (study.model == m) & (study.concept == c)) for m in (a, b) for c in shared
    }
    sizes_a, sizes_b = ([len(rows[m, c]) for c in shared] for m in (a, b))
    out: list[pd.DataFrame] = []
    for name, measure in measures.items():
        values, factor = measure.images, measure.factor
        x, y = measure.cells[a, shared], measure.cells[b, shared]
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
                    "concept": np.array(study.concepts, object)[shared], "images_a": sizes_a,
                    "images_b": sizes_b, "value_a": x, "value_b": y, "difference": x - y, "p": p,
                }
            )
        )  # fmt: skip
    return out
