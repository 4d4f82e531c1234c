"""Faults that are no crash: signals, full disks, missing rights, moved and deleted folders, a clock that goes back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from faults.forks import Child, call
from faults.kills import Tally, judge
from faults.world import Said, Scenario, World, command, results_state, rows
from toys import ROOT

from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.errors import IconicityError, ImageError
from iconicity.indexer.store.index import open_index

NOBODY = 65534


def one_line(said: Said) -> bool:
    """Whether a command ended with an error as it should: code 1, one line."""
    return said.code == 1 and said.stderr.strip().splitlines()[-1].startswith("error: ")


def _interrupted(*args: object) -> Said:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background processes ignore it
    said = command(*args)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return said


class Others:
    """Trials on one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.folder = world.root / "trial"
        self.slowest_stop = 0.0

    def _again(self, scenario: Scenario, tally: Tally, what: str) -> None:
        """The plain command after a fault."""
        said, state = call(scenario.rerun, self.folder).get()
        if said.code != 0:
            if scenario.name == "remove" and "holds no" in said.stderr:
                state = call(scenario.state, self.folder).get()
            else:
                tally.failures.append(f"{what}: {said.stderr}")
                return
        judge(state, scenario.undisturbed(), tally, what)

    def stop(self, signum: int, tally: Tally) -> None:
        """SIGINT or SIGTERM at a random moment: the code, the message, within five seconds."""
        scenario = self.world.scenarios[self.rng.choice(sorted(self.world.scenarios))]
        scenario.undisturbed()
        seconds = call(command, *scenario.args(scenario.start(self.folder))).seconds
        child = Child(_interrupted, *scenario.args(scenario.start(self.folder)))
        time.sleep(0.05 + self.rng.random() * seconds)
        sent = time.monotonic()
        child.kill(signum)
        ended = child.wait()
        if ended.value is None or ended.value.code == 0:
            return  # before the command began or after it was done
        tally.trials += 1
        took = time.monotonic() - sent
        self.slowest_stop = max(self.slowest_stop, took)
        said = ended.value
        if said.code != 128 + signum or "run the same command again" not in said.stderr or took > 5:
            tally.failures.append(f"{scenario.name}, signal {signum}: {took:.1f} s, {said}")
            return
        self._again(scenario, tally, f"{scenario.name}, signal {signum}")

    def full_disk(self, tally: Tally) -> None:
        """A file system with little room left; then more, and the plain command."""
        scenario = self.world.scenarios[self.rng.choice(sorted(self.world.scenarios))]
        expected = scenario.undisturbed()
        assert expected
        self.folder.mkdir(exist_ok=True)
        with _small_disk(self.folder) as resize:
            scenario.start(self.folder)
            resize(_used(self.folder) + self.rng.choice([8, 16, 32, 64, 96, 128, 256, 384]) * 1024)
            ended = call(command, *scenario.args(self.folder))
            resize(1 << 28)
            if ended.value is None or not (ended.value.code == 0 or one_line(ended.value)):
                tally.trials += 1
                tally.failures.append(f"{scenario.name} on a full disk: {ended}")
                return
            if ended.value.code == 0:
                return  # there was room enough
            tally.trials += 1
            self._again(scenario, tally, f"{scenario.name} on a full disk")

    def without_rights(self, tally: Tally) -> None:
        """As another user: reading works, each refusal is one line, and nothing changes."""
        scenario = self.world.scenarios["score"]
        expected = scenario.undisturbed()
        scenario.start(self.folder)
        self.world.root.chmod(0o755)
        free = self.folder / "free"
        free.mkdir()
        free.chmod(0o777)
        index = self.folder / "i"
        before = call(rows, index).get()
        cases: list[tuple[str, tuple[object, ...], bool]] = [
            ("score from a read-only index", self.world.score_args(index, free / "o", "concept", ["m1"], free / "c"), True),
            ("verify a read-only index", ("index", "verify", "--index", index), True),
            ("build into a read-only index", ("index", "build", "--refs", self.world.refs, "--index", index, "--workers", 0), False),
            ("add to a read-only index", ("index", "add", "--refs", self.world.root / "more", "--index", index, "--workers", 0), False),
            ("repair a read-only index", ("index", "repair", "--index", index), False),
            ("write results where one may not", self.world.score_args(index, self.folder / "no", "concept", ["m1"], free / "c"), False),
            ("keep a cache where one may not", self.world.score_args(index, free / "o2", "concept", ["m1"], self.folder / "no"), False),
            ("write a report where one may not", ("report", free / "o", "--index", index, "--out", self.folder / "no"), False),
        ]  # fmt: skip
        for what, args, allowed in cases:
            tally.trials += 1
            ended = call(_as_nobody, *args)
            said = ended.value
            if said is None or not (said.code == 0 if allowed else one_line(said)):
                tally.failures.append(f"{what}: {ended}")
            else:
                tally.survived += 1
        if call(rows, index).get() != before:
            tally.lost += 1
            tally.failures.append("rows changed without the right to")
        assert expected

    def moved_and_copied(self, tally: Tally) -> None:
        """An index at another path is the same index."""
        base = self.world.root / "base"
        want = call(_scored, self.world, base, self.folder).get()
        for what in ("copied", "moved"):
            tally.trials += 1
            target = self.world.root / f"else where {what}"
            shutil.copytree(base, target)
            if what == "moved":
                target = target.rename(self.world.root / "moved on")
            got = call(_scored, self.world, target, self.folder).get()
            built = call(command, "index", "build", "--refs", self.world.refs, "--index", target, "--workers", 0).get()
            if got == want and "nothing has changed" in built.stdout:
                tally.survived += 1
            else:
                tally.silent += got != want
                tally.failures.append(f"{what}: {built}")
            shutil.rmtree(target)

    def deleted_under_a_reader(self, tally: Tally) -> None:
        """What is read after that is right, or an error with a name."""
        for moment in ("opened", "counted", "read"):
            tally.trials += 1
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.world.root / "base", self.folder / "i")
            ended = call(_read_deleted, self.folder / "i", moment)
            if ended.value is True:
                tally.survived += 1
            else:
                tally.failures.append(f"deleted when {moment}: {ended}")

    def clock_back(self, tally: Tally) -> bool:
        """Build with the clock an hour ahead, then with the true one. False: no compiler to make such a clock."""
        library = _clock_ahead(self.world.root)
        if library is None:
            return False
        scenario = self.world.scenarios["rebuild"]
        expected = scenario.undisturbed()
        tally.trials += 1
        scenario.start(self.folder)
        shutil.rmtree(self.folder / "i")
        code = "from faults.world import command; import sys; sys.exit(command(*sys.argv[1:]).code)"
        args = ["index", "build", "--refs", str(self.world.refs), "--index", str(self.folder / "i"), "--workers", "0"]
        path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", code, *args], env=environment, check=True, capture_output=True)
        assert call(_newest, self.folder / "i").get() > time.time() + 3000, "the clock was not ahead"
        said, state = call(scenario.rerun, self.folder).get()
        state["index"]["files"] = expected["index"]["files"]  # old versions go when they are older than now
        judge(state, expected, tally, f"after the clock went back: {said}")
        return True

    def two_builders(self, tally: Tally) -> None:
        """The second is refused in a line that names the first."""
        for name in ("build", "add", "remove", "repair"):
            tally.trials += 1
            scenario = self.world.scenarios["rebuild" if name == "repair" else name]
            scenario.start(self.folder)
            first = Child(_halfway, self.folder, scenario.args(self.folder))
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (self.folder / "halfway").is_file():
                time.sleep(0.005)
            args = ("index", "repair", "--index", self.folder / "i") if name == "repair" else scenario.args(self.folder)
            said = call(command, *args).get()
            (self.folder / "go").touch()
            code = first.wait().get().code
            if one_line(said) and f"process {first.pid} on {os.uname().nodename}" in said.stderr and code == 0:
                judge(call(scenario.state, self.folder).get(), scenario.undisturbed(), tally, f"two builders, {name}")
            else:
                tally.failures.append(f"two builders, {name}: {code}, {said}")


