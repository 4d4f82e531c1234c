"""Encoders: a frozen spec, preprocessing that travels with the weights, and one batch method.

An encoder knows no store and no metric. Batching lives in :mod:`iconicity.indexer.encode.batch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from iconicity.indexer.encode.fit import FITS, fit_of
from iconicity.indexer.errors import InputError, ModelUnavailableError, SettingsError
from iconicity.indexer.spec import EncoderSpec, FloatArray

if TYPE_CHECKING:
    import torch
    from PIL import Image

PAPER_CLIP = "openai/clip-vit-base-patch16"
PAPER_DINO = "vit_base_patch16_dinov3.lvd1689m"
OFFLINE = "tf_efficientnet_lite0"
POOLS = ("all", "patch", "cls", "gem")
PATCH_MODES = ("crop", "token")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # -> torch's names

# One RGB image to the tensor (3, H, W) its network takes. Holds no weights and can be pickled: workers have it.
Preprocess = Callable[["Image.Image"], "torch.Tensor"]


class Encoder(Protocol):
    """Images to unit vectors."""

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def device(self) -> str: ...

    @property
    def preprocess(self) -> Preprocess: ...

    def forward(self, batch: torch.Tensor) -> FloatArray:
        """Tensors (n, 3, H, W) to float32 rows (n, dim) of unit length; in token mode to token maps (n, h, w, dim)."""
        ...


def encode(encoder: Encoder, images: Sequence[Image.Image]) -> FloatArray:
    """RGB images to (n, dim) float32 rows of unit length, in one forward pass."""
    import torch

    if not images:
        return np.zeros((0, encoder.spec.dim), np.float32)
    return encoder.forward(torch.stack([encoder.preprocess(i) for i in images]))


def unit_rows(vectors: torch.Tensor) -> FloatArray:
    """(n, dim) vectors to float32 rows of unit length. Raises :class:`ModelUnavailableError` on NaN or zero rows."""
    import torch

    out = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    norms = np.linalg.norm(out.astype(np.float64), axis=1)
    if not np.all(np.abs(norms - 1.0) <= 1e-5):
        raise ModelUnavailableError(
            "the encoder gave NaN or zero vectors: its weights are damaged or not for this model"
        )
    return np.ascontiguousarray(out, dtype=np.float32)


def to_device(batch: torch.Tensor, device: str, precision: str) -> torch.Tensor:
    """A batch on its device in its precision; pinned first where a copy to a GPU can overlap."""
    import torch

    if device.startswith("cuda"):
        batch = batch.pin_memory()
    return batch.to(device, getattr(torch, PRECISIONS[precision]), non_blocking=True)


def state_dict_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the sorted state dict: name, dtype, shape and bytes of every tensor."""
    import torch

    h = hashlib.sha256()
    for name in sorted(state):
        t = state[name].detach().cpu().contiguous()
        h.update(f"{name}|{t.dtype}|{tuple(t.shape)}|".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def pick_device(name: str) -> str:
    """``auto`` to cuda, mps or cpu; another name unchanged. Raises :class:`InputError` when it is not there."""
    import torch

    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if have[d])
    if not have.get(name.split(":")[0], False):
        raise InputError(f"--device {name}: not available here; use auto or cpu")
    return name


@dataclass(frozen=True)
class EncoderChoice:
    """Which two encoders to load: what the user typed on the command line."""

    encoders: str = "paper"  # paper | offline
    clip_model: str | None = None
    dino_model: str | None = None
    dino_weights: str | None = None
    dino_image_size: int | None = None
    pool: str = "all"
    device: str = "auto"
    patch_mode: str = "crop"
    precision: str = "fp32"
    clip_revision: str | None = None  # of a hub's repository: a commit, tag or branch
    dino_revision: str | None = None
    dino_layer: int | None = None  # of the patch encoder, from 1; None: the last
    fit: str = "crop"  # crop | squash: what is done with sides of different length


