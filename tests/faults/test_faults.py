"""A small share of the fault trials; ``make faults`` runs them all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def test_a_few_faults_of_each_kind_and_a_short_soak() -> None:
    few = ["--kills", "1", "--cuts", "1", "--flips", "2", "--others", "1", "--additions", "2", "--fast", "--soak", "2"]
    done = subprocess.run([sys.executable, RUN, *few], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    faults = {r[0]: r[1:] for r in rows if len(r) == 6 and re.fullmatch(r"\d+", r[1])}
    assert len(faults) >= 20 and sum(int(r[0]) for r in faults.values()) >= 30, done.stdout
    assert all(r[-1] == "0" for r in faults.values()), done.stdout  # no silent damage
    assert "memory_last" in done.stdout
