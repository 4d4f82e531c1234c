"""The index equals a fresh build of the same files, whatever happened before."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import draw, forwards, make_refs, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.errors import CorruptIndexError, IndexFormatError, InputError, LockedError, SettingsError
from iconicity.indexer.grid import cell_boxes
from iconicity.indexer.info import log_text
from iconicity.indexer.options import IndexOptions, Run, Select
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.files import LOCKS, lock
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.rows import ReferenceStore
from iconicity.indexer.store.verify import verify_index


def rows(index: Path) -> list[tuple[Any, ...]]:
    """Every column but indexed_at, vectors as bytes, sorted by key."""
    out = []
    for row, checksum in open_index(index).store.rows_with_checksums():
        vectors = [None if v is None else v.tobytes() for v in (row.clip, row.patches)]
        out.append((row.reference, *vectors, checksum))
    return sorted(out, key=lambda r: r[0].ref_id)


def assert_fresh(index: Path, refs: Path, tmp_path: Path, options: IndexOptions = IndexOptions()) -> None:
    """The index holds what a fresh build of the same files holds, and is whole."""
    fresh = tmp_path / "fresh.index"
    shutil.rmtree(fresh, ignore_errors=True)
    build_index(refs, fresh, toy_encoders(), options)
    assert rows(index) == rows(fresh)
    assert open_index(index).index_id == open_index(fresh).index_id
    assert open_index(index).manifest["counts"] == open_index(fresh).manifest["counts"]
    assert open_index(index).manifest["skipped"] == open_index(fresh).manifest["skipped"]
    assert verify_index(index) == []


def test_build_keeps_drops_and_records(refs: Path, tmp_path: Path) -> None:
    encoders = toy_encoders()
    report = build_index(refs, tmp_path / "i", encoders)
    assert (report.concepts, report.kept, report.dropped, report.embedded) == (3, 9, 3, 9)
    assert forwards(encoders) == 9 * 17
    held = open_index(tmp_path / "i").references()
    assert list(held) == sorted(held)
    dropped = held["alpha/03_dup.png"]
    assert not dropped.kept and dropped.dup_of == "alpha/00.png" and dropped.dup_distance is not None
    assert dropped.path == (refs / "alpha" / "03_dup.png").as_posix()
    assert verify_index(tmp_path / "i") == []
    block = open_index(tmp_path / "i").block(["beta"])
    assert [r.ref_id for r in block.references] == [f"beta/0{i}.png" for i in range(3)]
    assert block.clip.shape == (3, 16) and block.patches.shape == (3, 16, 24)


def test_unchanged_files_cost_nothing(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    before = {p: p.read_bytes() for p in (tmp_path / "i").rglob("*") if p.is_file() and p.name not in LOCKS}
    encoders = toy_encoders()
    report = build_index(refs, tmp_path / "i", encoders)
    assert not report.changed and report.embedded == 0 and forwards(encoders) == 0
    assert before == {p: p.read_bytes() for p in (tmp_path / "i").rglob("*") if p.is_file() and p.name not in LOCKS}


def change_file(refs: Path) -> None:
    write(refs / "alpha" / "01.png", draw(999))


def new_files(refs: Path) -> None:
    write(refs / "alpha" / "00_first.png", draw(998))
    write(refs / "delta" / "x.png", draw(997))


def vanish(refs: Path) -> None:
    (refs / "beta" / "01.png").unlink()
    shutil.rmtree(refs / "gamma")


def vanished_keeper(refs: Path) -> None:
    (refs / "alpha" / "00.png").unlink()


def rename(refs: Path) -> None:
    (refs / "alpha" / "01.png").rename(refs / "alpha" / "zz.png")
    (refs / "beta").rename(refs / "beth")


def swap(refs: Path) -> None:
    a, b = refs / "alpha" / "01.png", refs / "alpha" / "02.png"
    left, right = a.read_bytes(), b.read_bytes()
    a.write_bytes(right)
    b.write_bytes(left)


def earlier_duplicate(refs: Path) -> None:
    write(refs / "alpha" / "000.png", draw(0).resize((50, 40)))


def break_file(refs: Path) -> None:
    (refs / "alpha" / "00.png").write_bytes(b"no image")


CHANGES = [change_file, new_files, vanish, vanished_keeper, rename, swap, earlier_duplicate, break_file]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_after_a_change_the_index_equals_a_fresh_build(
    change: Callable[[Path], None], refs: Path, tmp_path: Path
) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    change(refs)
    build_index(refs, tmp_path / "i", toy_encoders(), prune=True)
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_any_sequence_of_changes(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    rng = random.Random(7)
    for step in range(12):
        files = sorted(p for p in refs.rglob("*.png"))
        victim, other = rng.choice(files), rng.choice(files)
        kind = rng.choice(["delete", "draw", "copy", "rename"])
        if kind == "delete" and len(files) > 3:
            victim.unlink()
        elif kind == "draw":
            write(victim.parent / f"n{step}.png", draw(2000 + step))
        elif kind == "copy":
            shutil.copy(victim, other.parent / f"c{step}.png")
        else:
            victim.rename(other.parent / f"r{step}.png")
        build_index(refs, tmp_path / "i", toy_encoders(), prune=kind == "delete")
        assert_fresh(tmp_path / "i", refs, tmp_path)


def test_renamed_files_are_copied_not_embedded(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    rename(refs)
    swap_target = refs / "gamma" / "01.png"
    swap_target.rename(refs / "gamma" / "01b.png")
    encoders = toy_encoders()
    report = build_index(refs, tmp_path / "i", encoders)
    assert forwards(encoders) == 0 and report.embedded == 0 and report.copied == 5


def test_add_equals_a_fresh_build_and_embeds_only_what_is_new(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    new_files(refs)
    encoders = toy_encoders()
    report = add_references(refs, tmp_path / "i", run=running(encoders))
    assert report.embedded == 2 and forwards(encoders) == 2 * 17
    assert_fresh(tmp_path / "i", refs, tmp_path)
    again = add_references(refs, tmp_path / "i", run=running(encoders))
    assert not again.changed


def test_add_refuses_other_bytes_under_an_old_name(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    change_file(refs)
    with pytest.raises(InputError, match=r"alpha/01\.png.*index build"):
        add_references(refs, tmp_path / "i", run=running())


def test_remove_equals_a_fresh_build_and_revives_duplicates(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    encoders = toy_encoders()
    report = remove_references(tmp_path / "i", concepts=["Beta"], ref_ids=["alpha/00.png"], run=running(encoders))
    assert report.embedded == 1 and forwards(encoders) == 17  # 03_dup.png takes the place of 00.png
    shutil.rmtree(refs / "beta")
    (refs / "alpha" / "00.png").unlink()
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_remove_names_what_is_not_there_and_a_revived_file_that_is_gone(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    before = rows(tmp_path / "i")
    with pytest.raises(InputError, match="holds no 'omega'"):
        remove_references(tmp_path / "i", concepts=["omega"])
    (refs / "alpha" / "03_dup.png").unlink()
    with pytest.raises(InputError, match=r"03_dup\.png: needed again"):
        remove_references(tmp_path / "i", ref_ids=["alpha/00.png"], run=running())
    assert rows(tmp_path / "i") == before


def test_unusable_files_are_named_and_the_next_is_the_static_reference(refs: Path, tmp_path: Path) -> None:
    break_file(refs)
    (refs / "beta" / "01.png").write_bytes(b"")
    for _ in range(2):
        report = build_index(refs, tmp_path / "i", toy_encoders())
        assert [(Path(s.path).name, s.concept) for s in report.skipped] == [("00.png", "alpha"), ("01.png", "beta")]
        assert report.skipped[1].reason == "empty file"
    kept = [r.ref_id for r in open_index(tmp_path / "i").block(["alpha"]).references]
    assert kept[0] == "alpha/01.png"


def test_settings_of_an_index_do_not_change(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    with pytest.raises(
        SettingsError, match=r"another patch encoder .*thumbnail, weights \w+ against thumbnail, weights \w+;"
    ):
        build_index(refs, tmp_path / "i", toy_encoders(dino_seed=5))
    with pytest.raises(SettingsError, match=r"grid=\[4, 4\], asked for \[2, 2\]"):
        build_index(refs, tmp_path / "i", toy_encoders(), IndexOptions(grid=(2, 2)))
    with pytest.raises(SettingsError, match="dedup_distance=18, asked for None"):
        build_index(refs, tmp_path / "i", toy_encoders(), IndexOptions(dedup_distance=None))
    with pytest.raises(SettingsError, match="pixels"):
        build_index(refs, tmp_path / "i", toy_encoders(), IndexOptions(pixels="published"))


def test_overlapping_reference_cells(refs: Path, tmp_path: Path) -> None:
    plain, wide = toy_encoders(), toy_encoders()
    build_index(refs, tmp_path / "plain", plain)
    build_index(refs, tmp_path / "wide", wide, IndexOptions(reference_cells="overlapping"))
    held, found = open_index(tmp_path / "plain"), open_index(tmp_path / "wide")
    assert "reference_cells" not in held.settings and held.reference_cells == 16
    assert found.settings["reference_cells"] == "overlapping" and found.reference_cells == 49
    assert found.grid == (4, 4) and found.index_id != held.index_id
    assert forwards(wide) - forwards(plain) == 33 * found.manifest["counts"]["kept"]
    blocks = [i.block(["alpha"]) for i in (held, found)]
    grid = blocks[1].patches.reshape(-1, 7, 7, 24)[:, ::2, ::2].reshape(-1, 16, 24)
    assert np.array_equal(grid, blocks[0].patches)
    encoder = toy_encoders().dino
    for reference, patches in zip(blocks[1].references, blocks[1].patches, strict=True):
        image = Image.open(reference.path).convert("RGB")
        for k in (1, 8, 24, 47):
            crop = image.crop(cell_boxes(*image.size, 4, 4, overlapping=True)[k])
            assert np.array_equal(encoder.forward(encoder.preprocess(crop)[None])[0], patches[k])
    assert verify_index(tmp_path / "wide") == []
    assert (
        build_index(refs, tmp_path / "wide", toy_encoders(), IndexOptions(reference_cells="overlapping")).embedded == 0
    )
    write(refs / "delta" / "00.png", draw(900))
    add_references(refs, tmp_path / "wide", run=running())
    assert_fresh(tmp_path / "wide", refs, tmp_path, IndexOptions(reference_cells="overlapping"))
    for path, asked, words in (
        ("plain", "overlapping", "reference_cells=grid, asked for overlapping"),
        ("wide", "grid", "reference_cells=overlapping, asked for grid"),
    ):
        with pytest.raises(SettingsError, match=words):
            build_index(refs, tmp_path / path, toy_encoders(), IndexOptions(reference_cells=asked))
    with pytest.raises(InputError, match="choose one of grid, overlapping"):
        build_index(refs, tmp_path / "no", toy_encoders(), IndexOptions(reference_cells="half"))


def test_no_dedup_and_another_grid(refs: Path, tmp_path: Path) -> None:
    report = build_index(refs, tmp_path / "i", toy_encoders(), IndexOptions(dedup_distance=None, grid=(2, 3)))
    assert report.dropped == 0 and report.kept == 12
    assert open_index(tmp_path / "i").block(["alpha", "beta", "gamma"]).patches.shape == (12, 6, 24)
    assert_fresh(tmp_path / "i", refs, tmp_path, IndexOptions((2, 3), dedup_distance=None))


def test_concepts_can_be_restricted_and_missing_ones_are_named(refs: Path, tmp_path: Path) -> None:
    report = build_index(refs, tmp_path / "i", toy_encoders(), select=Select(concepts=["alpha", "omega"]))
    assert report.concepts == 1
    assert any("omega" in n for n in report.notices)


def test_nothing_to_index(tmp_path: Path) -> None:
    (tmp_path / "refs" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    with pytest.raises(InputError, match="no such folder"):
        build_index(tmp_path / "none", tmp_path / "i", toy_encoders())


def test_a_folder_with_other_files_is_not_taken_for_an_index(refs: Path, tmp_path: Path) -> None:
    write(tmp_path / "i" / "photo.png", draw(1))
    with pytest.raises(IndexFormatError, match="holds other files"):
        build_index(refs, tmp_path / "i", toy_encoders())


def test_a_second_builder_is_refused_and_names_the_first(refs: Path, tmp_path: Path) -> None:
    with (
        lock(tmp_path / "i", "building this index"),
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
    ):
        build_index(refs, tmp_path / "i", toy_encoders())


def test_names_are_data_never_code(tmp_path: Path) -> None:
    names = ["it's", "' or 1=1 --", 'quo"te', "=cmd()", "a;b"]
    make_refs(tmp_path / "refs", names)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    remove_references(tmp_path / "i", concepts=["' or 1=1 --"], run=running())
    shutil.rmtree(tmp_path / "refs" / "' or 1=1 --")
    assert_fresh(tmp_path / "i", tmp_path / "refs", tmp_path)
    assert len(open_index(tmp_path / "i").block(["it's"]).references) == 3


def test_a_resumed_build_embeds_only_what_is_missing(
    refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iconicity.indexer.builder.COMMIT_IMAGES", 2)
    upsert, left = ReferenceStore.upsert, [3]

    def fails(self: ReferenceStore, rows: Any) -> None:
        if left[0] == 0:
            raise OSError("cut off")
        left[0] -= 1
        upsert(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ReferenceStore, "upsert", fails)
        with pytest.raises(OSError, match="cut off"):
            build_index(refs, tmp_path / "i", toy_encoders())
    encoders = toy_encoders()
    report = build_index(refs, tmp_path / "i", encoders)
    assert 0 < report.embedded <= 4 and report.unchanged >= 6 and forwards(encoders) == report.embedded * 17
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_files_are_read_once(refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr("iconicity.indexer.encode.prepare.read_bytes", counted)
    build_index(refs, tmp_path / "i", toy_encoders())
    assert len(read) == len(set(read)) == 12


def test_workers_and_batches_make_the_same_index(refs: Path, tmp_path: Path) -> None:
    for workers, batch in ((0, None), (1, 7), (4, 1)):
        build_index(refs, tmp_path / f"i{workers}", toy_encoders(), run=Run(workers=workers, batch_size=batch))
    assert rows(tmp_path / "i0") == rows(tmp_path / "i1") == rows(tmp_path / "i4")


def test_a_file_or_a_foreign_folder_is_no_place_for_an_index(refs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_bytes(b"x")
    for name, message in (("file", "a file"), ("docs", "other files")):
        with pytest.raises(IndexFormatError, match=message):
            build_index(refs, tmp_path / name, toy_encoders())
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_written_anew(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    (tmp_path / "i" / "manifest.json").write_text("{")
    encoders = toy_encoders()
    build_index(refs, tmp_path / "i", encoders)
    assert forwards(encoders) == 0
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_a_damaged_version_file_is_an_error_not_a_panic(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    for path in (tmp_path / "i").rglob("_versions/*.manifest"):
        path.write_bytes(path.read_bytes()[-300:])
    with pytest.raises(CorruptIndexError, match="delete the folder"):
        open_index(tmp_path / "i")
    with pytest.raises(CorruptIndexError, match="delete the folder"):
        build_index(refs, tmp_path / "i", toy_encoders())
    (tmp_path / "i" / "manifest.json").unlink()
    with pytest.raises(IndexFormatError, match="delete the folder"):
        build_index(refs, tmp_path / "i", toy_encoders())


def test_a_mended_file_is_skipped_no_longer_however_its_path_is_spelt(refs: Path, tmp_path: Path) -> None:
    good = (refs / "alpha" / "01.png").read_bytes()
    (refs / "alpha" / "01.png").write_bytes(b"x")
    assert len(build_index(refs, tmp_path / "i", toy_encoders()).skipped) == 1
    (refs / "alpha" / "01.png").write_bytes(good)
    (tmp_path / "link").symlink_to(refs)
    report = add_references(tmp_path / "link", tmp_path / "i", run=running())
    assert report.skipped == [] and open_index(tmp_path / "i").manifest["skipped"] == []


def test_remove_forgets_a_skipped_file(refs: Path, tmp_path: Path) -> None:
    (refs / "alpha" / "01.png").write_bytes(b"x")
    build_index(refs, tmp_path / "i", toy_encoders())
    report = remove_references(tmp_path / "i", ref_ids=["alpha/01.png"], run=running())
    assert report.skipped == []


def test_what_killed_builders_leave_goes_with_the_next_build(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    (tmp_path / "i" / ".manifest.json.4711.tmp").write_bytes(b"{")
    (tmp_path / "i" / "references.lance" / "_versions" / "18446744073709551604.manifest#1").write_bytes(b"x")
    (tmp_path / "i" / "references.lance" / "data" / ".tmpA1b2C3").write_bytes(b"x")
    build_index(refs, tmp_path / "i", toy_encoders())
    assert verify_index(tmp_path / "i") == []


def test_a_remove_cut_off_before_its_end_can_be_run_again(
    refs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are gone from the table: that is no reason to refuse, as long as the manifest does not say so."""
    build_index(refs, tmp_path / "i", toy_encoders())
    for cut in ("compact", "drop_old_versions"):
        with monkeypatch.context() as patch:
            patch.setattr(f"iconicity.indexer.store.rows.ReferenceStore.{cut}", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                remove_references(tmp_path / "i", concepts=["beta"], run=running())
        assert verify_index(tmp_path / "i") == [] or cut == "compact"
    remove_references(tmp_path / "i", concepts=["beta"], run=running())
    shutil.rmtree(refs / "beta")
    assert_fresh(tmp_path / "i", refs, tmp_path)
    with pytest.raises(InputError, match="holds no 'beta'"):
        remove_references(tmp_path / "i", concepts=["beta"], run=running())


def test_the_log_says_what_was_done_and_from_which_files(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    build_index(refs, tmp_path / "i", toy_encoders())  # nothing has changed: no entry
    remove_references(tmp_path / "i", concepts=["beta"], run=running())
    new_files(refs)
    add_references(refs, tmp_path / "i", run=running())
    log = open_index(tmp_path / "i").manifest["log"]
    assert [(e["command"], e["embedded"], e["removed"], e["references"]) for e in log] == [
        ("build", 9, 0, 12), ("remove", 0, 4, 8), ("add", 5, 0, 14),
    ]  # fmt: skip
    build_index(refs, tmp_path / "fresh", toy_encoders())
    fresh = open_index(tmp_path / "fresh").manifest["log"][-1]
    assert all(log[-1][key] == fresh[key] for key in ("files_sha256", "index_id", "kept"))
    assert log[0]["files_sha256"] != log[-1]["files_sha256"]
    assert "remove   8 references" in log_text(log) and "4 removed" in log_text(log)


def held_bytes(index: Path) -> bytes:
    return b"".join(p.read_bytes() for p in index.rglob("*") if p.is_file())


def test_purged_references_leave_no_byte(refs: Path, tmp_path: Path) -> None:
    """One row of many: the table marks it as deleted, and would keep its bytes."""
    make_refs(refs, [f"c{i}" for i in range(5)])
    write(refs / "beta" / "01.png", draw(4711))  # no other picture is the same
    build_index(refs, tmp_path / "i", toy_encoders())
    (row,) = open_index(tmp_path / "i").store.rows(["beta/01.png"])
    assert row.patches is not None
    needles = row.patches.tobytes(), row.reference.sha256.encode()
    copy = shutil.copytree(tmp_path / "i", tmp_path / "copy")
    remove_references(copy, ref_ids=["beta/01.png"], run=running())
    assert all(needle in held_bytes(copy) for needle in needles)
    remove_references(tmp_path / "i", ref_ids=["beta/01.png"], purge=True, run=running())
    assert not any(needle in held_bytes(tmp_path / "i") for needle in needles)
    (refs / "beta" / "01.png").unlink()
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_what_somebody_reads_cannot_be_purged_and_that_is_said(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    reader = open_index(tmp_path / "i")
    with pytest.raises(LockedError, match="somebody reads"):
        remove_references(tmp_path / "i", concepts=["beta"], purge=True, run=running())
    assert len(reader.block(["beta"]).references) == 3
    del reader
    shutil.rmtree(refs / "beta")
    build_index(refs, tmp_path / "i", toy_encoders(), prune=True)
    assert_fresh(tmp_path / "i", refs, tmp_path)


def test_pipes_and_names_that_are_not_text_are_skipped(refs: Path, tmp_path: Path) -> None:
    os.mkfifo(refs / "alpha" / "pipe.png")
    Path(os.fsdecode(bytes(refs / "alpha") + b"/bad\xff.png")).write_bytes(b"x")
    report = build_index(refs, tmp_path / "i", toy_encoders())
    reasons = {Path(s.path).name: s.reason for s in report.skipped}
    assert reasons == {"pipe.png": "not a regular file", "bad\\xff.png": "file name is not UTF-8; rename it"}
    assert_fresh(tmp_path / "i", refs, tmp_path)
