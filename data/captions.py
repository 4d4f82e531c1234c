"""Captions of reference images, by an image-to-text model of transformers: a hub id or a ``save_pretrained`` folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iconicity.indexer.encode import hub
from iconicity.indexer.encode.decode import require_shape
from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.encoder import pick_device, state_dict_sha256
from iconicity.indexer.errors import ImageError, InputError, ModelUnavailableError
from iconicity.indexer.left_out import Skipped
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place
from iconicity.indexer.sources.folders import folder_images, read_bytes, sha256_hex
from iconicity.indexer.sources.tables import open_table
from iconicity.indexer.store.files import write_atomically

if TYPE_CHECKING:
    import PIL.Image

WAYS_ON = "download it once on a machine with access, or name a local folder, or write captions into a column literal"
REQUEST = "Describe this picture in one short sentence, without naming it."  # to models that expect a question
_TOKENS = 40  # of a caption, at most
_FIELDS = ("sha256", "model", "weights", "caption", "concept", "image")


@dataclass
class Captions:
    """Concept -> caption of its first reference that can be read; and references that cannot be."""

    of: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    made: int = 0


class Captioner:
    """An image-to-text model. ``weights``: SHA-256 of its tensors."""

    def __init__(self, model: str, device: str = "auto") -> None:
        """Raises :class:`ModelUnavailableError` naming the model, the cause and the ways on. No code of the model is run."""
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = Path(model).expanduser()
        where = str(folder.resolve()) if folder.is_dir() else model
        if not folder.is_dir():
            if model.count("/") != 1 or model.startswith((".", "/", "~")):
                raise ModelUnavailableError(
                    f"{model}: no such folder, and not a hub id like Salesforce/blip-image-captioning-base; {WAYS_ON}"
                )
            if hub.cached_commit(model, "config.json", None) is None:
                hub.require_reachable(model, "config.json", None, WAYS_ON)
        self.model = model
        self._device = pick_device(device)
        try:
            loaded, info = AutoModelForImageTextToText.from_pretrained(
                where, output_loading_info=True, dtype="float32", weights_only=True, trust_remote_code=False
            )
            self._prepare = _preparing(where)
        except Exception as e:  # a folder or a hub may hold anything, and then the library raises anything
            raise ModelUnavailableError(
                f"{model}: cannot be loaded as an image-to-text model ({hub.cause_of(e, 200)}); {WAYS_ON}"
            ) from None
        hub.require_fit(model, info["missing_keys"], (), map(str, info["mismatched_keys"]), WAYS_ON)
        self.weights = state_dict_sha256(loaded.state_dict())
        self._model = loaded.to(self._device).eval()

    def caption(self, image: PIL.Image.Image) -> str:
        """One line of text on an image, the most likely word after the other, so that it is the same each time.

        Raises :class:`ModelUnavailableError` for a model that gives no text of one image alone.
        """
        import torch

        try:
            inputs, text_of = self._prepare(image)
            with torch.inference_mode():
                out = self._model.generate(
                    **inputs.to(self._device), max_new_tokens=_TOKENS, do_sample=False, num_beams=1
                )
            return " ".join(str(text_of(out)).split())
        except Exception as e:  # models raise errors of many classes
            raise ModelUnavailableError(
                f"{self.model}: gives no text of one image alone ({hub.cause_of(e, 200)}); name another model, or write captions "
                "into a column literal"
            ) from None


Prepared = tuple[Any, Callable[[Any], str]]


def _preparing(where: str) -> Callable[[PIL.Image.Image], Prepared]:
    """How an image becomes a model's inputs, and its output a text."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, PreTrainedConfig

    safe = {"trust_remote_code": False}
    if PreTrainedConfig.get_config_dict(where)[0].get("model_type") == "vision-encoder-decoder":
        images, tokens = AutoImageProcessor.from_pretrained(where, **safe), AutoTokenizer.from_pretrained(where, **safe)
        return lambda image: (
            images(images=image, return_tensors="pt"),
            lambda out: tokens.batch_decode(out, skip_special_tokens=True)[0],
        )
    processor = AutoProcessor.from_pretrained(where, **safe)
    if not getattr(processor, "chat_template", None):
        return lambda image: (
            processor(images=image, return_tensors="pt"),
            lambda out: processor.batch_decode(out, skip_special_tokens=True)[0],
        )

    def asked(image: PIL.Image.Image) -> Prepared:
        content = [{"type": "image", "image": image}, {"type": "text", "text": REQUEST}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        start = inputs["input_ids"].shape[1]
        return inputs, lambda out: processor.batch_decode(out[:, start:], skip_special_tokens=True)[0]

    return asked


def caption_references(refs: Place, concepts: Collection[str], model: str, kept: Path, run: Run = Run()) -> Captions:
    """Describe the first reference of each concept; one that cannot be read gives way to the next.

    ``kept``: a file of JSON lines that holds each caption with its image and model from the moment it is made. An image
    that the same model has described there is not described again. Raises :class:`InputError` for a folder that is
    none, :class:`ModelUnavailableError`.
    """
    out = Captions()
    known = _kept(kept, model)
    captioner: Captioner | None = None
    wanted = set(concepts)
    listed = [image for image in folder_images(refs, wanted) if image.concept in wanted and image.name]
    by_concept = {concept: list(images) for concept, images in groupby(listed, key=lambda image: image.concept)}
    for done, (concept, images) in enumerate(by_concept.items(), 1):
        for image in images:
            try:
                data = read_bytes(image.path)
                sha256 = sha256_hex(data)
                if sha256 not in known:
                    picture = shared().decode(data, image.path, max_pixels=run.max_pixels).image
                    require_shape(*picture.size, image.path)
                    if captioner is None:
                        captioner = Captioner(model, run.device)
                        _require_same(kept, model, {weights for weights, _ in known.values()}, captioner.weights)
                    known[sha256] = captioner.weights, captioner.caption(picture)
                    _append(kept, (sha256, model, *known[sha256], concept, image.path))
                    out.made += 1
            except ImageError as e:
                out.skipped.append(Skipped(image.path, concept, e.reason))
                continue
            if caption := known[sha256][1]:
                out.of[concept] = caption
            break
        run.progress("describe references", done, len(by_concept))
    return out


def _append(path: Path, values: Sequence[str]) -> None:
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(dict(zip(_FIELDS, values, strict=True))) + "\n")


def _kept(path: Path, model: str) -> dict[str, tuple[str, str]]:
    """SHA-256 of an image -> the model's weights and its caption. A last line that was cut off is taken away."""
    if not path.exists():
        return {}
    rows = [row for _, row in open_table(path, _FIELDS).lines if isinstance(row, dict)]
    rows = [row for row in rows if all(isinstance(row.get(name), str) for name in _FIELDS)]
    write_atomically(path, "".join(json.dumps({name: row[name] for name in _FIELDS}) + "\n" for row in rows))
    return {row["sha256"]: (row["weights"], row["caption"]) for row in rows if row["model"] == model}


def _require_same(kept: Path, model: str, weights: Collection[str], own: str) -> None:
    if set(weights) - {own}:
        raise InputError(
            f"{kept}: holds captions that other weights of {model} made; delete it to describe all images again"
        )
