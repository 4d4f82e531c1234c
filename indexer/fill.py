"""Turn images into vectors: look up those that are known by their bytes, and embed the rest. There is no other way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.engine import Outcome, Task
from iconicity.indexer.encode.prepare import Job
from iconicity.indexer.sources.folders import REQUESTS, hashed
from iconicity.indexer.sources.image import Image

K = TypeVar("K")
_AT_ONCE = (
    64  # images hashed and looked up together, by some threads: storage answers slowly, and hashing holds no lock
)


class Wanted(NamedTuple):
    """Parts of an image that are wanted, or known: its vectors, and its facts (size, notes, hash of a reference)."""

    clip: bool = True
    patches: bool = True
    facts: bool = True

    def without(self, known: Wanted) -> Wanted:
        """The parts that are wanted here and not ``known``."""
        return Wanted(*(want and not has for want, has in zip(self, known, strict=True)))


NOTHING = Wanted(False, False, False)


class Held(NamedTuple):
    """Parts that are known of an image. ``outcome`` holds its facts, and its vectors where these were read."""

    has: Wanted = NOTHING
    outcome: Outcome = Outcome()


class Files(Protocol):
    """Memory of files that were read before."""

    def sha256(self, image: Image) -> str | None:
        """SHA-256 of an image's bytes if it is known without reading the file, else None."""
        ...

    def remember(self, image: Image) -> None:
        """Keep the SHA-256 of an image that was read."""
        ...


class Known(Files, Protocol):
    """Vectors and facts by content: the rows of an index, or the cache of generated images' vectors."""

    def look_up(self, images: Sequence[Image], wanted: Sequence[Wanted]) -> list[Held]:
        """For each image the parts that are wanted and known by its bytes."""
        ...


class Sink(Protocol):
    """Writer of outcomes. It writes in batches, so that a stopped run loses one batch at most."""

    def put(self, image: Image, outcome: Outcome, new: Outcome) -> None:
        """Take an image. ``outcome`` is all that is known of it now, ``new`` the part that was computed."""
        ...

    def flush(self) -> None:
        """Write the images that were taken and not yet written."""
        ...


@dataclass
class Item(Generic[K]):
    """One image on its way through :func:`fill`, with the caller's own ``key``."""

    image: Image
    key: K
    wanted: Wanted
    held: Held
    same: Item[K] | None = None  # an image with the same bytes that is embedded on its way before this one
    new: Outcome | None = None  # once it is embedded
    waiting: list[Item[K]] = field(default_factory=list)  # images with the same bytes that came back before this one


Want = Callable[[Image, K], Wanted]
Embed = Callable[[Iterable[Task[Item[K]]]], Iterator[tuple[Item[K], Outcome]]]


def decide(
    images: Iterable[tuple[Image, K]], want: Want[K], known: Known, *, references: bool = False, hash_first: bool = True
) -> Iterator[Task[Item[K]]]:
    """Yield a task for each image. Its job asks for the parts that are wanted and not known; without such parts it is None.

    Each file is hashed to look it up. Without ``hash_first`` only files whose SHA-256 is known unread are looked up; the
    engine hashes the others when it reads them. ``references`` are deduplicated within their concepts on the way: a
    reference whose perceptual hash is known is read only if it is kept.
    """
    on_the_way: dict[str, Item[K]] = {}
    iterator = iter(images)
    with ThreadPoolExecutor(REQUESTS, "hash") as threads:
        while part := list(islice(iterator, _AT_ONCE)):
            on_the_way = {sha: item for sha, item in on_the_way.items() if item.new is None}
            seen, keys = (
                identified([image for image, _ in part], known, threads if hash_first else None),
                [k for _, k in part],
            )
            wanted = [NOTHING if i.problem is not None else want(i, key) for i, key in zip(seen, keys, strict=True)]
            for facts in zip(seen, keys, wanted, known.look_up(seen, wanted), strict=True):
                yield _task(Item(*facts), on_the_way, references)


