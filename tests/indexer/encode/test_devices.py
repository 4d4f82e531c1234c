"""Several devices: several processes of the processor play them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from engines import CONCEPTS, children, kill, plan, require_same_as_local, require_same_index_and_results, tasks
from run import run
from toys import make_refs, slow_toys_on, toys_on

from iconicity.indexer.encode import devices
from iconicity.indexer.encode.devices import Devices, device_names
from iconicity.indexer.encode.encoder import Encoders
from iconicity.indexer.encode.engine import Outcome, Plan, Runner, Start
from iconicity.indexer.errors import IconicityError, InputError, ModelUnavailableError
from iconicity.indexer.spec import EncoderSpec


def no_weights(plan: Plan, device: str) -> Runner:
    def load(clip: EncoderSpec, dino: EncoderSpec) -> Encoders:
        raise ModelUnavailableError(f"no weights on {device}")

    return Runner(plan, load)


def ends_at_once(plan: Plan, device: str) -> Runner:
    os._exit(3)


def test_names() -> None:
    assert device_names("0, 1,cpu") == ["cuda:0", "cuda:1", "cpu"]
    with pytest.raises(InputError, match="a list of devices like"):
        device_names("0,")


@pytest.mark.parametrize("n", [1, 3])
def test_outcomes_are_those_of_this_process(n: int, tmp_path: Path) -> None:
    require_same_as_local(Devices(["cpu"] * n, toys_on), tmp_path)


def test_index_and_results_are_those_of_this_process(tmp_path: Path) -> None:
    require_same_index_and_results(Devices(["cpu", "cpu"], toys_on), tmp_path)


@pytest.mark.cold
def test_a_device_that_is_killed_is_replaced(tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path / "refs", CONCEPTS))
    found: list[tuple[str, Outcome]] = []
    killed = 0
    for item in Devices(["cpu", "cpu"], slow_toys_on).run(plan(), asked):
        found.append(item)
        if len(found) == 1:
            killed = kill(children(os.getpid(), "answering")[:1])
    assert killed == 1
    assert sorted(k for k, _ in found) == sorted(t.key for t in asked)
    assert not children(os.getpid(), "answering")


def test_one_that_ends_always_is_an_error(tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path / "refs", ["a"]))
    with pytest.raises(IconicityError, match=r"device cpu: its process ended twice .*what is written is kept"):
        list(Devices(["cpu"], ends_at_once).run(plan(), asked))


def test_errors_of_a_device_are_those_of_this_process(tmp_path: Path) -> None:
    asked = tasks(make_refs(tmp_path / "refs", ["a"]))
    with pytest.raises(ModelUnavailableError, match="no weights on cpu"):
        list(Devices(["cpu"], no_weights).run(plan(), asked))


@pytest.mark.cold
def test_who_stops_early_leaves_no_process(tmp_path: Path) -> None:
    stream = Devices(["cpu", "cpu"], slow_toys_on).run(plan(), tasks(make_refs(tmp_path / "refs", CONCEPTS)))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not children(os.getpid(), "answering")
    assert not [t for t in threading.enumerate() if t.name.startswith("worker")]


def test_a_device_has_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tasks(make_refs(tmp_path / "refs", ["a"]))
    for n, threads in ((3, 2), (16, 1)):
        given: list[int] = []

        class Noted(devices.Device):
            def __init__(self, plan: Plan, start: Start, device: str, threads: int, given: list[int] = given) -> None:
                given.append(threads)
                super().__init__(plan, start, device, threads)

        monkeypatch.setattr(devices, "threads_allowed", lambda: 8)
        monkeypatch.setattr(devices, "Device", Noted)
        with pytest.raises(IconicityError):
            list(Devices(["cpu"] * n, ends_at_once).run(plan(), asked))
        assert given == [threads] * n


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--devices", "cpu,"], "a list of devices like 0,1"),
        (["--devices", "cpu", "--device", "cpu"], "--device and --devices exclude each other"),
        (["--devices", "cpu", "--engine", "ray"], "--devices belongs to --engine local"),
        (["--actor-cpus", "2"], "--actor-cpus belongs to --engine ray"),
        (["--ray-address", "auto"], "--ray-address belongs to --engine ray"),
        (["--engine", "ray", "--actors", "3:2"], "the least and the most like 2:8"),
    ],
)
def test_options_that_do_not_go_together(args: list[str], message: str, tmp_path: Path) -> None:
    said = run(
        "index", "build", "--refs", tmp_path, "--index", tmp_path / "i", *args, code=1 if "a list" in message else 2
    )
    assert message in said.stderr
