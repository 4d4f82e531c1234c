"""Encoders: a frozen spec, preprocessing that travels with the weights, and one batch method.

A family of encoders is one function ``load(model, setup, *, OPTIONS...)``. Families of this package stand in
:data:`FAMILIES`; other packages add theirs by the entry-point group :data:`GROUP`. An encoder knows no store and no
metric. Batching lives in :mod:`iconicity.indexer.encode.batch`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol

import numpy as np

from iconicity.indexer.encode.names import PRECISIONS, EncoderName, EncoderOptions
from iconicity.indexer.errors import InputError, ModelUnavailableError, SettingsError
from iconicity.indexer.spec import EncoderSpec, FloatArray

if TYPE_CHECKING:
    import torch
    from PIL import Image

PAPER_CLIP = "openai/clip-vit-base-patch16"
PAPER_DINO = "vit_base_patch16_dinov3.lvd1689m"
OFFLINE = "tf_efficientnet_lite0"
GROUP = "iconicity.encoders"
FAMILIES = {
    "clip": "iconicity.indexer.encode.clip:load",
    "timm": "iconicity.indexer.encode.timm:load",
    "offline": "iconicity.indexer.encode.offline:load",
    "onnx": "iconicity.indexer.encode.onnx:load",
    "sscd": "iconicity.indexer.encode.sscd:load",
    "sscd-distilled": "iconicity.indexer.encode.sscd:load_distilled",
}

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


@dataclass(frozen=True)
class Setup:
    """Settings that all encoders of a run share. ``fit`` is crop, squash, or None for the family's own."""

    device: str = "auto"
    precision: str = "fp32"
    fit: str | None = None


Load = Callable[..., Encoder]  # (model or None, Setup, one keyword for each option of the family)


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
        raise InputError(f"device {name}: not available here; use auto or cpu")
    return name


@dataclass(frozen=True)
class Encoders:
    """The global encoder (``clip``, one vector an image) and the patch encoder (``dino``, one vector a cell)."""

    clip: Encoder
    dino: Encoder

    @property
    def patch_mode(self) -> str:
        return "token" if self.dino.spec.pool == "token" else "crop"


def family(name: str) -> Load:
    """The function that loads encoders of a family.

    Raises :class:`ModelUnavailableError` where no package here has the family, or its package cannot be imported, and
    :class:`InputError` where two packages have it.
    """
    if name in FAMILIES:
        load: Load = EntryPoint(name, FAMILIES[name], GROUP).load()
        return load
    found = entry_points(group=GROUP)
    mine = [e for e in found if e.name == name]
    if not mine:
        raise ModelUnavailableError(
            f"{name}: no such family of encoders; there are {', '.join(sorted({*FAMILIES, *found.names}))}. "
            "Name an encoder as FAMILY:MODEL, and install the package that brings the family"
        )
    if len(mine) > 1:
        packages = ", ".join(sorted(e.dist.name if e.dist else e.value for e in mine))
        raise InputError(f"{name}: several packages bring this family of encoders ({packages}); keep one installed")
    try:
        load = mine[0].load()
    except Exception as e:  # a package of somebody else may raise any error
        raise ModelUnavailableError(f"{name}: its package cannot be imported ({mine[0].value}: {e})") from e
    return load


def options_of(load: Load) -> Mapping[str, inspect.Parameter]:
    """The options that a family has: the keywords of its function."""
    parameters = inspect.signature(load).parameters
    return {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def load_encoder(name: EncoderName, setup: Setup) -> Encoder:
    """Load one encoder. Raises :class:`InputError` for an option that its family lacks, and what the family raises."""
    load = family(name.family)
    known = options_of(load)
    given: dict[str, str | int] = {}
    for option, text in name.options.items():
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise InputError(f"{name}: {name.family} has no option {option}; it {has}")
        given[option] = text
        if "int" in str(known[option].annotation):
            if not text.isdecimal():
                raise InputError(f"{name}: {option} is a whole number, not {text}")
            given[option] = int(text)
    encoder = load(name.model, setup, **given)
    if encoder.spec.family != name.family:
        raise InputError(f"{name}: its package made an encoder of the family {encoder.spec.family}")
    return encoder


def load_encoders(options: EncoderOptions = EncoderOptions(), device: str = "auto") -> Encoders:
    """Load both encoders. Raises :class:`ModelUnavailableError`; another model is never put in their place."""
    whole, patches = options.names()
    if "token" in (whole.options.get("pool"), patches.options.get("pool")):
        raise InputError("pool token: tokens are chosen by the patch mode")
    if options.patch_mode == "token":
        if "pool" not in options_of(family(patches.family)):
            raise InputError(f"{patches}: has no tokens, so that it cannot be used in token mode")
        if "pool" in patches.options:
            raise InputError(f"{patches}: token mode averages tokens cell by cell; leave pool out")
        patches = patches.but(pool="token")
    return _load_pair((whole, patches), (Setup(device, options.precision, options.fit),) * 2)


def _load_pair(names: tuple[EncoderName, EncoderName], setups: tuple[Setup, Setup]) -> Encoders:
    """Return both encoders. They are one object when both names are equal."""
    whole = load_encoder(names[0], setups[0])
    same = names[0] == names[1] and setups[0] == setups[1]
    return Encoders(whole, whole if same else load_encoder(names[1], setups[1]))


def reproduce(
    clip: EncoderSpec, dino: EncoderSpec, moved: EncoderOptions = EncoderOptions(), device: str = "auto"
) -> Encoders:  # fmt: skip
    """Load the encoders of an index from where they were found, or from where ``moved`` names them.

    Raises :class:`SettingsError` naming both values when what was loaded is not what the index holds.
    """
    specs = {"global": clip, "patch": dino}
    names = (_name_of(clip, moved.global_encoder), _name_of(dino, moved.patch_encoder))
    loaded = _load_pair(names, (_setup_of(clip, device), _setup_of(dino, device)))
    for (role, spec), got in zip(specs.items(), (loaded.clip.spec, loaded.dino.spec), strict=True):
        if spec.fingerprint != got.fingerprint:
            raise SettingsError(
                f"the index was made with another {role} encoder than the one loaded (index against loaded): "
                f"{'; '.join(spec.differences(got))}; name the encoder the index was made with, or build a new index"
            )
    return loaded


def _setup_of(spec: EncoderSpec, device: str) -> Setup:
    return Setup(device, spec.precision, spec.preprocess.get("fit"))


_PLACES = ("weights", "revision")  # where weights lie: not kept where a user says where they lie now


def _name_of(spec: EncoderSpec, moved: str | None) -> EncoderName:
    """Return the name of a recorded encoder. With ``moved``, its parts and places of weights count instead."""
    recorded = {**spec.source, "pool": spec.pool, "layer": spec.layer}
    if moved is None:
        name = EncoderName(spec.family, recorded.get("model"))
    else:
        name = EncoderName.parse(moved)
        name = replace(name, model=name.model or recorded.get("model"))
        recorded = {k: v for k, v in recorded.items() if k not in _PLACES}
    kept = {k: recorded.get(k) for k in options_of(family(name.family))}
    return name.but(**{**kept, **name.options})
