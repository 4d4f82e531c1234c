"""Text-to-image pipelines of diffusers: their files, told apart by what is in them, and their call."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iconicity.data.generate.options import GenerateOptions, parse_size
from iconicity.data.generate.plan import Planned
from iconicity.indexer.encode import hub
from iconicity.indexer.encode.names import PRECISIONS
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.spec import digest_of, file_sha256

INDEX = "model_index.json"
Drawn = tuple[npt.NDArray[Any], bool | None]  # (height, width, 3) in 0 to 1, and whether it was flagged
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Names under which libraries save weights; others are variants, which they load only where asked.
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors")
_CONFIG = (".json", ".txt", ".model")
_TELLING = ("config.json", ".safetensors.index.json")  # what a library reads before it loads
_INSTALL = "pip install 'iconicity[generate]'"
WAYS_ON = "download it once on a machine with access, or name a folder that save_pretrained of diffusers wrote"


@dataclass(frozen=True)
class ModelFiles:
    """A pipeline on disk. ``name``: id on the hub, or the folder's name; ``revision``: commit of the hub."""

    folder: Path
    name: str
    revision: str | None
    pipeline: str
    scheduler: str
    weights_sha256: str
    config_sha256: str


def find_model(model: str, revision: str | None = None) -> ModelFiles:
    """The files of a folder, or of a model of the hub at a ``revision`` (None: the default branch), which is downloaded.

    Nothing that comes with the weights is run, and only safetensors are read. Raises :class:`ModelUnavailableError`
    naming the model, the cause and the ways on, and :class:`InputError`.
    """
    return model_here(model, revision) or _files(folder := _download(model, revision), model, folder.name)


def model_here(model: str, revision: str | None = None) -> ModelFiles | None:
    """As :func:`find_model`, but None of a model of the hub that would be downloaded."""
    _require_diffusers()
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"`revision` {revision}: {model} is a folder; revisions are of hub ids")
        return _files(folder, folder.resolve().name, None)
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelUnavailableError(
            f"{model}: no such folder, and not a hub id like stable-diffusion-v1-5/stable-diffusion-v1-5; {WAYS_ON}"
        )
    kept = _downloaded(model, revision)
    return None if kept is None else _files(kept, model, kept.name)


def _require_diffusers() -> None:
    try:
        import diffusers
    except ImportError:
        raise ModelUnavailableError(f"images are made with packages that are not installed: {_INSTALL}") from None
    diffusers.utils.logging.set_verbosity_error()


