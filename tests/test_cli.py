"""The command line by exit code and message, on small real models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from run import ICONICITY, models, run, run_alone
from toys import draw, make_gen, make_refs, pack, tiny_clip, tiny_vit, write

from iconicity.cli import cli
from iconicity.indexer.help import GROUPS
from iconicity.scorer.results import require_results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """References, two models' images, and an index made by the command itself."""
    root = tmp_path_factory.mktemp("cli")
    make_refs(root / "refs")
    for i, name in enumerate(("m1", "m2")):
        make_gen(root / "gen" / name, seed=5000 + 1000 * i)
    tiny_clip(root / "clip")
    tiny_vit(root / "vit.safetensors")
    done = run("index", "build", "--refs", root / "refs", "--index", root / "i", *models(root))
    assert "9 images embedded" in done.stdout and "3 near-duplicates dropped" in done.stdout
    assert done.stderr == ""  # no bar where there is no terminal
    return root


@pytest.mark.parametrize("command", [(), ("index",), ("cache",), ("validate",)], ids=" ".join)
def test_a_command_that_is_not_whole_prints_its_help(command: tuple[str, ...]) -> None:
    said = run(*command, code=2)
    assert said.stderr.strip() == run(*command, "--help").stdout.strip()
    assert "\\n" not in said.stderr and ("\n\nCommands:\n" if command else "\n\nBuild:\n") in said.stderr


def leaves(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *above, name)
        else:
            yield " ".join((*above, name)), command


def test_help_shows_every_command_with_its_whole_summary() -> None:
    text = " ".join(run("--help").stdout.split())
    for name, command in leaves(cli):
        first = " ".join((command.help or "").split("\n\n")[0].split())
        assert f" {name} {first} " in f"{text} ", name


def test_options_stand_in_groups() -> None:
    lines = run("score", "--help").stdout.splitlines()
    headings = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == list(GROUPS)
    group = {
        line.split()[0].rstrip(","): h for h, *rest in _sections(lines) for line in rest if line.startswith("  --")
    }
    of = {"--index": "Files", "--mode": "What is measured", "--shard": "Which images", "--device": "How it runs"}
    assert {name: group[name] for name in of} == of


