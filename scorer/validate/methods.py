"""Methods that say how alike a generated image and a reference are: higher is more alike.

A new one is a function: of two images (:data:`PIXELS`), or of what is embedded already (:data:`EMBEDDED`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iconicity.indexer.encode.dedup import HASH_BITS, hamming, phash
from iconicity.indexer.errors import ModelUnavailableError
from iconicity.indexer.spec import FloatArray, file_sha256
from iconicity.scorer.measure.measures import ARRANGED, CRT, MEAN, STRICT
from iconicity.scorer.measure.metrics import DEFAULT_TAU_VR, Float64, arranged_reuse, passes, visual_reuse
from iconicity.scorer.validate.layers import Calibrated, Layer
from iconicity.scorer.validate.rungs import GRID

PairFunction = Callable[[Image.Image, Image.Image], float]
_SIDE = 256  # pixels: both images are squashed to it
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def phash_similarity(generated: Image.Image, reference: Image.Image) -> float:
    """1 - share of differing bits of the perceptual hashes, in [0, 1]."""
    return 1.0 - hamming(phash(generated), phash(reference)) / HASH_BITS


def ssim(generated: Image.Image, reference: Image.Image) -> float:
    """Structural similarity of the grey images, in [-1, 1] (Wang et al. 2004; scikit-image)."""
    from skimage.metrics import structural_similarity

    a, b = (np.asarray(i.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) for i in (generated, reference))
    return float(structural_similarity(a, b, data_range=255))


def ms_ssim(generated: Image.Image, reference: Image.Image) -> float:
    """Structural similarity over five scales, in [0, 1] (Wang et al. 2003; pytorch-msssim)."""
    from pytorch_msssim import ms_ssim as measure

    a, b = (_tensor(i, _SIDE) for i in (generated, reference))
    return float(measure(a, b, data_range=1.0))


def _tensor(image: Image.Image, side: int) -> Any:
    """(1, 3, side, side) in [0, 1]."""
    import torch

    array = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255.0
    return torch.from_numpy(array.transpose(2, 0, 1)[None].copy())


@dataclass(frozen=True)
class PairMethod:
    """A similarity of two RGB images; ``version`` changes with what it gives (values are kept by it)."""

    measure: PairFunction
    version: str = "1"


PIXELS = {"phash": PairMethod(phash_similarity), "ssim": PairMethod(ssim), "ms_ssim": PairMethod(ms_ssim)}
_NEEDS = {"ssim": "skimage", "ms_ssim": "pytorch_msssim"}


def available(name: str) -> bool:
    """Whether the library of a pixel method is there (``pip install 'iconicity[validate]'``)."""
    from importlib.util import find_spec

    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None


def _script(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is old, and what SSCD comes as
            return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError, ValueError) as e:
        cause = " ".join(str(e).split())[:120]
        raise ModelUnavailableError(f"{path}: not a TorchScript file ({cause}); export one with torch.jit.save") from e


def descriptor(path: Path, side: int = 320) -> PairMethod:
    """Cosine of a TorchScript network's vectors, as SSCD's are given away (Pizzi et al. 2022).

    Its input is (1, 3, side, side), squashed, with ImageNet's mean and deviation. Raises :class:`ModelUnavailableError`.
    """
    import torch

    network = _script(path)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in _IMAGENET)

    def method(generated: Image.Image, reference: Image.Image) -> float:
        with torch.inference_mode():
            a, b = (network((_tensor(i, side) - mean) / deviation).flatten() for i in (generated, reference))
        return float(torch.nn.functional.cosine_similarity(a, b, dim=0))

    return PairMethod(method, file_sha256(path))


def distance(path: Path, side: int = 224) -> PairMethod:
    """Minus the distance that a TorchScript network gives two images (1, 3, side, side) in [0, 1], as LPIPS and DreamSim do.

    Raises :class:`ModelUnavailableError`.
    """
    import torch

    network = _script(path)

    def method(generated: Image.Image, reference: Image.Image) -> float:
        with torch.inference_mode():
            return -float(network(_tensor(generated, side), _tensor(reference, side)))

    return PairMethod(method, file_sha256(path))


@dataclass(frozen=True)
class View:
    """What is embedded of n images and their references."""

    layers: Mapping[str, Layer]
    patches: FloatArray  # (n, K, D') of the cells, crop mode
    own: FloatArray  # (n, K, D') of the own reference's cells


def _calibrated(layer: Layer) -> Float64:
    tau = layer.tau()
    return np.full(len(layer.p), np.nan) if np.isnan(tau) else visual_reuse(layer.p, tau)


def _crt(view: View) -> Float64:
    """-(recognised x VI): CRT is high where an image is recognised and transformed."""
    crop = view.layers["crop"]
    tau_vr, tau_cra = crop.tau(), crop.tau("cra")
    if np.isnan(tau_vr) or np.isnan(tau_cra):
        return np.full(len(crop.p), np.nan)
    return -passes(crop.similarity, tau_cra).astype(np.float64) * (1.0 - visual_reuse(crop.p, tau_vr))


def split(patches: FloatArray, own: FloatArray) -> Float64:
    """(n,) highest cosine of two cells at the same place: DCR's split-product (Somepalli et al. 2023), on our patches."""
    same = np.einsum("nkd,nkd->nk", patches.astype(np.float64), own.astype(np.float64))
    return np.asarray(same.max(axis=1), np.float64)


