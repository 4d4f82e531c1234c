"""Names are data: concepts, files, models and links that try to be code, paths out of the tree, or terminal commands."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from run import run
from toys import draw, make_gen, make_refs, pack, running, toy_encoders, write

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.csv_cells import neutral, plain
from iconicity.indexer.errors import IconicityError, IndexFormatError, InputError
from iconicity.indexer.options import Select
from iconicity.indexer.sources.folders import concept_name, folder_images, read_bytes, read_concept_rows
from iconicity.indexer.sources.suffixes import NESTED
from iconicity.indexer.store.index import open_index
from iconicity.indexer.text import json_text, one_line
from iconicity.scorer.results import require_results
from iconicity.scorer.say.report.build import report
from iconicity.scorer.say.report.options import ReportOptions
from iconicity.scorer.scoring import score

HOSTILE = [
    "' or 1=1 --", "x'; drop table references; --", "'; delete from references where 'a'='a", "a\\'b", "100%_\\",
    '"quoted"', "=cmd()|'a!a1", "+1", "-1", "@sum(a1)", "\tcell", "new\nline", "\x1b[2j\x1b[31mred", "\x9b31m", "\u202egpj.exe",
    "\u05e2\u05d1\u05e8\u05d9\u05ea", "\U0001f3a8", "a..", "a;b,c", "null", "concept", "{{7*7}}", "<script>", "z" * 255,
]  # fmt: skip
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2060-\u206f]")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of hostile concepts, and a model's images of them."""
    for i, concept in enumerate(HOSTILE):
        write(tmp_path / "refs" / concept / "00.png", draw(i))
        write(tmp_path / "gen" / concept / "00.png", draw(i))
        write(tmp_path / "gen" / concept / "=1 \x1b[7m.png", draw(1000 + i))
    encoders = toy_encoders()
    monkeypatch.setattr("iconicity.indexer.encode.encoder.reproduce", lambda *_: encoders)
    build_index(tmp_path / "refs", tmp_path / "i", encoders)
    return tmp_path


def test_every_concept_keeps_to_itself(place: Path) -> None:
    index = open_index(place / "i")
    names = sorted(concept_name(c) for c in HOSTILE)
    assert sorted(index.concepts()) == names
    for name in names:
        block = index.block([name])
        assert [r.ref_id for r in block.references] == [f"{name}/00.png"]
        assert list(index.references([name])) == [f"{name}/00.png"]
    remove_references(place / "i", concepts=[HOSTILE[0]], run=running())
    remove_references(place / "i", ref_ids=[f"{concept_name(HOSTILE[1])}/00.png"], run=running())
    gone = {concept_name(c) for c in HOSTILE[:2]}
    assert sorted(open_index(place / "i").concepts()) == [n for n in names if n not in gone]


def test_commands_print_names_as_text_and_write_them_as_cells(place: Path) -> None:
    model = "-1+1\x1b[2J\nerror: all is well"
    done = [
        run(
            "score", "--index", place / "i", "--gen", f"{model}={place / 'gen'}", "--out", place / "o", "--scope", "all"
        ),
        run("summary", place / "o", "--draws", 100, "--out", place / "s.csv", "--table", "concepts"),
        run("summary", place / "o", "--draws", 100, "--json"),
        run("sweep", place / "o", "--draws", 100, "--table", "grid", "--out", place / "sweep.csv"),
        run("index", "info", "--index", place / "i", "--json"),
        run("index", "info", "--index", place / "i"),
        run("export", place / "o", "--out", place / "long.csv"),
        run("attribute", place / "o", "--index", place / "i", "--table", "confusion", "--draws", 100),
        run("search", place / "gen" / HOSTILE[0] / "00.png", "--index", place / "i", "--json"),
        run("index", "remove", "--index", place / "i", "--concept", "no\x1b[2J\nsuch", code=1),
        run("score", "--index", place / "i", "--gen", f"\x1b[2J={place / 'none'}", code=1),
        run("score", "--index", place / "i", "--gen", "\x1b[2J=", code=2),
    ]
    for d in done:
        assert not UNSAFE.search(d.stdout + d.stderr)
        assert not any(line.startswith("error: all is well") for line in (d.stdout + d.stderr).splitlines())
    for path in (*(place / "o").glob("*.csv"), *place.glob("*.csv")):
        rows = list(csv.reader(path.open(newline="", encoding="utf-8")))
        cells = {cell for row in rows for cell in row}
        for cell in cells:
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), (path, cell)
            assert not cell.startswith("-") or float(cell) < 0, (path, cell)
        assert "'" + model in cells or path.name == "s.csv"
    header, *rows = csv.reader((place / "o" / "results_cra_dynamic.csv").open(newline="", encoding="utf-8"))
    at = header.index("slug")
    assert {plain(row[at]) for row in rows} == {concept_name(c) for c in HOSTILE}


