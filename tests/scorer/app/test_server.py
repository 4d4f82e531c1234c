"""The app over HTTP: who may ask, what may be written and where, and what goes wrong in one sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest
from app_server import WAITS, Client, serving
from run import ICONICITY, run
from toys import draw, make_gen, make_refs, write

from iconicity.indexer.encode.names import PRESETS
from iconicity.indexer.errors import InputError
from iconicity.scorer.app.study import Study

HOSTILE = "<script>alert(1)<!--\n" + "x" * 180


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path / "study", WAITS) as opened:
        yield opened
    assert {p.name for p in tmp_path.iterdir()} <= {"study", "refs", "gen", "outside"}


def files(client: Client) -> set[str]:
    folder = client.app.study.folder
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- who may ask


def test_the_printed_address_gives_a_cookie_and_nothing_else_does(client: Client) -> None:
    status, headers, _ = client.raw("GET", f"/?token={client.app.token}", Cookie="")
    assert (
        status == 200
        and "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
        and client.app.token in headers["Set-Cookie"]
    )
    assert client.app.server_address[0] == "127.0.0.1"
    for path in ("/", "/app.js", "/status", "/report/", "/?token=", "/?token=x", "/folders?at=/"):
        for cookie in ("", "iconicity=1", f"{client.app.cookie}=x", f"other={client.app.token}"):
            status, headers, data = client.raw("GET", path, Cookie=cookie)
            assert status == 403 and "Set-Cookie" not in headers and b"key of this study" in data, (path, cookie)
    for path in ("/start", "/labels", "/given", f"/start?token={client.app.token}"):
        assert client.raw("POST", path, b"{}", Cookie="")[0] == 403
    assert files(client) == {"app.json"} and (client.app.study.folder / "app.json").read_text() == "{}\n"


def test_a_foreign_host_and_a_foreign_origin_are_refused(client: Client) -> None:
    assert client.raw("GET", "/status")[0] == 200
    assert client.raw("GET", "/status", Host=f"localhost:{client.app.server_port}")[0] == 200
    for host in ("evil.example", f"evil.example:{client.app.server_port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert client.raw("GET", "/status", Host=host)[0] == 421, host
    for origin in ("http://evil.example", "null", "", f"https://{client.host}", "http://127.0.0.1:1"):
        assert client.raw("POST", "/stop", b"{}", Origin=origin)[0] == 403, origin
        assert client.raw("PUT", "/given?kind=refs&path=a/b/c.png", b"x", Origin=origin)[0] == 403
    assert not (client.app.study.folder / "given").exists()


def test_every_answer_has_a_strict_policy(client: Client) -> None:
    for path in ("/", "/app.js", "/app.css", "/report.css", "/served.js", "/status", "/nothing"):
        _, headers, data = client.raw("GET", path)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and headers["X-Content-Type-Options"] == "nosniff"
        assert b"<script>" not in data and b"style=" not in data


# ---------------------------------------------------------------- what may be read and written


@pytest.mark.parametrize(
    "path", ["/report/../app.json", "/report/%2e%2e/app.json", "/report/..%2fapp.json", "/tables//etc/passwd", "/searched/%00", "/app.json", "/cache/x.js",
             "/report/link.js", "/tables/" + "a" * 5000, "/report/data/../../../outside/secret.js", "//etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out(client: Client, tmp_path: Path, path: str) -> None:
    write(tmp_path / "outside" / "secret.png", draw(1))
    (tmp_path / "outside" / "secret.js").write_text("secret")
    for name in ("report", "tables", "searched", "cache"):
        (client.app.study.folder / name).mkdir()
    (client.app.study.folder / "cache" / "x.js").write_text("secret")
    (client.app.study.folder / "app.json").write_text("{}")
    (client.app.study.folder / "report" / "link.js").symlink_to(tmp_path / "outside" / "secret.js")
    assert client.raw("GET", path)[0] == 404
    (client.app.study.folder / "report" / "fine.js").write_text("fine")
    assert client.raw("GET", "/report/fine.js")[2] == b"fine"


def put(client: Client, path: str, body: bytes = b"x", kind: str = "refs", code: int = 400) -> Any:
    return client.ask("PUT", f"/given?kind={quote(kind)}&path={quote(path, safe='')}", body, code)


def test_files_of_a_browser_stay_in_the_study(client: Client, tmp_path: Path) -> None:
    room = client.ask("POST", "/given", {"kind": "refs", "name": "refs"})["at"]
    put(client, "refs/the_scream/1.PNG", b"bytes", code=200)
    assert (Path(room) / "the_scream" / "1.PNG").read_bytes() == b"bytes"
    for path in (
        "../1.png", "refs/../../1.png", "/etc/1.png", "refs//1.png", "refs/a\\..\\1.png", "refs/.hidden/1.png", "refs/a\n/1.png",
        "refs/\0.png", "refs/\u202e/1.png", "refs/" + "n" * 300 + "/1.png", ".", "", "refs/1.exe", "refs/page.html", "1.png/..",
    ):  # fmt: skip
        said = put(client, path)["error"]
        assert said and "\n" not in said and len(said) < 300
    put(client, "refs/<script>alert(1)<!--/1.png", code=200)  # a name like others
    for kind in ("", "..", "../..", "results"):
        put(client, "refs/a/1.png", kind=kind)
        client.ask("POST", "/given", {"kind": kind, "name": "x"}, 400)
    for name in ("..", "", "a/b", ".", "x\n"):
        client.ask("POST", "/given", {"kind": "refs", "name": name}, 400)
    copied = {"given/refs/refs/the_scream/1.PNG", "given/refs/refs/<script>alert(1)<!--/1.png"}
    assert files(client) == {"app.json", *copied}
    assert Study(client.app.study.folder).status()["choice"] == {}  # known again, though nothing was started
    client.ask(
        "POST", "/given", {"kind": "refs", "name": "refs"}
    )  # the same folder once more: none of before is mixed in
    assert not list(Path(room).iterdir())


def test_nothing_is_written_through_a_link(client: Client, tmp_path: Path) -> None:
    """The study may come from somebody else."""
    (tmp_path / "outside" / "gen").mkdir(parents=True)
    (tmp_path / "outside" / "mine.txt").write_text("keep")
    for name in ("given", "searched", "tables"):
        (client.app.study.folder / name).symlink_to(tmp_path / "outside")
    (client.app.study.folder / "run.log").symlink_to(tmp_path / "outside" / "mine.txt")
    (client.app.study.folder / "labels.csv").symlink_to(tmp_path / "outside" / "labels.csv")
    assert "leads out of the study" in put(client, "m/a/1.png", kind="gen")["error"]
    for method, path, value in (
        ("POST", "/given", {"kind": "gen", "name": "m"}), ("PUT", "/search?name=1.png", b"x"), ("POST", "/make", {"name": "bars"}),
    ):  # fmt: skip
        assert "leads out of the study" in client.ask(method, path, value, 400)["error"]
    client.ask(
        "POST", "/labels", {"path": "m/a/1.png", "concept": "a", "label": "replica", "rater": "me", "model": "m"}
    )
    sent = {"refs": str(make_refs(tmp_path / "refs")), "gen": str(make_gen(tmp_path / "gen")), "encoders": "offline"}
    client.ask("POST", "/start", sent)
    assert {p.name for p in (tmp_path / "outside").rglob("*")} == {"gen", "mine.txt"}
    assert (tmp_path / "outside" / "mine.txt").read_text() == "keep"


def test_half_a_file_is_no_file(client: Client) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", client.app.server_port)) as s:
        head = f"PUT /given?kind=gen&path=m/a/1.png HTTP/1.1\r\nHost: {client.host}\r\nContent-Length: 9\r\n"
        s.sendall(
            f"{head}Origin: {client.headers['Origin']}\r\nCookie: {client.headers['Cookie']}\r\n\r\nhalf".encode()
        )
        s.shutdown(socket.SHUT_WR)
        assert b"400" in s.recv(100)
    assert files(client) == {"app.json"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"refs": 5}', b"[" * 100_000])
def test_bad_requests_get_a_sentence(client: Client, body: bytes) -> None:
    assert client.ask("POST", "/check", body, 400)["error"]
    assert client.ask("POST", "/labels", body, 400)["error"]
    assert client.raw("POST", "/check", b"x" * (2 << 20))[0] == 413
    assert client.raw("POST", "/check", b"{}", **{"Content-Length": "-5"})[0] == 413


def test_a_folder_with_other_things_is_no_study(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "1.png", draw(1))
    with pytest.raises(InputError, match="holds something that is no study"):
        Study(tmp_path / "mine")


# ---------------------------------------------------------------- folders


def test_check_says_what_is_there_and_what_is_wrong(client: Client, tmp_path: Path) -> None:
    refs, gen = make_refs(tmp_path / "refs"), tmp_path / "gen"
    make_gen(gen / "m1")
    make_gen(gen / "m2", ["alpha", "bet"])
    (refs / HOSTILE).mkdir()
    write(refs / HOSTILE / "1.png", draw(9))
    found = client.ask("POST", "/check", {"refs": str(refs), "gen": str(gen)})
    assert found["references"] == "4 concepts, 13 reference images" and found["ready"]
    assert found["models"] == [{"model": "m1", "images": 9, "concepts": 3}, {"model": "m2", "images": 3, "concepts": 1}]
    notes = "\n".join(found["notes"])
    assert "'bet' (is it 'beta'?)" in notes and "without an image in these results: m1 1, m2 3" in notes
    assert "<script>" in notes and "\\n" in notes and "from 21 on" in notes  # as text, in one line
    listing = client.ask("GET", f"/folders?at={quote(str(refs))}")
    assert [HOSTILE, str(refs / HOSTILE)] in listing["folders"] and listing["above"] == str(tmp_path)
    assert files(client) == {"app.json"}


def test_check_refuses_other_encoders_than_those_of_the_study(client: Client, tmp_path: Path) -> None:
    sent = {"refs": str(make_refs(tmp_path / "refs")), "gen": str(make_gen(tmp_path / "gen"))}
    families = {half: {"family": family} for half, family in zip(("clip", "dino"), PRESETS["copy"], strict=True)}
    (client.app.study.folder / "index").mkdir()
    (client.app.study.folder / "index" / "manifest.json").write_text(json.dumps({"settings": families}))
    for path in ("/check", "/start"):
        said = client.ask("POST", path, {**sent, "encoders": "paper"}, 400)["error"]
        assert said.startswith("this study was made with copy; choose copy, or start")
    assert client.ask("POST", "/check", {**sent, "encoders": "copy"})["ready"]
    assert client.ask("GET", "/status")["choice"] == {}


@pytest.mark.parametrize(
    ("refs", "gen", "says"),
    [("", "gen", "whole path"), ("relative", "gen", "whole path"), ("s3://b/refs", "gen", "whole path"), ("/none", "gen", "no such folder"),
     ("refs", "refs", "holds the references and the generated images"), ("refs", "refs/alpha", "images lie directly in it")],
)  # fmt: skip
def test_wrong_folders_get_a_sentence(client: Client, tmp_path: Path, refs: str, gen: str, says: str) -> None:
    make_refs(tmp_path / "refs")
    make_gen(tmp_path / "gen")
    named = {name: str(tmp_path / name) for name in ("refs", "gen", "refs/alpha")}
    sent = {"refs": named.get(refs, refs), "gen": named.get(gen, gen), "encoders": "offline"}
    assert says in client.ask("POST", "/check", sent, 400)["error"]


def test_an_unreadable_folder_gets_a_sentence(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_refs(tmp_path / "refs")

    def closed(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "refs"))

    monkeypatch.setattr("iconicity.scorer.app.study.Path.iterdir", closed)
    said = client.ask("POST", "/check", {"refs": str(tmp_path / "refs"), "gen": str(tmp_path)}, 507)["error"]
    assert said == f"{tmp_path / 'refs'}: Permission denied; give this user the right to read and write it"
    assert client.ask("GET", f"/folders?at={tmp_path}", code=507)["error"] == said
    monkeypatch.undo()


# ---------------------------------------------------------------- runs


def until(client: Client, state: str) -> dict[str, Any]:
    for _ in range(600):
        now: dict[str, Any] = client.ask("GET", "/status")
        if now["state"] == state:
            return now
        time.sleep(0.05)
    pytest.fail(f"never {state}")


def test_one_run_at_a_time_also_of_an_app_that_was_started_again(client: Client, tmp_path: Path) -> None:
    sent = {"refs": str(make_refs(tmp_path / "refs")), "gen": str(make_gen(tmp_path / "gen")), "encoders": "offline"}
    assert client.ask("GET", "/status")["state"] == "new"
    client.ask("POST", "/start", sent | {"encoders": "; rm -rf"}, 400)
    client.ask("POST", "/start", sent)
    assert client.ask("POST", "/start", sent, 409)["error"] == "The study runs already; wait for it, or stop it"
    assert "stop it before" in client.ask("POST", "/given", {"kind": "refs", "name": "refs"}, 409)["error"]
    with serving(tmp_path / "study", WAITS) as again:
        assert until(again, "running")["choice"] == sent
        again.ask("POST", "/start", sent, 409)
        again.ask("POST", "/stop", {"at_once": True})
        assert until(client, "ended")["said"][0].startswith("The run ended in the middle")
    client.ask("POST", "/stop", {})  # nothing runs: nothing happens
    client.ask("POST", "/start", sent)
    until(client, "running")


def test_a_full_disk_gets_a_sentence_and_harms_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = {"path": "m/a/1.png", "concept": "a", "label": "replica", "rater": "me", "model": "m"}
    client.ask("POST", "/labels", label)
    before = (client.app.study.folder / "labels.csv").read_bytes()

    def full(path: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    for module in ("study", "labels"):
        monkeypatch.setattr(f"iconicity.scorer.app.{module}.write_atomically", full)
    sent = {"refs": str(make_refs(tmp_path / "refs")), "gen": str(make_gen(tmp_path / "gen")), "encoders": "offline"}
    for path, value in (("/labels", label | {"label": "unrelated"}), ("/start", sent)):
        said = client.ask("POST", path, value, 507)["error"]
        assert "No space left on device; free space on that disk" in said
    assert (client.app.study.folder / "labels.csv").read_bytes() == before
    assert client.ask("GET", "/status")["state"] == "new"
    (client.app.study.folder / "run.log").write_text(
        "1 of 3, references: 5 of 9 (56%)\nerr"
    )  # the disk was full in its middle
    assert client.ask("GET", "/status")["said"] == [
        "The run ended in the middle. What is finished stays; go on when you like."
    ]
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert client.ask("GET", "/status")["said"] == [
        f"{client.app.study.folder}: the disk is full; free space, then go on"
    ]


@pytest.mark.parametrize("text", ["", "[]", "5", '{"refs": 5, "encoders": "x"}', "[" * 100_000, "\0"])
def test_a_damaged_choice_is_none(client: Client, text: str) -> None:
    (client.app.study.folder / "app.json").write_text(text)
    assert client.ask("GET", "/status")["choice"] in ({}, {"encoders": "x"})


def test_the_command(tmp_path: Path) -> None:
    process = subprocess.Popen([ICONICITY, "app", str(tmp_path / "s"), "--no-open"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    port = urlsplit(address).port
    with urlopen(address) as answer:
        assert answer.status == 200
    assert (
        f"port {port}: Address already in use; name another"
        in run("app", tmp_path / "t", "--port", port, code=1).stderr
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0 and "start it again" in process.stdout.read()
    write(tmp_path / "mine" / "1.png", draw(1))
    assert "holds something that is no study" in run("app", tmp_path / "mine", code=1).stderr


# ---------------------------------------------------------------- labels


def test_labels_are_merged_and_keep_what_others_wrote(client: Client) -> None:
    table = client.app.study.folder / "labels.csv"
    table.write_text("Path;concept;label;why\nm/a/1.png;a;replica;same sky\n", encoding="utf-8-sig")
    mine = {"path": "m/a/1.png", "concept": "a", "label": "unrelated", "rater": "=1+1", "model": "m"}
    client.ask("POST", "/labels", mine)
    client.ask("POST", "/labels", mine | {"rater": "b", "path": 'x,"\n<b>.png'})
    held = client.ask("POST", "/labels", mine | {"label": "variant"})["labels"]
    assert [(h["path"], h["label"], h["rater"], h["why"]) for h in held] == [
        ("m/a/1.png", "replica", "", "same sky"), ("m/a/1.png", "variant", "=1+1", ""), ('x,"\n<b>.png', "unrelated", "b", ""),
    ]  # fmt: skip
    assert held == client.ask("GET", "/labels")["labels"] and ",=1" not in table.read_text()
    assert client.ask("GET", "/status")["labels"] == 3
    assert len(client.ask("POST", "/labels", mine | {"label": ""})["labels"]) == 2
    for wrong in ({}, mine | {"path": ""}, mine | {"label": 5}, mine | {"rater": "r" * 5000}):
        client.ask("POST", "/labels", wrong, 400)
    before = "no table of labels\n"
    table.write_text(before)
    assert "no column 'path'" in client.ask("POST", "/labels", mine, 400)["error"]
    assert table.read_text() == before and client.ask("GET", "/status")["labels"] == 0


def test_many_pages_label_at_once(client: Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(i: int) -> None:
        client.ask(
            "POST", "/labels", {"path": f"m/a/{i}.png", "concept": "a", "label": "replica", "rater": "me", "model": "m"}
        )

    with ThreadPoolExecutor(8) as pages:
        list(pages.map(one, range(24)))
    assert client.ask("GET", "/status")["labels"] == 24


def test_a_person_gets_a_page_with_a_way_back_where_nothing_is(client: Client) -> None:
    status, headers, data = client.raw("GET", "/searched/x.html", Accept="text/html,*/*;q=0.8")
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page." in data.decode() and '<a href="/">' in data.decode()
    status, headers, data = client.raw("GET", "/folders?at=/%3Cb%3E", Accept="text/html")
    assert status == 400 and b"/&lt;b&gt;: no such folder" in data


def test_a_page_is_not_told_of_an_option(client: Client) -> None:
    says = "no label is one of copy, replica (labels: unrelated); name those that mean copied with --copied"
    client.app.study._program = (sys.executable, "-c", f"import sys; sys.exit('error: {says}')")
    said = client.ask("POST", "/make", {"name": "labels"}, 400)["error"]
    assert said == "no label is one of copy, replica (labels: unrelated); label a copy as replica or variant first"


def test_a_command_that_fails_says_why(client: Client) -> None:
    assert client.ask("POST", "/make", {"name": "../x"}, 400)["error"] == "'../x' is no table or figure"
    for name in ("x.exe", "../x.png", ".png", ""):
        client.ask("PUT", f"/search?name={quote(name)}", b"x", 400)
    assert json.loads(client.raw("GET", "/report/")[2])["error"] == "There is no report yet."
