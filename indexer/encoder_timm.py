"""Patch vectors through timm: any ViT (DINOv3 by default) or CNN, with hub weights or a local safetensors file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iconicity.indexer import hub
from iconicity.indexer.encoders import EncoderSpec, FloatArray, state_dict_sha256, unit_rows
from iconicity.indexer.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    import torch
    from PIL import Image

WAYS_ON = (
    "download it once on a machine with access, or give a local file with --dino-weights FILE.safetensors, "
    "or use --encoders offline (no download, other numbers)"
)


class TimmEncoder:
    """``forward_features`` of a timm model, its tokens averaged as ``pool`` says, normalised."""

    def __init__(
        self,
        model: Any,
        name: str,
        pool: str,
        image_size: int | None,
        source: dict[str, Any],
        device: str,
        family: str = "timm",
    ) -> None:
        import timm.data

        self._model = model.to(device).eval()
        self._device = device
        self._pool = pool
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        if pool == "cls" and getattr(model, "cls_token", None) is None:
            raise InputError(f"{name}: has no class token, so --pool cls cannot be had; use all or patch")
        config = timm.data.resolve_data_config({"img_size": image_size} if image_size else {}, model=model)
        self._transform = timm.data.create_transform(**config, is_training=False)
        self.spec = EncoderSpec(
            family=family,
            name=f"timm {name}",
            weights_sha256=state_dict_sha256(model.state_dict()),
            preprocess={**config, "antialias": True, "backend": "pillow"},
            pool=pool,
            dim=int(model.num_features),
            source=source,
        )

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """One RGB image to (3, H, W)."""
        pixels: torch.Tensor = self._transform(image)
        return pixels

    def forward(self, batch: torch.Tensor) -> FloatArray:
        """(n, 3, H, W) to (n, dim) unit rows."""
        import torch

        with torch.inference_mode():
            features = self._model.forward_features(batch.to(self._device))
        return unit_rows(pool_tokens(features, self._pool, self._prefix))


def pool_tokens(features: torch.Tensor, pool: str, prefix: int) -> torch.Tensor:
    """Tokens (n, T, dim), or a CNN's map (n, dim, H, W), to (n, dim).

    ``all`` averages every token, class and register tokens included (the published script's way), ``patch``
    the patch tokens alone, ``cls`` takes the first token. ``prefix`` counts the class and register tokens.
    """
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if pool == "cls":
        return features[:, 0]
    return features[:, prefix if pool == "patch" else 0 :].mean(dim=1)


def load(name: str, weights: str | None, image_size: int | None, pool: str, device: str = "cpu") -> TimmEncoder:
    """Load a timm model with hub weights, or with those of a local safetensors file.

    ``image_size`` sets the model's and the transform's input size in pixels. Raises
    :class:`ModelUnavailableError` naming the model, the cause and the ways on.
    """
    import timm

    if weights is None:
        _require_pretrained(name)
    sized = {"img_size": image_size} if image_size else {}
    try:
        model = timm.create_model(name, pretrained=weights is None, num_classes=0, **sized)
    except (RuntimeError, ValueError, TypeError, AssertionError, OSError) as e:
        cause = " ".join(str(e).split())[:200]
        raise ModelUnavailableError(f"{name}: cannot be made by timm ({cause}); {WAYS_ON}") from e
    source: dict[str, Any] = {"model": name, "image_size": image_size, "weights": None}
    if weights is not None:
        path = Path(weights).expanduser().resolve()
        _load_weights(model, path)
        source["weights"] = str(path)
    return TimmEncoder(model, name.split(".")[0], pool, image_size, source, device)


def _require_pretrained(name: str) -> None:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ModelUnavailableError(f"{name}: timm has no such model; list them with timm.list_models()")
    config = timm.get_pretrained_cfg(name)
    repo = getattr(config, "hf_hub_id", None)
    if repo is None and not getattr(config, "url", None):
        raise ModelUnavailableError(
            f"{name}: timm has no weights for it; give a file with --dino-weights FILE.safetensors"
        )
    if repo is not None and not hub.is_cached(repo, "model.safetensors"):
        hub.require_reachable(repo, "model.safetensors", WAYS_ON)


def _load_weights(model: Any, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as e:
        raise ModelUnavailableError(
            f"{path}: not a readable safetensors file ({e}); give one with --dino-weights"
        ) from e
    # timm's own filter renames keys and resamples the position grid to the input size.
    filter_fn = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    head = str((model.pretrained_cfg or {}).get("classifier") or "head")
    try:
        if filter_fn is not None:
            state = filter_fn(state, model)
        state = {k: v for k, v in state.items() if not k.startswith(f"{head}.")}
        result = model.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError, ValueError) as e:
        raise ModelUnavailableError(f"{path}: tensors do not fit the model ({' '.join(str(e).split())[:200]})") from e
    if result.missing_keys or result.unexpected_keys:
        raise ModelUnavailableError(
            f"{path}: does not fit the model: {len(result.missing_keys)} tensors missing {sorted(result.missing_keys)[:3]}, "
            f"{len(result.unexpected_keys)} unknown {sorted(result.unexpected_keys)[:3]}; name its architecture with --dino-model"
        )