def test_our_tables_name_the_concepts_they_were_written_with(place: Path) -> None:
    encoders = toy_encoders()
    score(place / "i", {"m": place / "gen"}, place / "o", run=running(encoders))
    rows = read_concept_rows(place / "o" / "results_cra_dynamic.csv", {"slug": "--slug-col"})
    assert {concept for concept, _ in rows} == {concept_name(c) for c in HOSTILE}


@pytest.mark.parametrize("text", ["=a", "'=a", "''=a", "+", "-", "@", "\ta", "\ra", "a", "", "'", "'a", "a=b", "'''-1"])
def test_cells_read_as_they_were_written(text: str) -> None:
    cell = neutral(text)
    assert plain(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_are_never_text() -> None:
    assert [neutral(v) for v in (-1, -0.5, None, True)] == [-1, -0.5, None, True]


def test_lines_and_json_hold_nothing_that_moves_the_cursor() -> None:
    text = (
        "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0xFEFF, 0xDC80])) + "\u05e2\u00e9\U0001f3a8"
    )
    assert not UNSAFE.search(one_line(text)) and "\n" not in one_line(text)
    assert one_line(text).endswith("\u05e2\u00e9\U0001f3a8")
    assert json.loads(json_text({"a": text})) == {"a": text} and not UNSAFE.search(json_text({"a": text}))


def outside(tmp_path: Path) -> Path:
    return write(tmp_path / "private" / "beta" / "00.png", draw(77)).parent


def test_links_out_of_the_references_are_not_followed(tmp_path: Path) -> None:
    refs = make_refs(tmp_path / "refs", ["alpha"], each=1)
    private = outside(tmp_path)
    (refs / "alpha" / "zz_link.png").symlink_to(private / "00.png")
    (refs / "alpha" / "inner.png").symlink_to("00.png")
    (refs / "alpha" / "loop.png").symlink_to("loop.png")
    (refs / "alpha" / "gone.png").symlink_to("nowhere.png")
    (refs / "beta").symlink_to(private)
    (refs / "round").symlink_to(refs)
    (refs / "up").symlink_to("..")
    built = build_index(refs, tmp_path / "i", toy_encoders())
    round_ = [s for s in built.skipped if "/round/" in s.path]  # images of the concepts, seen from within one
    reasons = {Path(s.path).name: s.reason for s in built.skipped if s not in round_}
    assert {s.reason for s in round_} == {NESTED}
    assert {name for name, reason in reasons.items() if "`follow_links`" in reason} == {"zz_link.png", "beta", "up"}
    assert set(reasons) - {"zz_link.png", "beta", "up"} == {"loop.png", "gone.png"}
    assert all(r.concept == "alpha" for r in open_index(tmp_path / "i").references().values())
    added = add_references(refs, tmp_path / "i", select=Select(follow_links=True), run=running())
    assert set(open_index(tmp_path / "i").concepts()) == {"alpha", "beta"} and added.embedded == 2


def test_references_that_are_all_links_say_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "beta").symlink_to(outside(tmp_path))
    with pytest.raises(InputError, match="`follow_links`"):
        build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())


def test_links_out_of_any_layout_are_not_followed(tmp_path: Path) -> None:
    encoders = toy_encoders()
    build_index(make_refs(tmp_path / "refs", ["alpha", "beta"]), tmp_path / "i", encoders)
    private = outside(tmp_path)
    plain_ = make_gen(tmp_path / "plain", ["alpha"], each=1)
    (plain_ / "beta").symlink_to(private)
    geneval = tmp_path / "geneval" / "00000"
    write(geneval / "samples" / "0.png", draw(1))
    (geneval / "samples" / "1.png").symlink_to(private / "00.png")
    (geneval / "metadata.jsonl").write_text('{"prompt": "alpha"}\n')
    shutil.copytree(geneval, private.parent / "00001")
    (tmp_path / "geneval" / "00001").symlink_to(private.parent / "00001")
    tars = tmp_path / "tars"
    tars.mkdir()
    pack(tars / "a.tar", {"alpha/00.png": (plain_ / "alpha" / "00.png").read_bytes()})
    pack(private / "b.tar", {"beta/00.png": (private / "00.png").read_bytes()})
    (tars / "b.tar").symlink_to(private / "b.tar")
    for root, all_of_them in ((plain_, 2), (tmp_path / "geneval", 4), (tars, 2)):
        report = score(tmp_path / "i", {"m": root}, tmp_path / f"o_{root.name}", run=running(encoders))
        assert report.scored == 1, root
        assert report.skipped and all("`follow_links`" in s.reason for s in report.skipped)
        followed = score(
            tmp_path / "i",
            {"m": root},
            tmp_path / f"f_{root.name}",
            select=Select(follow_links=True),
            run=running(encoders),
        )
        assert followed.scored == all_of_them and followed.skipped == [], root


