"""Every command with plausible wrong files: one line and the right code, never a traceback."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest
from toys import draw, make_gen, make_refs, running, toy_encoders, write

from iconicity.cli import cli, main
from iconicity.indexer.build import build_index
from iconicity.scorer.scoring import score

# Commands with what they take; a word in capitals is a place. What follows "|" may be left out: added one at a time.
COMMANDS = """
index build --refs REFS --index NEW | --prompt-csv CSV
index add --refs REFS --index INDEX | --prompt-csv CSV
index remove --index INDEX --concept nobody
index merge INDEX --index NEW
index info --index INDEX
index log --index INDEX
index verify --index INDEX
index repair --index INDEX
score --index INDEX --gen GEN --out OUT | --prompt-csv CSV | --calibration CALIBRATION | --cache FOLDER
score --index INDEX --gen GEN --out NEW --metric cra | --outcsv FILE | --outmeta FILE
score --index INDEX --gen-root ROOT --out NEW
run REFS GEN --out NEW --encoders offline | --prompt-csv CSV
run --study CSV
collect --titles CSV --out OUT --contact a@example.org --dry-run
collect --sparql CSV --out OUT --contact a@example.org --dry-run
variants --prompts CSV --out TABLE --kinds original,synonym | --synonyms CSV | --kinds literal --caption-model none --refs REFS
generate --prompts CSV --model none --out OUT --dry-run
summary RESULTS --draws 100 | --calibration CALIBRATION | --out TABLE
sweep RESULTS --draws 100 --step 0.5 | --out TABLE
calibrate RESULTS --index INDEX --draws 100 --to FILE | --same-work CSV | --related CSV | --apply CALIBRATION | --cache FOLDER | --out TABLE
summary RESULTS --table patches --draws 100 | --out TABLE
attribute RESULTS --index INDEX --draws 100
compare m n --results RESULTS --draws 100 | --out TABLE
correlate RESULTS --attributes CSV --draws 100 | --captions CSV | --plots FOLDER
export RESULTS --draws 100 --out TABLE
check RESULTS --fail-if cra>2% | --calibration CALIBRATION | --out TABLE
reproduce RESULTS --index INDEX
report RESULTS --index INDEX --out NEW | --calibration CALIBRATION | --prompt-csv CSV
report RESULTS --index INDEX --single-file --out FILE
plot bars RESULTS --draws 100 --out PICTURE
plot recognition RESULTS --draws 100 --out PICTURE
plot curves RESULTS --draws 100 --out PICTURE
plot heatmap RESULTS --draws 100 --measure cra --out PICTURE
plot correlates RESULTS --draws 100 --model m --attributes CSV --out PICTURE
plot evidence RESULTS --image m/alpha/00.png --index INDEX --out PICTURE
plot nulls RESULTS --out PICTURE --calibration CALIBRATION
search IMAGE --index INDEX | --html FILE
results merge RESULTS --out NEW | --index INDEX
results verify RESULTS
results remove RESULTS --model m1 --index INDEX
cache info --cache FOLDER
cache verify --cache FOLDER
cache clear --cache FOLDER
validate labels --csv CSV --results RESULTS | --out TABLE
validate ladder --refs REFS --out NEW --encoders offline
"""
PLACES = {"REFS", "INDEX", "NEW", "GEN", "ROOT", "OUT", "CSV", "CALIBRATION", "FOLDER", "FILE", "RESULTS", "TABLE", "PICTURE", "IMAGE"}  # fmt: skip
WRITTEN = {"NEW", "FOLDER", "FILE", "TABLE", "PICTURE", "OUT"}
WRONG = ("missing", "folder", "bytes", "text", "picture", "below_a_file")


def cases() -> Iterator[tuple[str, str, str]]:
    """Command, the place of it that is wrong, and how."""
    seen = set()
    for line in COMMANDS.strip().splitlines():
        base, *more = line.split(" | ")
        for full in (base, *(f"{base} {extra}" for extra in more)):
            for name in [w for w in full.split() if w in PLACES]:
                for wrong in WRONG:
                    if (key := (base, name, wrong)) not in seen:
                        seen.add(key)
                        yield full, name, wrong


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wrong")
    encoders = toy_encoders()
    build_index(make_refs(root / "refs", ["alpha", "beta"], each=2), root / "i", encoders)
    make_gen(root / "gen" / "m", ["alpha"], each=2)
    score(root / "i", {"m": root / "gen" / "m", "n": root / "gen" / "m"}, root / "results", run=running(encoders))
    (root / "bytes").write_bytes(b"\xff\xfe\x00caf\xe9,\x80\n\x00")
    (root / "text").write_text("no,table,of\nours\n")
    write(root / "picture.png", draw(3)).rename(root / "picture")
    return root


def given(root: Path, name: str, new: Path) -> Path:
    right = {
        "REFS": "refs",
        "INDEX": "i",
        "GEN": "gen/m",
        "ROOT": "gen",
        "RESULTS": "results",
        "IMAGE": "refs/alpha/00.png",
    }
    ending = {"TABLE": "t.csv", "PICTURE": "p.pdf", "FILE": "f.html", "NEW": "new", "OUT": "out", "FOLDER": "c"}
    return root / right[name] if name in right else new / ending.get(name, "given")


def called(*args: str) -> tuple[int, str, str]:
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["iconicity", *args])
        with pytest.raises(SystemExit) as stopped:
            main()
    signal.signal(signal.SIGTERM, handler)
    return int(stopped.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(("line", "name", "wrong"), cases())
def test_wrong_files(
    line: str, name: str, wrong: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = toy_encoders()
    monkeypatch.setattr("iconicity.indexer.encode.encoder.reproduce", lambda *_: encoders)
    monkeypatch.setattr("iconicity.indexer.encode.encoder.load_encoders", lambda *_: encoders)
    for held in ("bytes", "text", "picture"):
        shutil.copy(place / held, tmp_path / held)
    (tmp_path / "folder" / "within").mkdir(parents=True)
    bad = tmp_path / {"missing": "none/none", "below_a_file": "text/x"}.get(wrong, wrong)
    (fresh := tmp_path / "fresh").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p != bad}
    args = [str(bad if w == name else given(place, w, fresh)) if w in PLACES else w for w in line.split()]
    code, out, err = called(*args)
    assert code in (0, 1, 2, 3, 4)
    errors = [text for text in err.splitlines() if text.startswith(("error:", "Error:"))]
    assert "Traceback" not in err + out and "Error(" not in err, err
    assert len(errors) == (code in (1, 2)), err
    if code == 1:
        assert len(err.splitlines()) == 1 or err.splitlines()[-1] == errors[0], err
    if name not in WRITTEN and (name, wrong) != ("IMAGE", "picture"):
        assert code != 0, f"{args}: {out}"
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p in before} == before


def test_every_command_that_takes_a_place_is_here() -> None:
    def leaves(command: click.Command, name: str) -> Iterator[str]:
        if isinstance(command, click.Group):
            for word, below in command.commands.items():
                yield from leaves(below, f"{name} {word}".strip())
        elif not name.startswith("demo"):
            yield name

    here = COMMANDS.strip().splitlines()
    served = ["app"]  # until it is stopped: tests/scorer/app/test_server.py
    assert [
        name for name in leaves(cli, "") if name not in served and not any(line.startswith(f"{name} ") for line in here)
    ] == []
