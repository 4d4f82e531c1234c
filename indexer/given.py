"""The references that a command was given: the files it is about, those that cannot be used, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from iconicity.indexer.builder import Candidate
from iconicity.indexer.errors import InputError
from iconicity.indexer.left_out import EMPTY, NO_FOLDER, NOT_NAMED_REFERENCES, LeftOut, Skipped, rows_left_out
from iconicity.indexer.options import Select
from iconicity.indexer.places import Place
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.folders import LEADS_OUT, Discovery, discover, has_images, hashed, shown
from iconicity.indexer.sources.suffixes import not_images, passed_over
from iconicity.indexer.store.rows import Reference


@dataclass(frozen=True)
class Given:
    """Files by concept and name, and how many concepts there are in all shards."""

    candidates: list[Candidate]
    unusable: list[Skipped]
    left_out: list[LeftOut]
    n_concepts: int


def list_given(refs: Place, select: Select) -> Given:
    """List ``refs/<concept>/*``, of the concepts and the shard selected alone.

    Raises :class:`InputError` when no image lies there.
    """
    named, shard = None if select.concepts is None else list(select.concepts), select.shard
    found = discover(refs, named, select.follow_links)
    if not any(f.names for f in found.folders):
        if found.linked:
            raise InputError(f"{shown(found.linked[0][1])}: {LEADS_OUT}")
        told = passed_over(_unusable(found))
        where = f"no images in its folders that can be used ({told[0]})" if told else "no images in its folders"
        if has_images(refs):
            where = "images lie directly in it; name the folder above"
        raise InputError(f"{refs}: {where}: a reference is {refs.name or 'refs'}/<concept>/<file>.jpg, .png, ...")
    n_concepts = len(found.concept_set())
    if shard is not None:
        found = _within(found, shard)
        named = None if named is None else [c for c in named if c in shard]
    candidates = [
        Candidate(f"{folder.concept}/{name}", folder.concept, str(folder.path / name), read=True)
        for folder in found.folders
        for name in folder.names
    ]
    return Given(candidates, _unusable(found), _left_out(found, named), n_concepts)


def new_candidates(candidates: Sequence[Candidate], held: Mapping[str, Reference]) -> list[Candidate]:
    """Those an index does not hold. Raises :class:`InputError` where it holds other bytes under a name."""
    for c in candidates:
        sha = hashed(c.path) if c.ref_id in held else None
        if isinstance(sha, str) and sha != held[c.ref_id].sha256:
            raise InputError(
                f"{c.path}: the index holds other bytes under this name; use 'iconicity index build' to replace it"
            )
    return [c for c in candidates if c.ref_id not in held]


def _within(found: Discovery, shard: Shard) -> Discovery:
    return replace(
        found,
        folders=tuple(f for f in found.folders if f.concept in shard),
        unnamed=tuple(u for u in found.unnamed if u[0] in shard),
        linked=tuple(u for u in found.linked if u[0] in shard),
        passed=tuple(u for u in found.passed if u[0] in shard),
        unwanted=tuple(c for c in found.unwanted if c in shard),
    )


def _left_out(found: Discovery, concepts: Sequence[str] | None) -> list[LeftOut]:
    """What was given to build from and is not in an index of what was ``found``."""
    empty = [f for f in found.folders if not f.names]
    out = [LeftOut(EMPTY, 1, concept=f.concept, first=str(f.path)) for f in empty]
    out += [LeftOut(NOT_NAMED_REFERENCES, 1, concept=c, first=f"'{c}'") for c in found.unwanted]
    if concepts is not None:
        lacking = sorted(set(concepts) - found.concept_set() - {c for c, _ in found.linked})
        out += [LeftOut(NO_FOLDER, 1, concept=c, first=f"'{c}'") for c in lacking] + rows_left_out(concepts)
    return out + [LeftOut(line) for line in not_images([shown(path) for path in found.ignored])]


def _unusable(found: Discovery) -> list[Skipped]:
    return [Skipped(shown(path), concept, reason) for concept, path, reason in found.unusable()]
