"""Merged parts equal one build of all files; what does not belong together is refused with both names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run import run
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, InputError, LockedError, SettingsError
from iconicity.indexer.merge import merge_indexes
from iconicity.indexer.options import IndexOptions, Select
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.files import LOCKS, lock
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.verify import verify_index

CONCEPTS = ("alpha", "beta", "gamma", "a-b", "a")


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    refs = make_refs(tmp_path / "refs", CONCEPTS)
    (refs / "beta" / "broken.png").write_bytes(b"no image")
    shutil.copy(refs / "alpha" / "00.png", refs / "gamma" / "same_bytes.png")
    return refs


def build_parts(refs: Path, root: Path, n: int = 3, options: IndexOptions = IndexOptions()) -> list[Path]:
    for i in range(1, n + 1):
        build_index(refs, root / f"part{i}", toy_encoders(), options, select=Select(shard=Shard(i, n)))
    return [root / f"part{i}" for i in range(1, n + 1)]


def rows(index: Path) -> list[tuple[Any, ...]]:
    out = []
    for row, checksum in open_index(index).store.rows_with_checksums():
        out.append((row.reference, *(None if v is None else v.tobytes() for v in (row.clip, row.patches)), checksum))
    return sorted(out, key=lambda r: r[0].ref_id)


def assert_equal_to_one_build(index: Path, refs: Path, root: Path, options: IndexOptions = IndexOptions()) -> None:
    build_index(refs, root / "whole", toy_encoders(), options)
    merged, whole = open_index(index), open_index(root / "whole")
    assert merged.index_id == whole.index_id and rows(index) == rows(root / "whole")
    for key in ("counts", "skipped", "settings", "concepts_digest"):
        assert merged.manifest[key] == whole.manifest[key], key
    assert verify_index(index) == []


@pytest.mark.parametrize(
    "options", [IndexOptions(), IndexOptions(dedup_distance=None), IndexOptions((2, 3), vectors="float16")], ids=str
)
def test_merged_parts_equal_one_build(refs: Path, tmp_path: Path, options: IndexOptions) -> None:
    parts = build_parts(refs, tmp_path, options=options)
    report = merge_indexes(parts, tmp_path / "i")
    assert_equal_to_one_build(tmp_path / "i", refs, tmp_path, options)
    counts = open_index(tmp_path / "i").manifest["counts"]
    assert report.merged == counts["references"] == 21 and report.unchanged == 0
    assert (report.concepts, report.kept, report.dropped) == (5, counts["kept"], counts["dropped"])
    assert [s.ref_id for s in report.skipped] == ["beta/broken.png"]
    entry = open_index(tmp_path / "i").manifest["log"][-1]
    assert (entry["command"], entry["parts"], entry["merged"], entry["unchanged"]) == ("merge", 3, 21, 0)


def test_merging_again_changes_nothing_and_follows_what_the_parts_became(refs: Path, tmp_path: Path) -> None:
    parts = build_parts(refs, tmp_path)
    merge_indexes(parts, tmp_path / "i")
    files = [p for p in sorted((tmp_path / "i").rglob("*")) if p.is_file() and p.name not in LOCKS]
    before = [p.read_bytes() for p in files]
    report = merge_indexes(parts[::-1], tmp_path / "i")
    assert (report.merged, report.unchanged, report.changed) == (0, 21, False)
    assert [p.read_bytes() for p in files] == before
    write(refs / "alpha" / "01.png", draw(999))
    write(refs / "delta" / "0.png", draw(998))
    write(refs / "beta" / "broken.png", draw(997))
    parts = build_parts(refs, tmp_path)
    report = merge_indexes(parts, tmp_path / "i")
    assert (report.merged, report.unchanged, report.skipped) == (3, 20, [])
    assert_equal_to_one_build(tmp_path / "i", refs, tmp_path)


def test_what_the_index_holds_of_other_concepts_stays(refs: Path, tmp_path: Path) -> None:
    other = make_refs(tmp_path / "other", ["omega"], each=1)
    (other / "omega" / "bad.png").write_bytes(b"no image")
    build_index(other, tmp_path / "i", toy_encoders())
    merge_indexes(build_parts(refs, tmp_path), tmp_path / "i")
    shutil.copytree(other / "omega", refs / "omega")
    held = open_index(tmp_path / "i")
    assert set(held.concepts()) == {*CONCEPTS, "omega"} and len(held.manifest["log"]) == 2
    assert [s["concept"] for s in held.manifest["skipped"]] == ["omega", "beta"]


def test_stopped_anywhere_it_goes_on(refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build_parts(refs, tmp_path)
    monkeypatch.setattr("iconicity.indexer.merge._COMMIT_ROWS", 4)
    upsert, drop = ReferenceStore.upsert, ReferenceStore.drop_old_versions

    class Killed(BaseException):
        pass

    def dying(call: Callable[..., None], after: int) -> Callable[..., None]:
        calls = 0

        def wrapped(*args: Any) -> None:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            call(*args)

        return wrapped

    for commits in (0, 1, 3):
        monkeypatch.setattr(ReferenceStore, "upsert", dying(upsert, commits))
        with pytest.raises(Killed):
            merge_indexes(parts, tmp_path / "i")
        with pytest.raises(IndexFormatError, match="did not finish"):
            open_index(tmp_path / "i")
    monkeypatch.setattr(ReferenceStore, "upsert", upsert)
    monkeypatch.setattr(ReferenceStore, "drop_old_versions", dying(drop, 0))
    with pytest.raises(Killed):
        merge_indexes(parts, tmp_path / "i")
    monkeypatch.setattr(ReferenceStore, "drop_old_versions", drop)
    report = merge_indexes(parts, tmp_path / "i")
    assert report.merged == 0 and report.unchanged == 21
    assert_equal_to_one_build(tmp_path / "i", refs, tmp_path)


def test_rows_are_read_a_commit_at_a_time(refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.indexer.merge._COMMIT_ROWS", 4)
    sizes: list[int] = []
    upsert = ReferenceStore.upsert

    def counted(store: ReferenceStore, rows: list[Any]) -> None:
        sizes.append(len(rows))
        upsert(store, rows)

    monkeypatch.setattr(ReferenceStore, "upsert", counted)
    merge_indexes(build_parts(refs, tmp_path, 1), tmp_path / "i")
    assert sum(sizes[-6:]) == 21 and max(sizes[-6:]) == 4


def test_parts_without_rows_and_the_same_part_twice(refs: Path, tmp_path: Path) -> None:
    (part,) = build_parts(refs, tmp_path, 1)
    n = next(n for n in range(1, 99) if not any(c in Shard(n, 99) for c in CONCEPTS))
    build_index(refs, tmp_path / "empty", toy_encoders(), select=Select(shard=Shard(n, 99)))
    report = merge_indexes([tmp_path / "empty"], tmp_path / "none")
    assert report.concepts == 0 and verify_index(tmp_path / "none") == []
    shutil.copytree(part, tmp_path / "copy")
    merge_indexes([tmp_path / "empty", part, part, tmp_path / "copy"], tmp_path / "i")
    assert_equal_to_one_build(tmp_path / "i", refs, tmp_path)


def test_other_settings_are_named(refs: Path, tmp_path: Path) -> None:
    parts = build_parts(refs, tmp_path, 2)
    for name, encoders, options in (
        ("grid=.*with .4, 4.", toy_encoders(), IndexOptions((2, 2))),
        ("dedup_distance=3, .*with 18", toy_encoders(), IndexOptions(dedup_distance=3)),
        ("another global encoder", toy_encoders(clip_seed=7), IndexOptions()),
    ):
        shutil.rmtree(parts[1])
        build_index(refs, parts[1], encoders, options, select=Select(shard=Shard(2, 2)))
        with pytest.raises(SettingsError, match=f"{parts[1]}: made with {name}"):
            merge_indexes(parts, tmp_path / "i")
        assert not (tmp_path / "i").exists()
    merge_indexes(parts[:1], tmp_path / "i")
    with pytest.raises(SettingsError, match=f"{tmp_path / 'i'}: made with another global encoder .*against {parts[1]}"):
        merge_indexes(parts[1:], tmp_path / "i")


def test_one_concept_in_two_parts(tmp_path: Path) -> None:
    a, b = make_refs(tmp_path / "a", ["alpha"]), make_refs(tmp_path / "b", ["alpha"])
    for refs in (a, b):
        build_index(refs, refs.with_suffix(".index"), toy_encoders())
    parts = [tmp_path / "a.index", tmp_path / "b.index"]
    merge_indexes(parts, tmp_path / "i")  # the same files in two places are the same references
    assert verify_index(tmp_path / "i") == []
    write(b / "alpha" / "01.png", draw(77))
    build_index(b, parts[1], toy_encoders())
    with pytest.raises(InputError, match=f"{parts[1]}: holds other bytes than {parts[0]} under the name alpha/01.png"):
        merge_indexes(parts, tmp_path / "j")
    (b / "alpha" / "01.png").unlink()
    build_index(b, parts[1], toy_encoders(), prune=True)
    with pytest.raises(InputError, match=f"'alpha' has other references than in {parts[0]}, first alpha/01.png"):
        merge_indexes(parts, tmp_path / "j")
    with pytest.raises(InputError, match=r"holds alpha/01.png, a reference of .*b.index lacks"):
        merge_indexes(parts[1:], tmp_path / "i")
    done = run("index", "merge", *parts, "--index", tmp_path / "j", code=1)
    assert "first alpha/01.png" in done.stderr and not (tmp_path / "j").exists()


def test_parts_that_are_not_finished_or_not_whole(refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build_parts(refs, tmp_path, 2)
    with pytest.raises(IndexFormatError, match="no such index"):
        merge_indexes([*parts, tmp_path / "gone"], tmp_path / "i")
    with pytest.raises(InputError, match="is the index to merge into"):
        merge_indexes(parts, parts[0])
    with lock(tmp_path / "i", "building this index"), pytest.raises(LockedError):
        merge_indexes(parts, tmp_path / "i")
    for concept in CONCEPTS:
        write(refs / concept / "new.png", draw(4321))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("iconicity.indexer.builder.seal", lambda *_, **__: (_ for _ in ()).throw(RuntimeError))
        build_index(refs, parts[0], toy_encoders(), select=Select(shard=Shard(1, 2)))
    with pytest.raises(IndexFormatError, match="its last build did not finish"):
        merge_indexes(parts, tmp_path / "i")
    build_index(refs, parts[0], toy_encoders(), select=Select(shard=Shard(1, 2)))
    largest = max((parts[0] / "references.lance" / "data").glob("*.lance"), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    for i in range(0, len(data) - 4096, 5):  # rows, not only what lies between them
        data[i] ^= 4
    largest.write_bytes(data)
    with pytest.raises(CorruptIndexError):
        merge_indexes(parts, tmp_path / "i")
