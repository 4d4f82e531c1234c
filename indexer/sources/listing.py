"""Functions that all layouts use to list images, and the one function that groups images by concept."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import Skipped
from iconicity.indexer.places import Place
from iconicity.indexer.sources.folders import NOT_AN_IMAGE, NOT_ASKED_FOR, Inside, concept_name, named_concept
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.metadata import Fields
from iconicity.indexer.sources.suffixes import UNSAFE
from iconicity.indexer.sources.tables import Tell
from iconicity.indexer.text import counted

_concept_name = lru_cache(1 << 14)(concept_name)
_named_concept = lru_cache(1 << 14)(named_concept)


@dataclass(frozen=True)
class Source:
    """A place with generated images, and how a layout looks at it.

    ``known``: concepts of the index, against which prompts are matched. ``variant``: that of every image, from the model's name.
    ``follow_links``: also where they lead out of ``root``. ``image_key``: which image of a WebDataset sample counts.
    ``tell`` takes what a user should know, one line each.
    """

    root: Place
    known: Container[str]
    tell: Tell
    variant: str | None = None
    follow_links: bool = False
    image_key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stays", Inside(self.root, self.follow_links))

    stays: Inside = field(init=False)

    def concept(self, fields: Fields, folder: str | None) -> str:
        """Concept an image belongs to: named, else its folder, else its prompt where the index has such a concept; else ""."""
        for named in (fields.concept, folder):
            if name := _named_concept(named or ""):
                return name
        for prompt in (fields.prompt or "", " ".join(re.sub(r"[^\w\s]", " ", fields.prompt or "").split())):
            if (name := _concept_name(prompt)) in self.known:
                return name
        return ""

    def image(self, concept: str, name: str, path: str, fields: Fields, where: str) -> Image:
        """An image with its fields; one that is flagged does not count. Raises :class:`InputError` when metadata at ``where`` give another variant."""
        variant = fields.variant
        if self.variant is not None:
            if variant not in (None, self.variant):
                raise InputError(
                    f"{where}: variant '{variant}', but the model's name says @{self.variant}; leave one of them out"
                )
            variant = self.variant
        if fields.flagged:
            return Image(path, concept, problem=UNSAFE)
        return Image(path, concept, name, seed=fields.seed, prompt=fields.prompt, variant=variant)


@dataclass
class Listing:
    """Images by concept, each concept's by name, no two of a concept with one name; and what cannot be used.

    A concept whose folder holds no image has an empty list. ``folders``: concept -> its folder, where it has one.
    ``ignored``: files that are no images. ``not_asked_for``: concepts of folders that were passed over.
    """

    concepts: dict[str, list[Image]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    not_asked_for: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def grouped(images: Iterable[Image], root: Place, notices: list[str]) -> Listing:
    """Group the images that a layout lists at ``root``; ``notices``, to which the layout may add, becomes the listing's.

    An image whose name its concept has already goes by its path below ``root``; where that is taken too, it is skipped.
    Images without a concept are counted in a notice.
    """
    out = Listing(notices=notices)
    taken: dict[str, set[str]] = {}
    unplaced: list[Image] = []
    for image in images:
        if image.problem == NOT_AN_IMAGE:
            out.ignored.append(image.path)
        elif image.problem == NOT_ASKED_FOR:
            out.not_asked_for.append(image.concept)
        elif image.problem is not None:
            out.skipped.append(Skipped(image.path, image.concept, image.problem))
        elif not image.concept:
            unplaced.append(image)
        elif not image.name:
            out.concepts.setdefault(image.concept, [])
            out.folders[image.concept] = image.path
        else:
            names = taken.setdefault(image.concept, set())
            below = image.path.removeprefix(f"{root}/")
            wanted = (
                (image.name,) if ".." in below.split("/") else (image.name, below)
            )  # a tar's member may have any name
            name = next((n for n in wanted if n not in names), None)
            if name is None:
                reason = f"another image of '{image.concept}' has the same name; rename one"
                out.skipped.append(Skipped(image.path, image.concept, reason))
                continue
            names.add(name)
            out.concepts.setdefault(image.concept, []).append(
                image if name == image.name else image._replace(name=name)
            )
    out.concepts = dict(sorted(out.concepts.items()))
    for found in out.concepts.values():
        found.sort(key=lambda image: image.name)
    if unplaced:
        path, prompt = unplaced[0].path, unplaced[0].prompt
        why = "" if prompt is None else f", and the index has no concept like its prompt {prompt[:80]!r}"
        whose = "its" if len(unplaced) == 1 else "their"
        out.notices.append(
            f"{root}: {counted(len(unplaced), 'image')} not scored, as nothing names {whose} concept: first {path}{why}; "
            "give each a 'concept' in the metadata"
        )
    return out


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
