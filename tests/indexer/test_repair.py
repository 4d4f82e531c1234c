"""What is right is kept, what is damaged is embedded again or named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.disk import Recorder
from toys import draw, forwards, toy_encoders, write

from iconicity.indexer import merge
from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.errors import CorruptIndexError, IconicityError, IndexFormatError, LockedError
from iconicity.indexer.merge import merge_indexes
from iconicity.indexer.options import Run
from iconicity.indexer.repair import repair_index
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.store.files import Reading, lock
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import MANIFEST, digest
from iconicity.indexer.store.rows import ReferenceStore, Row
from iconicity.indexer.store.table import HINT, versions_of
from iconicity.indexer.store.verify import verify_index


def rows(index: Path) -> list[tuple[Any, ...]]:
    held = [(r.reference, c) for r, c in open_index(index).store.rows_with_checksums()]
    return sorted(held, key=lambda r: r[0].ref_id)


@pytest.fixture
def index(refs: Path, tmp_path: Path) -> Path:
    build_index(refs, tmp_path / "i", toy_encoders())
    return tmp_path / "i"


class Load:
    """Encoders that are loaded only when they are needed."""

    def __init__(self) -> None:
        self.encoders = toy_encoders()
        self.loads = 0

    def __call__(self, clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
        self.loads += 1
        return self.encoders


def data_file(index: Path) -> Path:
    (path,) = (index / "references.lance" / "data").glob("*.lance")
    return path


def damage_vector(index: Path, ref_id: str) -> None:
    """Change one byte of one row's patch vectors."""
    row = open_index(index).store.rows([ref_id])[0]
    assert row.patches is not None
    needle = row.patches.tobytes()[40:120]
    content = data_file(index).read_bytes()
    assert content.count(needle) == 1
    at = content.index(needle)
    data_file(index).write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])


def test_a_damaged_row_alone_is_embedded_again(index: Path) -> None:
    before = rows(index)
    damage_vector(index, "beta/01.png")
    assert any("beta/01.png" in p for p in verify_index(index))
    with pytest.raises(CorruptIndexError, match="index repair"):
        open_index(index).block(["beta"])
    load = Load()
    repair = repair_index(index, run=Run(load=load))
    assert repair.embedded == 1 and repair.lost == [] and forwards(load.encoders) == 17
    assert rows(index) == before and verify_index(index) == []
    assert repair_index(index, run=Run(load=load)).done == []


def test_no_build_writes_damage_anew(index: Path, refs: Path) -> None:
    damage_vector(index, "beta/01.png")
    changes: list[Callable[[], object]] = [
        lambda: build_index(refs, index, toy_encoders()),
        lambda: add_references(refs, index, run=Run(load=Load())),
        lambda: remove_references(index, concepts=["alpha"], run=Run(load=Load())),
    ]
    for change in changes:
        with pytest.raises(CorruptIndexError, match=rf"{data_file(index).name}: bytes differ.*index repair"):
            change()


def test_what_cannot_be_embedded_again_is_named(index: Path, refs: Path) -> None:
    damage_vector(index, "beta/01.png")
    damage_vector(index, "gamma/02.png")
    (refs / "beta" / "01.png").unlink()
    write(refs / "gamma" / "02.png", draw(4321))
    repair = repair_index(index, run=Run(load=Load()))
    assert len(repair.lost) == 2 and repair.embedded == 0
    assert "beta/01.png" in repair.lost[0] and "changed since" in repair.lost[1]
    assert verify_index(index) == [] and len(rows(index)) == 10
    report = build_index(refs, index, toy_encoders())
    assert report.embedded == 1 and verify_index(index) == []


def test_an_unreadable_file_of_rows_is_read_as_far_as_it_goes(index: Path, refs: Path) -> None:
    """Metadata of a column is gone: every row is embedded again, by the names that can be read, or named as lost."""
    before = rows(index)
    path = data_file(index)
    content = bytearray(path.read_bytes())
    content[-60:] = bytes(60)
    path.write_bytes(content)
    repair = repair_index(index, run=Run(load=Load()))
    assert repair.lost == ["a row whose name cannot be read"] * 12
    report = build_index(refs, index, toy_encoders())
    assert report.embedded == 9 and rows(index) == before and verify_index(index) == []


