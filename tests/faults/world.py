"""A small study whose every command is known in advance: where it starts, and what it leaves when nothing goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb  # noqa: F401 (imported late: here once, and by forks that have no rights not at all)
import scipy.fftpack  # noqa: F401 (imagehash imports it late: here once, not in each fork)
from faults.forks import call
from toys import draw, make_gen, make_refs, toy_encoders, write

import iconicity.indexer.builder
import iconicity.indexer.encode.encoder
import iconicity.indexer.merge
import iconicity.indexer.repair
import iconicity.indexer.store.verify
import iconicity.scorer.measure.nearest
import iconicity.scorer.measure.shards
import iconicity.scorer.say.report.build
import iconicity.scorer.scoring
import iconicity.scorer.verify
from iconicity.cli import main
from iconicity.indexer.store.cache import FACTS
from iconicity.indexer.store.files import LOCK, LOCKS
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import MANIFEST
from iconicity.indexer.store.table import HINT
from iconicity.indexer.store.verify import verify_index


@dataclass(frozen=True)
class Said:
    """A command's exit code and texts."""

    code: int
    stdout: str
    stderr: str


def command(*args: object) -> Said:
    """The command line with the toy encoders, in this process. Any exception but an exit goes through."""
    iconicity.indexer.encode.encoder.load_encoders = lambda *_: toy_encoders()
    iconicity.indexer.encode.encoder.reproduce = lambda *_: toy_encoders()
    iconicity.indexer.builder.COMMIT_IMAGES = 2
    iconicity.indexer.merge._COMMIT_ROWS = 2
    # so small a study has a FAISS index too
    iconicity.scorer.measure.shards.LEAST = 1  # type: ignore[attr-defined]
    iconicity.scorer.measure.nearest.FACTORY = "IVF2,Flat"
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["iconicity", *map(str, args)]
    code: Any = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
    return Said(int(code), out.getvalue(), err.getvalue())


def rows(index: Path) -> list[tuple[Any, ...]]:
    """Every column but indexed_at, vectors bit for bit, sorted by key."""
    out = []
    for row, checksum in open_index(index).store.rows_with_checksums():
        vectors = [None if v is None else v.tobytes() for v in (row.clip, row.patches)]
        out.append((row.reference.ref_id, repr(row.reference), *vectors, checksum))
    return sorted(out, key=lambda r: r[0])


def index_state(index: Path) -> dict[str, Any]:
    """What must be equal after a fault: rows, identity, counts, how many files of each kind, no problems."""
    manifest = open_index(index).manifest
    files = Counter(
        p.parent.relative_to(index).as_posix()
        for p in index.rglob("*")
        if p.is_file() and p.name not in {*LOCKS, MANIFEST, HINT}
    )
    return {
        "ids": [r[0] for r in rows(index)],
        "rows": _digest(index),
        "index_id": manifest["index_id"],
        "counts": manifest["counts"],
        "skipped": manifest["skipped"],
        "files": dict(files),
        "problems": verify_index(index),
    }


def _digest(index: Path) -> str:
    return hashlib.sha256(repr(rows(index)).encode()).hexdigest()


