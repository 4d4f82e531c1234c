"""One polite client for the servers of Wikimedia: one request at a time, who asks is named, and a server's wish to wait is kept.

What comes back is bounded in bytes and time, and only the named servers are asked, also where one redirects.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from iconicity.indexer.errors import AnswerError, InputError, NetworkError
from iconicity.indexer.sources.tables import parse_object
from iconicity.indexer.text import one_line

SERVER = "ICONICITY_WIKIMEDIA"  # of the environment: one server in place of all of Wikimedia's, for tests and mirrors
JSON_BYTES, IMAGE_BYTES = 32 << 20, 128 << 20
TRIES = 5  # of one request
LOST = 3  # requests in a row that failed in all tries: the server is away
LONGEST = 600.0  # seconds that a run waits when a server asks for it
_TOLD = 10.0  # a wait of so many seconds is told
_STALLED, _SECONDS = 60.0, 600.0  # without a byte; for a whole answer
_REDIRECTS = 5
_CHUNK = 1 << 16
T = TypeVar("T")
_JSON, _IMAGE = "application/json, application/sparql-results+json", "image/*"
_LATER = {408, 429, 500, 502, 503, 504}
_LATER_CODES = {"maxlag", "ratelimited", "readonly"}  # of MediaWiki, whose errors have status 200
_CONTACT = re.compile(r"[^\s@()<>]+@[^\s@()<>]+\.[^\s@()<>]+|https?://[^\s()<>]+\.[^\s()<>]+")


@dataclass(frozen=True)
class Services:
    """Addresses of the four interfaces, and all origins that may be asked."""

    wikidata: str = "https://www.wikidata.org/w/api.php"
    commons: str = "https://commons.wikimedia.org/w/api.php"
    sparql: str = "https://query.wikidata.org/sparql"
    pageviews: str = "https://wikimedia.org/api/rest_v1/metrics/pageviews/per-article"
    uploads: str = "https://upload.wikimedia.org"
    gap: float = 0.1  # seconds between the starts of two requests, at least

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(map(origin, (self.wikidata, self.commons, self.sparql, self.pageviews, self.uploads)))


def services() -> Services:
    """Wikimedia's own, or all on the one server that $ICONICITY_WIKIMEDIA names."""
    base = os.environ.get(SERVER, "").rstrip("/")
    if not base:
        return Services()
    if not origin(base):
        raise InputError(f"{SERVER}={base}: no address of a server; write http://HOST:PORT")
    return Services(f"{base}/wikidata", f"{base}/commons", f"{base}/sparql", f"{base}/pageviews", base, 0.0)


def origin(url: str) -> str:
    """Scheme, host and port of an address of http or https; "" for any other.

    >>> origin("https://upload.wikimedia.org/a.jpg"), origin("file:///etc/passwd"), origin("http://a@b/")
    ('https://upload.wikimedia.org', '', '')
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return ""
    usual = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}" + ("" if usual else f":{port}")


def joined(base: str, url: str) -> str:
    """An address as it stands on a page; "" for a text that is none.

    >>> joined("https://a.org/b/c", "/d"), joined("https://a.org/", "http://[")
    ('https://a.org/d', '')
    """
    try:
        return urljoin(base, url)
    except ValueError:
        return ""


def user_agent(contact: str) -> str:
    """Who asks, as Wikimedia's policy wants it. Raises :class:`InputError` for a contact that is no address."""
    from importlib.metadata import version

    contact = contact.strip()
    if len(contact) > 200 or not contact.isascii() or not contact.isprintable() or not _CONTACT.fullmatch(contact):
        raise InputError(
            f"`contact` {contact[:60]!r}: no address at which the servers' operators can reach you; write an e-mail address "
            "or the URL of a page"
        )
    return f"iconicity/{version('iconicity')} ({contact}) python-urllib"


@dataclass(frozen=True)
class Answer:
    """Body of an answer, and its media type without parameters."""

    data: bytes
    kind: str