def _sections(lines: list[str]) -> Iterator[list[str]]:
    """Each heading with the lines below it."""
    starts = [i for i, line in enumerate(lines) if line.endswith(":") and not line.startswith(" ")]
    for a, z in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield [lines[a][:-1], *lines[a + 1 : z]]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("iconicity.cli", ["torch", "lancedb", "transformers", "faiss", "numpy", "pandas"]),
        ("iconicity.scorer.measure.summary", ["torch", "lancedb", "transformers", "faiss"]),
    ],
)
def test_help_and_tables_import_nothing_heavy(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_build_again_embeds_nothing(place: Path) -> None:
    done = run("index", "build", "--refs", place / "refs", "--index", place / "i", *models(place))
    assert "nothing has changed, 0 images embedded" in done.stdout


def test_score_summary_search_info_verify(place: Path, tmp_path: Path) -> None:
    done = run("score", "--index", place / "i", "--gen-root", place / "gen", "--out", tmp_path / "o")
    assert "18 images scored, 15 embedded" in done.stdout  # three copies are the same files
    again = run("score", "--index", place / "i", "--gen-root", place / "gen", "--out", tmp_path / "o", "--metric", "vr")
    assert "0 embedded" in again.stdout
    assert "m1" in run("summary", tmp_path / "o").stdout
    facts = json.loads(run("summary", tmp_path / "o", "--json").stdout)
    assert facts["m1/images"] == 9 and 0 < facts["m1/cra"] <= 1
    assert "alpha" in run("summary", tmp_path / "o", "--table", "concepts").stdout
    hits = json.loads(
        run("search", place / "refs" / "beta" / "00.png", "--index", place / "i", "-k", 2, "--json").stdout
    )
    assert hits["image"][0]["ref_id"] == "beta/00.png" and len(hits["patches"]) == 16
    assert json.loads(run("index", "info", "--index", place / "i", "--json").stdout)["counts"]["kept"] == 9
    assert "distance" in run("index", "info", "--index", place / "i").stdout
    alone = run_alone("index", "verify", "--index", place / "i")
    assert alone.returncode == 0 and "whole" in alone.stdout and alone.stderr == ""
    alone = run_alone("summary", tmp_path)
    assert alone.returncode == 1 and alone.stderr.startswith("error: ") and "Traceback" not in alone.stderr


def test_published_flag_names(place: Path, tmp_path: Path) -> None:
    run(
        "score", "--metric", "vr", "--index", place / "i", "--gendir", place / "gen" / "m1", "--model", "sd", "--mode", "static",
        "--k-gen", 2, "--patch-tau", 0.5, "--ic-tau", 0.5, "--outcsv", tmp_path / "a.csv", "--outmeta", tmp_path / "b.json",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("static,sd,alpha,")
    assert json.loads((tmp_path / "b.json").read_text())["tau"] == 0.5


def test_prompt_csv_restricts_both_sides(place: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("slug\nAlpha\n")
    csv = ["--prompt-csv", tmp_path / "p.csv", "--slug-col", "slug"]
    out = run("index", "build", "--refdir", place / "refs", "--index", tmp_path / "i", *csv, *models(place)).stdout
    assert "1 concept," in out
    assert (
        "3 images scored"
        in run("score", "--index", place / "i", "--gen", place / "gen" / "m1", "--out", tmp_path / "o", *csv).stdout
    )


def test_add_and_remove(place: Path, tmp_path: Path) -> None:
    make_refs(tmp_path / "r", ["one", "two"], each=1)
    run("index", "build", "--refs", tmp_path / "r", "--index", tmp_path / "i", "--no-dedup", *models(place))
    write(tmp_path / "more" / "three" / "x.png", draw(7))
    assert "1 image embedded" in run("index", "add", "--refs", tmp_path / "more", "--index", tmp_path / "i").stdout
    assert "2 removed" in run("index", "remove", "--index", tmp_path / "i", "--concept", "two").stdout
    assert "1 removed" in run("index", "remove", "--index", tmp_path / "i", "--ref", "one/00.png").stdout
    assert "whole" in run("index", "verify", "--index", tmp_path / "i").stdout
    assert "name what to remove" in run("index", "remove", "--index", tmp_path / "i", code=2).stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["score", "--refdir", "refs", "--gendir", "gen"], "iconicity index build --refs refs"),
        (["score", "--index", "i"], "--gen NAME=DIR"),
        (["score", "--index", "i", "--gen", "g", "--outcsv", "x.csv"], "single metric"),
        (["score", "--index", "i", "--gen", "a=g", "--gen", "a=h"], "given twice"),
        (["score", "--index", "i", "--gen", "a=g", "--model", "b"], "--model names the one"),
        (["score", "--index", "i", "--gen", "g", "--refs", "r"], "belongs to 'iconicity index build'"),
        (["score", "--index", "i", "--gen", "g", "--cache", "c", "--no-cache"], "exclude each other"),
        (["score", "--index", "i", "--gen", "m1="], "names no folder"),
        (["score", "--index", "i", "--gen", "m1@=g"], "write NAME@VARIANT=DIR"),
        (["score", "--index", "i", "--gen", "@v=g"], "write NAME@VARIANT=DIR"),
        (["score", "--index", "i", "--gen", "g", "--encoders", "offline"], "the encoders of the index"),
        (["score", "--index", "i", "--gen", "g", "--search", "approximate"], "belong to --scope all"),
        (["score", "--index", "i", "--gen", "g", "--patch-tau", "60"], "-1<=x<=1"),
        (["score", "--index", "i", "--gen", "g", "--workers", "-1"], "--workers"),
        (["score", "--index", "i", "--gen", "g", "--batch-size", "none"], "--batch-size"),
        (["cache", "clear", "--older-than", "-1"], "--older-than"),
        (["score", "--metric", "fid"], "fid"),
        (["index", "build"], "--refs"),
        (["nonsense"], "No such command"),
    ],
)
def test_usage_errors(args: list[str], message: str) -> None:
    assert message in run(*args, code=2).stderr


