"""Labels that people gave to images: read from a table, and joined with the images that were scored."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import NotCounted
from iconicity.indexer.sources.folders import concept_name
from iconicity.indexer.sources.tables import Tell, read_table
from iconicity.indexer.text import counted
from iconicity.scorer.measure.naming import ImageNames
from iconicity.scorer.measure.study import Study, brief


@dataclass(frozen=True)
class Label:
    """What one rater says of one image; an empty ``label`` says nothing.

    ``path``: MODEL/CONCEPT/FILE, or the path of the image's file. ``model`` where a column names it.
    """

    path: str
    concept: str
    label: str
    rater: str
    model: str = ""


@dataclass(frozen=True)
class Labelled:
    """Row of the study -> rater -> word; and what was not used, a line a kind."""

    votes: Mapping[int, Mapping[str, str]]
    notes: Sequence[str]


def word(text: str) -> str:
    """A label as it is compared: without surrounding blanks, in lower case.

    >>> word(" Wrong  Concept ")
    'wrong concept'
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def read_labels(
    path: Path,
    *,
    path_col: str = "path",
    concept_col: str = "concept",
    label_col: str = "label",
    rater_col: str = "rater",
    model_col: str = "model",
    tell: Tell = warnings.warn,
) -> list[Label]:
    """The rows of a table of labels; without a column of raters all are one rater's.

    ``tell`` gets a line on what a user should know.
    Raises :class:`InputError` naming a missing column, or for a table in which nothing is labelled.
    """
    needed = {path_col: "`path_col`", concept_col: "`concept_col`", label_col: "`label_col`"}
    table = read_table(path, needed, (rater_col, model_col), tell)
    columns = (path_col, concept_col, label_col, rater_col, model_col)
    rows = [[row.get(column, "").strip() for column in columns] for _, row in table.rows]
    labels = [Label(p, concept_name(c), v, rater, model) for p, c, v, rater, model in rows]
    if not any(v.label for v in labels):
        raise InputError(f"{path}: column '{label_col}' is empty; nothing is labelled")
    return labels


def labels_beside(results: Sequence[Path]) -> list[Path]:
    """Tables of labels in each results directory and beside it, ``labels*.csv`` as the report gives them, oldest first."""
    found = {p.resolve(): p for at in results for folder in (at.parent, at) for p in folder.glob("labels*.csv")}
    return sorted(found.values(), key=lambda p: (p.stat().st_mtime, p.name))


@dataclass
class _Unused:
    """Labels that do not count, by the reason why."""

    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # kind -> what names each label
    models: Counter[str] = field(default_factory=Counter)  # that were not scored
    words: Counter[str] = field(default_factory=Counter)  # that count as neither
    again: list[str] = field(default_factory=list)
    contradicting: list[str] = field(default_factory=list)

    def notes(self) -> Iterator[str]:
        if self.models:
            n, first = self.models.total(), self.kinds["model"][0]
            which = brief([f"{m} {k}" for m, k in self.models.most_common()])
            yield f"{counted(n, 'label')} of models that were not scored left out: {which} (first {first})"
        for kind, said in (
            ("image", "of images that were not scored left out"),
            ("ambiguous", "that fit more than one scored image left out; name images as MODEL/CONCEPT/FILE"),
            ("concept", "whose concept is not their image's left out"),
            ("skipped", "of images that could not be used left out"),
        ):
            if found := self.kinds.get(kind):
                yield f"{counted(len(found), 'label')} {said} (first {found[0]})"
        if self.words:
            which = brief([f"{w} {k}" for w, k in self.words.most_common()])
            yield (
                f"{counted(self.words.total(), 'label')} whose word counts as neither copied nor not copied left out: {which}; "
                "say what a word means with `copied` or `not_copied`"
            )
        if self.kinds.get("empty"):
            yield f"{counted(len(self.kinds['empty']), 'row')} without a label left out"
        if self.again:
            against = (
                f"{len(self.contradicting)} of them against the one before (first {self.contradicting[0]})"
                if self.contradicting
                else "none of them against the one before"
            )
            yield (
                f"{counted(len(self.again), 'label')} of a rater for an image that this rater labelled already "
                f"(first {self.again[0]}), {against}: the last one counts"
            )


def match(study: Study, labels: Sequence[Label], copied: Collection[str], not_copied: Collection[str]) -> Labelled:
    """Labels joined with the images they name; those that name no image for certain are counted, never guessed.

    ``copied`` and ``not_copied`` are words as :func:`word` gives them. A rater's last label of an image counts.
    ``study`` needs the column gen_path. Raises :class:`InputError` when nothing is left.
    """
    names, unused = ImageNames(study), _Unused()
    votes: dict[int, dict[str, str]] = defaultdict(dict)
    for v in labels:
        said, at = word(v.label), f"{v.model}: {v.path}" if v.model else v.path
        found = names.find(v.path, v.model, v.concept) if said else []
        concepts = {study.concepts[study.concept[i]] for i in found}
        if not said:
            unused.kinds["empty"].append(at)
        elif not found:
            model = v.model or names.model_named(v.path)
            if model and model not in names.models:
                unused.models[model] += 1
            unused.kinds["model" if model and model not in names.models else "image"].append(at)
        elif len(found) > 1:
            which = brief([f"{study.models[study.model[i]]}/{study.relpaths[i]}" for i in found], 3)
            unused.kinds["ambiguous"].append(f"{at}: {which}")
        elif v.concept and v.concept not in concepts:
            unused.kinds["concept"].append(f"{at}: {v.concept}, but the image is of {concepts.pop()}")
        elif not study.ok[found[0]]:
            unused.kinds["skipped"].append(at)
        elif said not in copied and said not in not_copied:
            unused.words[said] += 1
        else:
            before = votes[found[0]].get(v.rater)
            if before is not None:
                unused.again.append(at)
                if before != said:
                    unused.contradicting.append(f"{at}: {before}, then {said}")
            votes[found[0]][v.rater] = said
    notes = [NotCounted(note) for note in unused.notes()]
    if not votes:
        raise InputError(
            f"none of the {counted(len(labels), 'label')} counts ({'; '.join(notes)}); name images as MODEL/CONCEPT/FILE, or "
            f"score them into {study.sources[0].path} first"
        )
    return Labelled(votes, [_meaning(votes, copied), *notes])


def _meaning(votes: Mapping[int, Mapping[str, str]], copied: Collection[str]) -> str:
    """What each word counts as, and how often it does."""
    counts = Counter(said for by_rater in votes.values() for said in by_rater.values())
    sides = [
        brief([f"{w} {n}" for w, n in counts.most_common() if (w in copied) == side], 20) or "none"
        for side in (True, False)
    ]
    return f"{sides[0]} count as copied; {sides[1]} as not copied"