def _halfway(folder: Path, args: tuple[object, ...]) -> Said:
    """A build that waits in its middle."""
    from iconicity.indexer.store.rows import ReferenceStore

    sync = ReferenceStore.sync

    def waits(self: ReferenceStore) -> None:
        (folder / "halfway").touch()
        while not (folder / "go").is_file():
            time.sleep(0.005)
        sync(self)

    ReferenceStore.sync = waits  # type: ignore[method-assign]
    return command(*args)


def _as_nobody(*args: object) -> Said:
    if os.getuid() == 0:
        with suppress(ImageError):  # started now: root's interpreter may lie where nobody else can start it
            shared().decode(b"no image", "")
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ["HOME"] = "/nonexistent"
    return command(*args)


def _scored(world: World, index: Path, folder: Path) -> Any:
    shutil.rmtree(folder, ignore_errors=True)
    said = command(*world.score_args(index, folder / "o", "concept", ["m1"]))
    assert said.code == 0, said
    state = results_state(folder / "o")
    for meta in [s for s in state.values() if isinstance(s, dict)]:
        meta.pop("index")
    return state


def _read_deleted(path: Path, moment: str) -> bool:
    want = dict(open_index(path).references())
    index = open_index(path)
    if moment == "counted":
        index.concepts()
    if moment == "read":
        index.block(["alpha"])
    shutil.rmtree(path)
    try:
        block = index.block(["alpha", "beta", "gamma"])
    except IconicityError as e:
        return "\n" not in str(e) and str(path) in str(e)
    return [r.ref_id for r in block.references] == [r.ref_id for r in want.values() if r.kept]


def _newest(index: Path) -> float:
    store = open_index(index).store
    stamps = store._read(["indexed_at"]).column("indexed_at").to_pylist()
    return float(max(s.timestamp() for s in stamps))


def _used(folder: Path) -> int:
    usage = shutil.disk_usage(folder)
    return usage.used


@contextmanager
def _small_disk(folder: Path) -> Iterator[Any]:
    """A file system of its own at a folder, and a function that sets its size in bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)], check=True)
    try:

        def resize(size: int) -> None:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def can_mount(root: Path) -> bool:
    """Whether file systems can be mounted here."""
    folder = root / "mountable"
    folder.mkdir(exist_ok=True)
    try:
        with _small_disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _clock_ahead(root: Path) -> Path | None:
    """A library that sets a process's clock an hour ahead; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    source, library = root / "ahead.c", root / "ahead.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *t) {\n"
        "  int r = syscall(SYS_clock_gettime, id, t);\n"
        "  if (r == 0 && id == CLOCK_REALTIME) t->tv_sec += 3600;\n  return r;\n}\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library
