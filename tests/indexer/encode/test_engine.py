"""The map from bytes to vectors: units of whole concepts, dedup within them, the same outcomes in any cut."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from engines import plan, tasks
from hypothesis import given
from hypothesis import strategies as st
from toys import make_refs, toy_encoders

from iconicity.indexer.encode import engine
from iconicity.indexer.encode.engine import Local, Outcome, Runner, Task, in_units, units
from iconicity.indexer.encode.prepare import Job


def never(*_: object) -> object:
    raise AssertionError("nothing is to be loaded")


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 12))
def test_units_hold_whole_concepts_and_every_task_once(sizes: list[int], size: int) -> None:
    asked = [Task("x", None, f"c{i}") for i, n in enumerate(sizes) for _ in range(n)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "UNIT_IMAGES", size)
        found = list(units(asked))
    assert [t.key for unit in found for t in unit] == list(range(len(asked)))
    concepts = [{t.concept for t in unit} for unit in found]
    assert sum(map(len, concepts)) == len(set().union(*concepts)) if concepts else not asked
    for unit, names in zip(found, concepts, strict=True):
        before_last = sum(t.concept != unit[-1].concept for t in unit)
        assert before_last < size and names


def test_images_without_a_concept_are_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "UNIT_IMAGES", 4)
    assert [len(u) for u in units([Task(i, None) for i in range(10)])] == [4, 4, 2]


def test_a_cluster_keeps_books_of_a_bounded_number_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_MOST_UNITS", 5)
    assert [len(u) for u in units([Task(i, None) for i in range(400)])] == [80] * 5


def test_any_cut_gives_the_same(tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path))
    whole = list(Local(lambda _c, _d: toy_encoders()).run(plan(), asked))
    assert [k for k, _ in whole] == [t.key for t in asked]
    runner = Runner(plan(), lambda _c, _d: toy_encoders())
    parts = [asked[i].key for unit in units(asked) for i, _ in runner.stream(unit)]
    assert parts == [k for k, _ in whole]
    runner.close()


def test_a_known_duplicate_is_read_only_when_it_is_kept(tmp_path: Path) -> None:
    refs = make_refs(tmp_path, ["a"])
    first, last = sorted((refs / "a").iterdir())[::3]
    seen = {k: o for k, o in Local(lambda _c, _d: toy_encoders()).run(plan(), tasks(refs))}
    job = Job(str(last))
    known = seen[last.as_posix()].phash
    asked = [Task("first", None, "a", "a/1", seen[first.as_posix()].phash), Task("dup", job, "a", "a/2", known)]
    dropped = dict(Local(never).run(plan(), asked))  # type: ignore[arg-type]
    assert dropped["dup"] == Outcome(dup_of="a/1", dup_distance=seen[last.as_posix()].dup_distance)
    ((_, revived),) = Local(lambda _c, _d: toy_encoders()).run(plan(), asked[1:])
    assert revived.dup_of is None and revived.vectors is not None and revived.vectors.clip is not None


def test_nothing_to_read_starts_nothing() -> None:
    asked = [Task(1, None, "a", "a/1", "0" * 16), Task(2, None, "a", "a/2", "0" * 16), Task(3, None)]
    found = in_units(plan(), asked, lambda _: pytest.fail("nothing is to be read"))
    assert {key: outcome.dup_of for key, outcome in found} == {1: None, 2: "a/1", 3: None}
    given: list[list[Task[int]]] = []

    def note(parts: list[list[Task[int]]]) -> Generator[tuple[int, Outcome], None, None]:
        given.extend(parts)
        yield 0, Outcome(phash="read")

    (read,) = (o for k, o in in_units(plan(), [*asked[2:], Task(4, Job("x"))], note) if k == 4)
    assert read.phash == "read" and [[task.job for task in unit] for unit in given] == [[Job("x")]]
