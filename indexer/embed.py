"""Images to vectors in batches: the one place where forward passes are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iconicity.indexer.encoders import Encoder, Encoders, FloatArray
from iconicity.indexer.patches import cells

if TYPE_CHECKING:
    import torch
    from PIL import Image

DEFAULT_BATCH = 16


@dataclass(frozen=True)
class Prepared:
    """One image as network inputs: ``clip`` (3, H, W), ``cells`` (K, 3, H', W'); None where not wanted."""

    clip: torch.Tensor | None
    cells: torch.Tensor | None


@dataclass(frozen=True)
class Vectors:
    """One image's unit vectors: ``clip`` (D,), ``patches`` (K, D'); None where not wanted."""

    clip: FloatArray | None
    patches: FloatArray | None


class Embedder:
    """Both encoders over a grid. ``batch_size`` counts network inputs: 16 crops are 16 of them."""

    def __init__(self, encoders: Encoders, rows: int, cols: int, batch_size: int = DEFAULT_BATCH) -> None:
        self._encoders = encoders
        self._rows = rows
        self._cols = cols
        self._batch_size = batch_size
        self.images = 0

    def prepare(self, image: Image.Image, clip: bool = True, patches: bool = True) -> Prepared:
        """Preprocess an image. No network runs; one image's result depends on no other."""
        import torch

        tensor = self._encoders.clip.prepare(image) if clip else None
        crops = [self._encoders.dino.prepare(c) for c in cells(image, self._rows, self._cols)] if patches else None
        return Prepared(tensor, None if crops is None else torch.stack(crops))

    def embed(self, prepared: Sequence[Prepared]) -> list[Vectors]:
        """Vectors of some images, in order; inputs are batched across images."""
        clips = [p.clip for p in prepared if p.clip is not None]
        crops = [c for p in prepared if p.cells is not None for c in p.cells]
        clip_rows = iter(self._forward(self._encoders.clip, clips))
        k = self._rows * self._cols
        crop_rows = self._forward(self._encoders.dino, crops)
        blocks = iter(crop_rows.reshape(-1, k, crop_rows.shape[1]))
        self.images += len(prepared)
        return [
            Vectors(None if p.clip is None else next(clip_rows), None if p.cells is None else next(blocks))
            for p in prepared
        ]

    def _forward(self, encoder: Encoder, inputs: Sequence[torch.Tensor]) -> FloatArray:
        import torch

        if not inputs:
            return np.zeros((0, encoder.spec.dim), np.float32)
        size = self._batch_size
        return np.concatenate(
            [encoder.forward(torch.stack(list(inputs[i : i + size]))) for i in range(0, len(inputs), size)]
        )
