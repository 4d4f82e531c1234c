"""The images named by one --gen: how they lie there, and which of them count."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import EMPTY, LeftOut, Skipped, left_out_lines, rows_left_out
from iconicity.indexer.options import Select
from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.folders import (
    Discovery,
    concept_name,
    discover,
    discovery_of,
    has_images,
    is_text,
    shown,
)
from iconicity.indexer.sources.layouts import is_geneval, list_geneval, list_imagefolder, metadata_below
from iconicity.indexer.sources.listing import ConceptImages, Listed, Listing
from iconicity.indexer.sources.metadata import FILES, find_metadata
from iconicity.indexer.sources.suffixes import not_images, passed_over
from iconicity.indexer.sources.tar import COMPRESSED, SUFFIX
from iconicity.indexer.sources.webdataset import list_webdataset
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import ConceptCount
from iconicity.indexer.text import counted
from iconicity.scorer.left_out import NO_REFERENCES, NOT_NAMED, UNKNOWN, UNUSABLE, beyond
from iconicity.scorer.options import ScoreOptions

Counts = Mapping[str, ConceptCount]


@dataclass(frozen=True)
class Chosen:
    """The images of a model that a run is about, by concept, and what is left out of it.

    ``beyond``: names that a concept has beyond ``k_gen``, which do not count but are there.
    """

    concepts: list[ConceptImages]
    skipped: list[Skipped]
    left_out: list[LeftOut]
    beyond: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(len(c.images) for c in self.concepts)

    def within(self, shard: Shard) -> Chosen:
        """Those of the shard's concepts. What is left out of no single concept stays: tasks of one array say the same."""
        concepts = [c for c in self.concepts if c.concept in shard]
        left_out = [item for item in self.left_out if not item.concept or item.concept in shard]
        return Chosen(concepts, [s for s in self.skipped if s.concept in shard], left_out, self.beyond)


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
    options: ScoreOptions,
    select: Select,
) -> Chosen:
    """The images at ``path`` that count: of indexed concepts (scope all: of any), ``k_gen`` a concept and variant.

    ``only`` restricts the concepts. Raises :class:`InputError` when ``path`` cannot be understood.
    """
    listing = list_images(path, counts, variant_of(label), select.follow_links, select.image_key)
    skipped = [s for s in listing.skipped if only is None or not s.concept or s.concept in only]
    left_out, concepts = [LeftOut(line) for line in (*listing.notices, *passed_over(skipped))], []
    more: dict[str, list[str]] = {}
    for concept, images in sorted(listing.concepts.items()):
        n = len(images)
        if only is not None and concept not in only:
            left_out += [LeftOut(NOT_NAMED, n, concept=concept, first=f"'{concept}'")] if n else []
        elif concept not in counts and options.scope != "all":
            close = difflib.get_close_matches(concept, list(counts), 1)
            meant = f" (is it '{close[0]}'?)" if close else ""
            left_out.append(LeftOut(NO_REFERENCES, n, concept=concept, first=f"'{concept}'{meant}"))
        elif not images:
            left_out.append(LeftOut(EMPTY, 1, concept=concept, first=listing.places.get(concept, str(path))))
        else:
            taken, rest = _first(images, options.k_gen)
            concepts.append(ConceptImages(concept, taken))
            if rest:
                more[concept] = [image.name for image in rest]
                left_out.append(LeftOut(beyond(options.k_gen), len(rest), n, concept, f"{concept}/{rest[0].name}"))
    unknown = sorted((only or set()) - counts.keys() - listing.concepts.keys())
    left_out += [LeftOut(UNKNOWN, 1, concept=c, first=f"'{c}'") for c in unknown]
    return Chosen(concepts, skipped, left_out + _unusable([s for s in skipped if not passed_over([s])]), more)


def _unusable(skipped: Iterable[Skipped]) -> list[LeftOut]:
    """Files that get no row, by concept."""
    by_concept: dict[str, list[Skipped]] = {}
    for s in skipped:
        by_concept.setdefault(s.concept, []).append(s)
    return [
        LeftOut(UNUSABLE, len(found), concept=concept, first=f"{found[0].path}: {found[0].reason}")
        for concept, found in by_concept.items()
    ]


def _first(images: Iterable[Listed], k: int) -> tuple[list[Listed], list[Listed]]:
    """The first ``k`` images of each variant, and the others."""
    seen: Counter[str | None] = Counter()
    taken: list[Listed] = []
    rest: list[Listed] = []
    for image in images:
        seen[image.variant] += 1
        (taken if seen[image.variant] <= k else rest).append(image)
    return taken, rest


@dataclass(frozen=True)
class Selected:
    """The images of all models that a run is about."""

    work: Mapping[str, Chosen]
    listed: int  # images of all shards
    only: Container[str] | None  # concepts that the run is about; None: all
    rows_left_out: Sequence[LeftOut]  # of the list of concepts that it was given
    shard: Shard | None = None

    @property
    def total(self) -> int:
        return sum(chosen.total for chosen in self.work.values())


def choose_images(
    idx: Index, generated: Mapping[str, Place | str | Chosen], options: ScoreOptions, select: Select
) -> Selected:
    """The images of each model that count, of the concepts and the shard selected alone.

    Raises :class:`InputError` when there is none in any shard.
    """
    counts = idx.concepts()
    named, shard = None if select.concepts is None else list(select.concepts), select.shard
    only = None if named is None else set(named)
    work = {
        m: given if isinstance(given, Chosen) else choose(m, place(given), counts, only, options, select)
        for m, given in sorted(generated.items())
    }
    listed = sum(chosen.total for chosen in work.values())
    if listed == 0 or not counts:
        raise _nothing_to_score(idx, [place(p) for p in generated.values() if not isinstance(p, Chosen)], only, work)
    rows = rows_left_out(named or ())
    if shard is None:
        return Selected(work, listed, only, rows)
    within = {m: chosen.within(shard) for m, chosen in work.items()}
    return Selected(within, listed, shard if only is None else {c for c in only if c in shard}, rows, shard)


def _nothing_to_score(
    idx: Index, given: Sequence[Place], only: Collection[str] | None, work: Mapping[str, Chosen]
) -> InputError:
    """Why no image of what was ``given`` can be scored, and what may have been meant."""
    first = next(iter(idx.concepts()), None)
    held = f"its concepts are named like '{first}'" if first else "it holds no concept"
    within = "" if only is None else f" among the {len(only)} named by --prompt-csv, first '{min(only, default='')}'"
    folders = ", ".join(map(str, given))
    if any(has_images(f) and (isinstance(f, Remote) or find_metadata(f) is None) for f in given):
        above = given[0].parent
        return InputError(
            f"{folders}: images lie directly in it; a --gen folder holds a folder for each concept, and --gen-root a folder "
            f"for each model: try --gen NAME={above}"
        )
    reasons = [n for n in left_out_lines({m: c.left_out for m, c in work.items()}) if "not scored" in n]
    skipped = [s for chosen in work.values() for s in chosen.skipped]
    reasons += [*passed_over(skipped), *(f"{s.path}: {s.reason}" for s in skipped)]
    why = f" ({reasons[0]})" if reasons else ""
    return InputError(f"{folders}: no generated image belongs to a concept of {idx.path}{within}; {held}{why}")


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
