"""Files of an ONNX model, and their SHA-256. Reads the model's protocol buffer without a library."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from iconicity.indexer.errors import ModelUnavailableError
from iconicity.indexer.spec import file_sha256

# Where a tensor may stand: message -> field -> message in it. Numbers of onnx.proto3 (github.com/onnx/onnx).
_BELOW = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}
_KEY, _VALUE = 1, 2  # of an entry of external_data


def model_sha256(path: Path) -> str:
    """SHA-256 of a model's file; with external data that of one line ``SHA-256  NAME`` for each of its files.

    Raises :class:`ModelUnavailableError` for a file that cannot be read or is no protocol buffer.
    """
    try:
        own = file_sha256(path)
        others = external_files(path)
        if not others:
            return own
        lines = [f"{own}  \n", *(f"{file_sha256(path.parent / name)}  {name}\n" for name in others)]
    except OSError as e:
        raise ModelUnavailableError(f"{e.filename}: cannot be read ({e.strerror})") from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def external_files(path: Path) -> list[str]:
    """Names of the files beside a model that hold tensors of it, sorted; empty where the model is one file."""
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as view:
        try:
            return sorted(set(_locations(view, "model")))
        except (IndexError, UnicodeDecodeError):
            raise ModelUnavailableError(f"{path}: is not an ONNX model, or is cut off") from None


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    for number, value in _fields(message):
        below = _BELOW[kind].get(number)
        if below == "external_data":
            entry = {n: bytes(v).decode() for n, v in _fields(value)}
            if entry.get(_KEY) == "location":
                yield entry[_VALUE]
        elif below is not None:
            yield from _locations(value, below)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each field that has a length, and skip other fields. Raises :class:`IndexError`."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise IndexError
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise IndexError


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number stored as seven bits in each byte, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
