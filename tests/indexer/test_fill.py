"""What is known by content is not embedded again: decided once, for an index and for the cache alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.engine import Outcome, Task
from iconicity.indexer.fill import NOTHING, Held, Item, Wanted, fill
from iconicity.indexer.sources.image import Image, stored_image

BOTH = Wanted()
Tasks = Iterable[Task[Item[int]]]


class Kept:
    """What is known and the sink, in memory. ``pending`` is lost when a run is stopped."""

    def __init__(self) -> None:
        self.written: dict[str, Outcome] = {}
        self.pending: dict[str, Outcome] = {}
        self.seen: list[tuple[Image, Outcome]] = []

    def sha256(self, image: Image) -> str | None:
        return None

    def remember(self, image: Image) -> None:
        assert image.sha256 is not None

    def look_up(self, images: Sequence[Image], wanted: Sequence[Wanted]) -> list[Held]:
        found = [self.written.get(image.sha256 or "") for image in images]
        return [Held() if outcome is None else Held(BOTH, outcome) for outcome in found]

    def put(self, image: Image, outcome: Outcome, new: Outcome) -> None:
        self.seen.append((image, outcome))
        if new.vectors is not None and image.sha256 is not None:
            self.pending[image.sha256] = new
        if len(self.pending) == 2:
            self.flush()

    def flush(self) -> None:
        self.written |= self.pending
        self.pending = {}


class Embed:
    """An engine whose vectors say which bytes they are of; it counts what it reads."""

    def __init__(self, order: Callable[[list[Any]], Iterable[Any]] = lambda found: found) -> None:
        self.read: list[str] = []
        self._order = order

    def __call__(self, tasks: Tasks) -> Iterator[tuple[Item[int], Outcome]]:
        yield from self._order([(task.key, self._outcome(task)) for task in tasks])

    def _outcome(self, task: Task[Item[int]]) -> Outcome:
        if task.job is None:
            return Outcome()
        self.read.append(task.job.path)
        data = Path(task.job.path).read_bytes()
        if data == b"broken":
            return Outcome("not an image")
        value = np.full(2, data[0], np.float32)
        vectors = Vectors(value if task.job.clip else None, value[None] if task.job.patches else None)
        return Outcome(None, hashlib.sha256(data).hexdigest(), size=(1, 1), vectors=vectors)


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    contents = [b"a", b"b", b"a", b"c", b"broken", b"d", b"a"]
    for i, data in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(data)
    found = [Image(str(tmp_path / f"{i}.png"), "c", f"{i}.png") for i in range(len(contents))]
    return [*found, Image(str(tmp_path / "gone.png"), "c", "gone.png")]


def run(images: list[Image], kept: Kept, embed: Embed, **options: Any) -> list[tuple[str, float | None, str | None]]:
    """Name, what the vectors say, and the reason why there are none, in order of the images."""
    asked = ((image, i) for i, image in enumerate(images))
    out = []
    for image, key, outcome in fill(asked, lambda _image, _key: BOTH, kept, kept, embed, **options):
        clip = None if outcome.vectors is None or outcome.vectors.clip is None else float(outcome.vectors.clip[0])
        out.append((key, image.name, clip, outcome.reason))
    return [tuple(facts) for _, *facts in sorted(out)]  # type: ignore[misc]


EXPECTED = [("0.png", ord("a")), ("1.png", ord("b")), ("2.png", ord("a")), ("3.png", ord("c")), ("4.png", None),
            ("5.png", ord("d")), ("6.png", ord("a")), ("gone.png", None)]  # fmt: skip


@pytest.mark.parametrize("order", [list, lambda found: reversed(found)])
def test_the_same_bytes_are_embedded_once_in_whatever_order_they_come_back(
    images: list[Image], order: Callable[[list[Any]], Iterable[Any]]
) -> None:
    kept, embed = Kept(), Embed(order)
    found = run(images, kept, embed)
    assert [(name, value) for name, value, _ in found] == EXPECTED
    reasons = {name: reason for name, _, reason in found if reason is not None}
    assert reasons["4.png"] == "not an image" and "cannot be read" in reasons["gone.png"] and len(reasons) == 2
    assert [Path(p).name for p in embed.read] == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    assert len(kept.written) == 4 and len(kept.seen) == len(images)


def test_a_run_that_was_stopped_goes_on_where_the_sink_was(images: list[Image]) -> None:
    kept = Kept()
    asked = ((image, i) for i, image in enumerate(images))
    stream = fill(asked, lambda _image, _key: BOTH, kept, kept, Embed())
    for _ in range(4):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(kept.written) == 2 and len(kept.pending) == 1  # a, b; and c, which is lost
    kept.pending = {}
    again = Embed()
    assert [(name, value) for name, value, _ in run(images, kept, again)] == EXPECTED
    assert [Path(p).name for p in again.read] == ["3.png", "4.png", "5.png"]
    once_more = Embed()
    run(images, kept, once_more)
    assert [Path(p).name for p in once_more.read] == ["4.png"]


def test_only_what_is_lacking_is_embedded(images: list[Image]) -> None:
    kept, embed = Kept(), Embed()
    (found,) = fill([(images[0], 0)], lambda _image, _key: Wanted(True, False), kept, kept, embed)
    assert found[2].vectors is not None and found[2].vectors.clip is not None and found[2].vectors.patches is None
    (nothing,) = fill([(images[1], 0)], lambda _image, _key: NOTHING, kept, kept, embed)
    assert nothing[2].vectors is None and len(embed.read) == 1


def test_an_engine_that_hashes_is_given_files_unread(images: list[Image]) -> None:
    kept, embed = Kept(), Embed()
    found = run(images[:-1], kept, embed, hash_first=False)
    assert [(name, value) for name, value, _ in found] == EXPECTED[:-1]
    assert len(embed.read) == 7 and len(kept.written) == 4


def test_a_stored_image_is_taken_at_its_word(images: list[Image]) -> None:
    kept, embed = Kept(), Embed()
    run(images, kept, embed)
    sha = hashlib.sha256(b"b").hexdigest()
    gone = [
        stored_image("/nowhere.png", "c", "c/old.png", sha),
        stored_image("/no.png", "c", "c/no.png", None, "empty file"),
    ]
    assert run(gone, kept, embed) == [("old.png", ord("b"), None), ("no.png", None, "empty file")]
