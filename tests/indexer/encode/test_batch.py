"""Vectors do not depend on batches, company or order, and the batch size is chosen from real forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    TINY_VIT,
    TINY_VIT_REGISTERS,
    ToyEncoder,
    draw,
    forwards,
    tiny_clip,
    tiny_encoders,
    tiny_vit,
    toy_encoders,
)

from iconicity.indexer.encode.batch import GPU_SIZES, BatchSize, Embedder, Vectors
from iconicity.indexer.encode.encoder import Encoders, load_encoders
from iconicity.indexer.encode.prepare import Prepared, Recipe
from iconicity.indexer.grid import cell_averages
from iconicity.indexer.spec import FloatArray

GRID = (2, 3)


def prepared(encoders: Encoders, wanted: list[tuple[bool, bool]]) -> list[tuple[int, Prepared | None]]:
    recipe = Recipe.of(encoders, GRID, "shown")
    return [
        (i, recipe.prepare(draw(i, (60 + i, 50)), clip, patches) if clip or patches else None)
        for i, (clip, patches) in enumerate(wanted)
    ]


@pytest.fixture(scope="module", params=["crop", "token"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    root = tmp_path_factory.mktemp("models")
    weights = tiny_vit(root / "v.safetensors", TINY_VIT_REGISTERS if request.param == "token" else TINY_VIT)
    name = TINY_VIT_REGISTERS if request.param == "token" else TINY_VIT
    clip = str(tiny_clip(root / "clip"))
    return load_encoders(tiny_encoders(clip, weights, name, patch_mode=request.param))


def test_batch_size_and_company_do_not_matter(real: Encoders) -> None:
    items = prepared(real, [(True, True)] * 5)
    results: list[list[Vectors | None]] = [
        [v for _, v in Embedder(real, GRID, batch).map(iter(items))] for batch in (None, 1, 7, 64)
    ]
    alone = Embedder(real, GRID, 3)
    results.append([v for item in items for _, v in alone.map([item])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a is not None and a.clip is not None and a.patches is not None
            assert b is not None and b.clip is not None and b.patches is not None
            assert a.patches.shape == (6, real.dino.spec.dim)
            np.testing.assert_allclose(a.clip, b.clip, atol=1e-6)
            np.testing.assert_allclose(a.patches, b.patches, atol=1e-6)


def test_token_mode_makes_one_forward_an_image(real: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = real.dino.forward

    def counted(batch: torch.Tensor) -> FloatArray:
        sizes.append(len(batch))
        return forward(batch)

    monkeypatch.setattr(real.dino, "forward", counted)
    list(Embedder(real, GRID, 4).map(prepared(real, [(False, True)] * 3)))
    assert sum(sizes) == (3 if real.patch_mode == "token" else 3 * 6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(1, 20))
def test_order_and_what_is_wanted_are_kept(wanted: list[tuple[bool, bool]], batch: int) -> None:
    encoders = toy_encoders()
    embedder = Embedder(encoders, GRID, batch)
    out = list(embedder.map(iter(prepared(encoders, wanted))))
    assert [key for key, _ in out] == list(range(len(wanted)))
    for (clip, patches), (_, v) in zip(wanted, out, strict=True):
        assert (v is not None) == (clip or patches)
        if v is not None:
            assert ((v.clip is not None), (v.patches is not None)) == (clip, patches)
    expected = sum(clip + 6 * patches for clip, patches in wanted)
    assert forwards(encoders) == expected


def test_crops_of_several_images_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = toy_encoders()
    sizes: list[int] = []
    dino = encoders.dino
    assert isinstance(dino, ToyEncoder)
    forward = dino.forward

    def noted(batch: torch.Tensor) -> Any:
        sizes.append(len(batch))
        return forward(batch)

    monkeypatch.setattr(dino, "forward", noted)
    list(Embedder(encoders, GRID, 4).map(prepared(encoders, [(False, True)] * 4)))
    assert sizes == [4] * 6  # 24 crops of 4 images of 6 cells: no batch of 2


def test_auto_takes_the_size_that_was_fastest() -> None:
    size = BatchSize(None, "cuda")
    tried = []
    while size.chosen is None:
        n = size.next()
        tried.append(n)
        size.record(n - 1, 0.0)  # a rest: tells nothing
        size.record(n, n * (1.0 if n == 64 else 2.0) * (9.0 if tried.count(n) < 3 else 1.0))  # two of three disturbed
    assert tried == [n for n in GPU_SIZES for _ in range(3)] and size.chosen == 64
    assert BatchSize(5, "cuda").next() == 5 and BatchSize(None, "cpu").next() == 8


def test_tokens_are_averaged_by_overlap_as_a_plain_loop_does() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((5, 5, 3)).astype(np.float32)
    width, height, rows, cols = 77, 41, 2, 4
    got = cell_averages(tokens, width, height, rows, cols)
    w, h = width // cols, height // rows
    for r in range(rows):
        for c in range(cols):
            x0, x1 = c * w, width if c == cols - 1 else (c + 1) * w
            y0, y1 = r * h, height if r == rows - 1 else (r + 1) * h
            total = np.zeros(3)
            for i in range(5):
                for j in range(5):
                    a = max(0.0, min(x1, (j + 1) * width / 5) - max(x0, j * width / 5))
                    b = max(0.0, min(y1, (i + 1) * height / 5) - max(y0, i * height / 5))
                    total += a * b * tokens[i, j]
            np.testing.assert_allclose(got[r * cols + c], total / np.linalg.norm(total), atol=1e-6)


def test_token_mode_pools_patch_tokens_only(tmp_path: Path) -> None:
    """Token mode of a real ViT with a register token: forward_features by hand."""
    weights = tiny_vit(tmp_path / "v.safetensors", TINY_VIT_REGISTERS)
    clip = str(tiny_clip(tmp_path / "clip"))
    encoders = load_encoders(tiny_encoders(clip, weights, TINY_VIT_REGISTERS, patch_mode="token"))
    assert encoders.patch_mode == "token" and encoders.dino.spec.preprocess["fit"] == "squash"
    image = draw(3, (90, 40))
    x = encoders.dino.preprocess(image)
    n = x.shape[1]
    squashed = image.resize((n, n), 3)
    mean, std = (torch.tensor(encoders.dino.spec.preprocess[k])[:, None, None] for k in ("mean", "std"))
    plain = (torch.from_numpy(np.asarray(squashed, np.float32).transpose(2, 0, 1) / 255) - mean) / std
    assert float((plain - x).abs().max()) < 0.05
    tokens = encoders.dino.forward(x[None])[0]
    side = tokens.shape[0]
    assert tokens.shape == (side, side, encoders.dino.spec.dim)
    ((_, v),) = Embedder(encoders, (1, 1)).map([(0, Recipe.of(encoders, (1, 1), "shown").prepare(image))])
    assert v is not None and v.patches is not None
    mean_token = tokens.reshape(-1, tokens.shape[2]).mean(axis=0)
    np.testing.assert_allclose(v.patches[0], mean_token / np.linalg.norm(mean_token), atol=1e-5)
