"""A server on this machine that answers as Wikidata, Wikimedia Commons, SPARQL and the page views do, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from toys import draw

JSON, JPEG = "application/json; charset=utf-8", "image/jpeg"


@dataclass(frozen=True)
class Wrong:
    """An answer in place of the right one. ``cut``: the body ends after so many bytes of what its header says."""

    status: int = 200
    body: bytes = b""
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class File:
    """A file of Commons; ``more``: further fields of its imageinfo."""

    seed: int
    size: tuple[int, int] = (400, 300)
    licence: str | None = "Public domain"
    author: str = '<a href="//x">A. Painter</a>'
    more: dict[str, Any] = field(default_factory=dict)

    def data(self, width: int) -> bytes:
        held = io.BytesIO()
        draw(self.seed, (width, round(width * self.size[1] / self.size[0]))).save(held, "JPEG")
        return held.getvalue()


def claim(value: Any, rank: str = "normal") -> dict[str, Any]:
    return {
        "mainsnak": {"snaktype": "value", "datavalue": {"value": value, "type": "x"}},
        "type": "statement",
        "rank": rank,
    }


def item(
    label: str, *, aliases: Sequence[str] = (), creators: Sequence[str] = (), year: int | None = None, links: int = 3,
    pictures: Sequence[str] = (), category: str | None = None, kind: str = "Q3305213", description: str = "a painting",
) -> dict[str, Any]:  # fmt: skip
    """An item as wbgetentities gives it."""
    claims: dict[str, Any] = {"P31": [claim({"id": kind})]}
    if creators:
        claims["P170"] = [claim({"entity-type": "item", "id": c}) for c in creators]
    if year is not None:
        claims["P571"] = [claim({"time": f"+{year:04d}-00-00T00:00:00Z", "precision": 9})]
    if pictures:
        claims["P18"] = [claim(name) for name in pictures]
    if category:
        claims["P373"] = [claim(category)]
    sites = ["enwiki", "dewiki", "frwiki", *(f"x{i}wiki" for i in range(links))][:links]
    return {
        "type": "item",
        "labels": {"en": {"language": "en", "value": label}},
        "descriptions": {"en": {"language": "en", "value": description}},
        "aliases": {"en": [{"language": "en", "value": a} for a in aliases]} if aliases else [],
        "claims": claims,
        "sitelinks": {s: {"site": s, "title": label, "badges": []} for s in sites} or [],
    }


@dataclass
class Wikimedia:
    """What the servers know, what they were asked, and how they misbehave."""

    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    represents: dict[str, list[str]] = field(default_factory=dict)
    depicts: dict[str, list[str]] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)
    wrong: dict[str, list[Wrong]] = field(default_factory=dict)  # part of an address -> answers, one a request
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    most_at_once: int = 0
    stop_at: int = 0  # the request that is answered only when ``go_on`` is set; then ``stopped`` is
    stopped: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    base: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fetched(self) -> list[str]:
        """Addresses of the pictures that were asked for, in order."""
        return [path for path in self.asked if path.startswith("/files/")]

    def misbehaviour(self, path: str) -> Wrong | None:
        for part, answers in self.wrong.items():
            if part in path and answers:
                return answers.pop(0)
        return None

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        if path.startswith("/files/"):
            *_, width, name = path.split("/")
            return 200, JPEG, self.files[unquote(name)].data(int(width))
        if path.startswith("/pageviews/"):
            article = unquote(path.split("/")[5]).replace("_", " ")
            known = any(e["labels"]["en"]["value"] == article for e in self.items.values())
            found: Any = {"items": [{"article": article, "timestamp": "2026010100", "views": v} for v in (10, 20)]}
            return (200, JSON, _bytes(found)) if known else (404, JSON, _bytes({"title": "Not found."}))
        answers = {
            "wbsearchentities": self._search, "wbgetentities": self._entities, "query": self._query, "": self._sparql,
        }  # fmt: skip
        return 200, JSON, _bytes(answers[query.get("action", "")](query))

    def _search(self, query: dict[str, str]) -> Any:
        hits = []
        for i, e in self.items.items():
            names = [e["labels"]["en"]["value"], *(a["value"] for a in (e["aliases"] or {}).get("en", []))]
            match = next((n for n in names if n.lower().startswith(query["search"].lower())), None)
            if match is not None:
                hits.append({"id": i, "title": i, "label": names[0], "match": {"type": "label", "text": match}})
        return {"searchinfo": {"search": query["search"]}, "search": hits, "success": 1}

    def _entities(self, query: dict[str, str]) -> Any:
        ids = query["ids"].split("|")
        assert len(ids) <= 50
        found = {i: {"id": i, **self.items[i]} if i in self.items else {"id": i, "missing": ""} for i in ids}
        return {"entities": found, "success": 1}

    def _sparql(self, query: dict[str, str]) -> Any:
        rows = [
            {"item": {"type": "uri", "value": f"http://www.wikidata.org/entity/{i}"}}
            for i in self.items
            if i in query["query"]
        ]
        return {"head": {"vars": ["item"]}, "results": {"bindings": [*rows, *rows[:1], {"other": {"value": "1"}}]}}

    def _query(self, query: dict[str, str]) -> Any:
        if query.get("list") == "search":
            statement, _, i = query["srsearch"].removeprefix("haswbstatement:").partition("=")
            names = (self.represents if statement == "P6243" else self.depicts).get(i, [])
            return {"batchcomplete": True, "query": {"search": [{"ns": 6, "title": f"File:{n}"} for n in names]}}
        if query.get("list") == "categorymembers":
            names = self.categories.get(query["cmtitle"].removeprefix("Category:"), [])
            return {
                "batchcomplete": True,
                "query": {"categorymembers": [{"ns": 6, "title": f"File:{n}"} for n in names]},
            }
        width, pages = int(query["iiurlwidth"]), []
        for title in query["titles"].split("|"):
            name = title.removeprefix("File:")
            file = self.files.get(name)
            if file is None:
                pages.append({"ns": 6, "title": title, "missing": True})
            else:
                pages.append({"pageid": 1, "ns": 6, "title": title, "imageinfo": [self._info(name, file, width)]})
        return {"batchcomplete": True, "query": {"pages": pages}}

    def _info(self, name: str, file: File, width: int) -> dict[str, Any]:
        whole = file.data(file.size[0])
        at = f"{self.base}/files/{{}}/{quote(name, safe='')}"
        said = {"Artist": {"value": file.author}, "LicenseUrl": {"value": "//creativecommons.org/x"}}
        if file.licence is not None:
            said["LicenseShortName"] = {"value": file.licence}
        return {
            "size": len(whole), "width": file.size[0], "height": file.size[1], "mime": JPEG,
            "sha1": hashlib.sha1(whole).hexdigest(), "url": at.format(file.size[0]),
            "thumburl": at.format(min(width, file.size[0])), "thumbwidth": min(width, file.size[0]),
            "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{quote(name)}", "extmetadata": said, **file.more,
        }  # fmt: skip


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def serving(world: Wikimedia) -> Iterator[Wikimedia]:
    """Serve what the world knows, on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            form = self.rfile.read(length).decode()
            parts = urlsplit(self.path)
            with world._lock:
                world._now += 1
                world.most_at_once = max(world.most_at_once, world._now)
                world.asked.append(self.path + (f" {form}" if form else ""))
                world.agents.add(self.headers["User-Agent"])
                wrong = world.misbehaviour(unquote(self.path))
                stop = len(world.asked) == world.stop_at
            try:
                if stop:
                    world.stopped.set()
                    world.go_on.wait(60)
                if wrong is None:
                    query = {k: v[0] for k, v in parse_qs(form or parts.query).items()}
                    status, kind, body = world.answer(parts.path, query)
                    wrong = Wrong(status, body, kind)
            finally:
                with world._lock:  # before it is sent: after that the client may already ask again
                    world._now -= 1
            self._send(wrong)

        do_POST = do_GET

        def _send(self, wrong: Wrong) -> None:
            self.send_response(wrong.status)
            self.send_header("Content-Type", wrong.kind)
            self.send_header("Content-Length", str(len(wrong.body)))
            for name, value in wrong.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(wrong.body[: wrong.cut])

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed says nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    world.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
