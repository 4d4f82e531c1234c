"""The images named by one --gen: how they lie there, and which of them count."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from iconicity.indexer.builder import Skipped
from iconicity.indexer.errors import InputError
from iconicity.indexer.images import Discovery, concept_name, discover, discovery_of, is_text, shown
from iconicity.indexer.places import Place, Remote
from iconicity.indexer.say import counted
from iconicity.indexer.shards import Shard
from iconicity.indexer.store import ConceptCount
from iconicity.indexer.suffixes import not_images, passed_over
from iconicity.indexer.tar import COMPRESSED, SUFFIX
from iconicity.scorer.layouts import is_geneval, list_geneval, list_imagefolder, metadata_below
from iconicity.scorer.listing import ConceptImages, Listed, Listing
from iconicity.scorer.metadata import FILES, find_metadata
from iconicity.scorer.webdataset import list_webdataset

Counts = Mapping[str, ConceptCount]


@dataclass(frozen=True)
class Chosen:
    """The images of a model that a run is about, by concept, and what is to be said of the others."""

    concepts: list[ConceptImages]
    skipped: list[Skipped]
    notices: list[str]

    @property
    def total(self) -> int:
        return sum(len(c.images) for c in self.concepts)

    def within(self, shard: Shard) -> Chosen:
        """Those of the shard's concepts. Notices are about all: tasks of one array say the same."""
        concepts = [c for c in self.concepts if c.concept in shard]
        return Chosen(concepts, [s for s in self.skipped if s.concept in shard], self.notices)


def variant_of(label: str) -> str | None:
    """Variant in a model's label, after the last ``@``.

    >>> variant_of("sd14@formal"), variant_of("sd14")
    ('formal', None)
    """
    return label.rpartition("@")[2] or None if "@" in label else None


def choose(
    label: str,
    path: Place,
    counts: Counts,
    only: set[str] | None,
    everywhere: bool,
    k_gen: int,
    follow_links: bool = False,
    image_key: str | None = None,
) -> Chosen:
    """The images at ``path`` that count: of indexed concepts (``everywhere``: of any), ``k_gen`` a concept and variant.

    ``only`` restricts the concepts. Raises :class:`InputError` when ``path`` cannot be understood.
    """
    listing = list_images(path, counts, variant_of(label), follow_links, image_key)
    wanted = listing.concepts.keys() if only is None else only
    skipped = [s for s in listing.skipped if only is None or not s.concept or s.concept in only]
    notices, concepts = [*listing.notices, *passed_over(skipped)], []
    for concept, images in sorted(listing.concepts.items()):
        if concept not in wanted:
            continue
        place = listing.places.get(concept, path)
        if concept not in counts and not everywhere:
            close = difflib.get_close_matches(concept, list(counts), 1)
            notices.append(
                f"{place}: the index has no references for '{concept}'; {counted(len(images), 'image')} not scored"
                + (f" (is it '{close[0]}'?)" if close else "")
            )
        elif not images:
            passed = any(s.concept == concept for s in skipped)
            notices.append(
                f"{place}: {'no image in this folder can be used' if passed else 'no images in this folder'}"
            )
        else:
            concepts.append(ConceptImages(concept, list(_first(images, k_gen))))
    lacking = sorted((counts.keys() if only is None else counts.keys() & only) - listing.concepts.keys())
    if lacking:
        notices.append(f"{label}: no images of {counted(len(lacking), 'indexed concept')}, first '{lacking[0]}'")
    return Chosen(concepts, skipped, notices)


def _first(images: Iterable[Listed], k: int) -> Iterable[Listed]:
    seen: Counter[str | None] = Counter()
    for image in images:
        seen[image.variant] += 1
        if seen[image.variant] <= k:
            yield image


