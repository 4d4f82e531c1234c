"""Images inside tar files, by paths that lead through the tar: ``shards/0001.tar/the_scream/0001.png``.

A member is read at its offset. Nothing is unpacked, so that a member's name never becomes a path on disk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from iconicity.indexer.text import counted

SUFFIX = ".tar"
COMPRESSED = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BLOCK = 512
_OPEN_INDEXES = 1024  # of tars; a member takes about 250 bytes

# What tarfile raises on hostile files. Nothing else is swallowed.
_TAR_ERRORS: tuple[type[Exception], ...] = (
    tarfile.TarError, OSError, ValueError, EOFError, ArithmeticError, LookupError, RuntimeError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class TarIndex:
    """A tar's regular members by name, (offset, size) each. A name that comes again stands for the later member.

    ``others`` counts links, devices and sparse files; ``damage`` says why members may be missing.
    """

    members: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    others: int = 0
    damage: str | None = None


def split(path: Path) -> tuple[Path, str] | None:
    """(tar file, member) of a path that leads through a tar file; None for every other path."""
    text = path.as_posix()
    lower = text.lower()
    at = lower.find(SUFFIX + "/")
    while at >= 0:
        end = at + len(SUFFIX)
        tar = Path(text[:end])
        if tar.is_file():
            return tar, text[end + 1 :]
        at = lower.find(SUFFIX + "/", end)
    return None


def sample_key(member: str) -> tuple[str, str]:
    """(key, what follows it in lower case) of a member, as WebDataset has it: a key ends at the first dot of a name.

    >>> sample_key("v1.5/0001.Mask.png"), sample_key(".hidden.png")
    (('v1.5/0001', 'mask.png'), ('', 'hidden.png'))
    """
    folder, slash, base = member.rpartition("/")
    name, _, follows = base.partition(".")
    return folder + slash + name, follows.lower()


def on_disk(path: Path) -> Path:
    """The file that holds a path's bytes: the tar, for a path that leads through one."""
    inside = split(path)
    return path if inside is None else inside[0]


def tar_index(tar: Path) -> TarIndex:
    """Members of a tar file, read once for as long as the file does not change. Raises OSError."""
    stat = tar.stat()
    return _index(str(tar), stat.st_size, stat.st_mtime_ns, stat.st_ino)


def read_member(tar: Path, member: str) -> bytes:
    """A member's bytes. Raises OSError, also when the tar has no such member."""
    index = tar_index(tar)
    if member not in index.members:
        raise FileNotFoundError(f"no such member in {tar.name}" + (f" ({index.damage})" if index.damage else ""))
    offset, size = index.members[member]
    with tar.open("rb") as f:
        f.seek(offset)
        return f.read(size)


@lru_cache(maxsize=_OPEN_INDEXES)
def _index(tar: str, size: int, mtime_ns: int, inode: int) -> TarIndex:
    """The members of one state of a file: the other arguments are there to tell states apart."""
    path = Path(tar)
    with path.open("rb") as f:
        head = f.read(8)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if kind is not None:
        return TarIndex(damage=f"compressed with {kind}, so that no member can be read by itself; uncompress it")
    members: dict[str, tuple[int, int]] = {}
    others = 0
    damage = None
    try:
        for member in _members(path):
            if not member.isreg() or member.issparse():
                others += not member.isdir()
            elif member.offset_data + member.size > size:
                damage = f"cut short within {_name(member.name)}"
            else:
                members[_name(member.name)] = member.offset_data, member.size
    except _TAR_ERRORS as e:
        first = " ".join(str(e).split())[:120] or type(e).__name__
        damage = damage or f"damaged ({first}): {counted(len(members), 'member')} before the damage can be read"
    return TarIndex(members, others, damage)


def _name(member: str) -> str:
    """A member's name as the rest of a path: ``./a//b`` and ``/a/b`` are ``a/b``, ``..`` stays a mere label."""
    return "/".join(part for part in member.split("/") if part not in ("", "."))


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Headers in order. Raises one of the errors above where they cannot be followed to the end mark.

    By itself tarfile takes a damaged header for the end of the archive.
    """
    with path.open("rb") as f, tarfile.open(fileobj=f, mode="r:") as archive:
        before = -1
        while (member := archive.next()) is not None:
            if member.offset_data <= before or member.size < 0:
                raise tarfile.ReadError(f"a header at byte {member.offset} leads backwards")
            before = member.offset_data
            archive.members = []  # type: ignore[attr-defined]  # or every header stays in memory
            yield member
        f.seek(archive.offset)
        end = f.read(_BLOCK)
        if len(end) < _BLOCK:
            raise tarfile.ReadError("it ends without an end mark")
        if any(end):
            raise tarfile.ReadError(f"no header at byte {archive.offset}")
