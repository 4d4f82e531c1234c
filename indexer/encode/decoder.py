"""A small process that decodes images, so that a file which crashes or hangs a C library takes no run down.

It is given bytes and gives pixels back: it opens no file, and no message is pickled. It imports Pillow alone and starts
in a tenth of a second.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from iconicity.indexer.encode.decode import CPU_SECONDS, Decoded, decode, limits
from iconicity.indexer.encode.limits import MAX_PIXELS, PIXELS
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.errors import IconicityError, ImageError

WALL_SECONDS = 900.0  # for what waits without using the processor
_REQUEST = struct.Struct("<BQd")  # place in PIXELS, max_pixels, cpu_seconds; then the image's bytes
_REPLY = struct.Struct("<?IIH")  # decoded, width, height, notes; then pixels, or the reason
_READY = b"ready"
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from iconicity.indexer.encode.decoder import serve; serve(int(sys.argv[1]))"
)
# Signals by which a library that met a bad file, or a limit set here, ends the process. Others come from outside.
_BY_IMAGE = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGPROF}


class Lost(Exception):
    """A process ended, or was ended, while it worked on an image. ``by_image``: not from outside."""

    def __init__(self, exitcode: int | None, cpu_seconds: float = CPU_SECONDS) -> None:
        by = -exitcode if exitcode is not None and exitcode < 0 else 0
        name = signal.Signals(by).name if by in set(signal.Signals) else f"exit code {exitcode}"
        self.by_image = exitcode is None or by in _BY_IMAGE
        if exitcode is None:
            reason = f"decoding it did not end within {WALL_SECONDS:g} s"
        elif by == signal.SIGPROF:
            reason = f"decoding it takes more than {cpu_seconds:g} s of the processor"
        elif self.by_image:
            reason = f"decoding it crashes the image library ({name})"
        else:
            reason = f"the process that decoded it was killed twice ({name}), most likely for want of memory"
        super().__init__(reason)


class Decoder:
    """One such process, started when it is first needed and again when it was lost. Threads take turns."""

    def __init__(self, cpu_seconds: float = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._abandoned = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def decode(self, data: bytes, path: Path | str, pixels: str = "shown", max_pixels: int = MAX_PIXELS) -> Decoded:
        """What :func:`iconicity.indexer.encode.decode.decode` does, there. Raises :class:`ImageError` also for a file that
        crashes the process or takes too long, :class:`IconicityError` when none can be started.
        """
        request = _REQUEST.pack(PIXELS.index(pixels), max_pixels, self._cpu_seconds) + data
        with self._lock:
            self._abandoned = False
            try:
                try:
                    reply = self._ask(request)
                except Lost as e:
                    if e.by_image or self._abandoned:
                        raise
                    reply = self._ask(request)  # once more: what killed it came from outside
            except Lost as e:
                raise ImageError(path, str(e)) from e
        decoded, width, height, notes = _REPLY.unpack_from(reply)
        if not decoded:
            raise ImageError(path, reply[_REPLY.size :].decode("utf-8", "replace"))
        return Decoded(Image.frombytes("RGB", (width, height), memoryview(reply)[_REPLY.size :]), Note(notes))

    def _ask(self, request: bytes) -> bytes:
        connection = self._connection or self._start()
        try:
            connection.send_bytes(request)
            if connection.poll(WALL_SECONDS):
                return connection.recv_bytes()
            ended = None
        except (EOFError, OSError):
            assert self._process is not None
            ended = self._process.wait()
        except BaseException:  # a stop between question and answer: the next answer would be this one's
            self.close()
            raise
        self.close()
        raise Lost(ended, self._cpu_seconds)

    def _start(self) -> Connection:
        here, there = socket.socketpair()
        with there:
            command = [sys.executable, "-P", "-c", _BOOT, str(there.fileno()), json.dumps(sys.path)]
            # a group of its own: Ctrl-C is the parent's to handle. What libraries print is for nobody.
            try:
                self._process = subprocess.Popen(
                    command, pass_fds=[there.fileno()], process_group=0, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a thread's buffers would count as an image's
                )  # fmt: skip
            except OSError as e:
                here.close()
                raise IconicityError(
                    f"{sys.executable}: the process that decodes images cannot be started ({e.strerror}); install again"
                ) from e
        self._connection = Connection(here.detach())
        try:
            if self._connection.recv_bytes() == _READY:
                return self._connection
        except (EOFError, OSError):
            pass
        self.close()
        raise IconicityError(f"{sys.executable}: the process that decodes images cannot be started; install again")

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return None if self._process is None else self._process.pid

    def abandon(self) -> None:
        """Give up the image that another thread waits for, if any: that thread gets an :class:`ImageError`."""
        process = self._process
        if self._lock.locked() and process is not None:
            self._abandoned = True
            process.kill()

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve(fd: int) -> None:
    """Answer requests until the parent closes its end, or ends."""
    connection = Connection(fd)
    connection.send_bytes(_READY)
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        pixels, max_pixels, cpu_seconds = _REQUEST.unpack_from(request)
        try:
            with limits(max_pixels, cpu_seconds):
                decoded = decode(request[_REQUEST.size :], "", PIXELS[pixels], max_pixels)
                body = decoded.image.tobytes()
            head = _REPLY.pack(True, *decoded.image.size, decoded.notes)
        except (ImageError, MemoryError) as e:
            reason = e.reason if isinstance(e, ImageError) else "cannot be decoded: MemoryError"
            head, body = _REPLY.pack(False, 0, 0, 0), reason.encode("utf-8", "backslashreplace")
        connection.send_bytes(head + body)


_shared: dict[int, Decoder] = {}  # by process id: a forked child needs its own


def shared() -> Decoder:
    """This process's decoder: there is one, which ends with it."""
    pid = os.getpid()
    if pid not in _shared:
        _shared[pid] = Decoder()
        atexit.register(lambda: _shared[pid].close() if os.getpid() == pid else None)
    return _shared[pid]