@dataclass(frozen=True)
class Encoders:
    """The global encoder (``clip``, one vector an image) and the patch encoder (``dino``, one vector a cell)."""

    clip: Encoder
    dino: Encoder

    @property
    def patch_mode(self) -> str:
        return "token" if self.dino.spec.pool == "token" else "crop"


def load_encoders(choice: EncoderChoice) -> Encoders:
    """Load both encoders. Raises :class:`ModelUnavailableError`; another model is never put in their place."""
    from iconicity.indexer.encode import clip as encoder_clip
    from iconicity.indexer.encode import offline as encoder_offline
    from iconicity.indexer.encode import timm as encoder_timm

    device = pick_device(choice.device)
    if choice.pool not in POOLS:
        raise InputError(f"--pool {choice.pool}: choose one of {', '.join(POOLS)}")
    if choice.precision not in PRECISIONS or choice.patch_mode not in PATCH_MODES or choice.fit not in FITS:
        raise InputError(
            f"precision {choice.precision}, fit {choice.fit}, patch mode {choice.patch_mode}: unknown; see --help"
        )
    pool = "token" if choice.patch_mode == "token" else choice.pool
    if choice.encoders == "offline":
        given = [choice.clip_model, choice.dino_model, choice.dino_weights, choice.dino_image_size]
        given += [choice.clip_revision, choice.dino_revision]
        if any(v is not None for v in given):
            raise InputError(
                "--encoders offline uses EfficientNet-Lite0 for both vectors: leave --clip-* and --dino-* but --dino-layer out"
            )
        whole = encoder_offline.load("all", device, choice.precision)
        if choice.fit == "squash":
            whole.squash()
        if pool == "all" and choice.dino_layer is None:
            return Encoders(whole, whole)
        patches = encoder_offline.load(pool, device, choice.precision, choice.dino_layer)
        if choice.fit == "squash":
            patches.squash()
        return Encoders(whole, patches)
    clip = encoder_clip.load(choice.clip_model or PAPER_CLIP, device, choice.precision, choice.clip_revision)
    dino = encoder_timm.load(
        choice.dino_model or PAPER_DINO,
        choice.dino_weights,
        choice.dino_image_size,
        pool,
        device,
        choice.precision,
        choice.dino_revision,
        choice.dino_layer,
    )
    if choice.fit == "squash":
        clip.squash()
        dino.squash()
    return Encoders(clip, dino)


def reproduce(clip: EncoderSpec, dino: EncoderSpec, override: EncoderChoice) -> Encoders:
    """Load the encoders an index was made with, from where they were found or where ``override`` says.

    Raises :class:`SettingsError` naming both values when what was loaded is not what the index holds.
    """
    mode = "token" if dino.pool == "token" else "crop"
    pool = "all" if mode == "token" else dino.pool
    if dino.family == "offline":
        choice = EncoderChoice(
            "offline",
            pool=pool,
            device=override.device,
            patch_mode=mode,
            precision=dino.precision,
            dino_layer=dino.layer,
            fit=fit_of(clip.preprocess),
        )
    else:
        choice = EncoderChoice(
            "paper",
            override.clip_model or clip.source.get("model"),
            override.dino_model or dino.source.get("model"),
            override.dino_weights or dino.source.get("weights"),
            override.dino_image_size or dino.source.get("image_size"),
            pool,
            override.device,
            mode,
            dino.precision,
            override.clip_revision or (None if override.clip_model else clip.source.get("revision")),
            override.dino_revision
            or (None if override.dino_model or override.dino_weights else dino.source.get("revision")),
            dino.layer,
            fit_of(clip.preprocess),
        )
    loaded = load_encoders(choice)
    for name, want, got in (("CLIP", clip, loaded.clip.spec), ("DINO", dino, loaded.dino.spec)):
        if want.fingerprint != got.fingerprint:
            raise SettingsError(
                f"the index was made with another {name} encoder than the one loaded (index against loaded): "
                f"{'; '.join(want.differences(got))}; give the weights the index was made with, or build a new index"
            )
    return loaded
