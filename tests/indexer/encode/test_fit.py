"""The share of an image that an encoder looks at, against what its own preprocessing does to a picture of its places."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from toys import draw, make_gen, running, tiny_clip, tiny_encoders, tiny_vit, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.encoder import Encoders, load_encoders, reproduce
from iconicity.indexer.encode.fit import area_seen, areas_seen, fit_of, seen
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.scorer.caveats import caveats
from iconicity.scorer.measure.study import open_study
from iconicity.scorer.results import require_results
from iconicity.scorer.scoring import score

SIZES = [(200, 200), (400, 200), (200, 500), (333, 251)]


def places(width: int, height: int) -> Image.Image:
    """Red says how far right a pixel lies, green how far down."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, across * 0], -1).astype(np.uint8))


def measured(preprocess: Any, width: int, height: int) -> tuple[float, float]:
    """The span of places that reaches the network, with the half pixels at both ends."""
    out: torch.Tensor = preprocess(places(width, height))
    spans = []
    for channel, axis in ((0, 1), (1, 0)):
        line = out[channel].mean(dim=axis - 1 if axis else 1).numpy()
        full = places(64, 64)
        whole = preprocess_span(preprocess, full, channel)
        n = len(line)
        spans.append(float((line[-3] - line[2]) / (n - 5) * n / whole))
    return spans[0], spans[1]


