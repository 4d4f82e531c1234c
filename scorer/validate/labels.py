"""Labelled outputs of real models: does a score tell copies apart, once what concept it is cannot help?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from iconicity.indexer.errors import InputError
from iconicity.indexer.images import concept_name
from iconicity.scorer.findings.finding import Finding
from iconicity.scorer.findings.specific import image_null
from iconicity.scorer.findings.statistics import DRAWS, interval
from iconicity.scorer.findings.study import Study, image_values
from iconicity.scorer.metrics import Bools, Float64, Ints
from iconicity.scorer.validate.scores import auroc, cohens_kappa, within_concepts

ENOUGH = 20  # concepts that have both labels
UNDECIDABLE = "not decidable here"


@dataclass(frozen=True)
class Label:
    """What one rater says of one image; ``path`` ends in <concept>/<file>, better in <model>/<concept>/<file>."""

    path: str
    concept: str
    label: str
    rater: str


def read_labels(
    path: Path,
    *,
    path_col: str = "path",
    concept_col: str = "concept",
    label_col: str = "label",
    rater_col: str = "rater",
) -> list[Label]:
    """Labels of a CSV; rows without a label are left out, without a column of raters all are one rater's.

    Raises :class:`InputError` naming a missing column or nothing labelled.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: cannot be read as CSV ({str(e)[:80]}); give a UTF-8 file with a header line") from e
    for column, flag in ((path_col, "--path-col"), (concept_col, "--concept-col"), (label_col, "--label-col")):
        if column not in frame:
            raise InputError(
                f"{path}: no column '{column}' (columns: {', '.join(map(str, frame.columns))}); name one with {flag}"
            )
    raters = frame[rater_col] if rater_col in frame else [""] * len(frame)
    rows = zip(frame[path_col], frame[concept_col], frame[label_col], raters, strict=True)
    found = [Label(p, concept_name(c), v.strip(), str(r)) for p, c, v, r in rows if v.strip()]
    if not found:
        raise InputError(f"{path}: column '{label_col}' is empty; nothing is labelled")
    return found


def validate_labels(
    study: Study, labels: Sequence[Label], copies: Collection[str], draws: int = DRAWS, seed: int = 0
) -> Finding:
    """AUROC of each score within concepts, the pooled one beside that of the concepts' mean label, and raters' agreement.

    ``copies`` are the labels that mean copied. An image is a copy when most of its raters say so; a tie leaves it
    out. ``study`` needs the column gen_path. Under 20 concepts with both labels nothing is decided. Raises
    :class:`InputError` when no labelled image was scored, or none has a label of ``copies``.
    """
    known = {v.label for v in labels}
    if not known & set(copies):
        raise InputError(
            f"no label is one of {', '.join(sorted(copies))} (labels: {', '.join(sorted(known))}); name those that mean copied "
            "with --copied"
        )
    votes, unscored = _matched(study, labels)
    if not votes:
        raise InputError(f"none of the {len(labels)} labelled images is in {study.sources[0].path}; score them first")
    rows, copied = _majority(votes, copies)
    concept, names = pd.factorize(np.array(study.concepts, object)[study.concept[rows]], sort=True)
    scores = {n: s[rows] for n, s in _scores(study).items()}
    scores = {n: s for n, s in scores.items() if len(s) and not np.isnan(s).any()}
    per = _per_concept(scores, concept.astype(np.int64), copied, list(names))
    both = int(((per.copies > 0) & (per.others > 0)).sum())
    mean_label = per.copies / (per.copies + per.others)
    by_label = auroc_of(np.asarray(mean_label, np.float64)[concept], copied)
    table = pd.DataFrame(
        [
            _row(name, score, per, copied, by_label, both, draws, seed)
            for name, score in scores.items()
        ]
    )  # fmt: skip
    notes = [*study.notes, f"{len(rows)} labelled images of {len(names)} concepts, {int(copied.sum())} copies"]
    if both < ENOUGH:
        notes.append(f"{UNDECIDABLE}: {both} concepts have both labels, {ENOUGH} are needed")
    notes.append(
        f"a pooled AUROC measures which concept it is, too: knowing the concept alone gives {by_label:.3f}; only the "
        "stratified one says whether a score tells images of one concept apart"
    )
    if len(votes) > len(rows):
        notes.append(f"{len(votes) - len(rows)} images with a tie of raters are left out")
    if unscored:
        notes.append(f"{unscored} labelled images were not scored")
    return Finding({"scores": table, "concepts": per, "raters": _raters(votes, copies)}, notes, study.facts())