def list_images(
    path: Place, counts: Counts, variant: str | None = None, follow_links: bool = False, image_key: str | None = None
) -> Listing:
    """Every image at ``path``: a tar, a folder of tars, an imagefolder, GenEval's, or one folder a concept; on object
    storage only the last.

    Raises :class:`InputError` when it is none of these, or its metadata cannot be read.
    """
    listing = Listing(path, counts, variant, follow_links, image_key)
    if isinstance(path, Remote):
        _list_objects(listing, path)
        listing.finish()
        return listing
    if path.name.lower().endswith(COMPRESSED):
        raise InputError(f"{path}: compressed, so that no image can be read by itself; uncompress it to a {SUFFIX}")
    if not is_text(str(path)) or not (path.is_dir() or (path.is_file() and path.suffix.lower() == SUFFIX)):
        discover(path)  # says what is wrong
    if path.is_file():
        list_webdataset(listing, [path])
    elif find_metadata(path) is not None:
        list_imagefolder(listing, path, metadata_below(path))
    else:
        _list_by_children(listing, path)
    if image_key is not None and not any(
        f"{SUFFIX}/" in i.path.lower() for images in listing.concepts.values() for i in images
    ):
        listing.notices.append(f"{path}: holds no WebDataset tar, so that --image-key {image_key} was not used")
    listing.finish()
    return listing


def _list_objects(listing: Listing, root: Remote) -> None:
    """One folder a concept on object storage, in one listing."""
    items = root.files()
    other = [k for k in items if "/" not in k and (k in FILES or k.lower().endswith((SUFFIX, *COMPRESSED)))]
    other += [k for k in items if k.count("/") == 1 and k.endswith("/metadata.jsonl")]
    if other or (not items and root.name.lower().endswith((SUFFIX, *COMPRESSED))):
        raise InputError(
            f"{root / other[0] if other else root}: on object storage images lie in one folder a concept; copy "
            f"{'this' if other else 'tar files'} to a disk and name that with --gen"
        )
    _take_folders(listing, discovery_of(root, items))


def _list_by_children(listing: Listing, root: Path) -> None:
    children = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    folders = [p for p in children if p.is_dir()]
    tars = [p for p in children if p.suffix.lower() == SUFFIX and p.is_file()]
    packed = [p for p in children if p.name.lower().endswith(COMPRESSED) and p.is_file()]
    if packed and not folders:
        raise InputError(f"{packed[0]}: compressed, so that no image can be read by itself; uncompress it")
    if tars and not folders:
        list_webdataset(listing, tars)
    elif any(is_geneval(f) for f in folders):
        list_geneval(listing, folders)
    elif metadata := metadata_below(root):
        list_imagefolder(listing, root, metadata)
    else:
        _list_concept_folders(listing, root, tars)
        if tars:
            listing.notices.append(
                f"{root}: {counted(len(tars), 'tar file')} beside folders {'was' if len(tars) == 1 else 'were'} not read; give {'it' if len(tars) == 1 else 'them'} a folder of {'its' if len(tars) == 1 else 'their'} own, first {tars[0]}"
            )


def _list_concept_folders(listing: Listing, root: Path, told: Sequence[Path]) -> None:
    """One folder a concept, the plain layout. ``told``: files that another notice names."""
    found = discover(root, follow_links=listing.follow_links)
    found = replace(found, ignored=tuple(p for p in found.ignored if p not in told))
    known = listing.known
    if not any(c in known for c in found.concept_set()):
        inner = next(
            (f.path for f in found.folders if isinstance(f.path, Path) and _holds_concepts(f.path, listing)), None
        )
        if inner is not None:
            raise InputError(
                f"{listing.root}: no folder here is a concept of the index, but {inner} holds some; "
                f"use --gen-root {listing.root}"
            )
    _take_folders(listing, found)


def _take_folders(listing: Listing, found: Discovery) -> None:
    for concept, path, reason in found.unusable():
        listing.skip(shown(path), concept, reason)
    listing.notices += not_images([shown(path) for path in found.ignored])
    for f in found.folders:
        base, told = str(f.path), f.identities or repeat(None)
        listing.concepts[f.concept] = [
            Listed(n, f"{base}/{n}", variant=listing.variant, identity=i) for n, i in zip(f.names, told, strict=False)
        ]
        listing.places[f.concept] = str(f.path)


def _holds_concepts(folder: Path, listing: Listing) -> bool:
    return any(p.is_dir() and concept_name(p.name) in listing.known for p in folder.iterdir())
