"""Parquet files that carry the SHA-256 of all their bytes: parquet tests its pages, and nothing of its footer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from iconicity.indexer.store.files import replacing
from iconicity.scorer.parquet import META

_KEY = b"iconicity.sha256"
_ZEROS = b"0" * 64
UNSIGNED = {_KEY: _ZEROS}  # key-value metadata a writer adds last; the digest is of the file with these zeros


@contextmanager
def writing_signed(path: Path, schema: pa.Schema, head: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """A writer of a signed file with ``head`` in its metadata; the file takes ``path``'s place when the block ends well."""
    schema = schema.with_metadata({META: json.dumps(dict(head), sort_keys=True).encode()})
    with replacing(path) as tmp:
        with pq.ParquetWriter(tmp, schema, compression="zstd", write_page_checksum=True) as file:
            yield file
            file.add_key_value_metadata(UNSIGNED)
        sign(tmp)


def sign(path: Path) -> None:
    """Put the digest into a closed file whose writer added ``UNSIGNED``."""
    with path.open("r+b") as f:
        at = _digest_at(f)
        assert at is not None
        f.seek(0)
        value = hashlib.file_digest(f, "sha256").hexdigest().encode()
        f.seek(at)
        f.write(value)


def is_whole(path: Path) -> bool:
    """Whether a signed file is as it was written."""
    with path.open("rb") as f:
        at = _digest_at(f)
        if at is None:
            return False
        f.seek(0)
        h = hashlib.sha256()
        left = at
        while left and (chunk := f.read(min(left, 1 << 20))):
            h.update(chunk)
            left -= len(chunk)
        value = f.read(len(_ZEROS))
        h.update(_ZEROS)
        while chunk := f.read(1 << 20):
            h.update(chunk)
        return h.hexdigest().encode() == value


def _digest_at(f: BinaryIO) -> int | None:
    """Where the digest's 64 characters stand."""
    size = f.seek(0, os.SEEK_END)
    start = max(0, size - (1 << 24))  # footers are smaller
    f.seek(start)
    tail = f.read()
    key = tail.rfind(_KEY)
    value = key + len(_KEY) + 2  # thrift: the value's field and its length
    return None if key < 0 or value + len(_ZEROS) > len(tail) else start + value
