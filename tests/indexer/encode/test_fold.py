"""A folded CNN gives its own vectors; where batch norms cannot be folded it runs as it is."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from iconicity.indexer.encode.encoder import state_dict_sha256
from iconicity.indexer.encode.fold import folded
from iconicity.indexer.encode.timm import TimmEncoder

BATCH_NORMS = (torch.nn.BatchNorm2d,)


def network(name: str) -> Any:
    """An untrained network whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    norms: list[Any] = [m for m in model.modules() if isinstance(m, BATCH_NORMS)]
    for norm in norms:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.1)
    return model


def norms(model: Any) -> int:
    return sum(isinstance(m, BATCH_NORMS) for m in model.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    # densenet121 normalises before it convolves: what is concatenated stays
    [("tf_efficientnet_lite0", 0), ("resnet18", 0), ("mobilenetv3_small_050", 0), ("regnety_002", 0), ("densenet121", 62)],
)  # fmt: skip
@pytest.mark.parametrize("layer", [None, 2])
def test_vectors_are_the_same(name: str, left: int, layer: int | None) -> None:
    model = network(name)
    before = state_dict_sha256(model.state_dict())
    encoder = TimmEncoder(model, name, layer=layer, image_size=64)
    quick: Any = encoder._network
    if layer is None:
        assert norms(quick) == left and norms(model) > left
    batch = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 4 - 2
    rows = encoder.forward(batch)
    encoder._network = model
    plain = encoder.forward(batch)
    assert abs(rows - plain).max() < 1e-5
    encoder._network = quick
    alone = [encoder.forward(batch[i : i + 1])[0] for i in range(5)]
    assert abs(rows - alone).max() < 2e-6  # company does not matter
    assert encoder.spec.weights_sha256 == before == state_dict_sha256(encoder.state())


class Twice(torch.nn.Module):
    """A convolution whose output is also used before its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)
        torch.nn.init.uniform_(self.norm.weight, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        rows: torch.Tensor = self.norm(y) + y
        return rows


def test_a_network_that_would_change_is_left_as_it_is() -> None:
    model, probe = Twice().eval(), torch.rand(1, 3, 16, 16)
    assert folded(model, lambda m: m(probe)) is model
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0).eval()
    assert folded(vit, lambda m: m.forward_features(torch.rand(1, 3, 224, 224))) is vit
