"""Do an encoder's weights look as if nothing had been learned?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

SMALLEST = 16  # rows and columns below which a matrix says too little
_NOISE = 1.05  # of independent numbers the ratio is 0.95 to 1.03


@runtime_checkable
class Weighted(Protocol):
    """An encoder that shows its weights."""

    def state(self) -> Mapping[str, torch.Tensor]: ...


def noise_ratio(matrix: npt.ArrayLike) -> float:
    """Largest singular value of a matrix (m, n) over the one that independent numbers of its size would have.

    That is s (sqrt(m) + sqrt(n)), s their root mean square (Marchenko & Pastur 1967; Bai & Yin 1993). About 1 for random
    weights; learning leaves directions that stand out.

    >>> round(noise_ratio(np.random.default_rng(0).standard_normal((400, 300))), 1)
    1.0
    """
    a = np.asarray(matrix, np.float64)
    m, n = a.shape
    edge = float(np.sqrt((a**2).mean())) * (np.sqrt(m) + np.sqrt(n))
    return float(np.linalg.norm(a, 2) / edge) if edge > 0 else 1.0


def looks_untrained(weights: Iterable[npt.ArrayLike]) -> bool:
    """Whether the median ratio over the weight matrices is that of noise. Tensors are taken as (first axis, the rest)."""
    flat = [np.asarray(w).reshape(len(w), -1) for w in map(np.asarray, weights) if np.ndim(w) >= 2]
    ratios = [noise_ratio(w) for w in flat if min(w.shape) >= SMALLEST]
    return bool(ratios) and float(np.median(ratios)) < _NOISE


def untrained(encoder: object) -> bool:
    """Whether an encoder shows weights, and they look untrained."""
    if not isinstance(encoder, Weighted):
        return False
    return looks_untrained(t.detach().cpu().float().numpy() for t in encoder.state().values())