def test_a_model_that_is_a_link_is_named(tmp_path: Path) -> None:
    build_index(make_refs(tmp_path / "refs", ["beta"]), tmp_path / "i", toy_encoders())
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "m").symlink_to(outside(tmp_path).parent)
    done = run("score", "--index", tmp_path / "i", "--gen-root", tmp_path / "root", code=1)
    assert f"{tmp_path / 'root' / 'm'}: a link out of the folder" in done.stderr


def test_no_file_outside_is_written_through_a_link(tmp_path: Path) -> None:
    """A results folder, an index or a report from a stranger may hold links where files are written."""
    encoders = toy_encoders()
    refs, gen = make_refs(tmp_path / "refs", ["alpha"]), make_gen(tmp_path / "gen", ["alpha"])
    build_index(refs, tmp_path / "i", encoders)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders))
    for folder in (tmp_path / "o", tmp_path / "i"):
        (folder / ".lock").unlink()
    (tmp_path / "o" / ".lock").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic"):
        score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders))
    (tmp_path / "i" / ".lock").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic"):
        build_index(refs, tmp_path / "i", encoders)
    assert mine.read_text() == "mine"


def test_report_pages_replace_links(tmp_path: Path) -> None:
    encoders = toy_encoders()
    refs, gen = make_refs(tmp_path / "refs", ["alpha"]), make_gen(tmp_path / "gen", ["alpha"])
    build_index(refs, tmp_path / "i", encoders)
    score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders))
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".iconicity-report").touch()
    for name in ("report.css", "report.js", "charts.js", "plotly.min.js", "index.html"):
        (tmp_path / "r" / name).symlink_to(mine)
    report(tmp_path / "o", open_index(tmp_path / "i"), tmp_path / "r", ReportOptions(draws=100))
    assert mine.read_text() == "mine" and (tmp_path / "r" / "report.css").read_text() != "mine"


def test_an_index_with_links_is_refused(tmp_path: Path) -> None:
    refs = make_refs(tmp_path / "refs", ["alpha"])
    build_index(refs, tmp_path / "i", toy_encoders())
    (tmp_path / "i" / "references.lance" / "data" / "x.lance").symlink_to(refs)
    for use in (open_index, lambda p: build_index(refs, p, toy_encoders())):
        with pytest.raises(IndexFormatError, match="is a link; copy the file itself"):
            use(tmp_path / "i")


def test_pipes_and_files_too_large_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as f:
        f.truncate(3 << 30)
    for name, reason in (("pipe.png", "not a regular file"), ("sparse.png", "a file of 3.2 GB")):
        with pytest.raises(IconicityError, match=reason):
            read_bytes(tmp_path / name)


def test_two_folders_that_differ_by_case_or_form_are_named(tmp_path: Path) -> None:
    for pair in (("Straße", "STRASSE"), ("Caf\u00e9", "Cafe\u0301"), ("The X", "the_x")):
        root = tmp_path / pair[0]
        for name in pair:
            write(root / name / "0.png", draw(1))
        if concept_name(pair[0]) == concept_name(pair[1]):
            with pytest.raises(InputError, match="merge or rename one"):
                list(folder_images(root))
        else:
            assert len({image.concept for image in folder_images(root)}) == 2


def test_results_keep_hostile_names_whole(place: Path) -> None:
    encoders = toy_encoders()
    score(place / "i", {"m": place / "gen"}, place / "o", run=running(encoders))
    rows = require_results(place / "o").rows("m")
    assert {r["concept"] for r in rows} == {concept_name(c) for c in HOSTILE}
    assert {r["cra_sim"] for r in rows if r["gen_relpath"].endswith("/00.png")} <= {
        1.0,
        float(np.float32(1) - np.float32(2**-24)),
    }
