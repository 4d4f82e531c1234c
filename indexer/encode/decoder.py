"""A small process that decodes images, so that a file which crashes or hangs a C library takes no run down.

It is given bytes and gives pixels back, and no message is unpickled. It imports Pillow alone and starts in a tenth of a
second.
"""

from __future__ import annotations

import atexit
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired

from PIL import Image

from iconicity.indexer.encode.decode import CPU_SECONDS, Decoded, decode, limits
from iconicity.indexer.encode.limits import MAX_PIXELS, PIXELS
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.encode.pool import Lost, Process
from iconicity.indexer.errors import IconicityError, ImageError

WALL_SECONDS = 900.0  # wall-clock limit for a decoder that waits without using the processor
_REQUEST = struct.Struct("<BQd")  # place in PIXELS, max_pixels, cpu_seconds; then the image's bytes
_REPLY = struct.Struct("<?IIH")  # decoded, width, height, notes; then pixels, or the reason


def why_lost(lost: Lost, cpu_seconds: float = CPU_SECONDS) -> str:
    """The reason why an image cannot be used that ended the decoding process."""
    if lost.exitcode is None:
        return f"decoding it did not end within {WALL_SECONDS:g} s"
    if lost.signal == signal.SIGPROF:
        return f"decoding it takes more than {cpu_seconds:g} s of the processor"
    if lost.by_itself:
        return f"decoding it crashes the image library ({lost})"
    return f"the process that decoded it was killed twice ({lost}), most likely for want of memory"


class Decoder:
    """One decoding process. It starts with the first request, and again after it was lost. Threads take turns."""

    def __init__(self, cpu_seconds: float = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        # a BLAS thread's buffers would count as an image's
        self.process = Process(
            f"{__name__}:{serve.__name__}", environment={"OPENBLAS_NUM_THREADS": "1"}, seconds=WALL_SECONDS
        )

    def decode(self, data: bytes, path: Path | str, pixels: str = "shown", max_pixels: int = MAX_PIXELS) -> Decoded:
        """Run :func:`iconicity.indexer.encode.decode.decode` in the process. Raises :class:`ImageError` also for a file that
        crashes the process or takes too long, :class:`IconicityError` when none can be started.
        """
        try:
            reply = self.process.ask(_REQUEST.pack(PIXELS.index(pixels), max_pixels, self._cpu_seconds) + data)
        except Lost as e:
            if e.started or self.process.given_up:
                raise ImageError(path, why_lost(e, self._cpu_seconds)) from e
            raise IconicityError(
                f"{sys.executable}: the process that decodes images cannot be started; install again"
            ) from e
        except (OSError, TimeoutExpired) as e:
            why = f" ({e.strerror})" if isinstance(e, OSError) else ""
            raise IconicityError(
                f"{sys.executable}: the process that decodes images cannot be started{why}; install again"
            ) from e
        decoded, width, height, notes = _REPLY.unpack_from(reply)
        if not decoded:
            raise ImageError(path, reply[_REPLY.size :].decode("utf-8", "replace"))
        return Decoded(Image.frombytes("RGB", (width, height), memoryview(reply)[_REPLY.size :]), Note(notes))

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return self.process.pid

    def close(self) -> None:
        """End the process."""
        self.process.close()


def serve(_first: bytes) -> Callable[[bytes], bytes]:
    """Return the function that answers requests in the process."""
    return _answer


def _answer(request: bytes) -> bytes:
    pixels, max_pixels, cpu_seconds = _REQUEST.unpack_from(request)
    try:
        with limits(max_pixels, cpu_seconds):
            decoded = decode(request[_REQUEST.size :], "", PIXELS[pixels], max_pixels)
            body = decoded.image.tobytes()
        return _REPLY.pack(True, *decoded.image.size, decoded.notes) + body
    except (ImageError, MemoryError) as e:
        reason = e.reason if isinstance(e, ImageError) else "cannot be decoded: MemoryError"
        return _REPLY.pack(False, 0, 0, 0) + reason.encode("utf-8", "backslashreplace")


_shared: dict[int, Decoder] = {}  # by process id: a forked child needs its own


def shared() -> Decoder:
    """Return the one decoder of this process. It ends with the process."""
    pid = os.getpid()
    if pid not in _shared:
        _shared[pid] = Decoder()
        atexit.register(lambda: _shared[pid].close() if os.getpid() == pid else None)
    return _shared[pid]
