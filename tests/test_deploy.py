"""What lies in deploy/ parses, agrees with itself, and gives commands that the command line takes.

Images and clusters are not started here: docs/machines.md says so.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest
from toys import ROOT

from iconicity.cli import cli
from iconicity.indexer.shards import Shard

DEPLOY = ROOT / "deploy"
IMAGES = [DEPLOY / "Dockerfile.cpu", DEPLOY / "Dockerfile.cuda"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def parse(line: list[str]) -> tuple[click.Command, dict[str, Any]]:
    """The command a line runs, and its options, parsed as the command line does, run no further."""
    assert line[0] == "iconicity"
    command: click.Command = cli
    context, args = click.Context(cli), line[1:]
    while isinstance(command, click.Group):
        name = args.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no such command: {name}"
        command = found
        context = click.Context(command, parent=context)
    return command, command.make_context(str(command.name), args, context.parent).params


def written_lines(text: str) -> list[list[str]]:
    """Every ``iconicity ...`` in a text, without the shell around it."""
    found = re.findall(r"(?:^|-- |entrypoint: )(iconicity (?:index|score|merge)[^\n]*)", text, re.M)
    return [shlex.split(line, comments=True) for line in found]


def test_a_line_that_the_command_does_not_take_is_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(["iconicity", "index", "build", "--refs", "r", "--index", "i", "--no-such-option"])
    with pytest.raises(AssertionError, match="no such command"):
        parse(["iconicity", "index", "marge"])


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which sbatch and iconicity write down what they are asked."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, answer in (("sbatch", "4711"), ("iconicity", "")):
        (binaries / name).write_text(
            f'#!/bin/bash\nprintf "%q " {name} "$@" >> {tmp_path}/calls; echo >> {tmp_path}/calls\n'
            f"echo {answer}\nexit ${{EXIT:-0}}\n"
        )
        (binaries / name).chmod(0o755)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    return keep | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "REFS": "my refs",
        "GEN": "gen",
        "WORK": str(tmp_path / "w"),
        "SHARDS": "3",
    }


def steps(tmp_path: Path, env: dict[str, str], *args: str, code: int = 0) -> list[list[str]]:
    (tmp_path / "calls").unlink(missing_ok=True)
    done = subprocess.run(["bash", DEPLOY / "slurm-array.sh", *args], env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    calls = tmp_path / "calls"
    return [shlex.split(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def test_slurm_submits_each_step_after_the_one_before(tmp_path: Path, slurm: dict[str, str]) -> None:
    calls = steps(tmp_path, slurm | {"SBATCH_OPTIONS": "--gres=gpu:1 --partition=gpu"})
    assert [c[-1] for c in calls] == ["build", "merge-index", "score", "merge-results"]
    assert [c[0] for c in calls] == ["sbatch"] * 4
    for call, parallel in zip(calls, (True, False, True, False), strict=True):
        assert ("--array=1-3" in call) == parallel == ("--gres=gpu:1" in call)
    assert [("--dependency=afterok:4711" in c) for c in calls] == [False, True, True, True]


def test_slurm_tasks_run_commands_that_exist(tmp_path: Path, slurm: dict[str, str]) -> None:
    work = Path(slurm["WORK"])
    for task in "123":
        env = slurm | {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}  # two that are tried again
        (build,) = steps(tmp_path, env | {"BUILD_OPTIONS": "--encoders offline"}, "build")
        command, options = parse(build)
        assert command.name == "build" and options["shard"] == Shard(int(task), 3)
        assert (options["refs"], options["index"]) == (Path("my refs"), work / "index-parts" / task)
        assert options["encoders"] == "offline"
        (score,) = steps(tmp_path, env | {"SCORE_OPTIONS": "--scope all"}, "score")
        command, options = parse(score)
        assert command.name == "score" and options["shard"] == Shard(int(task), 3) and options["scope"] == "all"
        assert options["index"] == work / "references.index" and options["out"] == work / "result-parts" / task
    (merge,) = steps(tmp_path, slurm, "merge-index")
    _, options = parse(merge)
    assert options["parts"] == tuple(work / "index-parts" / t for t in "123")
    assert options["index"] == work / "references.index"
    (merge,) = steps(tmp_path, slurm, "merge-results")
    _, options = parse(merge)
    assert options["parts"] == tuple(work / "result-parts" / t for t in "123") and options["out"] == work / "results"


def test_slurm_goes_on_past_unusable_files_alone(tmp_path: Path, slurm: dict[str, str]) -> None:
    task = {"SLURM_ARRAY_TASK_ID": "1"}
    assert steps(tmp_path, slurm | task | {"EXIT": "3"}, "build")
    assert steps(tmp_path, slurm | task | {"EXIT": "1"}, "build", code=1)
    assert not steps(tmp_path, slurm, "bild", code=2)
    assert not steps(tmp_path, {k: v for k, v in slurm.items() if k != "REFS"}, code=1)


@pytest.fixture
def job() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kuberay-job.yaml").read_text())
    return found


def test_the_ray_job_is_one(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] and group["groupName"] == "gpu"
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (worker,) = group["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in head["resources"]["limits"] and head["image"].endswith(":cpu")
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1" and worker["image"].endswith(":cuda")
    for container in (head, worker):
        assert container["resources"]["limits"] == container["resources"]["requests"]
    for image in IMAGES:
        assert f"ARG RAY_VERSION={cluster['rayVersion']}\n" in image.read_text()


def test_ray_commands_are_taken(job: dict[str, Any]) -> None:
    text = (DEPLOY / "kuberay-job.yaml").read_text()
    lines = written_lines(text)
    assert len(lines) == 2 and lines[0] == lines[1] == shlex.split(job["spec"]["entrypoint"])
    for line in lines:
        command, options = parse(line)
        assert command.name == "build" and options["engine"] == "ray"
        assert options["ray_address"] == "auto"


@pytest.mark.parametrize("image", IMAGES, ids=lambda p: p.name)
def test_images_install_what_the_package_is(image: Path) -> None:
    text = image.read_text()
    assert re.findall(r"^(\w+)", text, re.M)[-3:] == ["WORKDIR", "ENTRYPOINT", "CMD"]
    assert 'ENTRYPOINT ["iconicity"]' in text and "\nUSER 1000\n" in text
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", text, re.M)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    bases = set(re.findall(r"^FROM (\S+)", text, re.M))
    assert bases == {"python:3.12-slim-bookworm"}  # one Python in all images of a cluster
    required = {d.split(">=")[0]: d for d in PROJECT["project"]["dependencies"]}
    for package, bounds in re.findall(r'"(torch|torchvision)(>=[^"]+)"', text):
        assert bounds.startswith(required[package].removeprefix(package)) and ",<" in bounds


def test_the_build_context_holds_the_package_and_little_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    wanted = {rule[1:] for rule in rules if rule[0] == "!"}
    for name in wanted:
        assert (ROOT / name).exists(), name
    folders = {p.split(".")[1] for p in PROJECT["tool"]["setuptools"]["packages"] if "." in p}
    needed = {
        "__init__.py",
        "cli.py",
        "pyproject.toml",
        PROJECT["project"]["readme"],
        *PROJECT["project"]["license-files"],
        *folders,
    }
    assert needed == wanted
    assert any(fnmatch("scorer/__pycache__", rule) for rule in rules[1:])