def test_errors_are_one_line_with_the_fix(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for args, message in (
        (["score", "--index", tmp_path / "none", "--gen", place / "gen" / "m1"], "iconicity index build"),
        (["summary", tmp_path], "iconicity score"),
        (["index", "build", "--refs", tmp_path / "none", "--index", tmp_path / "x", *models(place)], "no such folder"),
        (
            ["score", "--index", place / "i", "--gen", f"m={place / 'gen'}", "--out", tmp_path / "o"],
            "each model: --gen m",
        ),
        (
            ["score", "--index", place / "i", "--gen", place / "gen" / "m1" / "alpha", "--out", tmp_path / "o"],
            "a folder of --gen holds a folder for each concept",
        ),
        (
            ["index", "build", "--refs", place / "refs" / "beta", "--index", tmp_path / "x", *models(place)],
            "the folder above",
        ),
        (["score", "--index", place / "i", "--gen", place / "gen" / "m1", "--out", tmp_path / "file"], "a file"),
        (["score", "--index", place / "i", "--gen", place / "gen" / "m1", "--out", tmp_path / "file" / "x"], "file"),
        (["index", "build", "--refs", place / "refs", "--index", tmp_path / "file", *models(place)], "a file"),
        (["index", "info", "--index", tmp_path / "file"], "a file"),
        (["demo", "--out", tmp_path / "file"], "file"),
        (
            [
                "score",
                "--index",
                place / "i",
                "--gen",
                place / "gen" / "m1",
                "--metric",
                "cra",
                "--out",
                tmp_path / "o",
                "--outcsv",
                place / "refs",
            ],
            "refs",
        ),
        (["search", tmp_path / "none.png", "--index", place / "i"], "cannot be read"),
        (
            [
                "index",
                "build",
                "--refs",
                place / "refs",
                "--index",
                tmp_path / "x",
                "--global-encoder",
                f"clip:{tmp_path / 'no'}",
            ],
            "no such folder",
        ),
    ):
        stderr = run(*args, code=1).stderr
        assert message in stderr and len(stderr.strip().splitlines()) == 1, stderr


def test_other_weights_are_refused_and_moved_ones_accepted(place: Path, tmp_path: Path) -> None:
    (tmp_path / "moved.safetensors").write_bytes((place / "vit.safetensors").read_bytes())
    base = ["score", "--index", place / "i", "--gen", f"m1={place / 'gen' / 'm1'}", "--out", tmp_path / "o"]
    run(*base, "--patch-encoder", f"timm,weights={tmp_path / 'moved.safetensors'}")
    other = tiny_vit(tmp_path / "other.safetensors", seed=9)
    assert "weights_sha256" in run(*base, "--patch-encoder", f"timm,weights={other}", code=1).stderr


def test_other_layouts_and_variants(place: Path, tmp_path: Path) -> None:
    gen = make_gen(tmp_path / "g", ["alpha"])
    base = ["score", "--index", place / "i", "--out", tmp_path / "o"]
    (gen / "metadata.csv").write_text("file_name,seed\nalpha/00.png,3\nalpha/09.png,4\n../g/alpha/01.png,5\n")
    done = run(*base, "--gen", f"m@v={gen}", code=3)
    assert "1 image scored, 1 embedded, 2 skipped" in done.stdout
    assert "alpha/09.png: cannot be read" in done.stderr and "metadata.csv:4: file_name '../g/" in done.stderr
    assert "does not list 2 images" in done.stderr
    row = (tmp_path / "o" / "results_cra_dynamic.csv").read_text().splitlines()[1]
    assert ",m@v,alpha," in row and ",3,,v,ok," in row
    tar = pack(tmp_path / "t.tar", {f"alpha/{i}.png": (gen / "alpha" / f"0{i}.png").read_bytes() for i in range(3)})
    assert "3 images scored, 2 embedded" in run(*base, "--gen", tar).stdout  # one has bytes that are known
    assert ",t,alpha," in (tmp_path / "o" / "results_cra_dynamic.csv").read_text()
    tar.write_bytes(tar.read_bytes()[:-12000])
    refused = run(*base, "--gen", tar, code=1).stderr  # rows are kept rather than lost to a damaged file
    assert "of 3 rows of t would go" in refused and "t.tar: cut short" in refused
    assert "t.tar: " in run(*base, "--gen", tar, "--prune", code=3).stderr
    hits = run("search", tar / "alpha" / "0.png", "--index", place / "i", "-k", 1, "--json").stdout
    assert json.loads(hits)["image"][0]["ref_id"] == "alpha/00.png"
    (tmp_path / "x.tgz").write_bytes(b"")
    (gen / "metadata.csv").write_text("name\n")
    for path, message in ((tmp_path / "x.tgz", "uncompress it"), (gen, "no column 'file_name'")):
        stderr = run(*base, "--gen", f"n={path}", code=1).stderr
        assert message in stderr and len(stderr.strip().splitlines()) == 1


def test_unusable_files_give_exit_code_3_every_time(place: Path, tmp_path: Path) -> None:
    make_gen(tmp_path / "g", ["alpha"])
    (tmp_path / "g" / "alpha" / "02.png").write_bytes(b"text")
    for _ in range(2):
        done = run("score", "--index", place / "i", "--gen", f"m={tmp_path / 'g'}", "--out", tmp_path / "o", code=3)
        assert "02.png: not an image of a known format" in done.stderr
    make_refs(tmp_path / "r", ["one"], each=2)
    (tmp_path / "r" / "one" / "00.png").write_bytes(b"")
    for _ in range(2):
        build = ["index", "build", "--refs", tmp_path / "r", "--index", tmp_path / "i", *models(place)]
        assert "00.png: empty file" in run(*build, code=3).stderr


def test_a_signal_stops_the_installed_command_and_the_work_goes_on(place: Path, tmp_path: Path) -> None:
    """Both signals at random moments: tests/faults."""
    make_refs(tmp_path / "r", [f"c{i}" for i in range(40)], each=4)
    args = ["index", "build", "--refs", str(tmp_path / "r"), "--index", str(tmp_path / "i"), *map(str, models(place))]
    process = subprocess.Popen(
        [ICONICITY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    while not (tmp_path / "i" / "references.lance").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # a shell's background jobs ignore the other
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "run the same command again" in stderr and "Traceback" not in stderr
    assert "160 references kept" in run(*args).stdout


@pytest.mark.parametrize(("stop", "code"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130)])
def test_a_stop_while_a_lock_is_taken_is_a_stop(
    stop: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise stop
        finally:
            threading.RLock().release()

    monkeypatch.setattr("iconicity.indexer.info.index_facts", interrupted)
    said = run("index", "info", "--index", tmp_path, code=code)
    assert said.stderr == "stopped; run the same command again to go on\n"


def test_a_lock_that_is_released_twice_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("iconicity.indexer.info.index_facts", lambda *_, **__: threading.RLock().release())
    with pytest.raises(RuntimeError):
        run("index", "info", "--index", tmp_path)


def test_a_small_disk_is_an_error_that_loses_nothing(place: Path, tmp_path: Path) -> None:
    """A full disk as a limit on file sizes; other stages, and a disk that is full: tests/faults."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    signal_safe = (
        "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from iconicity.cli import main; main()"
    )
    args = ["score", "--index", place / "i", "--gen", place / "gen" / "m1", "--out", tmp_path / "o", "--no-cache"]
    done = subprocess.run(
        [sys.executable, "-c", signal_safe, *map(str, args)],
        capture_output=True, text=True, timeout=300, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not list((tmp_path / "o").glob(".*.tmp"))


def test_scope_all_cache_and_workers(place: Path, tmp_path: Path) -> None:
    cache = ["--cache", tmp_path / "c"]
    base = [
        "score",
        "--index",
        place / "i",
        "--gen",
        place / "gen" / "m1",
        "--out",
        tmp_path / "o",
        "--scope",
        "all",
        *cache,
    ]
    assert "9 images scored, 9 embedded" in run(*base, "--workers", 1, "--batch-size", 5).stdout
    assert "9 images scored, 0 embedded" in run(*base, "--patch-tau", 0.9).stdout
    assert "own_rank" in (tmp_path / "o" / "results_cra_dynamic.csv").read_text()
    facts = json.loads(run("cache", "info", *cache, "--json").stdout)
    assert facts["vectors"] == 18 and facts["files"] == 9 and facts["derived_bytes"] > 0
    assert "vectors  18" in run("cache", "info", *cache).stdout
    assert " 0 vectors forgotten" in run("cache", "clear", "--older-than", 1, *cache).stdout
    assert " 18 vectors forgotten" in run("cache", "clear", "--all", *cache).stdout
    assert json.loads(run("cache", "info", *cache, "--json").stdout)["derived_bytes"] == 0


def test_token_mode_from_the_command_line(place: Path, tmp_path: Path) -> None:
    run("index", "build", "--refs", place / "refs", "--index", tmp_path / "t", "--patch-mode", "token", *models(place))
    base = ["score", "--index", tmp_path / "t", "--gen", place / "gen" / "m1", "--out", tmp_path / "o"]
    assert "--patch-tau is missing" in run(*base, code=1).stderr
    assert "tau_vr 0.9" in run(*base, "--patch-tau", 0.9).stdout
    assert "token mode" in run("index", "info", "--index", tmp_path / "t").stdout


def test_an_earlier_layer_from_the_command_line(place: Path, tmp_path: Path) -> None:
    build = ["index", "build", "--refs", place / "refs", "--index", tmp_path / "e"]
    run(*build, *models(place, ",layer=2,pool=gem"))
    assert "layer 2" in (text := run("index", "info", "--index", tmp_path / "e").stdout) and "pool gem" in text
    assert "whole" in run("index", "verify", "--index", tmp_path / "e").stdout
    base = ["score", "--index", tmp_path / "e", "--gen", place / "gen" / "m1", "--out", tmp_path / "o"]
    assert "--patch-tau is missing" in run(*base, code=1).stderr
    assert "tau_vr 0.9" in run(*base, "--patch-tau", 0.9).stdout
    assert "another patch encoder" in (text := run(*build, *models(place, ",pool=gem"), code=1).stderr)
    assert re.search(r"test_vit, layer 2, weights (\w+) against test_vit, weights \1;", text)
    assert "has layers 1 to " in run(*build, *models(place, ",layer=99"), code=1).stderr


@pytest.mark.parametrize("patch_mode", ["crop", "token"])
def test_overlapping_reference_cells_from_the_command_line(place: Path, tmp_path: Path, patch_mode: str) -> None:
    wide = ["--reference-cells", "overlapping", "--patch-mode", patch_mode]
    run("index", "build", "--refs", place / "refs", "--index", tmp_path / "w", *wide, *models(place))
    assert "references at half steps: 49 cells" in run("index", "info", "--index", tmp_path / "w").stdout
    assert "whole" in run("index", "verify", "--index", tmp_path / "w").stdout
    base = ["score", "--index", tmp_path / "w", "--gen", place / "gen" / "m1", "--out", tmp_path / "o"]
    run(*base, "--patch-tau", 0.9, "--scope", "all")
    row = require_results(tmp_path / "o").rows("m1")[0]
    assert len(row["p"]) == len(row["p_other"]) == 16
    plain = ["index", "build", "--refs", place / "refs", "--index", tmp_path / "w", "--patch-mode", patch_mode]
    done = run(*plain, *models(place), code=1)
    assert "reference_cells=overlapping, asked for grid; name a new folder" in done.stderr
    assert "'half' is not one of 'grid', 'overlapping'" in run(*plain, "--reference-cells", "half", code=2).stderr


def test_precision_and_stored_numbers_are_part_of_an_index(place: Path, tmp_path: Path) -> None:
    half = ["--precision", "bf16", "--vectors", "float16"]
    run("index", "build", "--refs", place / "refs", "--index", tmp_path / "h", *half, *models(place))
    text = run("index", "info", "--index", tmp_path / "h").stdout
    assert "bf16" in text and "vectors float16" in text
    assert "whole" in run("index", "verify", "--index", tmp_path / "h").stdout
    run("score", "--index", tmp_path / "h", "--gen", place / "gen" / "m1", "--out", tmp_path / "o")
    done = run("index", "build", "--refs", place / "refs", "--index", tmp_path / "h", *models(place), code=1)
    assert "precision: bf16 against fp32" in done.stderr


def test_info_of_an_index_imports_no_engine(place: Path) -> None:
    code = (
        "import sys; from iconicity.indexer.info import index_facts; from pathlib import Path;"
        f"index_facts(Path({str(place / 'i')!r}), concepts=False);"
        "print([m for m in ('torch', 'lancedb', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_stop_that_python_swallows_is_not_lost() -> None:
    code = (
        "import os, signal, sys, time, weakref, iconicity.cli as c\n"
        "class Thing: pass\n"
        "def work(standalone_mode):\n"
        "    thing = Thing()\n"
        "    ref = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM) or [time.sleep(0.01) for _ in range(3)])\n"
        "    del thing\n"
        "    time.sleep(20)\n"
        "c.cli.main = work\n"
        "c.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143 and done.stderr.startswith("stopped;"), done.stderr