def identified(images: Iterable[Image], known: Files, threads: ThreadPoolExecutor | None) -> list[Image]:
    """Return images with the SHA-256 of their bytes, or with the problem why they cannot be read.

    ``threads`` read the files whose SHA-256 is not known, since storage answers slowly and hashing holds no lock. With
    None these images stay as they are.
    """
    out = [
        image._replace(sha256=known.sha256(image)) if image.problem is None and not image.stored else image
        for image in images
    ]
    unread = [i for i, image in enumerate(out) if image.sha256 is None and image.problem is None]
    if threads is None:
        return out
    for i, found in zip(unread, threads.map(hashed, [out[i].path for i in unread]), strict=True):
        if isinstance(found, str):
            out[i] = out[i]._replace(sha256=found)
            known.remember(out[i])
        else:
            out[i] = out[i]._replace(problem=found.reason)
    return out


def hashes(images: Iterable[Image], known: Files) -> dict[str, str | None]:
    """SHA-256 of images' bytes by their paths, None of those that cannot be read."""
    with ThreadPoolExecutor(REQUESTS, "hash") as threads:
        return {image.path: image.sha256 for image in identified(images, known, threads)}


def _task(item: Item[K], on_the_way: dict[str, Item[K]], references: bool) -> Task[Item[K]]:
    image = item.image
    lacking = item.wanted.without(item.held.has)
    job = Job(image.path, image.sha256, lacking.clip, lacking.patches, references and not item.held.has.facts)
    if references:
        phash = item.held.outcome.phash if item.held.has.facts else None
        return Task(item, job if any(lacking) else None, image.concept, image.id, phash)
    if not any(lacking):
        return Task(item, None)
    before = None if image.sha256 is None else on_the_way.get(image.sha256)
    if before is not None and before.wanted == item.wanted:
        item.same = before
        return Task(item, None)
    if image.sha256 is not None:
        on_the_way[image.sha256] = item
    return Task(item, job)


def fill(
    images: Iterable[tuple[Image, K]],
    want: Want[K],
    known: Known,
    sink: Sink,
    embed: Embed[K],
    *,
    references: bool = False,
    hash_first: bool = True,
) -> Iterator[tuple[Image, K, Outcome]]:
    """Yield each image with its key and its outcome, in the order in which ``embed`` gives outcomes.

    **Resume**: an image is embedded only where :func:`decide` finds that its bytes are not known, and what is embedded
    goes to the sink at once. A run that was stopped and is started again embeds what the sink had not yet written. For
    an index ``known`` and ``sink`` are its own table; for scores both are the vector cache.
    """
    tasks = decide(images, want, known, references=references, hash_first=hash_first)
    for item, new in embed(tasks):
        if item.same is not None:
            if item.same.new is None:
                item.same.waiting.append(item)  # an engine may give outcomes in any order
                continue
            new = item.same.new
        item.new = new
        for ready in (item, *item.waiting):
            image, outcome = _settled(ready, new)
            sink.put(image, outcome, new if ready.same is None else Outcome())
            yield image, ready.key, outcome
    sink.flush()


def _settled(item: Item[K], new: Outcome) -> tuple[Image, Outcome]:
    """Return an image with its SHA-256, and the outcome that joins the known parts with the ``new`` ones."""
    image, held = item.image, item.held.outcome
    if image.problem is not None:
        return image, Outcome(image.problem)
    if image.sha256 is None and new.sha256:
        image = image._replace(sha256=new.sha256)
    if not any(item.held.has):
        return image, new
    a, b = held.vectors or Vectors(None, None), new.vectors or Vectors(None, None)
    vectors = Vectors(a.clip if b.clip is None else b.clip, a.patches if b.patches is None else b.patches)
    facts = held if new.size == (0, 0) else new
    return image, replace(
        new,
        sha256=image.sha256 or "",
        phash=held.phash or new.phash,
        size=facts.size,
        notes=facts.notes,
        vectors=None if vectors.clip is None and vectors.patches is None else vectors,
    )
