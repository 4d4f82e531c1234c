"""Run the command, in this process or in one of its own."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from toys import TINY_VIT

from iconicity.cli import main

ICONICITY = str(Path(sys.executable).with_name("iconicity"))


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


def run(*args: object, code: int = 0) -> Done:
    """The command in this process: the libraries are loaded once. An exception that is not an exit fails the test."""
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["iconicity", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
    signal.signal(signal.SIGTERM, handler)
    assert (stopped.value.code or 0) == code, err.getvalue() + out.getvalue()
    return Done(out.getvalue(), err.getvalue())


def run_alone(*args: object) -> subprocess.CompletedProcess[str]:
    """The installed command in a process of its own."""
    return subprocess.run([ICONICITY, *map(str, args)], capture_output=True, text=True, timeout=300)


def models(root: Path, patch_options: str = "") -> list[object]:
    """The tiny models of a folder, as options of ``index build``; ``patch_options`` like ",pool=gem"."""
    patch = f"timm:{TINY_VIT},weights={root / 'vit.safetensors'}{patch_options}"
    return ["--global-encoder", f"clip:{root / 'clip'}", "--patch-encoder", patch]
