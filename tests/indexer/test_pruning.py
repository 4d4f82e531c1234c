"""A build removes nothing unless asked, and a rehearsal says what it would do and writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run import run
from toys import draw, forwards, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import Select
from iconicity.indexer.rehearsal import rehearse_add, rehearse_build, rehearse_remove
from iconicity.indexer.store.index import open_index


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_another_folder_or_a_list_of_concepts_removes_nothing(refs: Path, tmp_path: Path) -> None:
    """The index of 12 was emptied by another --refs, and by a list of one concept."""
    index = tmp_path / "i"
    build_index(refs, index, toy_encoders())
    before = snapshot(index)
    write(tmp_path / "other" / "omega" / "1.png", draw(901))
    with pytest.raises(InputError, match=r"12 of its 12 references would go, first alpha/00\.png.*`prune`"):
        build_index(tmp_path / "other", index, toy_encoders())
    with pytest.raises(InputError, match=r"8 of its 12 references would go, first beta/00\.png.*index add"):
        build_index(refs, index, toy_encoders(), select=Select(concepts=["alpha"]))
    changed = {n for n, data in snapshot(index).items() if before.get(n) != data}
    assert changed <= {".lock"} and open_index(index).manifest["counts"]["references"] == 12
    report = build_index(refs, index, toy_encoders(), prune=True, select=Select(concepts=["alpha"]))
    assert report.removed == 8 and set(open_index(index).concepts()) == {"alpha"}


def test_what_is_still_there_is_no_removal(refs: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    build_index(refs, index, toy_encoders())
    write(refs / "alpha" / "01.png", draw(123))  # other bytes: an update
    (refs / "beta").rename(refs / "beth")  # other names, the same bytes
    (refs / "gamma" / "02.png").rename(refs / "gamma" / "zz.png")
    refs.rename(tmp_path / "moved")
    encoders = toy_encoders()
    report = build_index(tmp_path / "moved", index, encoders)
    assert report.embedded == 1 and forwards(encoders) == 17
    (tmp_path / "moved" / "gamma" / "zz.png").unlink()
    with pytest.raises(InputError, match=r"1 of its 12 references would go, first gamma/zz\.png"):
        build_index(tmp_path / "moved", index, toy_encoders())


def test_what_was_added_from_elsewhere_does_not_go_with_the_next_build(refs: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    build_index(refs, index, toy_encoders())
    write(tmp_path / "more" / "omega" / "1.png", draw(901))
    add_references(tmp_path / "more", index, run=running())
    with pytest.raises(InputError, match=r"first omega/1\.png"):
        build_index(refs, index, toy_encoders())


def test_a_link_that_is_no_longer_followed_removes_nothing(refs: Path, tmp_path: Path) -> None:
    shutil.move(refs / "beta", tmp_path / "beta")
    (refs / "beta").symlink_to(tmp_path / "beta")
    build_index(refs, tmp_path / "i", toy_encoders(), select=Select(follow_links=True))
    with pytest.raises(InputError, match=r"4 of its 12 references would go, first beta/00\.png"):
        build_index(refs, tmp_path / "i", toy_encoders())


def test_a_rehearsal_counts_and_writes_nothing(refs: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    first = rehearse_build(refs, index)
    assert (first.embed, first.remove, first.refused) == (12, [], None) and not index.exists()
    build_index(refs, index, toy_encoders())
    (refs / "alpha" / "00.png").unlink()
    write(refs / "alpha" / "01.png", draw(123))
    shutil.copy(refs / "beta" / "00.png", refs / "gamma" / "copy.png")
    write(refs / "omega" / "1.png", draw(55))
    (refs / "omega" / "2.png").write_bytes(b"")
    before = snapshot(index)
    found = rehearse_build(refs, index, select=Select(concepts=["alpha", "gamma", "omega", "phi"]))
    assert (found.embed, found.copy, found.replace, found.unchanged) == (1, 1, 1, 6)
    assert found.remove == ["alpha/00.png", *(f"beta/0{i}.png" for i in range(3)), "beta/03_dup.png"]
    assert found.refused is not None and "4 of its 12 references would go" in found.refused  # one is copied
    assert [s.reason for s in found.skipped] == ["empty file"] and any("'phi'" in n for n in found.notices)
    assert rehearse_build(refs, index, prune=True).refused is None
    gone = rehearse_remove(index, concepts=["beta"], ref_ids=["gamma/00.png"])
    assert (len(gone.remove), gone.embed, gone.unchanged) == (5, 1, 6)  # gamma's duplicate takes the place
    with pytest.raises(InputError, match="holds no 'phi'"):
        rehearse_remove(index, concepts=["phi"])
    with pytest.raises(InputError, match="other bytes under this name"):
        rehearse_add(refs, index)
    assert rehearse_add(refs, index, select=Select(concepts=["omega"])).embed == 1
    assert snapshot(index) == before


def test_dry_runs_of_the_command_line_load_no_model(refs: Path, tmp_path: Path) -> None:
    """Without a hub the default encoders could not be loaded."""
    index = tmp_path / "i"
    done = run("index", "build", "--refs", refs, "--index", index, "--dry-run")
    assert done.stdout == (
        f"dry run: {index}: would embed 12 before near-duplicates are left out, copy 0, embed again 0, leave 0 unchanged, remove 0, skip 0; nothing was written\n"
    )
    assert not index.exists()
    build_index(refs, index, toy_encoders())
    shutil.rmtree(refs / "beta")
    said = run("index", "build", "--refs", refs, "--index", index, "--dry-run").stdout
    assert "remove 4, first beta/00.png" in said and "dry run: the command would be refused: " in said
    assert "remove 4, first beta/" in run("index", "remove", "--index", index, "--concept", "beta", "--dry-run").stdout
    assert "would embed 0" in run("index", "add", "--refs", refs, "--index", index, "--dry-run").stdout
