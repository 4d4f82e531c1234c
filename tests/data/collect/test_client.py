"""The client: how long it waits, whom it asks, and how much of an answer it takes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from wikimedia import Wikimedia, Wrong, serving

from iconicity.data.collect import client as of_client
from iconicity.data.collect.client import SERVER, TRIES, Client, Services, origin, retry_after, services, user_agent
from iconicity.indexer.errors import AnswerError, InputError, NetworkError


@pytest.fixture
def world() -> Iterator[Wikimedia]:
    with serving(Wikimedia()) as there:
        yield there


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(world: Wikimedia, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the server, whose waits are written down."""
    monkeypatch.setenv(SERVER, world.base)
    return Client(user_agent("a@example.org"), services(), waits.append, waits.append)  # type: ignore[arg-type]


def answer(value: object, **more: object) -> Wrong:
    return Wrong(body=json.dumps(value).encode(), **more)  # type: ignore[arg-type]


GOOD = answer({"items": []})


def test_waits_are_those_the_server_names(world: Wikimedia, client: Client, waits: list[float]) -> None:
    world.wrong = {
        "/a": [Wrong(429, headers={"Retry-After": "7"}), Wrong(503), answer({"error": {"code": "maxlag"}}), GOOD]
    }
    assert client.json(f"{world.base}/a") == {"items": []}
    assert waits == [7.0, 2.0, 4.0]
    assert len(world.asked) == 4


def test_a_long_wait_is_told(world: Wikimedia, client: Client) -> None:
    told: list[str] = []
    client.tell, client.sleep = told.append, lambda _seconds: None
    world.wrong = {"/a": [Wrong(429, headers={"Retry-After": "90"}), GOOD]}
    client.json(f"{world.base}/a")
    assert told == [f"{world.base}: answered with 429; waiting for 90 s"]


def test_a_server_that_stays_away_ends_the_run(world: Wikimedia, client: Client) -> None:
    world.wrong = {"/a": [Wrong(500)] * TRIES * 3}
    for _ in range(2):
        with pytest.raises(AnswerError, match=f"answered with 500, {TRIES} times"):
            client.json(f"{world.base}/a")
    with pytest.raises(NetworkError, match="3 requests in a row failed"):
        client.json(f"{world.base}/a")


def test_thumbnails_that_cannot_be_made_do_not_end_it(world: Wikimedia, client: Client) -> None:
    world.wrong = {"/a": [Wrong(500)] * TRIES * 4}
    for _ in range(4):
        with pytest.raises(AnswerError, match="answered with 500"):
            client.image(f"{world.base}/a")


def test_a_machine_without_a_network_is_told_at_once(waits: list[float]) -> None:
    at = "http://127.0.0.1:9"
    client = Client("x", Services(at, at, at, at, at, gap=0.0), sleep=waits.append)
    with pytest.raises(NetworkError, match="cannot be reached"):
        client.json("http://127.0.0.1:9/a")
    assert not waits


def test_bodies_that_break_off_are_asked_for_again(world: Wikimedia, client: Client) -> None:
    packed = gzip.compress(GOOD.body)
    unpacked = {"Content-Encoding": "gzip"}
    world.wrong = {
        "/a": [answer({"items": []}, cut=4), Wrong(body=packed[:-9], headers=unpacked), Wrong(body=packed, headers=unpacked)]
    }  # fmt: skip
    assert client.json(f"{world.base}/a") == {"items": []}
    assert len(world.asked) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Wrong(body=b"x" * 2000), "more than 0 MB"),
        (Wrong(body=gzip.compress(b" " * 2000), headers={"Content-Encoding": "gzip"}), "more than 0 MB"),
        (Wrong(body=b"no gzip", headers={"Content-Encoding": "gzip"}), "cannot be unpacked"),
        (Wrong(body=b"[" * 900), "no JSON object"),
        (Wrong(body=b"[]"), "no JSON object"),
        (Wrong(body=b"\xff{}"), "no JSON object"),
        (Wrong(body=b"{}", kind="text/html"), "no JSON object but text/html"),
        (Wrong(404), "answered with 404"),
        (Wrong(302, headers={"Location": "file:///etc/passwd"}), "leads to another server"),
        (Wrong(302, headers={"Location": "http://example.org/"}), "leads to another server, http://example.org/"),
        (Wrong(302, headers={"Location": "http://["}), "leads to another server|no address that can be asked for"),
    ],
)
def test_answers_that_cannot_be_used(
    world: Wikimedia, client: Client, monkeypatch: pytest.MonkeyPatch, wrong: Wrong, said: str
) -> None:
    monkeypatch.setattr(of_client, "JSON_BYTES", 1000)
    world.wrong = {"/a": [wrong]}
    with pytest.raises(AnswerError, match=said) as e:
        client.json(f"{world.base}/a")
    assert len(world.asked) == 1 and "\n" not in str(e.value)


def test_redirects_are_followed_on_the_same_server_and_not_forever(world: Wikimedia, client: Client) -> None:
    to = Wrong(301, headers={"Location": "/b"})
    world.wrong = {"/a": [to], "/b": [GOOD]}
    assert client.json(f"{world.base}/a") == {"items": []}
    world.wrong = {"/b": [to] * 9}
    with pytest.raises(AnswerError, match="more than 5 redirects"):
        client.json(f"{world.base}/b")


def test_origins() -> None:
    ours = Services().origins
    assert origin("https://upload.wikimedia.org:443/a") in ours and origin("HTTPS://UPLOAD.wikimedia.org/") in ours
    for other in (
        "http://upload.wikimedia.org/a", "https://upload.wikimedia.org:8/", "https://upload.wikimedia.org@evil.org/",
        "https://upload.wikimedia.org.evil.org/", "ftp://upload.wikimedia.org/", "//upload.wikimedia.org/", "https://[", "",
    ):  # fmt: skip
        assert origin(other) not in ours, other


def test_retry_after() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("Thu, 01 Jan 2026 00:01:40 GMT", now) == 100.0
    assert [retry_after(t) for t in (None, "", "-5", "1e9", "soon", "\u0665")] == [None] * 6
    assert retry_after("9" * 400) is not None


@pytest.mark.parametrize("contact", ["", "me", "a@b", "a@b.c\r\nHost: x", "a@b.c (d)", "ü@b.org", "x" * 200 + "@b.org"])
def test_a_contact_is_an_address(contact: str) -> None:
    with pytest.raises(InputError, match="write an e-mail address"):
        user_agent(contact)


def test_pages_are_contacts_too() -> None:
    assert "(https://example.org/~me)" in user_agent(" https://example.org/~me ")
