"""An S3 server on loopback (moto's), and a gate before it that can be shut, forbid, or lose a header."""

from __future__ import annotations

import http.client
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from toys import toy_encoders

import iconicity.indexer.builder as builder
from iconicity.indexer.build import build_index
from iconicity.indexer.places import place

BUCKET = "bucket"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "not/a/real/secret",
    "AWS_REGION": "us-east-1",
}
_LOST = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def _pass(self) -> None:
        gate = self.server
        gate.seen.append(f"{self.command} {unquote(self.path)}")
        if gate.shut_after is not None and len(gate.seen) > gate.shut_after:
            gate.shut = True
        if gate.shut:
            self.connection.close()
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if gate.forbidden(self.command):
            self._answer(
                403,
                [("Content-Type", "application/xml")],
                b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
            )
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in gate.dropped}
        there = http.client.HTTPConnection("127.0.0.1", gate.behind, timeout=60)
        try:
            there.request(self.command, self.path, body, headers)
            found = there.getresponse()
            self._answer(found.status, found.getheaders(), found.read())
        except OSError:  # shut in the middle
            self.close_connection = True
        finally:
            there.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in _LOST:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Gate(ThreadingHTTPServer):
    """Passes requests on to a server behind it, as it is told to."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.open()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def open(self) -> None:
        """Let all through."""
        self.shut = False
        self.shut_after: int | None = None  # requests; then it shuts
        self.dropped: frozenset[str] = frozenset()  # headers in lower case
        self.forbid: frozenset[str] = frozenset()  # methods
        self.seen: list[str] = []

    def forbidden(self, method: str) -> bool:
        return method in self.forbid

    def handle_error(self, *_: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Storage:
    """The server, the gate before it, and a bucket."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    @property
    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.gate.url, "AWS_ALLOW_HTTP": "true"}

    def fresh(self) -> str:
        """A URL below which nothing lies; moto keeps one memory for all servers of a process."""
        return f"s3://{BUCKET}/a place {uuid.uuid4().hex[:8]}"

    def filesystem(self) -> Any:
        """The bucket, past the gate."""
        import s3fs

        return s3fs.S3FileSystem(
            key=KEYS["AWS_ACCESS_KEY_ID"],
            secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            use_listings_cache=False,
            endpoint_url=f"http://127.0.0.1:{self.gate.behind}",
        )

    def put(self, url: str, data: bytes) -> None:
        """Write an object."""
        self.filesystem().pipe_file(url.removeprefix("s3://"), data)

    def copy(self, folder: Path, url: str) -> str:
        """The files of a folder, below a URL."""
        fs = self.filesystem()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            fs.pipe_file(f"{url.removeprefix('s3://')}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return url

    def contents(self, url: str = f"s3://{BUCKET}") -> dict[str, bytes]:
        """Every object below a URL."""
        fs = self.filesystem()
        return {str(key): bytes(fs.cat_file(key)) for key in fs.find(url.removeprefix("s3://"))}


@contextmanager
def serving() -> Iterator[Storage]:
    """A server with an empty bucket, in threads of this process."""
    server_of = pytest.importorskip("moto.server").ThreadedMotoServer
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_of("127.0.0.1", 0, verbose=False)
    server.start()
    gate = Gate(server.get_host_and_port()[1])
    try:
        storage = Storage(gate)
        storage.filesystem().call_s3("create_bucket", Bucket=BUCKET)
        yield storage
    finally:
        gate.shutdown()
        gate.server_close()
        server.stop()


def build_there(refs: Path, url: str, commit: int = 2) -> None:
    """Build an index in a process of its own, with small commits."""
    builder.REMOTE_COMMIT_IMAGES = commit
    build_index(refs, place(url), toy_encoders())