def auroc_of(score: Float64, copied: Bools) -> float:
    """AUROC of copies against the others."""
    return auroc(score[copied], score[~copied])


def _matched(study: Study, labels: Sequence[Label]) -> tuple[dict[int, dict[str, str]], int]:
    """Image (row of the study) -> rater -> label, and how many labels name an image that was not scored.

    Raises :class:`InputError` when a path fits two images.
    """
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    paths: list[str] = study.table.column("gen_path").to_pylist()
    for i in np.flatnonzero(study.ok).tolist():
        for parts in {PurePosixPath(paths[i]).parts[-3:], PurePosixPath(study.relpaths[i]).parts[-2:]}:
            places[parts].append(i)
    votes: dict[int, dict[str, str]] = defaultdict(dict)
    unscored = 0
    for v in labels:
        parts = PurePosixPath(v.path).parts
        found = places.get(parts[-3:]) or places.get(parts[-2:]) or places.get((v.concept, parts[-1])) or []
        found = [i for i in found if study.concepts[study.concept[i]] == v.concept]
        if len(found) > 1:
            raise InputError(f"{v.path}: fits {len(found)} scored images; name it as <model>/<concept>/<file>")
        if found:
            votes[found[0]][v.rater] = v.label
        else:
            unscored += 1
    return votes, unscored


def _majority(votes: dict[int, dict[str, str]], copies: Collection[str]) -> tuple[Ints, Bools]:
    shares = {i: float(np.mean([label in copies for label in said.values()])) for i, said in votes.items()}
    rows = np.array(sorted(i for i, s in shares.items() if s != 0.5), np.int64)
    return rows, np.array([shares[i] > 0.5 for i in rows.tolist()], bool)


def _scores(study: Study) -> dict[str, Float64]:
    """What a study says of each image: CLIP's similarity, VR, mean of the patches, and specific reuse where there is a null."""
    _, _, vr, _ = image_values(study, study.tau["cra"], study.tau["vr"])
    out = {"cra_sim": study.similarity.astype(np.float64), "vr": vr, "vr_mean": study.p.astype(np.float64).mean(axis=1)}
    null = image_null(study)
    return out if null is None else out | null.measures(study.p, study.tau["vr"])


def _per_concept(scores: dict[str, Float64], concept: Ints, copied: Bools, names: Sequence[str]) -> pd.DataFrame:
    n = len(names)
    out = {"concept": names, "copies": np.bincount(concept, copied, n).astype(np.int64),
           "others": np.bincount(concept, ~copied, n).astype(np.int64)}  # fmt: skip
    return pd.DataFrame(out | {m: within_concepts(auroc, s, concept, copied, ~copied, n) for m, s in scores.items()})


def _row(
    name: str, score: Float64, per: pd.DataFrame, copied: Bools, by_label: float, both: int, draws: int, seed: int
) -> dict[str, object]:
    found = interval(per[name].to_numpy(np.float64)[:, None], draws=draws, seed=seed)
    return {
        "score": name, "auroc": found.value[0], "auroc_low": found.low[0], "auroc_high": found.high[0],
        "concepts": both, "verdict": UNDECIDABLE if both < ENOUGH else "see interval",
        "auroc_pooled": auroc_of(score, copied), "auroc_mean_label": by_label,
    }  # fmt: skip


def _raters(votes: dict[int, dict[str, str]], copies: Collection[str]) -> pd.DataFrame:
    """Kappa of each two raters, over all labels and over copied or not, on the images both labelled."""
    counts = Counter(r for said in votes.values() for r in said)
    rows = []
    for a, b in combinations(sorted(counts), 2):
        pairs = [(said[a], said[b]) for said in votes.values() if a in said and b in said]
        first, second = [p[0] for p in pairs], [p[1] for p in pairs]
        rows.append({"rater": a, "other": b, "images": len(pairs), "kappa": cohens_kappa(first, second),
                     "kappa_copied": cohens_kappa([v in copies for v in first], [v in copies for v in second])})  # fmt: skip
    return pd.DataFrame(rows, columns=["rater", "other", "images", "kappa", "kappa_copied"])
