"""The app's pages over HTTP, for one user on this machine.

It listens on 127.0.0.1 alone. Each request needs the token that only the printed address holds (kept as a cookie), the
own address as ``Host`` (a foreign name that resolves to 127.0.0.1 is refused), and to write also as ``Origin``.
"""

from __future__ import annotations

import json
import secrets
import socketserver
import sys
import traceback
from collections.abc import Callable, Mapping
from html import escape
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from iconicity.indexer.errors import IconicityError, InputError, LockedError
from iconicity.indexer.flags import bare
from iconicity.indexer.sources.folders import MAX_BYTES
from iconicity.indexer.store.disks import cure
from iconicity.indexer.text import one_line
from iconicity.scorer.app import labels
from iconicity.scorer.app.study import Study
from iconicity.scorer.say.report.pages import SCRIPTS, STYLE, asset, template

_OWN = "default-src 'none'; script-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
_PLAIN = f"{_OWN}; style-src 'self'"
_INLINE = f"{_OWN}; style-src 'self' 'unsafe-inline'"  # the report's charts and the pages of a search set styles
_HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".jpg": "image/jpeg", ".png": "image/png", ".pdf": "application/pdf", ".csv": "text/csv; charset=utf-8",
    ".tex": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
_FOLDERS = ("report", "searched", "tables")  # of the study, that a page may read
_BODY = 1 << 20  # bytes of a request that is no file
_KEY = "Open the address that the program printed when it started: it holds the key of this study."
_CHUNK = 1 << 16


class Refused(Exception):
    """A request that gets no answer but a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class App(ThreadingHTTPServer):
    """A server for one study on a free port of 127.0.0.1. ``address`` holds the token."""

    daemon_threads = True

    def __init__(self, study: Study, port: int = 0) -> None:
        self.study, self.token = study, secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.cookie = f"iconicity-{self.server_port}"  # browsers send a cookie to all ports of a host
        self.address = f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Body:
    """The rest of a request's body, which never waits for more than was announced."""

    def __init__(self, request: _Handler) -> None:
        self._request = request

    def read(self, size: int) -> bytes:
        data = self._request.rfile.read(min(size, self._request.left))
        self._request.left -= len(data)
        return data