class _Later(Exception):
    """A request that may do when it is sent again, after ``seconds`` if the server says so."""

    def __init__(self, reason: str, seconds: float | None = None, reached: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.seconds, self.reached, self.status = seconds, reached, status


@dataclass
class Client:
    """Sends one request after the other. ``tell`` gets a line on a long wait, ``sleep`` waits."""

    agent: str
    services: Services
    tell: Callable[[str], object] = lambda line: None
    sleep: Callable[[float], object] = time.sleep
    _reached: set[str] = field(default_factory=set)
    _lost: int = 0
    _last: float = 0.0

    def __post_init__(self) -> None:
        # made by hand: urllib's own opener also reads file:, ftp: and data:, and reads the bodies of redirects without a bound
        self._opener = OpenerDirector()
        for handler in (ProxyHandler, UnknownHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):  # fmt: skip
            self._opener.add_handler(handler())

    def json(
        self, url: str, query: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that a server answers. ``form`` is sent as a POST request.

        Raises :class:`AnswerError` for an answer that is none, :class:`NetworkError` where a server is away or refuses.
        """
        at = url if query is None else f"{url}?{urlencode(query)}"
        try:
            return self._again(at, _JSON, JSON_BYTES, form, _object)
        except AnswerError as e:
            if e.status in (401, 403):
                raise NetworkError(
                    f"{origin(url)}: refuses to answer ({e.status}); see that `contact` can be reached, and ask the server's "
                    "operators"
                ) from e
            raise

    def image(self, url: str) -> Answer:
        """Bytes at an address, which is to be an image. Raises :class:`AnswerError`, :class:`NetworkError`."""
        return self._again(url, _IMAGE, IMAGE_BYTES, None, lambda answer, _at: answer)

    def _again(
        self, url: str, accept: str, most: int, form: Mapping[str, str] | None, read: Callable[[Answer, str], T]
    ) -> T:
        """Send a request until it is answered, at most :data:`TRIES` times."""
        host = origin(url)
        for attempt in range(TRIES):
            try:
                found = read(self._follow(url, accept, most, form), url)
            except _Later as e:
                reason, status = str(e), e.status
                if not e.reached and host not in self._reached:
                    raise NetworkError(
                        f"{host}: cannot be reached ({reason}); see that this machine has a network"
                    ) from e
                if e.seconds is not None and e.seconds > LONGEST:
                    raise NetworkError(
                        f"{host}: asks to wait for {e.seconds:.0f} s; run the same command again after that time"
                    ) from e
                if attempt < TRIES - 1:
                    self._wait(host, 2.0**attempt if e.seconds is None else e.seconds, reason)
                continue
            self._reached.add(host)
            self._lost = 0
            return found
        if (status, accept) != (500, _IMAGE):  # so a server says that it cannot make one thumbnail
            self._lost += 1
        if self._lost >= LOST:
            raise NetworkError(
                f"{host}: {self._lost} requests in a row failed ({reason}); run the same command again later"
            )
        raise AnswerError(shown_url(url), f"{reason}, {TRIES} times")

    def _wait(self, host: str, seconds: float, reason: str) -> None:
        if seconds >= _TOLD:
            self.tell(f"{host}: {reason}; waiting for {seconds:.0f} s")
        self.sleep(seconds)

    def _follow(self, url: str, accept: str, most: int, form: Mapping[str, str] | None) -> Answer:
        at = url
        for _ in range(_REDIRECTS + 1):
            if origin(at) not in self.services.origins:
                raise AnswerError(shown_url(url), f"leads to another server, {shown_url(at)}")
            found = self._once(at, accept, most, form)
            if isinstance(found, Answer):
                return found
            at = joined(at, found)
        raise AnswerError(shown_url(url), f"more than {_REDIRECTS} redirects")

    def _once(self, url: str, accept: str, most: int, form: Mapping[str, str] | None) -> Answer | str:
        """The answer, or the address that it redirects to."""
        if (wait := self.services.gap - (time.monotonic() - self._last)) > 0:
            self.sleep(wait)
        self._last = time.monotonic()
        data = None if form is None else urlencode(form).encode()
        headers = {"User-Agent": self.agent, "Accept": accept, "Accept-Encoding": "gzip"}
        try:
            with self._opener.open(Request(url, data, headers), timeout=_STALLED) as response:
                return Answer(_body(response, url, most), response.headers.get_content_type().lower())
        except HTTPError as e:
            with e:
                if e.code in (301, 302, 303, 307, 308) and (to := e.headers.get("Location")):
                    return str(to)
                if e.code in _LATER:
                    raise _Later(
                        f"answered with {e.code}", retry_after(e.headers.get("Retry-After")), status=e.code
                    ) from e
                raise AnswerError(shown_url(url), f"the server answered with {e.code}", e.code) from e
        except URLError as e:
            raise _Later(one_line(str(e.reason))[:160], reached=False) from e
        except (HTTPException, OSError) as e:  # OSError: timeouts and connections that are cut
            raise _Later(f"its answer broke off ({type(e).__name__})") from e
        except ValueError as e:
            raise AnswerError(shown_url(url), "no address that can be asked for") from e


def shown_url(url: str) -> str:
    """An address in a message: without its query, and not too long."""
    bare = one_line(url.partition("?")[0])
    return bare if len(bare) <= 160 else f"{bare[:160]}..."


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a header Retry-After names, as a number or as a date; None where it says nothing.

    >>> retry_after("120"), retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), retry_after("soon")
    (120.0, 0.0, None)
    """
    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _body(response: Any, url: str, most: int) -> bytes:
    """Whole body of an answer, of at most so many bytes."""
    length = response.headers.get("Content-Length") or ""
    known = int(length) if length.isascii() and length.isdecimal() and len(length) < 16 else None
    too_large = AnswerError(shown_url(url), f"more than {most >> 20} MB")
    if known is not None and known > most:
        raise too_large
    until, held = time.monotonic() + _SECONDS, bytearray()
    while chunk := response.read1(_CHUNK):  # of what is there: a server that sends byte by byte meets the deadline
        held += chunk
        if len(held) > most:
            raise too_large
        if time.monotonic() > until:
            raise _Later(f"its answer took more than {_SECONDS:.0f} s")
    if known is not None and len(held) != known:
        raise _Later("its answer broke off")
    if (response.headers.get("Content-Encoding") or "").lower() != "gzip":
        return bytes(held)
    unpack = zlib.decompressobj(31)
    try:
        data = unpack.decompress(bytes(held), most + 1)
    except zlib.error as e:
        raise AnswerError(shown_url(url), "its answer cannot be unpacked") from e
    if len(data) > most:
        raise too_large
    if not unpack.eof:
        raise _Later("its answer broke off")
    return data


def _object(answer: Answer, url: str) -> dict[str, Any]:
    found = parse_object(answer.data) if "json" in answer.kind else None
    if found is None:
        raise AnswerError(shown_url(url), f"its answer is no JSON object but {one_line(answer.kind)[:60]}")
    error = found.get("error")
    if isinstance(error, dict):
        code = str(error.get("code"))[:60]
        if code in _LATER_CODES:
            raise _Later(f"answered with '{one_line(code)}'")
        raise AnswerError(shown_url(url), f"the server answered with the error '{one_line(code)}'")
    return found
