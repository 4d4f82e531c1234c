"""Labelled outputs of real models: does a score tell copies apart, once what concept it is cannot help?"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import NotCounted
from iconicity.indexer.sources.tables import Tell
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.intervals import DRAWS, interval
from iconicity.scorer.measure.measures import CRA, MEAN, SIMILARITY, of_images
from iconicity.scorer.measure.metrics import Bools, Float64, Ints
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.values import inputs_of
from iconicity.scorer.say.report.labels import Labels
from iconicity.scorer.validate.labelled import Label, labels_beside, match, read_labels, word
from iconicity.scorer.validate.scores import auroc, cohens_kappa, within_concepts
from iconicity.scorer.validate.words import COPIED, NOT_COPIED

ENOUGH = 20  # concepts that have both labels
UNDECIDABLE = "not decidable here"
_SCALARS = ("auroc", "auroc_low", "auroc_high", "concepts", "auroc_pooled", "auroc_mean_label")


def validate_labels(
    study: Study,
    labels: Sequence[Label],
    copied: Collection[str] = COPIED,
    not_copied: Collection[str] = NOT_COPIED,
    draws: int = DRAWS,
    seed: int = 0,
    calibration: Calibration | None = None,
) -> Finding:
    """AUROC of each score within concepts, the pooled one beside that of the concepts' mean label, and raters' agreement.

    ``copied`` are the words that mean copied, ``not_copied`` those that mean the opposite; a label with another word is
    left out. An image is a copy when most of its raters say so; a tie leaves it out. ``study`` needs the column gen_path.
    A ``calibration`` adds the scores at its thresholds.
    Under 20 concepts with both labels nothing is decided. Raises :class:`InputError` when no labelled image was scored,
    none has a label of ``copied``, or a word means both.
    """
    copies, others = {word(w) for w in copied}, {word(w) for w in not_copied}
    if both_ways := copies & others:
        raise InputError(f"'{sorted(both_ways)[0]}' cannot mean both copied and not copied; name it once")
    known = {word(v.label) for v in labels} - {""}
    if not known & copies:
        raise InputError(
            f"no label is one of {', '.join(sorted(copies))} (labels: {', '.join(sorted(known))}); name those that mean copied "
            "with `copied`"
        )
    matched = match(study, labels, copies, others)
    rows, copy = _majority(matched.votes, copies)
    concept, names = pd.factorize(np.array(study.concepts, object)[study.concept[rows]], sort=True)
    scores = {n: s[rows] for n, s in _scores(study, calibration).items()}
    scores = {n: s for n, s in scores.items() if len(s) and not np.isnan(s).any()}
    per = _per_concept(scores, concept.astype(np.int64), copy, list(names))
    both = int(((per.copies > 0) & (per.others > 0)).sum())
    mean_label = per.copies / (per.copies + per.others)
    by_label = auroc_of(np.asarray(mean_label, np.float64)[concept], copy)
    table = pd.DataFrame(
        [
            _row(name, score, per, copy, by_label, both, draws, seed)
            for name, score in scores.items()
        ]
    )  # fmt: skip
    notes = [
        f"{counted(len(rows), 'labelled image')} of {counted(len(names), 'concept')}, {counted(int(copy.sum()), 'copy', 'copies')}",
        *matched.notes,
    ]
    if len(matched.votes) > len(rows):
        notes.append(NotCounted(f"{counted(len(matched.votes) - len(rows), 'image')} with a tie of raters left out"))
    if both < ENOUGH:
        notes.append(f"{UNDECIDABLE}: {counted(both, 'concept has', 'concepts have')} both labels, {ENOUGH} are needed")
    notes.append(
        f"a pooled AUROC measures which concept it is, too: knowing the concept alone gives {by_label:.3f}; only the "
        "stratified one says whether a score tells images of one concept apart"
    )
    notes += study.notes
    scalars = {f"{r['score']}/{k}": r[k] for r in table.to_dict("records") for k in _SCALARS}
    tables = {"scores": table, "concepts": per, "raters": _raters(matched.votes, copies)}
    return Finding(tables, notes, study.facts(), scalars)


def labels_of_study(results: Path, draws: int = DRAWS, tell: Tell = warnings.warn) -> Labels | None:
    """The labels that lie in a results directory or beside it, for its report; None where there are none that count.

    ``tell`` gets a line on why labels that are there do not count.
    """
    tables = labels_beside([results])
    if not tables:
        return None
    study = open_study(results, ["gen_path"])
    try:
        labels = [label for path in tables for label in read_labels(path, tell=tell)]
        votes = match(study, labels, {word(w) for w in COPIED}, {word(w) for w in NOT_COPIED}).votes
        return Labels(votes, validate_labels(study, labels, draws=draws))
    except InputError as e:
        tell(f"labels are not shown: {e}")
        return None


def auroc_of(score: Float64, copied: Bools) -> float:
    """AUROC of copies against the others."""
    return auroc(score[copied], score[~copied])


def _majority(votes: Mapping[int, Mapping[str, str]], copies: Collection[str]) -> tuple[Ints, Bools]:
    shares = {i: float(np.mean([label in copies for label in said.values()])) for i, said in votes.items()}
    rows = np.array(sorted(i for i, s in shares.items() if s != 0.5), np.int64)
    return rows, np.array([shares[i] > 0.5 for i in rows.tolist()], bool)


def _scores(study: Study, calibration: Calibration | None) -> dict[str, Float64]:
    """What a study says of each image: similarities, and the measures of the default table but decisions and VI."""
    sets, _ = inputs_of(study, calibration)
    chosen = [m for m in of_images() if m in (SIMILARITY, MEAN) or (m.shown and m is not CRA and not m.complement)]
    return {str(m.image_name(i.calibrated)): i.of(m) for i in sets for m in chosen if i.has(m)}


def _per_concept(scores: dict[str, Float64], concept: Ints, copied: Bools, names: Sequence[str]) -> pd.DataFrame:
    n = len(names)
    out = {"concept": names, "copies": np.bincount(concept, copied, n).astype(np.int64),
           "others": np.bincount(concept, ~copied, n).astype(np.int64)}  # fmt: skip
    return pd.DataFrame(
        out | {f"auroc_{m}": within_concepts(auroc, s, concept, copied, ~copied, n) for m, s in scores.items()}
    )


def _row(
    name: str, score: Float64, per: pd.DataFrame, copied: Bools, by_label: float, both: int, draws: int, seed: int
) -> dict[str, object]:
    found = interval(per[f"auroc_{name}"].to_numpy(np.float64)[:, None], draws=draws, seed=seed)
    return {
        "score": name, "auroc": found.value[0], "auroc_low": found.low[0], "auroc_high": found.high[0],
        "concepts": both, "verdict": UNDECIDABLE if both < ENOUGH else "see interval",
        "auroc_pooled": auroc_of(score, copied), "auroc_mean_label": by_label,
    }  # fmt: skip


def _raters(votes: Mapping[int, Mapping[str, str]], copies: Collection[str]) -> pd.DataFrame:
    """Kappa of each two raters, over all labels and over copied or not, on the images both labelled."""
    counts = Counter(r for said in votes.values() for r in said)
    rows = []
    for a, b in combinations(sorted(counts), 2):
        pairs = [(said[a], said[b]) for said in votes.values() if a in said and b in said]
        first, second = [p[0] for p in pairs], [p[1] for p in pairs]
        rows.append({"rater": a, "other": b, "images": len(pairs), "kappa": cohens_kappa(first, second),
                     "kappa_copied": cohens_kappa([v in copies for v in first], [v in copies for v in second])})  # fmt: skip
    return pd.DataFrame(rows, columns=["rater", "other", "images", "kappa", "kappa_copied"])
