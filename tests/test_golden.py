"""The published scripts' values on the same inputs, and a golden of our own with a plain-loop computation."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import ROOT, SHARED, TINY_VIT, draw, running, tiny_clip, tiny_encoders, tiny_vit, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.encode.encoder import Encoders, load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.options import IndexOptions, Select
from iconicity.indexer.store.cache import VectorCache
from iconicity.scorer.options import ScoreOptions
from iconicity.scorer.scoring import score

TOLERANCE = 1e-5


def _golden_images() -> list[Path]:
    """Every image behind the published values, references and generated ones."""
    art = SHARED / "data" / "art"
    rows = [r for f in (SHARED / "golden").glob("*.csv") for r in _read(f).values()]
    references = {p for slug in {r["slug"] for r in rows} for p in (art / "refs" / slug).iterdir()}
    return sorted(references | {art / r["gen_image_path"] for r in rows})


def _read(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return {row["gen_image_path"]: row for row in csv.DictReader(f)}


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Encoders, Path, VectorCache]]:
    """The encoders, an index of the concepts that the golden files speak of, and the vectors of generated images.

    What one mode has embedded is there for the other.
    """
    if not SHARED.is_dir():
        pytest.skip("shared/ is not there: the published scripts' values and their inputs lie in it")
    models = SHARED / "models"
    choice = EncoderOptions(
        global_encoder=f"clip:{models / 'clip_small_random'}",
        patch_encoder=f"timm:vit_small_patch14_dinov2,weights={models / 'dinov2_small_patch14.safetensors'},image_size=224",
    )
    encoders = load_encoders(choice)
    index = tmp_path_factory.mktemp("art") / "art.index"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(SHARED / "data" / "art")
        concepts = {r["slug"] for r in _read(SHARED / "golden" / "cra_dynamic.csv").values()}
        build_index(Path("refs"), index, encoders, IndexOptions(pixels="published"), select=Select(concepts=concepts))
    cache = VectorCache(tmp_path_factory.mktemp("vectors"))
    yield encoders, index, cache
    cache.close()


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("metric", ["cra", "vr"])
def test_published_values(
    art: tuple[Encoders, Path, VectorCache], metric: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders, index, cache = art
    monkeypatch.chdir(SHARED / "data" / "art")
    golden = _read(SHARED / "golden" / f"{metric}_{mode}.csv")
    models = sorted({r["model"] for r in golden.values()})
    score(
        index,
        {m: Path("gen") / m for m in models},
        tmp_path / "out",
        ScoreOptions(metrics=(metric,), mode=mode, k_gen=2 if metric == "vr" else 50),
        select=Select(concepts={r["slug"] for r in golden.values()}),
        run=running(encoders, cache=cache),
    )
    ours = _read(tmp_path / "out" / f"results_{metric}_{mode}.csv")
    assert ours.keys() == golden.keys()
    numbers = ("cra_sim", "vr_max", "vr_mean", "vr_p90")
    for path, row in golden.items():
        for column, value in row.items():
            if column in numbers:
                assert float(ours[path][column]) == pytest.approx(float(value), abs=TOLERANCE), (path, column)
            else:
                assert ours[path][column] == value, (path, column)


def test_golden_images_have_nothing_that_is_shown_otherwise() -> None:
    """So that the published values hold under both kinds of pixels."""
    if not SHARED.is_dir():
        pytest.skip("shared/ is not there: the published scripts' values and their inputs lie in it")
    for path in _golden_images():
        shown, published = (decode(path.read_bytes(), path, pixels) for pixels in ("shown", "published"))
        assert shown.image.tobytes() == published.image.tobytes() and not shown.notes, path


@pytest.mark.parametrize("pixels", ["shown", "published"])
def test_own_golden(tmp_path: Path, pixels: str) -> None:
    """Tiny real models, drawn images: the pipeline, a plain loop, and values committed with the test agree."""
    clip_dir, weights = tiny_clip(tmp_path / "clip"), tiny_vit(tmp_path / "vit.safetensors")
    encoders = load_encoders(tiny_encoders(clip_dir, weights))
    refs = [write(tmp_path / "refs" / "c" / f"{i}.png", draw(i, (70, 50))) for i in range(3)]
    gens = [write(tmp_path / "gen" / "c" / f"{i}.png", draw(i + 2, (64, 80))) for i in range(3)]
    build_index(tmp_path / "refs", tmp_path / "i", encoders, IndexOptions(pixels=pixels))
    score(tmp_path / "i", {"m": tmp_path / "gen"}, tmp_path / "out", run=running(encoders))
    cra = _read(tmp_path / "out" / "results_cra_dynamic.csv")
    vr = _read(tmp_path / "out" / "results_vr_dynamic.csv")
    ours = [
        [float(cra[str(g)]["cra_sim"]), *(float(vr[str(g)][c]) for c in ("vr_max", "vr_mean", "vr_p90"))] for g in gens
    ]
    np.testing.assert_allclose(ours, _plain_loop(clip_dir, weights, refs, gens), atol=TOLERANCE)
    committed = json.loads((ROOT / "tests" / "golden" / "own.json").read_text())
    np.testing.assert_allclose(ours, committed, atol=TOLERANCE)


def _plain_loop(clip_dir: Path, weights: Path, refs: list[Path], gens: list[Path]) -> list[list[float]]:
    """The definitions, written out with the libraries' own calls and none of ours."""
    import timm
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessor, CLIPModel

    clip, processor = CLIPModel.from_pretrained(clip_dir).eval(), CLIPImageProcessor.from_pretrained(clip_dir)
    vit = timm.create_model(TINY_VIT, pretrained=False, num_classes=0).eval()
    vit.load_state_dict(load_file(weights))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=vit))

    def f(path: Path) -> torch.Tensor:
        pixels = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]
        v = clip.visual_projection(clip.vision_model(pixels).pooler_output)[0]
        unit: torch.Tensor = v / v.norm()
        return unit

    def g(path: Path) -> list[torch.Tensor]:
        image = Image.open(path).convert("RGB")
        w, h = image.width // 4, image.height // 4
        out = []
        for r in range(4):
            for c in range(4):
                box = (c * w, r * h, image.width if c == 3 else (c + 1) * w, image.height if r == 3 else (r + 1) * h)
                v = vit.forward_features(transform(image.crop(box))[None])[0].mean(0)
                out.append(v / v.norm())
        return out

    with torch.no_grad():
        rows = []
        for gen in gens:
            s = max(float(f(gen) @ f(r)) for r in refs)
            cells = [v for r in refs for v in g(r)]
            p = sorted(max(float(q @ v) for v in cells) for q in g(gen))
            rows.append([s, p[-1], sum(p) / 16, p[13] + 0.5 * (p[14] - p[13])])
    return rows
