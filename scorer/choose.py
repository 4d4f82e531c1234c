"""The images named by one --gen: how they lie there, and which of them count."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import EMPTY, LeftOut, Skipped, left_out_lines, rows_left_out
from iconicity.indexer.options import Select
from iconicity.indexer.places import Place, Remote, place
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.folders import concept_name, folder_images, has_images, is_text, object_images
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.layouts import geneval_images, imagefolder_images, is_geneval, metadata_below
from iconicity.indexer.sources.listing import Listing, Source, grouped
from iconicity.indexer.sources.metadata import FILES, find_metadata
from iconicity.indexer.sources.suffixes import not_images, passed_over
from iconicity.indexer.sources.tar import COMPRESSED, SUFFIX
from iconicity.indexer.sources.webdataset import webdataset_images
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

    concepts: Mapping[str, Sequence[Image]]
    skipped: list[Skipped]
    left_out: list[LeftOut]
    beyond: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(map(len, self.concepts.values()))

    def within(self, shard: Shard) -> Chosen:
        """Those of the shard's concepts. What is left out of no single concept stays: tasks of one array say the same."""
        concepts = {c: images for c, images in self.concepts.items() if c in shard}
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
    left_out = [LeftOut(line) for line in (*listing.notices, *passed_over(skipped))]
    concepts: dict[str, Sequence[Image]] = {}
    more: dict[str, list[str]] = {}
    for concept, images in listing.concepts.items():
        n = len(images)
        if only is not None and concept not in only:
            left_out += [LeftOut(NOT_NAMED, n, concept=concept, first=f"'{concept}'")] if n else []
        elif concept not in counts and options.scope != "all":
            close = difflib.get_close_matches(concept, list(counts), 1)
            meant = f" (is it '{close[0]}'?)" if close else ""
            left_out.append(LeftOut(NO_REFERENCES, n, concept=concept, first=f"'{concept}'{meant}"))
        elif not images:
            left_out.append(LeftOut(EMPTY, 1, concept=concept, first=listing.folders[concept]))
        else:
            concepts[concept], rest = _first([i._replace(model=label) for i in images], options.k_gen)
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


def _first(images: Iterable[Image], k: int) -> tuple[list[Image], list[Image]]:
    """The first ``k`` images of each variant, and the others."""
    seen: Counter[str | None] = Counter()
    taken: list[Image] = []
    rest: list[Image] = []
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
    within = (
        "" if only is None else f" among the {len(only)} named by `Select.concepts`, first '{min(only, default='')}'"
    )
    folders = ", ".join(map(str, given))
    if any(has_images(f) and (isinstance(f, Remote) or find_metadata(f) is None) for f in given):
        above = given[0].parent
        return InputError(
            f"{folders}: images lie directly in it; a folder of `generated` holds a folder for each concept: try "
            f"`generated` NAME={above}"
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
    notices: list[str] = []
    source = Source(path, counts, notices.append, variant, follow_links, image_key)
    listing = grouped(_images(source), path, notices)
    if not any(c in counts for c in listing.concepts) and isinstance(path, Path):
        _require_no_models(path, listing, counts)
    listing.notices += not_images(listing.ignored)
    if image_key is not None and not any(
        f"{SUFFIX}/" in i.path.lower() for images in listing.concepts.values() for i in images
    ):
        listing.notices.append(f"{path}: holds no WebDataset tar, so that `image_key` {image_key} was not used")
    return listing


def _images(source: Source) -> Iterator[Image]:
    """The images at a place, by the layout that they have there."""
    path = source.root
    if isinstance(path, Remote):
        return _of_variant(source, _objects(path))
    if path.name.lower().endswith(COMPRESSED):
        raise InputError(f"{path}: compressed, so that no image can be read by itself; uncompress it to a {SUFFIX}")
    if path.is_file() and path.suffix.lower() == SUFFIX:
        return webdataset_images(source, [path])
    if not is_text(str(path)) or not path.is_dir():
        return folder_images(path)  # says what is wrong
    if find_metadata(path) is not None:
        return imagefolder_images(source, path, metadata_below(path))
    children = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    folders = [p for p in children if p.is_dir()]
    tars = [p for p in children if p.suffix.lower() == SUFFIX and p.is_file()]
    packed = [p for p in children if p.name.lower().endswith(COMPRESSED) and p.is_file()]
    if packed and not folders:
        raise InputError(f"{packed[0]}: compressed, so that no image can be read by itself; uncompress it")
    if tars and not folders:
        return webdataset_images(source, tars)
    if any(is_geneval(f) for f in folders):
        return geneval_images(source, folders)
    if metadata := metadata_below(path):
        return imagefolder_images(source, path, metadata)
    if tars:
        verb, them, their = ("was", "it", "its") if len(tars) == 1 else ("were", "them", "their")
        source.tell(
            f"{path}: {counted(len(tars), 'tar file')} beside folders {verb} not read; give {them} a folder of {their} "
            f"own, first {tars[0]}"
        )
    told = set(map(str, tars))
    plain = folder_images(path, follow_links=source.follow_links)
    return _of_variant(source, (image for image in plain if image.path not in told))


def _of_variant(source: Source, images: Iterable[Image]) -> Iterator[Image]:
    return (image._replace(variant=source.variant) for image in images)


def _objects(root: Remote) -> Iterator[Image]:
    """One folder a concept on object storage, in one listing."""
    items = root.files()
    other = [k for k in items if "/" not in k and (k in FILES or k.lower().endswith((SUFFIX, *COMPRESSED)))]
    other += [k for k in items if k.count("/") == 1 and k.endswith("/metadata.jsonl")]
    if other or (not items and root.name.lower().endswith((SUFFIX, *COMPRESSED))):
        raise InputError(
            f"{root / other[0] if other else root}: on object storage images lie in one folder a concept; copy "
            f"{'this' if other else 'tar files'} to a disk and name that with `generated`"
        )
    return object_images(root, items)


def _require_no_models(root: Path, listing: Listing, counts: Counts) -> None:
    """Raises :class:`InputError` where no folder is a concept of the index, but a folder within one is."""
    for folder in listing.folders.values():
        if any(p.is_dir() and concept_name(p.name) in counts for p in Path(folder).iterdir()):
            raise InputError(
                f"{root}: no folder here is a concept of the index, but {folder} holds some; name the folder of each "
                f"model: `generated` {Path(folder).name}={folder}"
            )