def _arranged(layer: Layer) -> Float64:
    """Reuse in one arrangement, at the calibrated tau."""
    if np.isnan(layer.tau()):
        return np.full(len(layer.p), np.nan)
    return arranged_reuse(passes(layer.p, layer.tau()), layer.cell, *GRID, layer.index.overlapping)


def _strict(calibrated: Calibrated | None, layer: Layer) -> Float64:
    """VR strict; nan where there is no calibrated threshold."""
    return np.full(len(layer.p), np.nan) if calibrated is None else calibrated.strict(layer.p)


def _of(view: View, name: str, measure: Callable[[Layer], Float64]) -> Float64:
    """A measure of a layer; nan where that was not run."""
    layer = view.layers.get(name)
    return np.full(len(view.patches), np.nan) if layer is None else measure(layer)


def _whole(view: View, name: str) -> Float64:
    layer = view.layers.get(name)
    return np.full(len(view.patches), np.nan) if layer is None else layer.p[:, 0].astype(np.float64)


OURS = (
    "vr", STRICT.key, "vr_whitened_strict", "vr_overlapping", "vr_overlapping_strict", "vr_overlapping_whitened_strict",
    ARRANGED.key, MEAN.key,
)  # fmt: skip
EMBEDDED: dict[str, Callable[[View], Float64]] = {
    "vr_0.60": lambda v: visual_reuse(v.layers["crop"].p, DEFAULT_TAU_VR),
    "vr": lambda v: _calibrated(v.layers["crop"]),
    MEAN.key: lambda v: v.layers["crop"].p.astype(np.float64).mean(axis=1),
    "vr_token": lambda v: _of(v, "token", _calibrated),
    "vr_mean_token": lambda v: _of(v, "token", lambda layer: layer.p.astype(np.float64).mean(axis=1)),
    STRICT.key: lambda v: _strict(v.layers["crop"].plain, v.layers["crop"]),
    "vr_whitened_strict": lambda v: _strict(v.layers["crop"].whitened, v.layers["crop"]),
    "vr_overlapping": lambda v: _of(v, "overlapping", _calibrated),
    "vr_overlapping_strict": lambda v: _of(v, "overlapping", lambda layer: _strict(layer.plain, layer)),
    "vr_overlapping_whitened_strict": lambda v: _of(v, "overlapping", lambda layer: _strict(layer.whitened, layer)),
    ARRANGED.key: lambda v: _arranged(v.layers["crop"]),
    "vr_overlapping_arranged": lambda v: _of(v, "overlapping", _arranged),
    CRT.key: _crt,
    "clip": lambda v: v.layers["crop"].similarity,
    "dino_mean": lambda v: _whole(v, "whole"),
    "dino_class": lambda v: _whole(v, "class"),
    "split": lambda v: split(v.patches, v.own),
}
