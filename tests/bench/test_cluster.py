"""The simulation of a cluster builds a real index of rows that sleepers made."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cluster import CELLS, CLIP_DIM, DINO_DIM, StartSleeper, Watched, named_encoders
from bench.commands import bench
from iconicity.indexer.encode.engine import Plan, Task


def test_sleepers_give_unit_vectors_of_true_size_by_name() -> None:
    encoders = named_encoders()
    plan = Plan(encoders.clip.spec, encoders.dino.spec, (4, 4), "shown")
    asked = [Task(i, None, "c", f"c/{i}") for i in range(3)]
    found = dict(StartSleeper(0.0)(plan, "cpu").stream(asked))
    assert found[0].sha256 != found[1].sha256
    for outcome in found.values():
        assert outcome.vectors is not None and outcome.vectors.clip is not None and outcome.vectors.patches is not None
        assert outcome.vectors.clip.shape == (CLIP_DIM,) and outcome.vectors.patches.shape == (CELLS, DINO_DIM)
        rows = [outcome.vectors.clip, *outcome.vectors.patches]
        assert all(abs(float(np.linalg.norm(row)) - 1.0) < 1e-5 for row in rows)
    again = dict(StartSleeper(0.0)(plan, "cpu").stream(asked[1:]))
    assert again[1].vectors is not None and found[1].vectors is not None
    np.testing.assert_array_equal(again[1].vectors.patches, found[1].vectors.patches)


def test_sleep_is_what_an_actor_takes() -> None:
    slept: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", slept.append)
        list(StartSleeper(0.25)(None, "cpu").stream([Task(i, None, "c", f"c/{i}") for i in range(8)]))  # type: ignore[arg-type]
    assert slept == [2.0]


def test_the_watched_engine_passes_everything_on() -> None:
    class Three:
        def run(self, plan: object, tasks: object) -> object:
            return iter([("a", 1), ("b", 2), ("c", 3)])

    watched = Watched(Three())  # type: ignore[arg-type]
    found: list[tuple[str, object]] = list(watched.run(None, []))  # type: ignore[arg-type]
    assert found == [("a", 1), ("b", 2), ("c", 3)]
    assert 0 < watched.first <= watched.last and watched.processor > 0


def test_actors_must_be_numbers() -> None:
    for actors in ("1,x", "0"):
        done = CliRunner().invoke(bench, ["cluster", "--actors", actors])
        assert done.exit_code == 2 and "numbers separated by commas" in done.output
