"""Draw images in batches that change none of their bits.

A batch does not give the bits that its images have when each is drawn alone: kernels for other shapes add in another
order. On a processor that is so for almost every network, so that images are drawn one by one there. On other devices a
batch of n is tried once, beside the same images drawn alone. It is used where all numbers are equal, before they are
rounded to pixels; else half of it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np

from iconicity.data.generate.pipeline import Drawn
from iconicity.data.generate.plan import Planned
from iconicity.indexer.errors import IconicityError


class Draws(Protocol):
    """A pipeline, as far as it is needed here."""

    def draw(self, images: Sequence[Planned]) -> list[Drawn]: ...


class Maker:
    """Draws images with a pipeline, at most ``batch_size`` at once. ``notes``: what a user should know."""

    def __init__(self, pipeline: Draws, batch_size: int = 1) -> None:
        self._pipeline = pipeline
        self._size = batch_size
        self._proven = {1}
        self.notes: list[str] = []

    def batches(self, images: Sequence[Planned]) -> Iterator[Sequence[Planned]]:
        """Images of one prompt that are to be drawn together next. The size may change between two of them."""
        for _, same in groupby(images, key=lambda image: (image.prompt, image.negative)):
            left = list(same)
            while left:
                n = self._size if len(left) >= self._size else 1
                yield left[:n]
                del left[:n]

    def draw(self, images: Sequence[Planned]) -> list[Drawn]:
        """Draw a batch. Raises :class:`IconicityError` where memory is too short for one image."""
        import torch

        try:
            if len(images) in self._proven:
                return self._pipeline.draw(images)
            return self._prove(images)
        except torch.OutOfMemoryError as e:
            cause = str(e)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(images) == 1:
            raise IconicityError(
                f"out of memory for one image ({cause.splitlines()[0][:160] if cause else 'no more is said'}); take a smaller "
                "`size`, a `precision` of 16 bits, or another `device`"
            )
        self._halve(len(images), "memory is short")
        return [drawn for part in self.batches(images) for drawn in self.draw(part)]

    def _prove(self, images: Sequence[Planned]) -> list[Drawn]:
        """Images drawn alone; the batch that they are is used from now on where it gives the same."""
        together = self._pipeline.draw(images)
        alone = [drawn for image in images for drawn in self._pipeline.draw([image])]
        if all(_equal(a, b) for a, b in zip(together, alone, strict=True)):
            self._proven.add(len(images))
        else:
            self._halve(len(images), "their last bits would change")
        return alone

    def _halve(self, size: int, why: str) -> None:
        self._size = min(self._size, size // 2)
        self.notes.append(f"images are not made {size} at once: {why}")


def _equal(one: Drawn, other: Drawn) -> bool:
    return one[1] == other[1] and np.array_equal(one[0], other[0])