def preprocess_span(preprocess: Any, image: Image.Image, channel: int) -> float:
    """What 0 to 255 becomes: normalisation divides by another number for each channel."""
    black, white = (preprocess(Image.new("RGB", image.size, (v, v, v)))[channel].mean() for v in (0, 255))
    return float(white - black)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "config", [{"crop_pct": 1.0}, {"crop_pct": 0.875}, {"crop_pct": 0.9, "crop_mode": "squash"}, {"crop_pct": 1.0, "crop_mode": "squash"}]
)  # fmt: skip
def test_timm_looks_at_what_is_said(config: dict[str, Any], size: tuple[int, int]) -> None:
    facts = {"input_size": (3, 96, 96), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", **config}
    expected = measured(timm.data.create_transform(**facts, is_training=False), *size)
    assert seen(facts, *size) == pytest.approx(expected, abs=0.02)


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> EncoderOptions:
    root = tmp_path_factory.mktemp("fit")
    return tiny_encoders(tiny_clip(root / "clip"), tiny_vit(root / "vit.safetensors"))


def with_fit(choice: EncoderOptions, fit: str) -> Encoders:
    return load_encoders(replace(choice, fit=fit))


def test_clip_looks_at_what_is_said_and_squash_at_all(choice: EncoderOptions) -> None:
    crop, squash = with_fit(choice, "crop"), with_fit(choice, "squash")
    for size in SIZES:
        for encoder in (crop.clip, crop.dino, squash.clip, squash.dino):
            found = seen(encoder.spec.preprocess, *size)
            assert found == pytest.approx(measured(encoder.preprocess, *size), abs=0.05)
    assert seen(crop.clip.spec.preprocess, 400, 200) == (0.5, 1.0)
    assert seen(squash.clip.spec.preprocess, 400, 200) == seen(squash.dino.spec.preprocess, 400, 200) == (1.0, 1.0)


def test_areas() -> None:
    facts = {"input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": "center"}
    assert area_seen(facts, [(0, 0, 100, 100)]) == pytest.approx(0.875**2)
    clip = {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "do_resize": True,
        "do_center_crop": True,
    }
    assert areas_seen(clip, facts, (800, 400), (4, 4)) == pytest.approx((0.5, 0.875**2 / 2))
    assert areas_seen(clip, facts, (800, 400), (2, 4)) == pytest.approx((0.5, 0.875**2))  # cells are square
    assert areas_seen({"size": 8}, {"size": 8}, (8, 8), (2, 2)) == (None, None)  # not ours: nothing is guessed


def test_the_fit_is_part_of_an_encoder_and_comes_back(choice: EncoderOptions, tmp_path: Path) -> None:
    crop, squash = with_fit(choice, "crop"), with_fit(choice, "squash")
    assert crop.clip.spec.fingerprint != squash.clip.spec.fingerprint
    assert crop.dino.spec.fingerprint != squash.dino.spec.fingerprint
    again = reproduce(squash.clip.spec, squash.dino.spec)
    assert [fit_of(e.spec.preprocess) for e in (again.clip, again.dino)] == ["squash", "squash"]
    token = load_encoders(replace(choice, patch_mode="token"))
    assert [fit_of(e.spec.preprocess) for e in (token.clip, token.dino)] == ["crop", "squash"]
    back = reproduce(token.clip.spec, token.dino.spec)
    assert back.clip.spec.fingerprint == crop.clip.spec.fingerprint
    with pytest.raises(InputError, match="fit stretch"):
        with_fit(choice, "stretch")
    write(tmp_path / "refs" / "a" / "0.png", draw(0))
    build_index(tmp_path / "refs", tmp_path / "i", crop)
    with pytest.raises(SettingsError, match="another global encoder"):
        build_index(tmp_path / "refs", tmp_path / "i", squash)


def test_results_say_what_was_not_looked_at(choice: EncoderOptions, tmp_path: Path) -> None:
    write(tmp_path / "refs" / "a" / "0.png", draw(0, (120, 120)))
    write(tmp_path / "gen" / "a" / "square.png", draw(1, (120, 120)))
    write(tmp_path / "gen" / "a" / "wide.png", draw(2, (240, 120)))
    for fit, wide in (("crop", 0.5), ("squash", 1.0)):
        encoders, out = with_fit(choice, fit), tmp_path / f"out-{fit}"
        build_index(tmp_path / "refs", tmp_path / fit, encoders)
        report = score(tmp_path / fit, {"m": tmp_path / "gen"}, out, run=running(encoders))
        square, row = require_results(out).rows("m")
        vit = 1.0 if fit == "squash" else area_seen(encoders.dino.spec.preprocess, [(0, 0, 30, 30)])
        assert (row["width"], row["height"]) == (240, 120)
        assert (square["cra_area_seen"], row["cra_area_seen"]) == pytest.approx((1.0, wide))
        assert (square["area_seen"], row["area_seen"]) == pytest.approx((vit, (vit or 0) * wide))
        said = [n for n in report.notices if n.startswith("area:")]
        assert said == [n for n in open_study(out).notes if n.startswith("area:")] == caveats(require_results(out))
        assert bool(said) == (fit == "crop")
        assert not said or "of the whole image (CRA) of 1 of 2 images (least 0.50: m/a/wide.png)" in said[0]
        for metric, column in (("cra", "cra_area_seen"), ("vr", "area_seen")):
            with (out / f"results_{metric}_dynamic.csv").open(newline="", encoding="utf-8-sig") as f:
                last = list(csv.DictReader(f))[-1]
            assert float(last["area_seen"]) == pytest.approx(row[column])


def test_areas_and_notes_come_back_from_the_cache(tmp_path: Path) -> None:
    from toys import Study, make_refs

    build_index(make_refs(tmp_path / "refs", ["alpha"]), tmp_path / "i", toy_encoders())
    gen = make_gen(tmp_path / "gen", ["alpha"])
    write(gen / "alpha" / "99.png", draw(9), icc_profile=b"no profile")
    study = Study(tmp_path / "i", tmp_path)
    first = study({"m": gen})
    forwards = study.forwards
    second = study({"m": gen}, out=tmp_path / "other")
    line = "1 image has a broken colour profile and was read without it: m/alpha/99.png"
    assert line in first.notices and line in second.notices and study.forwards == forwards
    assert require_results(tmp_path / "other").rows("m") == study.results().rows("m")
    assert study.results().rows("m")[-1]["pixel_notes"] == "broken_profile"
