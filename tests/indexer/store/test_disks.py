"""File systems that refuse: the cause and the cure are named, and nothing is embedded first."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from run import run
from toys import forwards, make_refs, toy_encoders

from iconicity.indexer.build import add_references, build_index
from iconicity.indexer.errors import FileSystemError, IconicityError
from iconicity.indexer.store.disks import cure, cure_of_text
from iconicity.indexer.store.files import lock
from iconicity.indexer.store.table import writing


def refusing(number: int) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_hard_links_is_named_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refs, encoders = make_refs(tmp_path / "refs", ["alpha"]), toy_encoders()
    build_index(refs, tmp_path / "i", encoders)
    before = forwards(encoders)
    monkeypatch.setattr(os, "link", refusing(number))
    for index in (tmp_path / "new", tmp_path / "i"):
        with pytest.raises(FileSystemError, match=f"{index}: its file system has no hard links .*local disk"):
            build_index(refs, index, encoders)
    with pytest.raises(FileSystemError, match="hard links"):
        add_references(make_refs(tmp_path / "more", ["beta"]), tmp_path / "i")
    assert forwards(encoders) == before


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(FileSystemError, match=rf"{tmp_path}/i: its file system has no file locks .*local disk"):
        build_index(make_refs(tmp_path / "refs", ["alpha"]), tmp_path / "i", toy_encoders())


def test_nothing_is_left_of_the_test_for_hard_links(tmp_path: Path) -> None:
    build_index(make_refs(tmp_path / "refs", ["alpha"]), tmp_path / "i", toy_encoders())
    assert not list((tmp_path / "i").glob("*.tmp")) and not list((tmp_path / "i").glob(".*.tmp"))
    with lock(tmp_path / "i", "testing"):
        pass


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"), (errno.EDQUOT, "quota"), (errno.EACCES, "the right to read and write"), (errno.EROFS, "can be written to"),
        (errno.EMFILE, "ulimit -n"), (errno.ENAMETOOLONG, "shorter"), (errno.ENOTSUP, "local disk"), (errno.EIO, "another disk"),
        (errno.ESTALE, "mount"), (None, "can be read"),
    ],
)  # fmt: skip
def test_the_advice_depends_on_the_error(number: int | None, advice: str) -> None:
    assert advice in cure(number)


def test_the_command_gives_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "i"))

    monkeypatch.setattr("iconicity.indexer.info.index_facts", full)
    said = run("index", "info", "--index", tmp_path / "i", code=1).stderr
    assert said == f"error: {tmp_path}/i: Read-only file system; name a place that can be written to\n"


def test_errors_of_the_table_name_the_cause_too(tmp_path: Path) -> None:
    refused = "Unable to copy file from a to b: Operation not permitted (os error 1)"
    with pytest.raises(FileSystemError, match="no hard links"), writing(tmp_path):
        raise OSError(f"LanceError(IO): Generic LocalFileSystem error: {refused}")
    with (
        pytest.raises(IconicityError, match=r"cannot be written .*; free space on that disk, or mend"),
        writing(tmp_path),
    ):
        raise OSError("LanceError(IO): No space left on device (os error 28)")
    assert cure_of_text(tmp_path, "no number") is None
