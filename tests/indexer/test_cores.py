"""Limits of containers, SLURM and affinity are found, and the least of them counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iconicity.indexer import cores as ours
from iconicity.indexer.cores import cores, settle, threads


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with eight cores and no variable that limits it."""
    monkeypatch.setattr(ours, "_affinity", lambda: 8)
    for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS", *ours.QUIET):
        monkeypatch.delenv(name, raising=False)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A folder with the files of control groups."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),  # a container sees its own group as the topmost
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),  # a group above limits too
        ("0::/a\n", {"a/cpu.max": "6400000 100000\n"}, 8),  # more than there are
        ("4:cpu,cpuacct:/job\n", {"cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 4),
        ("1:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("2:cpuacct:/\n", {"cpuacct/cpu.cfs_quota_us": "100000\n", "cpuacct/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)  # fmt: skip
def test_quotas(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert cores(machine(tmp_path, groups, files)) == expected


def test_what_users_and_schedulers_set_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores(tmp_path) == 8  # no control groups at all
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert cores(tmp_path) == 3 and threads() <= 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert threads() == 5


def test_variables_that_are_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "cores", lambda: 2)
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    settle()
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE", "OPENBLAS_THREAD_TIMEOUT": "4", "OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    settle()
    assert os.environ == {**ours.QUIET, "OMP_NUM_THREADS": "7"}


def test_the_command_line_settles_before_a_library_is_loaded_and_an_import_does_not() -> None:
    code = (
        "import os, sys; import iconicity, iconicity.cli as cli; before = dict(os.environ); early = 'torch' in sys.modules; "
        "early |= 'numpy' in sys.modules; sys.argv[1:] = ['--version']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(early, 'OMP_WAIT_POLICY' in before, os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False PASSIVE"