def results_state(out: Path) -> dict[str, Any]:
    """The stored maxima and tables byte for byte, the meta files but for when they were written."""
    state: dict[str, Any] = {}
    for path in sorted(p for p in out.iterdir() if p.name != ".lock"):
        if path.name.endswith(".meta.json"):
            meta = json.loads(path.read_text())
            state[path.name] = {k: v for k, v in meta.items() if k not in {"written", "digest", "notices"}}
        else:
            state[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    state["problems"] = iconicity.scorer.verify.verify_results(out)
    return state


def cache_state(cache: Path) -> dict[str, Any]:
    """Vectors by content and key."""
    with sqlite3.connect(cache / "vectors.sqlite3") as db:
        held = db.execute("SELECT sha256, key, data FROM vectors ORDER BY sha256, key").fetchall()
    n = sum(not key.startswith(FACTS) for _, key, _ in held)
    return {"vectors": hashlib.sha256(repr(held).encode()).hexdigest(), "n": n}


def tree_state(folder: Path) -> dict[str, str]:
    """Every file's bytes."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != LOCK)
    state = {p.relative_to(folder).as_posix(): re.sub(rb'"written":"[^"]*"', b"", p.read_bytes()) for p in files}
    return {name: hashlib.sha256(content).hexdigest() for name, content in state.items()}


class World:
    """Inputs and starting points in a folder of its own, made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refs = make_refs(root / "refs")
        self.gen = make_gen(root / "gen" / "m1")
        make_gen(root / "gen" / "m2", seed=6000)
        more = root / "more"
        write(more / "alpha" / "00_first.png", draw(998))
        for i in range(3):
            write(more / "delta" / f"{i}.png", draw(990 + i))
        self.changing = make_refs(root / "changing")
        self._run("index", "build", "--refs", self.refs, "--index", root / "base", "--workers", 0)
        self._run("index", "build", "--refs", self.changing, "--index", root / "before", "--workers", 0)
        write(self.changing / "alpha" / "01.png", draw(999))
        write(self.changing / "delta" / "x.png", draw(997))
        (self.changing / "beta" / "01.png").unlink()
        shutil.rmtree(self.changing / "gamma")
        self._run(*self.score_args(root / "base", root / "scored", "concept", ["m1"]))
        for shard in ("1/2", "2/2"):
            part = root / f"part-{shard[0]}"
            self._run("index", "build", "--refs", self.refs, "--index", part, "--workers", 0, "--shard", shard)
            results = root / f"scored-{shard[0]}"
            self._run(*self.score_args(root / "base", results, "concept", ["m1", "m2"]), "--shard", shard)
        parts, scored = ([root / f"{name}-{i}" for i in (1, 2)] for name in ("part", "scored"))
        scenarios = [
            Scenario(self, "build", None, lambda w: ("index", "build", "--refs", self.refs, "--index", w / "i", "--workers", 0)),
            Scenario(self, "rebuild", "before", lambda w: ("index", "build", "--refs", self.changing, "--index", w / "i", "--workers", 0, "--prune")),
            Scenario(self, "add", "base", lambda w: ("index", "add", "--refs", more, "--index", w / "i", "--workers", 0)),
            Scenario(self, "remove", "base", lambda w: ("index", "remove", "--index", w / "i", "--concept", "beta", "--ref", "alpha/00.png", "--workers", 0)),
            Scenario(self, "merge", None, lambda w: ("index", "merge", *parts, "--index", w / "i")),
            Scenario(self, "merge results", "base", lambda w: ("results", "merge", *scored, "--index", w / "i", "--out", w / "o"), "scored"),
            Scenario(self, "score", "base", lambda w: self.score_args(w / "i", w / "o", "all", ["m1", "m2"], w / "c")),
            Scenario(self, "rescore", "base", lambda w: self.score_args(w / "i", w / "o", "concept", ["m1", "m2"], w / "c"), "scored"),
            Scenario(self, "report", "base", lambda w: ("report", w / "o", "--index", w / "i", "--out", w / "r", "--workers", 0), "scored"),
        ]  # fmt: skip
        self.scenarios = {s.name: s for s in scenarios}

    def score_args(
        self, index: Path, out: Path, scope: str, models: list[str], cache: Path | None = None
    ) -> tuple[object, ...]:
        """A scoring command."""
        gen = [a for m in models for a in ("--gen", f"{m}={self.root / 'gen' / m}")]
        base = ["score", "--index", index, "--out", out, "--scope", scope, "--workers", 0, *gen]
        if scope == "all":
            base += ["--search", "approximate"]
        return (*base, "--cache", cache or self.root / "cache")

    @staticmethod
    def _run(*args: object) -> None:
        said = call(command, *args).get()
        assert said.code == 0, said


class Scenario:
    """A command on a starting point. ``w`` is the trial's own folder: index ``i``, results ``o``, cache ``c``, report ``r``."""

    def __init__(
        self,
        world: World,
        name: str,
        index: str | None,
        args: Callable[[Path], tuple[object, ...]],
        results: str | None = None,
    ) -> None:
        self.world, self.name, self.args = world, name, args
        self.index, self._results = index, results
        self.expected: Any = None
        self.before: tuple[str, str] | None = None  # as readers see it

    def start(self, folder: Path) -> Path:
        """A fresh starting point."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():  # the folder may be a mount point
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for source, name in ((self.index, "i"), (self._results, "o")):
            if source is not None:
                shutil.copytree(self.world.root / source, folder / name)
        return folder

    def state(self, folder: Path) -> dict[str, Any]:
        """What the command is to leave, without what differs by the clock."""
        state: dict[str, Any] = {"index": index_state(folder / "i")}
        if (folder / "o").is_dir():
            state["results"] = results_state(folder / "o")
        if (folder / "c").is_dir():
            state["cache"] = cache_state(folder / "c")
        if (folder / "r").is_dir():
            state["report"] = tree_state(folder / "r")
        return state

    def seen_by_readers(self, folder: Path) -> tuple[str, str] | None:
        """Identity and rows of the index as a reader finds them, None where there is no finished one."""
        if self.index is None:
            return None
        return open_index(folder / "i").index_id, _digest(folder / "i")

    def rerun(self, folder: Path) -> tuple[Said, Any]:
        """The plain command, then the state; both in this process."""
        said = command(*self.args(folder))
        return said, self.state(folder) if said.code == 0 else None

    def undisturbed(self) -> Any:
        """The state a run leaves that nothing disturbs."""
        if self.expected is None:
            # results name the folder they lie in: trials of a scenario share one path
            folder = self.start(self.world.root / "trial")
            self.before = call(self.seen_by_readers, folder).get()
            said, self.expected = call(self.rerun, folder).get()
            assert said.code == 0, said
            assert self.expected["index"]["problems"] == [], self.expected["index"]["problems"]
        return self.expected
