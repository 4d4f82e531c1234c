"""The whole command against a server on this machine: what it writes, what it asks for, and what it leaves alone."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from run import ICONICITY, Done, run
from wikimedia import JPEG, File, Wikimedia, Wrong, item, serving

from iconicity.data.collect.client import SERVER
from iconicity.indexer.sources.folders import folder_images, sha256_hex
from iconicity.scorer.measure.attributes import read_attributes
from iconicity.scorer.say.credits import credit_line

CONTACT = "someone@example.org"
Row = dict[str, str]


def a_world() -> Wikimedia:
    """Three works, one of which shares its name with a song."""
    return Wikimedia(
        items={
            "Q1": item("The Wave", creators=["Q91"], year=1831, links=9, pictures=["Wave 1.jpg"], category="Wave"),
            "Q2": item("The Scream", aliases=["Scream"], creators=["Q92"], year=1893, pictures=["Scream 1.jpg"]),
            "Q3": item("The Scream", creators=["Q93"], kind="Q7366", description="a song"),
            "Q4": item("The Wave", kind="Q4167410", description="a page for disambiguation"),
            "Q5": item("Nobody's", year=1900, links=0, pictures=["Gone.jpg"]),
            "Q91": item("Katsushika Hokusai"),
            "Q92": item("Edvard Munch"),
            "Q93": item("A Band"),
        },
        files={
            "Wave 1.jpg": File(1),
            "Wave 2.jpg": File(2, size=(200, 150), licence="CC BY-SA 4.0"),
            "Wave 3.jpg": File(3, licence="CC BY 4.0"),
            "Scream 1.jpg": File(4, licence=None),
            "Scream 2.jpg": File(5, licence="CC0"),
        },
        represents={"Q1": ["Wave 2.jpg", "Wave 1.jpg"]},
        categories={"Wave": ["Wave 3.jpg"]},
        depicts={"Q2": ["Scream 2.jpg"]},
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wikimedia]:
    with serving(a_world()) as there:
        monkeypatch.setenv(SERVER, there.base)
        yield there


def titles(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "titles.csv"
    path.write_text(text)
    return path


def table(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def collect(tmp_path: Path, text: str, *more: object, code: int = 0) -> Done:
    given = titles(tmp_path, text)
    return run("collect", "--titles", given, "--out", tmp_path / "refs", "--contact", CONTACT, "--width", 250, *more, code=code)  # fmt: skip


BOTH = "title,creator\nThe Wave,\nThe Scream,Munch\n"


def test_what_it_writes(world: Wikimedia, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    done = collect(tmp_path, BOTH)
    assert done.stdout == f"2 concepts, 5 pictures (5 new), 0 skipped: {refs}\n"
    assert done.stderr == f"note: 1 file whose licence the server does not name: {refs}/the_scream/001_Scream_1.jpg\n"
    assert sorted(p.relative_to(refs).as_posix() for p in refs.rglob("*.jpg")) == [
        "the_scream/001_Scream_1.jpg", "the_scream/002_Scream_2.jpg",
        "the_wave/001_Wave_1.jpg", "the_wave/002_Wave_2.jpg", "the_wave/004_Wave_3.jpg",
    ]  # fmt: skip
    wave, scream = table(refs / "concepts.csv")
    assert wave == {
        "concept": "the_wave", "title": "The Wave", "item": "Q1", "label": "The Wave", "creator": "Katsushika Hokusai",
        "date": "1831", "sitelinks": "9", "pageviews": "30",
    }  # fmt: skip
    assert scream["item"] == "Q2" and scream["creator"] == "Edvard Munch"
    held = read_attributes(refs / "concepts.csv", "concept")
    assert list(held.columns) == ["date", "sitelinks", "pageviews"] and held.values["date"]["the_wave"] == 1831
    credits = {row["file"]: row for row in table(refs / "credits.csv")}
    for file, row in credits.items():
        assert row["sha256"] == sha256_hex((refs / file).read_bytes()) and row["retrieved"].endswith("Z")
    first = credits["the_wave/001_Wave_1.jpg"]
    assert first["author"] == "A. Painter" and first["licence_url"] == "https://creativecommons.org/x"
    assert first["source"] == "https://commons.wikimedia.org/wiki/File:Wave%201.jpg" and first["found_by"] == "image"
    assert credits["the_scream/001_Scream_1.jpg"]["licence"] == ""  # never assumed
    assert credit_line(refs / "the_wave" / "002_Wave_2.jpg") == (
        "A. Painter, CC BY-SA 4.0, https://creativecommons.org/x, https://commons.wikimedia.org/wiki/File:Wave%202.jpg"
    )
    assert all(image.problem is None for image in folder_images(refs))  # the tables are no images that are passed over
    assert world.most_at_once == 1 and len(world.agents) == 1
    (agent,) = world.agents
    assert agent.startswith("iconicity/") and f"({CONTACT})" in agent
    # a thumbnail where the file is wider than asked for, else the file itself
    assert {path.split("/")[2] for path in world.fetched()} == {"250", "200"}
    asked = len(world.asked)
    assert collect(tmp_path, BOTH).stdout == done.stdout.replace("(5 new)", "(0 new)")
    assert len(world.asked) == asked and table(refs / "concepts.csv") == [wave, scream]
    rows = table(refs / "credits.csv")
    (refs / ".collect.jsonl").unlink()  # all is asked for anew, and the files that are the same stay
    assert collect(tmp_path, BOTH).stdout == done.stdout.replace("(5 new)", "(0 new)")
    assert table(refs / "credits.csv") == rows


def test_a_title_of_several_items_is_never_guessed(world: Wikimedia, tmp_path: Path) -> None:
    text = "title,creator,item,extra\nThe Scream,,,1\nThe Scream,Manet,,2\nNothing like it,,,3\n"
    done = collect(tmp_path, text.replace("The Scream,Manet", "Scream,Manet"), code=3)
    at = tmp_path / "titles.csv"
    assert done.stderr.splitlines()[:4] == [
        f"note: {at}: columns that were not used: extra",
        f"skipped: {at}:2: 'The Scream': may be 2 items, such as Q2 (a painting); write the id of one into the column 'item'",
        f"skipped: {at}:3: 'Scream': none of its items is by 'Manet', such as Q2 (a painting); write the id of one into the column 'item'",
        f"skipped: {at}:4: 'Nothing like it': no item has this name; write its id into the column 'item'",
    ]
    choices = table(tmp_path / "refs" / "choose.csv")
    assert [(c["title"], c["item"], c["description"], c["creator"]) for c in choices] == [
        ("The Scream", "Q2", "a painting", "Edvard Munch"),
        ("The Scream", "Q3", "a song", "A Band"),
        ("Scream", "Q2", "a painting", "Edvard Munch"),
    ]
    assert not world.fetched()
    asked = len(world.asked)
    collect(tmp_path, text.replace("The Scream,Manet", "Scream,Manet"), code=3)
    assert len(world.asked) == asked
    collect(tmp_path, "title,item\nThe Scream,https://www.wikidata.org/wiki/Q2\n")
    assert not (tmp_path / "refs" / "choose.csv").exists()
    assert (tmp_path / "refs" / "the_scream" / "001_Scream_1.jpg").is_file()


def test_licences_and_ways_of_finding(world: Wikimedia, tmp_path: Path) -> None:
    done = collect(tmp_path, BOTH, "--licences", "public-domain,CC-BY", "--found-by", "category", "--found-by", "image", code=3)  # fmt: skip
    files = [row["file"] for row in table(tmp_path / "refs" / "credits.csv")]
    assert files == ["the_wave/001_Wave_1.jpg", "the_wave/002_Wave_3.jpg"]
    assert "note: 1 file left out by --licences: File:Scream 1.jpg\n" in done.stderr
    assert "'the_scream': no picture was found" in done.stderr
    assert collect(tmp_path, BOTH, "--per-concept", 1).stdout.startswith("2 concepts, 3 pictures (1 new)")
    collect(tmp_path, BOTH, "--per-concept", 3)  # other choices later: more is fetched, nothing twice
    assert max(Counter(world.asked).values()) == 1
    said = collect(tmp_path, BOTH, "--licences", "cc0").stderr
    assert "note: 3 files under a licence that --licences leaves out, fetched before; delete them, first" in said


def test_a_query_names_items(world: Wikimedia, tmp_path: Path) -> None:
    query = tmp_path / "q.rq"
    query.write_text("SELECT ?item WHERE { VALUES ?item { wd:Q1 wd:Q2 wd:Q3 } }")
    refs = tmp_path / "refs"
    done = run("collect", "--sparql", query, "--out", refs, "--contact", CONTACT, "--width", 250, code=3)
    assert [row["concept"] for row in table(refs / "concepts.csv")] == ["the_wave", "the_scream", "the_scream_q3"]
    assert "note: 1 row of the query without an item, not used\n" in done.stderr
    assert f"skipped: {query}: Q3: 'the_scream_q3': no picture was found" in done.stderr
    assert "name what to collect once" in run("collect", "--out", refs, "--contact", CONTACT, code=2).stderr


def test_dry_run_asks_nobody(world: Wikimedia, tmp_path: Path) -> None:
    done = collect(tmp_path, BOTH, "--dry-run")
    assert done.stdout.splitlines()[:2] == ["2 concepts: 0 begun or done, 2 new", "2 titles to look up"]
    assert not world.asked and not (tmp_path / "refs").exists()


def test_what_a_user_does_to_the_folder_stays(world: Wikimedia, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    (refs / "The Wave").mkdir(parents=True)  # a folder of this concept, in another spelling
    (refs / "The Wave" / "mine.jpg").write_bytes(b"mine")
    (refs / "The Wave" / "002_Wave_2.jpg").write_bytes(b"mine, too")
    (refs / "credits.csv").write_text("file,author,shelf\nThe Wave/mine.jpg,Me,7\n")
    done = collect(tmp_path, BOTH)
    assert (
        f"note: 1 file not fetched, since a file of yours has their name: {refs}/The Wave/002_Wave_2.jpg" in done.stderr
    )
    assert f"note: 2 files not of this command, and left alone, first {refs}/The Wave/002_Wave_2.jpg" in done.stderr
    (refs / "The Wave" / "001_Wave_1.jpg").write_bytes(b"changed")
    (refs / "the_scream" / "002_Scream_2.jpg").unlink()
    rows = table(refs / "concepts.csv")
    (refs / "concepts.csv").write_text(
        "concept,item,frequency,date\n" + f"the_wave,{rows[0]['item']},12,1830\nmine,,5,1700\n"
    )
    asked = len(world.asked)
    done = collect(tmp_path, BOTH)
    assert (
        f"note: 1 file changed since they were fetched, and left alone: {refs}/The Wave/001_Wave_1.jpg" in done.stderr
    )
    assert "note: 1 file deleted since they were fetched, and not fetched again (--restore does)" in done.stderr
    assert (refs / "The Wave" / "001_Wave_1.jpg").read_bytes() == b"changed" and len(world.asked) == asked + 1
    assert (refs / "The Wave" / "002_Wave_2.jpg").read_bytes() == b"mine, too"
    files = {row["file"]: row for row in table(refs / "credits.csv")}
    assert files["The Wave/mine.jpg"]["shelf"] == "7" and "the_scream/002_Scream_2.jpg" not in files
    concepts = {row["concept"]: row for row in table(refs / "concepts.csv")}
    assert concepts["the_wave"]["frequency"] == "12" and concepts["the_wave"]["date"] == "1830"
    assert concepts["mine"]["frequency"] == "5" and concepts["the_scream"]["date"] == "1893"
    collect(tmp_path, BOTH, "--restore")
    assert (refs / "the_scream" / "002_Scream_2.jpg").is_file()
    said = collect(tmp_path, BOTH, "--language", "de", code=1).stderr
    assert f"error: {refs}: was collected with language en, not de" in said


def test_lying_answers_are_named_skips(world: Wikimedia, tmp_path: Path) -> None:
    html = Wrong(body=b"<html>Please wait</html>", kind="text/html")
    world.wrong = {
        "/files/250/Wave 1": [Wrong(body=b"<html>", kind="text/html")],
        "/files/200/Wave 2": [Wrong(body=File(9, (200, 150)).data(200), kind=JPEG)],  # another picture
        "/files/250/Wave 3": [Wrong(body=b"\xff\xd8\xff\xe0 no JPEG", kind=JPEG)],
        "P180=Q1": [html],
        "/files/250/Scream 1": [Wrong(403, b"", "text/plain")],
        "/files/250/Scream 2": [Wrong(302, headers={"Location": "http://example.org/x.jpg"})],
        "/pageviews": [Wrong(body=b'{"items": [{"views": "many"}]}')],
        "P6243=Q2": [Wrong(body=b'{"query": {"search": [{"title": 5}]}}')],
    }
    done = collect(tmp_path, BOTH, code=3)
    skipped = {line.split(": ", 2)[1]: line.split(": ", 2)[2] for line in done.stderr.splitlines() if "skipped" in line}
    assert skipped["File:Wave 1.jpg"] == "is no picture but text/html"
    assert "bytes, and the server said" in skipped["File:Wave 2.jpg"]
    assert "cannot be decoded" in skipped["File:Wave 3.jpg"] or "not an image" in skipped["File:Wave 3.jpg"]
    assert skipped["File:Scream 1.jpg"] == "the server answered with 403"
    assert skipped["File:Scream 2.jpg"] == "leads to another server, http://example.org/x.jpg"
    for fact in ("no JSON object but text/html", "another shape than expected, at items.0.views", "at query.search.0.title"):  # fmt: skip
        assert fact in done.stderr, done.stderr
    assert not list((tmp_path / "refs").glob("*/*"))
    assert collect(tmp_path, BOTH).stdout.startswith("2 concepts, 5 pictures (5 new), 0 skipped")


def test_a_server_that_is_busy_is_waited_for(world: Wikimedia, tmp_path: Path) -> None:
    busy = Wrong(429, headers={"Retry-After": "0"})
    world.wrong = {
        "wbsearchentities": [busy, Wrong(503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"})],
        "wbgetentities": [Wrong(body=b'{"error": {"code": "no-such-thing", "info": "\\u001b[2J"}}')],
        "/files/250/Wave 1": [Wrong(500, headers={"Retry-After": "0"}), busy],
    }
    done = collect(tmp_path, BOTH, code=3)
    assert "the server answered with the error 'no-such-thing'" in done.stderr and "\x1b" not in done.stderr
    assert Counter(world.asked).most_common(1)[0][1] == 3
    world.wrong = {"P180=Q1": [Wrong(429, headers={"Retry-After": "3600"})]}
    assert "asks to wait for 3600 s" in collect(tmp_path, BOTH, code=1).stderr
    assert len(table(tmp_path / "refs" / "credits.csv")) == 5  # what stands is listed
    assert "2 concepts, 5 pictures (0 new)" in collect(tmp_path, BOTH).stdout
    world.wrong = {"wbsearch": [Wrong(429, headers={"Retry-After": "3600"})]}
    said = collect(tmp_path, "title\nNobody's\n", code=1)
    assert said.stderr == f"error: {world.base}: asks to wait for 3600 s; run the same command again after that time\n"
    world.wrong = {"wbsearch": [Wrong(403, b"Forbidden", "text/plain")]}
    assert "refuses to answer (403); see that --contact can be reached" in collect(tmp_path, "title\nNobody's\n", code=1).stderr  # fmt: skip


def test_hostile_names_and_texts_harm_nothing(world: Wikimedia, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    world.items["Q7"] = item(
        "../../evil\x1b[2J\u202e", year=1, pictures=["../../../etc/x.jpg", "a|b.jpg", ".hidden.jpg"]
    )
    world.items["Q8"] = item("credits.csv", pictures=["=cmd|' .jpg", "x" * 300 + ".jpg"])
    world.files["../../../etc/x.jpg"] = File(11, licence="=HYPERLINK(1)\x00", author="<script>x</script>=1+1\r\n<b>\x1b[2J</b>")  # fmt: skip
    world.files[".hidden.jpg"] = File(12, more={"url": "file:///etc/passwd", "thumburl": "file:///etc/passwd"})
    world.files["x" * 251 + ".jpg"] = File(13)
    query = tmp_path / "q.rq"
    query.write_text("SELECT ?item WHERE { VALUES ?item { wd:Q7 wd:Q8 } }")
    refs.mkdir()
    (refs / "nobody's").symlink_to(tmp_path)  # a folder that leads out
    assert "a link out of the folder" in collect(tmp_path, "title\nNobody's\n", code=3).stderr
    done = run("collect", "--sparql", query, "--out", refs, "--contact", CONTACT, "--width", 250, code=3)
    assert "\x1b" not in done.stderr and "\u202e" not in done.stderr and "lies on another server" in done.stderr
    files = sorted(p.relative_to(refs).as_posix() for p in refs.rglob("*.jpg"))
    assert len(files) == 1 and files[0].endswith("/001_.._.._.._etc_x.jpg") and files[0].count("/") == 1
    assert not list(tmp_path.parent.glob("evil*")) and not (refs / "credits.csv").is_dir()
    text = (refs / "credits.csv").read_text()
    assert "'=HYPERLINK(1)" in text and "'=1+1 [2J" in text and "\x00" not in text
    assert [row["concept"] for row in table(refs / "concepts.csv")][1] == "credits.csv_q8"
    for rows, said in (
        ("title\n.git\n", "names no folder that can be seen"),
        ("title\n" + "x" * 251 + "\n", "longer than 250 characters"),
        ("title\nA\na\n", "is that of line 2"),
        ("title,item\nA,12\n", "no id of Wikidata"),
        ("title,item\n,\nA,\n,Q0\n", "no id of Wikidata"),
        ("name\nA\n", "no column 'title'"),
    ):
        assert said in collect(tmp_path, rows, code=1).stderr
    assert "no address at which" in run("collect", "--titles", tmp_path / "titles.csv", "--out", refs, "--contact", "me\r\nX: y@z.org", code=1).stderr  # fmt: skip


def test_killed_at_any_moment_it_fetches_nothing_twice(world: Wikimedia, tmp_path: Path) -> None:
    names = [f"Work {i}" for i in range(6)]
    for i, name in enumerate(names):
        pictures = [f"{name} {n}.jpg" for n in range(3)]
        world.items[f"Q{100 + i}"] = item(name, year=1800 + i, pictures=pictures)
        world.files |= {picture: File(100 + 10 * i + n) for n, picture in enumerate(pictures)}
    refs, given = tmp_path / "refs", titles(tmp_path, "\n".join(["title", *names, ""]))
    command = [ICONICITY, "collect", "--titles", str(given), "--out", str(refs), "--contact", CONTACT, "--width", "250"]
    for world.stop_at in (3, 15, 31):
        world.stopped.clear()
        world.go_on.clear()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert world.stopped.wait(60)
        process.send_signal(signal.SIGKILL)
        world.go_on.set()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, stderr
        for path in refs.glob("*/[!.]*"):
            assert path.read_bytes() == world.files[path.stem[4:].replace("_", " ") + ".jpg"].data(250)  # no half file
    standing = {path.stem[4:].replace("_", "%20") for path in refs.glob("*/[!.]*")}
    before = len(world.asked)
    assert run(*command[1:]).stdout.startswith("6 concepts, 18 pictures")
    assert not [path for path in world.asked[before:] if any(name in path for name in standing)] and standing
    again = Counter(world.asked)
    assert sum(n - 1 for n in again.values()) <= 3  # one a kill: the request that was under way
    assert world.most_at_once <= 2  # and that one's answer beside the next run's first
    assert not list(refs.glob("*/.*"))
    asked = len(world.asked)
    run(*command[1:])
    assert len(world.asked) == asked
