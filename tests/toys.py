"""What the tests share: drawn images, a toy encoder, tiny real models, and where shared material may lie."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from iconicity.indexer.encode.encoder import Encoders, unit_rows
from iconicity.indexer.encode.engine import Plan, Runner
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.store.cache import VectorCache
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import Results, require_results
from iconicity.scorer.scoring import ScoreReport, score

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def draw(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth random picture; two seeds differ by far more than the dedup distance."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """What a JPEG of some quality leaves of an image."""
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return Image.open(io.BytesIO(held.getvalue())).convert("RGB")


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


class ToyEncoder:
    """A fixed projection of an 8 x 8 thumbnail, row by row: bit for bit the same in any batch."""

    def __init__(self, seed: int = 0, dim: int = 24) -> None:
        self._weights = np.random.default_rng(seed).standard_normal((192, dim))
        sha = hashlib.sha256(self._weights.tobytes()).hexdigest()
        self.spec = EncoderSpec("toy", "thumbnail", sha, {"size": 8}, "all", dim)
        self.forwards = 0

    device = "cpu"

    def state(self) -> Mapping[str, torch.Tensor]:
        return {"weight": torch.from_numpy(self._weights)}

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float64) / 255.0 - 0.5
        return torch.from_numpy(small.transpose(2, 0, 1).copy())

    def forward(self, batch: torch.Tensor) -> Any:
        self.forwards += len(batch)
        rows = [row.reshape(-1) @ self._weights + 1e-3 for row in batch.numpy()]
        return unit_rows(torch.from_numpy(np.stack(rows)))


def toy_encoders(clip_seed: int = 1, dino_seed: int = 2) -> Encoders:
    return Encoders(ToyEncoder(clip_seed, 16), ToyEncoder(dino_seed, 24))


def forwards(encoders: Encoders) -> int:
    """Network inputs that went through both toy encoders."""
    return sum(e.forwards for e in (encoders.clip, encoders.dino) if isinstance(e, ToyEncoder))


def make_refs(root: Path, concepts: Iterable[str] = ("alpha", "beta", "gamma"), each: int = 3) -> Path:
    """``root/<concept>/NN.png``; the last file of a concept is a near-duplicate of its first."""
    for i, concept in enumerate(concepts):
        for j in range(each):
            write(root / concept / f"{j:02d}.png", draw(100 * i + j))
        write(root / concept / f"{each:02d}_dup.png", draw(100 * i).resize((60, 44)))
    return root


def make_gen(root: Path, concepts: Iterable[str] = ("alpha", "beta", "gamma"), each: int = 3, seed: int = 5000) -> Path:
    """``root/<concept>/NN.png``: the first is a copy of the concept's first reference, the others are new."""
    for i, concept in enumerate(concepts):
        write(root / concept / "00.png", draw(100 * i))
        for j in range(1, each):
            write(root / concept / f"{j:02d}.png", draw(seed + 100 * i + j))
    return root


def fill_weights(model: torch.nn.Module, seed: int) -> None:
    """Weights from numpy's generator, by sorted name: the same with every version of torch."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name in sorted(state):
        t = state[name]
        if t.is_floating_point():
            value = rng.standard_normal(tuple(t.shape)) * 0.2
            if "norm" in name and name.endswith("weight"):
                value = 1.0 + 0.1 * value
            t.copy_(torch.from_numpy(np.asarray(value)).to(t.dtype))
    model.load_state_dict(state)


def tiny_clip(folder: Path, seed: int = 3) -> Path:
    """A two-layer CLIP saved by its own library."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 32, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12))
    fill_weights(model, seed)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


TINY_VIT = "test_vit"  # timm's own small test model, with a class token
TINY_VIT_REGISTERS = "test_vit2"  # its one prefix token is a register


def tiny_encoders(clip: Path | str, weights: Path | str, name: str = TINY_VIT, **options: Any) -> EncoderOptions:
    """The choice of a CLIP folder and of a timm model with the weights of a file."""
    return EncoderOptions(global_encoder=f"clip:{clip}", patch_encoder=f"timm:{name},weights={weights}", **options)


def tiny_vit(path: Path, name: str = TINY_VIT, seed: int = 4) -> Path:
    """Random weights for a small timm ViT in a safetensors file."""
    import timm
    from safetensors.torch import save_file

    model = timm.create_model(name, pretrained=False, num_classes=0)
    fill_weights(model, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return path


def running(encoders: Encoders | None = None, **how: Any) -> Run:
    """A run whose encoders are these, or new toy ones."""
    return Run(lambda _clip, _dino: encoders or toy_encoders(), **how)


class Study:
    """Scores into one directory with one cache, and counts forward passes."""

    def __init__(self, index: Path, root: Path) -> None:
        self.index, self.out, self.root = index, root / "out", root
        self.encoders = toy_encoders()
        self.loads = 0

    def load(self, _clip: EncoderSpec, _dino: EncoderSpec) -> Encoders:
        self.loads += 1
        return self.encoders

    @property
    def run(self) -> Run:
        """A run with its encoders, counted, and its cache."""
        return Run(self.load, cache=VectorCache(self.root / "cache"))

    def __call__(
        self,
        generated: Mapping[str, Place],
        options: ScoreOptions = ScoreOptions(),
        *,
        out: Path | None = None,
        select: Select = Select(),
        writing: Writing = Writing(),
        calibration: Calibration | None = None,
        run: Run | None = None,
    ) -> ScoreReport:
        out, run = out or self.out, run or self.run
        return score(
            self.index, generated, out, options, calibration=calibration, select=select, writing=writing, run=run
        )

    @property
    def forwards(self) -> int:
        return forwards(self.encoders)

    def results(self) -> Results:
        return require_results(self.out)


def pack(tar: Path, members: Mapping[str, bytes]) -> Path:
    """A tar file of some members by name, as they come."""
    with tarfile.open(tar, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return tar


def toys_on(plan: Plan, device: str) -> Runner:
    """A runner with the toy encoders, as an engine starts it in its own processes."""
    return Runner(plan, lambda _clip, _dino: toy_encoders())


class SlowEncoder(ToyEncoder):
    """Takes its time, so that something can happen meanwhile."""

    def forward(self, batch: torch.Tensor) -> Any:
        time.sleep(0.002 * len(batch))
        return super().forward(batch)


def slow_toys_on(plan: Plan, device: str) -> Runner:
    """The same vectors, 2 ms an input."""
    return Runner(plan, lambda _clip, _dino: Encoders(SlowEncoder(1, 16), SlowEncoder(2, 24)))
