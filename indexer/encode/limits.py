"""Bounds on what a file may ask for: pixels, and memory where a small file can ask for any amount."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIXELS = ("shown", "published")  # how pixels are read; pixels.py says what that means
MAX_PIXELS = 178_956_970  # where Pillow itself refuses a decompression bomb


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Within the block this process gets at most so many bytes more than it has; beyond that allocations fail.

    On Linux; elsewhere the limit does not count what malloc maps, and none is set.
    """
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = min(x for x in (_data_bytes() + more, soft, hard) if x != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    text = Path("/proc/self/status").read_bytes()
    return int(text[text.index(b"VmData:") + 7 :].split(None, 1)[0]) << 10
