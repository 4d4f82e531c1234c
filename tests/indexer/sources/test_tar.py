"""Tar members by offset: right bytes, nothing unpacked, damage said and never a traceback."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from toys import pack

from iconicity.indexer.errors import ImageError
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.sources.tar import on_disk, split, tar_index
from iconicity.indexer.store.cache import stat_text

MEMBERS = {
    "a/1.png": b"one",
    "./a//2.png": b"two" * 400,
    "/abs.png": b"abs",
    "../up.png": b"up",
    "l" * 300 + ".png": b"x",
}


def test_bytes_are_those_of_the_member(tmp_path: Path) -> None:
    tar = pack(tmp_path / "x.tar", MEMBERS)
    assert list(tar_index(tar).members) == ["a/1.png", "a/2.png", "abs.png", "../up.png", "l" * 300 + ".png"]
    for name, data in zip(tar_index(tar).members, MEMBERS.values(), strict=True):
        assert read_bytes(Path(f"{tar}/{name}")) == data
        assert split(Path(f"{tar}/{name}")) == (tar, name)
    assert on_disk(tar / "a" / "1.png") == tar and stat_text(tar / "a" / "1.png") == stat_text(tar) != ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tar"]


def test_a_folder_that_is_called_tar_is_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "x.tar" / "a.png"
    file.parent.mkdir()
    file.write_bytes(b"plain")
    assert split(file) is None and on_disk(file) == file and read_bytes(file) == b"plain"
    tar = pack(tmp_path / "x.tar" / "y.tar", {"z.tar/b.png": b"deep"})
    assert read_bytes(tar / "z.tar" / "b.png") == b"deep"


def test_what_is_not_there_or_empty_is_an_image_error(tmp_path: Path) -> None:
    tar = pack(tmp_path / "x.tar", {"a.png": b""})
    with pytest.raises(ImageError, match=r"no such member in x\.tar"):
        read_bytes(tar / "b.png")
    with pytest.raises(ImageError, match="empty file"):
        read_bytes(tar / "a.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_bytes(tmp_path / "none.tar" / "a.png")


def test_a_changed_tar_is_read_anew(tmp_path: Path) -> None:
    tar = pack(tmp_path / "x.tar", {"a.png": b"one"})
    assert read_bytes(tar / "a.png") == b"one"
    pack(tar, {"b.png": b"longer" * 100, "a.png": b"two"})
    assert read_bytes(tar / "a.png") == b"two"


def test_the_later_of_two_members_counts_and_links_do_not(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for data in (b"one", b"second"):
            member = tarfile.TarInfo("a.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for kind, name in ((tarfile.SYMTYPE, "s.png"), (tarfile.LNKTYPE, "h.png"), (tarfile.FIFOTYPE, "f.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    index = tar_index(tmp_path / "x.tar")
    assert list(index.members) == ["a.png"] and index.others == 3 and index.damage is None
    assert read_bytes(tmp_path / "x.tar" / "a.png") == b"second"


def test_truncated_anywhere(tmp_path: Path) -> None:
    """Of a tar cut at any byte the whole members are there, and the damage is said."""
    tar = pack(tmp_path / "x.tar", {f"{i}.png": bytes([65 + i]) * 700 for i in range(3)})
    whole = tar.read_bytes()
    assert tar_index(tar).damage is None
    for cut in (0, 1, 511, 512, 700, 1211, 1212, 1536, 1600, 2048, 2747, 3000, 3583, 3584, 4608):
        path = tmp_path / f"cut{cut}.tar"
        path.write_bytes(whole[:cut])
        index = tar_index(path)
        expected = [f"{i}.png" for i in range(3) if 1536 * i + 512 + 700 <= cut]
        assert list(index.members) == expected and index.damage, cut
        for name in expected:
            assert read_bytes(path / name) == bytes([65 + int(name[0])]) * 700


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    tar = pack(tmp_path / "x.tar", {f"{i}.png": b"x" for i in range(5)})
    data = bytearray(tar.read_bytes())
    data[2 * 1024 + 3] ^= 255
    tar.write_bytes(data)
    index = tar_index(tar)
    assert list(index.members) == ["0.png", "1.png"] and "no header at byte 2048" in str(index.damage)


def test_flipped_bytes_raise_nothing_else(tmp_path: Path) -> None:
    good = pack(tmp_path / "x.tar", MEMBERS).read_bytes()
    rng = np.random.default_rng(0)
    damaged = 0
    for i in range(300):
        data = bytearray(good)
        for at in rng.integers(0, len(good), 8).tolist():
            data[at] = int(rng.integers(256))
        path = tmp_path / f"f{i % 2}.tar"
        path.write_bytes(data)
        os.utime(path, ns=(i, i))
        index = tar_index(path)
        damaged += index.damage is not None
        for name in index.members:
            if "\0" not in name:
                with suppress(ImageError):
                    assert len(read_bytes(Path(f"{path}/{name}"))) <= len(good)
    assert damaged > 50


@pytest.mark.parametrize(
    ("data", "message"),
    [(gzip.compress(b"x" * 999, mtime=0), "compressed with gzip"), (b"text" * 300, "damaged"), (b"", "damaged")],
)
def test_no_tar_at_all(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    index = tar_index(tmp_path / "x.tar")
    assert not index.members and message in str(index.damage)