class _Handler(BaseHTTPRequestHandler):
    server: App
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "iconicity", ""
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold names of the user's files."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def _answer(self, act: Callable[[str, dict[str, str]], None]) -> None:
        """Act on a request; what goes wrong becomes one sentence."""
        address = urlsplit(self.path)
        given = dict(parse_qsl(address.query, keep_blank_values=True))
        self.left = 0
        try:
            self._require_own(given)
            act(address.path, given)
        except Refused as e:
            self.close_connection = True
            self._refuse(e.status, str(e))
        except LockedError as e:
            self._refuse(HTTPStatus.CONFLICT, bare(one_line(str(e))))
        except IconicityError as e:
            self._refuse(HTTPStatus.BAD_REQUEST, bare(one_line(str(e))))
        except ConnectionError:
            self.close_connection = True  # the browser went away
        except OSError as e:
            name = self.server.study.folder if e.filename is None else e.filename
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, one_line(f"{name}: {e.strerror or e}; {cure(e.errno)}"))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the program; the terminal shows where it is")

    def _require_own(self, given: Mapping[str, str]) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "This is another address than the one the program printed.")
        if self.command != "GET" and origin != f"http://{host}":
            raise Refused(HTTPStatus.FORBIDDEN, "Only the app's own pages may change a study.")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            cookie = None
        key = given.get("token", "") if self.command == "GET" and "token" in given else cookie.value if cookie else ""
        if not secrets.compare_digest(key.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, _KEY)
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or self.headers.get("Transfer-Encoding") or int(length) > MAX_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This file is too large, or has no length.")
        self.left = int(length)

    # ------------------------------------------------------------ pages and files

    def _get(self, path: str, given: dict[str, str]) -> None:
        study = self.server.study
        if "token" in given:  # a page that goes on by itself: after a link from elsewhere, the cookie counts from there
            self.send_response(HTTPStatus.OK)
            self.send_header(
                "Set-Cookie", f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            )
            page = '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url=/"><title>iconicity</title></html>'
            self._end(page.encode(), _TYPES[".html"], _PLAIN)
        elif path == "/status":
            self._say(HTTPStatus.OK, study.status())
        elif path == "/folders":
            self._say(HTTPStatus.OK, study.folders(given.get("at", "")))
        elif path == "/labels":
            self._say(HTTPStatus.OK, {"labels": labels.read(study.labels)})
        elif path == "/":
            self._text(_own("page.html"), ".html")
        elif path == "/favicon.ico":  # browsers ask for one
            self._text("", ".txt")
        elif path == f"/{STYLE}":
            self._text(asset(STYLE), ".css")
        elif path in ("/app.js", "/app.css", "/served.js"):
            self._text(_own(path[1:]), Path(path).suffix)
        elif path in ("/report/", "/report/index.html"):
            if not (study.folder / "report" / "index.html").is_file():
                raise Refused(HTTPStatus.NOT_FOUND, "There is no report yet.")
            scripts = [
                *SCRIPTS[:-1],
                "../served.js",
                SCRIPTS[-1],
            ]  # it keeps labels here, before the first page is drawn
            page = template("index.html.j2").render(
                title=study.folder.name, policy=_INLINE, scripts=scripts, style=STYLE
            )
            self._text(page, ".html", _INLINE)
        else:
            self._file(path)

    def _file(self, path: str) -> None:
        """A file of the report, a search or a table; nothing that a link or dots lead to elsewhere."""
        folder, _, name = path[1:].partition("/")
        root = self.server.study.folder / folder
        try:
            file = (root / unquote(name)).resolve()
            there = folder in _FOLDERS and file.is_relative_to(root.resolve()) and file.is_file()
        except (ValueError, OSError):  # a NUL, too long a name
            there = False
        if not there or file.suffix not in _TYPES:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
        data = file.read_bytes()
        if folder == "searched":
            data = data.replace(b"<main>", b'<main><p><a href="/#one">\xe2\x86\x90 Your study</a></p>', 1)
        self.send_response(HTTPStatus.OK)
        self._end(data, _TYPES[file.suffix], _INLINE)

    # ------------------------------------------------------------ what changes a study

    def _post(self, path: str, _given: dict[str, str]) -> None:
        study, sent = self.server.study, self._sent()

        def text(name: str) -> str:
            value = sent.get(name, "")
            if not isinstance(value, str):
                raise InputError(f"'{name}' must be a text")
            return value

        def check() -> dict[str, Any]:
            from iconicity.scorer.app.check import check

            study.require_encoders(text("encoders"))
            return check(text("refs"), text("gen"), study.folder)

        def start() -> None:
            study.start(text("refs"), text("gen"), text("encoders"), sent.get("prune") is True)

        acts: Mapping[str, Callable[[], Mapping[str, Any] | None]] = {
            "/check": check,
            "/start": start,
            "/stop": lambda: study.stop(sent.get("at_once") is True),
            "/given": lambda: {"at": study.make_room(text("kind"), text("name"))},
            "/labels": lambda: {"labels": labels.save(study.labels, sent)},
            "/make": lambda: study.make(text("name")),
        }
        if path not in acts:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
        self._say(HTTPStatus.OK, acts[path]() or {})

    def _put(self, path: str, given: dict[str, str]) -> None:
        study = self.server.study
        if path == "/given":
            study.receive(given.get("kind", ""), given.get("path", ""), _Body(self), self.left)
            self._say(HTTPStatus.OK, {})
        elif path == "/search":
            self._say(HTTPStatus.OK, study.search(given.get("name", ""), _Body(self), self.left))
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _sent(self) -> dict[str, Any]:
        if self.left > _BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This request is too large.")
        try:
            sent = json.loads(_Body(self).read(self.left))
        except (ValueError, RecursionError):
            sent = None
        if not isinstance(sent, dict):
            raise InputError("this request is no JSON object")
        return sent

    # ------------------------------------------------------------ answers

    def _say(self, status: HTTPStatus, value: Mapping[str, Any]) -> None:
        while self.left and _Body(self).read(_CHUNK):  # else the browser may not see the answer
            pass
        self.send_response(status)
        self._end(json.dumps(value).encode(), "application/json", _PLAIN)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Say what went wrong: to a person who opened an address as a page with a way back, to a script as JSON."""
        if self.command != "GET" or "text/html" not in self.headers.get("Accept", ""):
            return self._say(status, {"error": sentence})
        self.send_response(status)
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>iconicity</title><p>{escape(sentence)}</p>'
            '<p><a href="/">\u2190 Your study</a></p></html>'
        )
        self._end(page.encode(), _TYPES[".html"], _PLAIN)

    def _text(self, text: str, suffix: str, policy: str = _PLAIN) -> None:
        self.send_response(HTTPStatus.OK)
        self._end(text.encode(), _TYPES[suffix], policy)

    def _end(self, data: bytes, kind: str, policy: str) -> None:
        headers = {"Content-Type": kind, "Content-Length": str(len(data)), **_HEADERS}
        headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _own(name: str) -> str:
    """Text of one of the app's own files."""
    return (resources.files("iconicity.scorer.app") / "site" / name).read_text(encoding="utf-8")
