"""The images of one model, by concept, however they lie on disk."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import Skipped
from iconicity.indexer.places import Place
from iconicity.indexer.sources.folders import Inside, concept_name
from iconicity.indexer.sources.metadata import Fields
from iconicity.indexer.text import counted

_concept_name = lru_cache(1 << 14)(concept_name)


class Listed(NamedTuple):
    """One image: ``name`` is its own within its concept, ``path`` leads to its bytes."""

    name: str
    path: str
    seed: int | None = None
    prompt: str | None = None
    variant: str | None = None
    identity: str | None = None  # of an object on object storage


class ConceptImages(NamedTuple):
    """A concept's images that count, by name."""

    concept: str
    images: list[Listed]


@dataclass
class Listing:
    """What was found at ``root``, to be filled by one of the layouts.

    ``known``: concepts of the index, against which prompts are matched. ``variant``: that of every image, from --gen.
    ``follow_links``: also where they lead out of ``root``. ``image_key``: which image of a WebDataset sample counts.
    """

    root: Place
    known: Container[str]
    variant: str | None = None
    follow_links: bool = False
    image_key: str | None = None
    concepts: dict[str, list[Listed]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # concept -> its folder, where it has one
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    _taken: dict[str, set[str]] = field(default_factory=dict)
    _unplaced: int = 0
    _first_unplaced: tuple[str, str | None] | None = None

    def __post_init__(self) -> None:
        self.stays = Inside(self.root, self.follow_links)

    def concept(self, fields: Fields, folder: str | None, path: str) -> str | None:
        """Concept an image belongs to: named, else its folder, else its prompt where the index has such a concept.

        None, and counted, when it has none.
        """
        for named in (fields.concept, folder):
            name = _concept_name(named or "").replace("/", "_")  # a concept is the name of a folder
            if name not in ("", ".", ".."):
                return name
        for prompt in (fields.prompt or "", " ".join(re.sub(r"[^\w\s]", " ", fields.prompt or "").split())):
            if (name := _concept_name(prompt)) in self.known:
                return name
        self._unplaced += 1
        self._first_unplaced = self._first_unplaced or (path, fields.prompt)
        return None

    def add(self, concept: str, names: Iterable[str], path: str, fields: Fields, where: str) -> None:
        """Add an image under the first of ``names`` that its concept has free.

        Raises :class:`InputError` when metadata at ``where`` give another variant than --gen.
        """
        variant = fields.variant
        if self.variant is not None:
            if variant not in (None, self.variant):
                raise InputError(f"{where}: variant '{variant}', but --gen says @{self.variant}; leave one of them out")
            variant = self.variant
        taken = self._taken.setdefault(concept, set())
        name = next((n for n in names if n not in taken), None)
        if name is None:
            self.skip(path, concept, f"another image of '{concept}' has the same name; rename one")
            return
        taken.add(name)
        self.concepts.setdefault(concept, []).append(Listed(name, path, fields.seed, fields.prompt, variant))

    def skip(self, path: str, concept: str, reason: str) -> None:
        """Note a file or a row that cannot be used."""
        self.skipped.append(Skipped(path, concept, reason))

    def finish(self) -> None:
        """Sort by name, and say which images have no concept."""
        self._taken.clear()
        for images in self.concepts.values():
            images.sort(key=lambda image: image.name)
        if self._first_unplaced is not None:
            path, prompt = self._first_unplaced
            why = "" if prompt is None else f", and the index has no concept like its prompt {prompt[:80]!r}"
            self.notices.append(
                f"{self.root}: {counted(self._unplaced, 'image')} not scored, as nothing names {'its' if self._unplaced == 1 else 'their'} concept: first {path}{why}; "
                "give each a 'concept' in the metadata"
            )


def name_within(concept: str, path: str) -> str:
    """A relative path without the folder that is the concept.

    >>> name_within("the_scream", "train/The Scream/01.png")
    'train/01.png'
    """
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        if _concept_name(part) == concept:
            return "/".join(parts[:i] + parts[i + 1 :])
    return path