def _downloaded(model: str, revision: str | None) -> Path | None:
    """The folder of a model that is whole in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, INDEX, revision=revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return None if any(_lacks(folder, name) for name in _components(folder)) else folder


def _download(model: str, revision: str | None) -> Path:
    from diffusers import DiffusionPipeline

    hub.require_reachable(model, INDEX, revision, WAYS_ON)
    try:
        return Path(DiffusionPipeline.download(model, revision=revision, use_safetensors=True))
    except Exception as e:  # the hub library raises errors of many classes
        raise ModelUnavailableError(f"{model}: cannot be downloaded ({hub.cause_of(e, 200)}); {WAYS_ON}") from None


def _files(folder: Path, name: str, revision: str | None) -> ModelFiles:
    """Raises :class:`ModelUnavailableError` where a part is missing, holds code, or has no weights as safetensors."""
    components = _components(folder)
    weights: dict[str, str] = {}
    config = {INDEX: file_sha256(folder / INDEX)}
    for component in components:
        if (why := _lacks(folder, component)) is not None:
            raise ModelUnavailableError(f"{folder / component}: {why}; {WAYS_ON}")
        for path in _listed(folder / component):
            if _WEIGHTS.fullmatch(path.name):
                weights[f"{component}/{path.name}"] = file_sha256(path)
            elif path.suffix in _CONFIG:
                config[f"{component}/{path.name}"] = file_sha256(path)
    index = json.loads((folder / INDEX).read_bytes())
    scheduler = str(components["scheduler"][1]) if "scheduler" in components else "none"
    return ModelFiles(folder, name, revision, index["_class_name"], scheduler, digest_of(weights), digest_of(config))


def _components(folder: Path) -> Mapping[str, tuple[str, str]]:
    """Parts of a pipeline: name -> library and class. Raises :class:`ModelUnavailableError` for what is no pipeline, and
    for classes of other libraries than diffusers and transformers.
    """
    import diffusers

    try:
        index = json.loads((folder / INDEX).read_bytes())
        kind = index["_class_name"]
        parts = {
            n: tuple(v) for n, v in index.items() if not n.startswith("_") and isinstance(v, list) and v[:1] != [None]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ModelUnavailableError(
            f"{folder}: no pipeline of diffusers ({INDEX}: {hub.cause_of(e)}); {WAYS_ON}"
        ) from None
    found: Any = getattr(diffusers, kind, None) if isinstance(kind, str) else None
    known = inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)
    if not known or "prompt" not in inspect.signature(found.__call__).parameters:
        raise ModelUnavailableError(
            f"{folder}: {str(kind)[:60]!r} is no text-to-image pipeline that diffusers {diffusers.__version__} has; "
            "name another model, or update diffusers"
        )
    for name, part in parts.items():
        whole = len(part) == 2 and all(isinstance(text, str) and _NAME.fullmatch(text) for text in (name, *part))
        if not whole or not (part[0] in ("diffusers", "transformers") or hasattr(diffusers.pipelines, part[0])):
            raise ModelUnavailableError(
                f"{folder}: its part {name[:60]!r} is of a library that is not loaded here ({str(part)[:60]}); name another model"
            )
    return parts


def _lacks(folder: Path, component: str) -> str | None:
    """Why a part of a pipeline cannot be used; None where it can."""
    files = _listed(folder / component)
    if not files:
        return "no such folder, or it is empty"
    if code := [path.name for path in files if path.suffix == ".py"]:
        return f"holds code ({code[0]}), which is not run"
    names = {path.name for path in files}
    for path in files:
        if not path.name.endswith(_TELLING):
            continue
        try:
            held = json.loads(path.read_bytes())
        except ValueError:
            return f"{path.name} is not JSON"
        if isinstance(held, dict) and "auto_map" in held:
            return f"{path.name} names code of its own, which is not run"
        if path.name.endswith(".safetensors.index.json") and isinstance(held, dict):
            missing = {str(name) for name in dict(held.get("weight_map") or {}).values()} - names
            if missing and _WEIGHTS.fullmatch(min(missing)):
                return f"{min(missing)} is missing"
    if "config.json" in names and not any(map(_WEIGHTS.fullmatch, names)):
        return "has no weights as safetensors, the only form that is read"
    return None


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


class TextToImage:
    """A loaded pipeline. ``steps`` and ``guidance`` are those of the options, else its own; None where it has none."""

    def __init__(self, files: ModelFiles, precision: str, device: str) -> None:
        import torch
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging
        from transformers.utils import logging as logging_of_transformers

        logging.disable_progress_bar()
        logging_of_transformers.set_verbosity_error()
        logging_of_transformers.disable_progress_bar()
        self.files, self.device = files, device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of the name torch_dtype, which old versions need
                pipeline = DiffusionPipeline.from_pretrained(
                    files.folder, torch_dtype=getattr(torch, PRECISIONS[precision]), use_safetensors=True,
                    local_files_only=True, trust_remote_code=False,
                )  # fmt: skip
            self._pipeline: Any = pipeline.to(device)
        except Exception as e:  # a folder or a hub may hold anything, and then the libraries raise anything
            raise ModelUnavailableError(f"{files.name}: cannot be loaded ({hub.cause_of(e, 200)}); {WAYS_ON}") from None
        self._pipeline.set_progress_bar_config(disable=True)

    def too_long(self, prompt: str) -> bool:
        """Whether a prompt is longer than each text encoder of the pipeline reads."""
        found = [
            part
            for name, part in self._pipeline.components.items()
            if name.startswith("tokenizer") and part is not None
        ]
        return bool(found) and all(len(each(prompt).input_ids) > each.model_max_length for each in found)

    def draw(self, images: Sequence[Planned]) -> list[Drawn]:
        """Draw images of one prompt and one set of settings, each from a generator of its own on the processor.

        Raises :class:`torch.OutOfMemoryError`, and :class:`ModelUnavailableError` for what the pipeline refuses.
        """
        import torch

        first = images[0]
        width, height = parse_size(first.settings.size) or (None, None)
        named = {
            "num_inference_steps": first.settings.steps,
            "guidance_scale": first.settings.guidance,
            "negative_prompt": [first.negative] * len(images) if first.negative else None,
            "height": height,
            "width": width,
        }
        generators = [torch.Generator("cpu").manual_seed(image.seed) for image in images]
        gpus = [torch.device(self.device)] if self.device.startswith("cuda") else []
        try:
            # Some schedulers draw from the global generator: what they draw depends on no earlier image.
            with torch.random.fork_rng(gpus), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
                torch.manual_seed(first.seed)
                out = self._pipeline(
                    prompt=[first.prompt] * len(images), generator=generators, output_type="np",
                    **{name: value for name, value in named.items() if value is not None},
                )  # fmt: skip
        except torch.OutOfMemoryError:
            raise
        except Exception as e:  # pipelines raise errors of many classes
            if _is_out_of_memory(e):
                raise torch.OutOfMemoryError(str(e)) from None
            raise ModelUnavailableError(
                f"{self.files.name}: its pipeline refuses ({hub.cause_of(e, 200)}); ask for other options"
            ) from None
        flagged = getattr(out, "nsfw_content_detected", None) or [None] * len(images)
        return list(zip(map(self._sound, out.images), flagged, strict=True))

    def _sound(self, image: Any) -> npt.NDArray[Any]:
        pixels = np.asarray(image)
        if pixels.dtype == np.uint8:  # of a pipeline that gives nothing else
            pixels = pixels.astype(np.float32) / 255
        if pixels.ndim != 3 or pixels.shape[2] != 3 or not np.isfinite(pixels).all():
            raise ModelUnavailableError(
                f"{self.files.name}: gives no picture but {pixels.shape} numbers that are not finite or not RGB; take "
                "`precision` fp32 or bf16"
            )
        return pixels


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is one of memory that torch raises as another: on a processor, and on Apple's GPUs."""
    text = str(error)
    return isinstance(error, (RuntimeError, MemoryError)) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def arguments(files: ModelFiles, options: GenerateOptions, negatives: bool) -> tuple[int | None, float | None]:
    """Steps and guidance of all images: the options', else the pipeline's own.

    Raises :class:`InputError` for an option, or for ``negatives``, that the pipeline does not have or does not use.
    """
    import diffusers

    parameters = inspect.signature(getattr(diffusers, files.pipeline).__call__).parameters
    own = {name: _number(parameters.get(name)) for name in ("num_inference_steps", "guidance_scale", "true_cfg_scale")}
    steps, guidance = own["num_inference_steps"], own["guidance_scale"]
    guided = own["true_cfg_scale"] is None or own["true_cfg_scale"] > 1  # else the pipeline reads no negative prompt
    for option, asked, there in (
        ("`steps`", options.steps is not None, "num_inference_steps" in parameters),
        ("`guidance`", options.guidance is not None, "guidance_scale" in parameters),
        ("`size`", options.size is not None, "width" in parameters),
        ("negative prompt", negatives, "negative_prompt" in parameters and guided),
    ):
        if asked and not there:
            raise InputError(f"{files.name}: {files.pipeline} takes no {option}; leave it out")
    return (
        options.steps if options.steps is not None else None if steps is None else int(steps),
        options.guidance if options.guidance is not None else guidance,
    )


def _number(parameter: inspect.Parameter | None) -> float | None:
    found = None if parameter is None else parameter.default
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