def broken_manifest(index: Path) -> None:
    (index / MANIFEST).write_text("{")


def other_format(index: Path) -> None:
    text = (index / MANIFEST).read_text()
    (index / MANIFEST).write_text(text.replace('"format": 3', '"format": 4'))


def empty_version_file(index: Path) -> None:
    for path in versions_of(index).values():
        path.write_bytes(b"")


def changed_version_file(index: Path) -> None:
    for path in versions_of(index).values():
        path.write_bytes(path.read_bytes()[:-40] + b"x" * 40)


def no_version_file(index: Path) -> None:
    for path in versions_of(index).values():
        path.unlink()


def foreign_file(index: Path) -> None:
    (data_file(index).parent / "foreign.lance").write_bytes(b"x")


def changed_transaction(index: Path) -> None:
    for path in (index / "references.lance" / "_transactions").iterdir():
        path.write_bytes(b"x" + path.read_bytes()[1:])


DAMAGES = [
    broken_manifest, other_format, empty_version_file, changed_version_file, no_version_file, foreign_file,
    changed_transaction,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_whole_rows_are_taken_back_without_embedding(damage: Callable[[Path], None], index: Path) -> None:
    before = rows(index)
    damage(index)
    assert verify_index(index)
    load = Load()
    repair = repair_index(index, run=Run(load=load))
    assert repair.done and repair.lost == [] and not repair.unfinished and load.loads == 0
    assert rows(index) == before and verify_index(index) == []


def test_a_build_cut_off_goes_back_to_its_last_whole_version(index: Path, refs: Path) -> None:
    """What a power cut leaves of a version that was never synced: an empty file."""
    before = rows(index)
    store = ReferenceStore.open(index)
    assert store is not None
    row = store.rows(["alpha/00.png"])[0]
    store.upsert([row])
    newest = versions_of(index)[store.version]
    newest.write_bytes(b"")
    with pytest.raises(IndexFormatError, match="index repair"):
        build_index(refs, index, toy_encoders())
    repair = repair_index(index, run=Run(load=Load()))
    assert any("went back to version" in line for line in repair.done)
    assert rows(index) == before and verify_index(index) == []
    build_index(refs, index, toy_encoders())


def test_an_earlier_version_that_does_not_open_is_dropped(index: Path, refs: Path) -> None:
    """The newest is whole, and cleaning would fail on the one before it."""
    store = ReferenceStore.open(index)
    assert store is not None
    row = store.rows(["alpha/00.png"])[0]
    store.upsert([row])
    earlier = versions_of(index)[store.version]
    store.upsert([row])
    earlier.write_bytes(bytes(earlier.stat().st_size))
    with pytest.raises(IconicityError, match=r"does not match|cannot be written|cannot be opened"):
        remove_references(index, concepts=["beta"], run=Run(load=Load()))
    repair_index(index, run=Run(load=Load()))
    build_index(refs, index, toy_encoders())
    assert verify_index(index) == [] and len(rows(index)) == 12


@pytest.fixture
def half_merged(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A merge that a power cut stopped before its end: an empty version, and two of 6 and 12 rows."""

    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(merge, "_COMMIT_ROWS", 6)
        m.setattr(merge, "seal", power_cut)
        merge_indexes([index], tmp_path / "merged")
    assert list(versions_of(tmp_path / "merged")) == [1, 2, 3]
    return tmp_path / "merged"


@pytest.mark.parametrize("cut", [[1], [2], [3], [1, 2, 3]], ids=str)
def test_a_merge_goes_on_whose_versions_lost_their_ends(cut: list[int], index: Path, half_merged: Path) -> None:
    """LanceDB opens a version without its last bytes, but then no cleaning gets past it: no later run could end."""
    for version in cut:
        path = versions_of(half_merged)[version]
        path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    with pytest.raises(IconicityError, match="index repair"):
        merge_indexes([index], half_merged)
    repair = repair_index(half_merged, run=Run(load=Load()))
    assert repair.unfinished and repair.done and repair.lost == []
    report = merge_indexes([index], half_merged)
    assert report.unchanged == 12 and rows(half_merged) == rows(index) and verify_index(half_merged) == []


def test_a_bad_row_of_an_early_commit_does_not_cost_the_later_ones(index: Path, half_merged: Path) -> None:
    """No version but the empty first one is whole."""
    first = min((half_merged / "references.lance" / "data").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    first.write_bytes(first.read_bytes()[:-200] + bytes(200))
    with pytest.raises(CorruptIndexError, match="index repair"):
        merge_indexes([index], half_merged)
    repair = repair_index(half_merged, run=Run(load=Load()))
    assert repair.unfinished and "6 rows are right and were kept, 6 were not" in repair.done
    report = merge_indexes([index], half_merged)
    assert report.unchanged == 6 and rows(half_merged) == rows(index) and verify_index(half_merged) == []


def test_a_first_build_cut_off_is_run_again(refs: Path, tmp_path: Path, index: Path) -> None:
    (index / MANIFEST).unlink()
    repair = repair_index(index, run=Run(load=Load()))
    assert repair.unfinished
    report = build_index(refs, index, toy_encoders())
    assert report.embedded == 0 and verify_index(index) == []
    with pytest.raises(IndexFormatError, match="index build"):
        repair_index(tmp_path / "none", run=Run(load=Load()))
    with pytest.raises(CorruptIndexError, match="delete the folder"):
        (index / MANIFEST).unlink()
        empty_version_file(index)
        repair_index(index, run=Run(load=Load()))


def test_rows_that_a_build_left_without_their_bytes_are_not_sealed(index: Path, refs: Path) -> None:
    """Resuming an unfinished build tests its rows."""
    damage_vector(index, "beta/01.png")
    (index / MANIFEST).unlink()
    with pytest.raises(CorruptIndexError, match="beta/01"):
        build_index(refs, index, toy_encoders())
    repair = repair_index(index, run=Run(load=Load()))
    assert repair.unfinished and repair.embedded == 0
    with pytest.raises(IndexFormatError, match="did not finish"):  # nobody takes it for whole
        open_index(index)
    assert build_index(refs, index, toy_encoders()).embedded == 1
    assert verify_index(index) == []


def test_what_a_manifest_names_is_on_disk_before_it(index: Path, refs: Path, tmp_path: Path) -> None:
    """Bytes, names, and folders up to the first that was there."""
    (tmp_path / "w").mkdir()
    made = tmp_path / "w" / "new" / "folder" / "i"
    recorder = Recorder(tmp_path / "w", tmp_path / "pool")
    try:
        merge_indexes([index], made)
        remove_references(made, concepts=["beta"], run=Run(load=Load()))
        add_references(refs, made, run=Run(load=Load()))
    finally:
        moments = recorder.stop()
    manifest = (made / MANIFEST).relative_to(recorder.root).as_posix()
    written = [m for m in moments if m.step == "replace" and manifest in m.names]
    assert len(written) == 6  # each command: before it cleans, and after
    for moment in written:
        content = moment.names[manifest][0]
        assert content is not None and content.safe and moment.folders == ()
        for name in json.loads(content.copy.read_text())["files"]:
            (held,) = moment.names[manifest.replace(MANIFEST, name)]
            assert held is not None and held.safe, name
    left = {Path(n).name for n, (first, *others) in moments[-1].names.items() if others or not first or not first.safe}
    assert left <= {HINT, ".lock", ".readers"}


def test_a_manifest_writes_no_file_outside_of_its_index(index: Path) -> None:
    manifest = json.loads((index / MANIFEST).read_text())
    for name in ("../../evil.manifest", "evil", "..", "/tmp/evil.manifest"):
        manifest["version_file"]["name"] = name
        manifest["digest"] = digest(manifest)
        (index / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(IndexFormatError, match=r"version_file\.name"):
            repair_index(index, run=Run(load=Load()))
    assert not list(index.parent.glob("**/evil*"))


def test_a_forgotten_deletion_is_seen(index: Path, refs: Path) -> None:
    """Deleted rows come back when the file that deletes them is wrong."""
    remove_references(index, ref_ids=["alpha/03_dup.png"], run=Run(load=Load()))
    (deletion,) = (index / "references.lance" / "_deletions").iterdir()
    deletion.unlink()
    assert any(deletion.name in p for p in verify_index(index))
    repair = repair_index(index, run=Run(load=Load()))
    assert verify_index(index) == []
    assert repair.lost or len(rows(index)) == 11


def test_repair_waits_for_no_builder(index: Path) -> None:
    with lock(index, "building this index"), pytest.raises(LockedError, match="process"):
        repair_index(index, run=Run(load=Load()))
    with lock(index, "building this index"), pytest.raises(LockedError, match="verify it when that is done"):
        verify_index(index)


def test_builders_leave_files_alone_that_somebody_reads(index: Path, refs: Path) -> None:
    reader = open_index(index)
    before = [r.ref_id for r in reader.block(["alpha", "beta", "gamma"]).references]
    for i in range(3):
        write(refs / "delta" / f"{i}.png", draw(800 + i))
        build_index(refs, index, toy_encoders())
    held = reader.block(["alpha", "beta", "gamma"])
    assert [r.ref_id for r in held.references] == before and reader.concepts().keys() == {"alpha", "beta", "gamma"}
    assert len(open_index(index).references()) == 15 and verify_index(index) == []
    many = len(versions_of(index))
    del reader, held
    assert not build_index(refs, index, toy_encoders()).embedded
    assert len(versions_of(index)) == 1 < many and verify_index(index) == []


def test_reading_needs_no_right_to_write(index: Path, tmp_path: Path) -> None:
    (index / ".readers").unlink()
    Reading(tmp_path / "nowhere")  # no such folder
    assert open_index(index).references() and (index / ".readers").is_file()


def test_a_row_that_is_not_there_is_missed(index: Path) -> None:
    """A damaged concept hides a row from every read by concept: the count by concept tells."""
    opened = open_index(index)
    store = ReferenceStore.open(index)
    assert store is not None
    row = store.rows(["beta/01.png"])[0]
    store.delete(["beta/01.png"])
    object.__setattr__(opened, "store", store)
    for read in (opened.concepts, opened.references, lambda: opened.block(["beta"])):
        with pytest.raises(CorruptIndexError, match="index repair"):
            read()
    opened = open_index(index)
    opened.concepts()
    object.__setattr__(opened, "store", store)
    with pytest.raises(CorruptIndexError, match="2 of 3 references of 'beta'"):
        opened.block(["beta"])
    store.upsert([Row(row.reference, row.clip, row.patches)])
    assert row.clip is not None and np.array_equal(opened.block(["beta"]).clip[1], row.clip)


def test_native_errors_of_any_class_are_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(Exception):
        """What PyO3 raises is no RuntimeError."""

    def panics(*_: object) -> None:
        raise Panic("index out of bounds")

    opened = open_index(index)
    monkeypatch.setattr(type(opened.store._table), "search", panics)
    with pytest.raises(IconicityError, match=r"rows cannot be read \(index out of bounds"):
        opened.references()


def test_deep_reads_the_source_images(index: Path, refs: Path) -> None:
    assert verify_index(index, deep=True) == []
    write(refs / "alpha" / "01.png", draw(77))
    (refs / "beta" / "00.png").unlink()
    assert verify_index(index) == []
    problems = verify_index(index, deep=True)
    assert len(problems) == 2 and "alpha/01.png" in problems[0] and "beta/00.png" in problems[1]


def test_the_hint_alone_may_be_wrong(index: Path) -> None:
    hint = index / "references.lance" / "_versions" / HINT
    for content in (b"", b"x", b'{"version":1}', b'{"version":99}'):
        hint.write_bytes(content)
        assert verify_index(index) == [] and len(open_index(index).references()) == 12


def test_a_copy_is_the_same_index(index: Path, refs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(index, tmp_path / "copy")
    assert verify_index(copy) == [] and open_index(copy).index_id == open_index(index).index_id
    assert not build_index(refs, copy, toy_encoders()).changed
