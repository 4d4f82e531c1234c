"""Generated images in WebDataset tars: which members are one sample, and which image of it counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.folders import LEADS_OUT, is_text, shown
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.listing import Source, name_within
from iconicity.indexer.sources.metadata import KNOWN, Columns, Fields, clean
from iconicity.indexer.sources.suffixes import UNSUPPORTED, is_image, is_read
from iconicity.indexer.sources.tables import Names, parse_object
from iconicity.indexer.sources.tar import TarIndex, read_member, sample_key, tar_index
from iconicity.indexer.text import counted

IMAGE_KEYS = ("jpg", "jpeg", "png", "webp")
_SIDECAR_BYTES = 1 << 20  # a sidecar that is larger describes no image
_FIELDS = Names(KNOWN)
_NAMED = 6  # kinds of members in a note


@dataclass
class _Told:
    """Counts for notes on all tars together."""

    unread: Counter[str] = field(default_factory=Counter)  # kinds of members that were not read
    lacking: list[str] = field(default_factory=list)  # samples without the image asked for
    dotted: list[str] = field(default_factory=list)  # images whose names hold dots that end no key


def webdataset_images(source: Source, tars: Sequence[Path]) -> Iterator[Image]:
    """WebDataset: members of a tar that share a key (the path up to the first dot of its last part) are one sample.

    One image of a sample counts, by a path through the tar: that of ``source.image_key``, else the first of
    :data:`IMAGE_KEYS`. Its ``.json`` gives the fields, its ``.txt`` the prompt. Raises :class:`InputError` when it is
    open which image of the samples is meant.
    """
    columns, told, any_usable = Columns(), _Told(), False
    for tar in tars:
        if tar != source.root and not source.stays(tar.name):
            yield Image(shown(tar), problem=LEADS_OUT)
            continue
        try:
            index = tar_index(tar)
        except OSError as e:
            yield Image(shown(tar), problem=f"cannot be read: {e.strerror or e}")
            continue
        if index.damage is not None:
            yield Image(shown(tar), problem=index.damage)
        if index.others:
            source.tell(
                f"{tar}: {counted(index.others, 'link, device or sparse file in it was', 'links, devices or sparse files in it were')} ignored"
            )
        for image in _tar_images(source, tar, index, columns, told):
            any_usable = any_usable or bool(image.name)
            yield image
    if told.lacking and not any_usable and source.image_key is not None:
        images = (kind for kind, _ in told.unread.most_common() if is_image(f"x.{kind}"))
        known = ", ".join(islice(images, _NAMED))
        raise InputError(
            f"{source.root}: no sample has an image {source.image_key} (images: {known}); name one of these"
        )
    for line in (*columns.notices(source.root), *_said(source, told)):
        source.tell(line)


def _said(source: Source, told: _Told) -> list[str]:
    lines = []
    if told.unread:
        kinds = [f"{kind} ({n})" for kind, n in told.unread.most_common(_NAMED)]
        more = f" and {len(told.unread) - _NAMED} more kinds" if len(told.unread) > _NAMED else ""
        lines.append(
            f"{source.root}: one image, .json and .txt of each sample were read (`image_key` names another image); "
            f"parts that were not read: {', '.join(kinds)}{more}"
        )
    if told.lacking:
        key = source.image_key or "jpg, jpeg, png or webp"
        samples = counted(len(told.lacking), "sample has", "samples have")
        lines.append(f"{source.root}: {samples} no image {key} and did not count, first {told.lacking[0]}")
    if told.dotted:
        images = counted(len(told.dotted), "image has", "images have")
        lines.append(
            f"{source.root}: {images} a dot in the name, where WebDataset ends the key of a sample; each was taken as a "
            f"sample of its own, first {told.dotted[0]}"
        )
    return lines


def _tar_images(source: Source, tar: Path, index: TarIndex, columns: Columns, told: _Told) -> Iterator[Image]:
    sidecars: dict[tuple[str, str], str] = {}
    samples: dict[str, list[tuple[str, str]]] = {}  # key -> (what follows it, member) of its images
    others: list[str] = []
    for member in index.members:
        stem, dot, suffix = member.rpartition(".")
        key, follows = sample_key(member)
        if not dot or not key.rpartition("/")[2]:  # hidden, or without a key
            continue
        if suffix.lower() in ("json", "txt"):
            sidecars[stem, suffix.lower()] = member
        elif is_image(member):
            samples.setdefault(key, []).append((follows, member))
        else:
            others.append(follows)
    told.unread.update(others)
    for member, key in _chosen(source, tar, samples, sidecars, told):
        path = f"{tar.as_posix()}/{member}"
        if not is_text(path):
            yield Image(shown(Path(path)), problem="its name is not UTF-8; rename it")
            continue
        if not is_read(member):
            yield Image(path, problem=UNSUPPORTED)
            continue
        fields = _fields(tar, index, sidecars, (os.path.splitext(member)[0], key), columns)  # noqa: PTH122
        concept = source.concept(fields, member.rpartition("/")[0].rpartition("/")[2])
        if not concept:
            yield Image(path, prompt=fields.prompt)
            continue
        # a label must stay one wherever it is used to name a file
        label = "/".join("__" if part == ".." else part for part in name_within(concept, member).split("/"))
        name = label if tar == source.root else f"{tar.name}/{label}"
        yield source.image(concept, name, path, fields, f"{tar}/{key}")


def _chosen(
    source: Source,
    tar: Path,
    samples: dict[str, list[tuple[str, str]]],
    sidecars: dict[tuple[str, str], str],
    told: _Told,
) -> list[tuple[str, str]]:
    """(member, key) of the images that count. Raises :class:`InputError` when it is open which are meant."""
    often = Counter(follows for images in samples.values() for follows, _ in images)
    plain = any("." not in follows for follows in often)
    chosen: list[tuple[str, str]] = []
    for key, images in samples.items():
        # a sidecar with the whole stem says that the dots belong to the name
        own = [m for follows, m in images if "." in follows and _has_sidecar(m, sidecars)]
        rest = [(follows, m) for follows, m in images if m not in own]
        taken = _first(rest, source.image_key)
        if taken is None and rest and source.image_key is None and not any(often[f] > 1 and plain for f, _ in rest):
            if len(rest) > 1 and any(often[f] > 1 for f, _ in rest):
                kinds = ", ".join(sorted(f for f, _ in rest))
                raise InputError(
                    f"{tar}: sample {key} has the images {kinds}; name the one that counts with `image_key`"
                )
            if len(rest) > 1 or often[rest[0][0]] == 1:
                own += [m for _, m in rest]
                rest = []
            else:
                taken = rest[0][1]
        if taken is not None:
            chosen.append((taken, key))
        elif rest:
            told.lacking.append(f"{tar}/{key}")
        told.unread.update(follows for follows, m in rest if m != taken)
        chosen += [(m, key) for m in own]
        told.dotted += [f"{tar}/{m}" for m in own]
    return chosen


def _first(images: Sequence[tuple[str, str]], image_key: str | None) -> str | None:
    """The image of a sample that counts; None: none is it for certain."""
    if image_key is not None:
        wanted = image_key.lower().lstrip(".")
        return next((m for f, m in images if f == wanted or f.startswith(f"{wanted}.")), None)
    for key in IMAGE_KEYS:
        if (found := next((m for f, m in images if f == key), None)) is not None:
            return found
    plain = sorted(((f, m) for f, m in images if "." not in f), key=lambda image: not is_read(image[1]))
    return plain[0][1] if plain else None


def _has_sidecar(member: str, sidecars: dict[tuple[str, str], str]) -> bool:
    stem = member.rpartition(".")[0]
    return (stem, "json") in sidecars or (stem, "txt") in sidecars


def _fields(
    tar: Path, index: TarIndex, sidecars: dict[tuple[str, str], str], stems: Sequence[str], columns: Columns
) -> Fields:
    """Return the fields from the sidecars of the first stem that has any."""
    found = {k: next((sidecars[s, k] for s in stems if (s, k) in sidecars), None) for k in ("json", "txt")}
    fields = Fields()
    if (data := _sidecar(tar, index, found["json"], columns)) is not None:
        row = parse_object(data, _FIELDS)
        if row is None:
            columns.fault("json", f"{tar}/{found['json']}: no JSON object, and was passed over")
        else:
            fields = columns.read(row, f"{tar}/{found['json']}")
    if fields.prompt is None and (data := _sidecar(tar, index, found["txt"], columns)) is not None:
        fields = fields._replace(prompt=clean(data.decode("utf-8-sig", "replace")) or None)
    return fields


def _sidecar(tar: Path, index: TarIndex, member: str | None, columns: Columns) -> bytes | None:
    if member is None:
        return None
    size = index.members[member][1]
    if size > _SIDECAR_BYTES:
        columns.fault("large", f"{tar}/{member}: {size} bytes are too many for a sidecar; it was passed over")
        return None
    return read_member(tar, member)
