"""Batches change no image: those that would are not used, and those that memory is too short for are halved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from iconicity.data.generate.make import Maker
from iconicity.data.generate.pipeline import Drawn
from iconicity.data.generate.plan import Planned, Settings
from iconicity.indexer.errors import IconicityError

SETTINGS = Settings(
    pipeline="P", scheduler="S", weights_sha256="w", config_sha256="c", precision="fp32", steps=1, guidance=None, size=None
)  # fmt: skip


def images(*prompts: str, seeds: int) -> list[Planned]:
    return [
        Planned(concept="c", variant="v", prompt=p, negative="", seed=seed, settings=SETTINGS)
        for p in prompts
        for seed in range(seeds)
    ]


class Pipeline:
    """Draws each image alike in batches of up to ``exact`` images, in larger ones with another last bit."""

    def __init__(self, exact: int = 99, memory: int = 99) -> None:
        self.exact, self.memory = exact, memory
        self.batches: list[int] = []

    def draw(self, images: Sequence[Planned]) -> list[Drawn]:
        self.batches.append(len(images))
        if len(images) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        assert len({image.prompt for image in images}) == 1
        return [(self._drawn(image, len(images) > self.exact), image.seed == 3) for image in images]

    @staticmethod
    def _drawn(image: Planned, moved: bool) -> np.ndarray:
        seed = int.from_bytes(image.identity.encode()[:8])
        pixels = np.random.default_rng(seed).random((2, 2, 3), dtype=np.float32)
        return np.nextafter(pixels, 1) if moved else pixels


def made(pipeline: Pipeline, batch_size: int, wanted: Sequence[Planned]) -> tuple[list[bytes], Maker]:
    maker = Maker(pipeline, batch_size)
    out = [d[0].tobytes() for batch in maker.batches(wanted) for d in maker.draw(batch)]
    return out, maker


ALONE = made(Pipeline(), 1, images("a", "b", seeds=9))[0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("exact", [1, 2, 99])
@pytest.mark.parametrize("memory", [1, 2, 3, 99])
def test_no_batch_moves_an_image(batch_size: int, exact: int, memory: int) -> None:
    found, _ = made(Pipeline(exact, memory), batch_size, images("a", "b", seeds=9))
    assert found == ALONE


def test_a_batch_is_tried_once_and_used_where_it_gives_the_same() -> None:
    pipeline = Pipeline()
    _, maker = made(pipeline, 4, images("a", "b", seeds=9))
    assert pipeline.batches == [4, 1, 1, 1, 1, 4, 1, 4, 4, 1] and maker.notes == []


def test_half_of_a_batch_is_tried_where_the_whole_one_gives_other_bits() -> None:
    pipeline = Pipeline(exact=2)
    _, maker = made(pipeline, 4, images("a", seeds=9))
    assert pipeline.batches == [4, 1, 1, 1, 1, 2, 1, 1, 2, 1]
    assert maker.notes == ["images are not made 4 at once: their last bits would change"]


def test_batches_are_halved_where_memory_is_short() -> None:
    pipeline = Pipeline(memory=2)
    _, maker = made(pipeline, 8, images("a", seeds=12))
    assert pipeline.batches == [8, 4, 2, 1, 1, 2, 2, 2, 2, 2]
    assert maker.notes == [f"images are not made {n} at once: memory is short" for n in (8, 4)]


def test_memory_too_short_for_one_image_is_one_line() -> None:
    with pytest.raises(
        IconicityError, match=r"out of memory for one image \(CUDA out of memory. Tried to allocate 2 GiB\)"
    ) as e:
        made(Pipeline(memory=0), 4, images("a", seeds=4))
    assert "\n" not in str(e.value)
