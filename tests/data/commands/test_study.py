"""A study in one file: its stages, what they hand on, and files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from iconicity.data.commands.study import read_study, run_study
from iconicity.indexer.errors import InputError


def pretend(name: str, *options: click.Parameter, told: list[Any]) -> click.Command:
    """A command that tells with what it was called, and where."""

    @click.pass_context
    def call(ctx: click.Context, /, **given: Any) -> int:
        if given.get("fail"):
            raise InputError("no such thing; give another")
        told.append((name, {k: v for k, v in given.items() if v not in (None, (), False)}, Path.cwd().name))
        return 3 if name == "collect" else 0

    return click.Command(name, params=list(options), callback=call)


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def commands(told: list[Any]) -> dict[str, click.Command]:
    def option(*names: str, **kind: Any) -> click.Option:
        return click.Option(names, **kind)

    dry = option("--dry-run", is_flag=True)
    return {
        "collect": pretend("collect", option("--titles"), option("--out"), option("--per-concept", type=int), dry, told=told),
        "variants": pretend("variants", option("--prompts"), option("--out"), option("--kinds"), told=told),
        "generate": pretend("generate", option("--prompts"), option("--out"), option("--model"), option("--fail", is_flag=True), dry, told=told),
        "run": pretend(
            "run", click.Argument(["refs"]), option("--gen", multiple=True), option("--out"), option("--encoders"),
            option("--prune", is_flag=True), option("--open", "opens", is_flag=True), option("--study"), dry, told=told,
        ),
    }  # fmt: skip


WHOLE = """
[collect]
titles = "titles.csv"
per_concept = 3
[variants]
kinds = ["original", "none"]
[generate.sd14]
model = "-x"
[generate.sd21]
model = "models/sd21"
out = "elsewhere"
[generated]
esd = "gen/esd"
[run]
encoders = "offline"
prune = true
"""


def write(folder: Path, text: str, *images: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in images:
        (folder / name).mkdir(parents=True)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_each_stage_reads_what_the_one_before_it_writes(
    commands: dict[str, click.Command], told: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = write(tmp_path / "here", WHOLE, "gen/esd"), Path.cwd()
    assert run_study(read_study(path, commands), opens=True) == 3  # the highest code
    assert Path.cwd() == before
    assert told == [
        ("collect", {"titles": "titles.csv", "out": "refs", "per_concept": 3}, "here"),
        ("variants", {"prompts": "refs/concepts.csv", "out": "variants.csv", "kinds": "original,none"}, "here"),
        ("generate", {"prompts": "variants.csv", "out": "gen/sd14", "model": "-x"}, "here"),
        ("generate", {"prompts": "variants.csv", "out": "elsewhere", "model": "models/sd21"}, "here"),
        (
            "run",
            {
                "refs": "refs", "out": "study", "encoders": "offline", "prune": True, "opens": True,
                "gen": ("sd14=gen/sd14", "sd21=elsewhere", "esd=gen/esd"),
            },
            "here",
        ),
    ]  # fmt: skip
    assert capsys.readouterr().out.split() == ["[collect]", "[variants]", "[generate.sd14]", "[generate.sd21]", "[run]"]


def test_folders_that_are_there_are_enough(commands: dict[str, click.Command], told: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path, '[generated]\nsd14 = "images"\n[run]\nrefs = "-paintings"\n', "images")
    assert run_study(read_study(path, commands)) == 0
    assert told == [("run", {"refs": "-paintings", "gen": ("sd14=images",), "out": "study"}, tmp_path.name)]


def test_a_dry_run_asks_each_stage(
    commands: dict[str, click.Command], told: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, WHOLE + "[generate.broken]\nfail = true\n", "gen/esd")
    run_study(read_study(path, commands), dry_run=True)
    assert [(name, given.get("dry_run")) for name, given, _ in told] == [
        (n, True) for n in ("collect", "generate", "generate", "run")
    ]
    said = capsys.readouterr().out
    assert (
        "would run 'iconicity variants'" in said and "not known before the stages above have run: no such thing" in said
    )


def test_a_stage_that_fails_is_named_and_what_was_done_stays(
    commands: dict[str, click.Command], told: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, '[generate.a]\nmodel = "m"\n[generate.b]\nfail = true\n')
    with pytest.raises(InputError, match="no such thing"):
        run_study(read_study(path, commands))
    assert [name for name, _, _ in told] == ["generate"] and "stopped in [generate.b]" in capsys.readouterr().err


WRONG = {
    "[gone": "cannot be read as TOML",
    "[modles]\n": r"\[modles\] is no table of a study; write some of collect, variants, generate, generated, run",
    "run = 3\n[generated]\na = 'a'": r"run: write it as a table \[run\]",
    "": "names no generated images",
    "[generate]\nmodel = 'x'": r"\[generate\] model: write a table \[generate.NAME\] for each model",
    "[generated]\na = 3": r"\[generated\] a: write the folder of its images",
    "[generate.a]\n[generated]\na = 'x'": r"\[generated\] a: \[generate.a\] has this name",
    "[generate.a]\nsteps = 3": r"\[generate.a\] steps: no option of 'iconicity generate'; write one of fail, model, out, prompts$",
    "[generated]\na = 'x'\n[run]\nstudy = 'study.toml'": r"\[run\] study: no option",
    "[generated]\na = 'x'\n[run]\nencoder = 'offline'": r"\[run\] encoder: no option of 'iconicity run'; did you mean encoders\?",
    "[generated]\na = 'x'\n[run]\ngen = 'b=y'": r"\[run\] gen: write it as \[generated\] NAME",
    "[generated]\na = 'x'\n[run]\nprune = 'yes'": r"\[run\] prune: write true or false",
    "[generated]\na = 'x'\n[run]\nencoders = []": r"\[run\] encoders: write a text",
    "[generated]\na = 'x'\n[run]\nencoders = {a = 1}": r"\[run\] encoders: write a text",
}


@pytest.mark.parametrize("text", WRONG)
def test_files_that_are_wrong_run_nothing(
    text: str, commands: dict[str, click.Command], told: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=WRONG[text]):
        run_study(read_study(write(tmp_path, text), commands))
    assert told == []


def test_images_that_are_not_there(commands: dict[str, click.Command], told: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path, "[variants]\n[generated]\nsd14 = 'gone'\n")
    for dry_run in (False, True):
        with pytest.raises(InputError, match=r"\[generated\] sd14: gone: no such folder"):
            run_study(read_study(path, commands), dry_run=dry_run)
    assert told == []


def test_what_the_first_stage_lacks_is_told(commands: dict[str, click.Command], tmp_path: Path) -> None:
    path = write(tmp_path, "[generate.a]\nfail = true\n")
    with pytest.raises(InputError, match="no such thing"):
        run_study(read_study(path, commands), dry_run=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the file of a study"):
        read_study(tmp_path / "none.toml", {})
