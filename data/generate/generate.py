"""From prompts to a folder of images and its metadata. Images that are there are not made again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iconicity.data.generate import folder
from iconicity.data.generate.make import Maker
from iconicity.data.generate.options import GenerateOptions, GenerateRun
from iconicity.data.generate.pictures import Facts, png
from iconicity.data.generate.pipeline import Drawn, ModelFiles, TextToImage, arguments, find_model, model_here
from iconicity.data.generate.plan import Planned, Settings, plan
from iconicity.data.prompts import Prompt
from iconicity.indexer.places import local
from iconicity.indexer.shards import Shard
from iconicity.indexer.text import counted


@dataclass
class Generated:
    """What a run did. ``flagged``: files that the model's safety checker flagged, of the images asked for."""

    total: int = 0
    there: int = 0
    made: int = 0
    flagged: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would do. Seconds and bytes of an image are those of images that are there; None: there are none.

    ``model_here``: whether the model would not be downloaded.
    """

    total: int
    there: int
    seconds_an_image: float | None
    bytes_an_image: int | None
    model_here: bool

    @property
    def to_make(self) -> int:
        return self.total - self.there


def generate(
    prompts: Sequence[Prompt],
    model: str,
    out: Path | str,
    options: GenerateOptions = GenerateOptions(),
    run: GenerateRun = GenerateRun(),
) -> Generated:
    """Make the images of all prompts with a model, a folder or an id of the hub, below the folder ``out``.

    What is there by its content is not made again, whatever it is called. A run that was stopped at any moment goes on.
    Raises :class:`IconicityError`: for a model that cannot be loaded, for a folder of images that other settings made,
    for prompts that are not sound, where another process makes the same images, and where memory is too short.
    """
    out = local(out)
    files = find_model(model, options.revision)
    settings = _settings(files, options, prompts)
    wanted = plan(prompts, settings, options, run.shard)
    report = Generated(len(wanted))
    if settings.guidance is not None and settings.guidance <= 1 and any(image.negative for image in wanted):
        report.notices.append(
            f"negative prompts have no effect with `guidance` {settings.guidance}: most pipelines need more than 1"
        )
    with folder.working(out, run.shard):
        there = folder.look(out)
        folder.require_same(out, there, settings)
        missing = [image for image in wanted if image.key not in there.images]
        report.there = len(wanted) - len(missing)
        there = folder.write_metadata(out, there)  # from now on, what it does not list does not count
        if missing:
            there = _make(missing, files, out, there, run, report)
    report.flagged = [
        held.file_name for image in wanted if (held := there.images.get(image.key)) and held.facts.flagged
    ]
    if report.flagged:
        report.notices.append(
            f"{out}: the model's safety checker flagged {counted(len(report.flagged), 'image')}, first {report.flagged[0]}; "
            "metadata.csv says which, and they do not count where images are scored"
        )
    report.notices += _left(out, there, wanted, run.shard)
    return report


def rehearse(
    prompts: Sequence[Prompt],
    model: str,
    out: Path | str,
    options: GenerateOptions = GenerateOptions(),
    shard: Shard | None = None,
) -> Rehearsal:
    """What :func:`generate` would do. Nothing is written, no model is loaded, and nothing is downloaded.

    Images of a model that is not here are told by prompt and seed alone. Raises what :func:`generate` raises of them.
    """
    out = local(out)
    files = model_here(model, options.revision)
    there = folder.look(out)
    if files is None:
        unknown = Settings(
            pipeline="", scheduler="", weights_sha256="", config_sha256="", precision="", steps=None, guidance=None, size=None
        )  # fmt: skip
        wanted = plan(prompts, unknown, options, shard)
        held = {_told(each.facts) for each in there.images.values()}
        found = sum(_told(image) in held for image in wanted)
    else:
        settings = _settings(files, options, prompts)
        folder.require_same(out, there, settings)
        wanted = plan(prompts, settings, options, shard)
        found = sum(image.key in there.images for image in wanted)
    return Rehearsal(
        len(wanted), found, folder.seconds_an_image(out), folder.bytes_an_image(out, there), files is not None
    )


def _told(image: Planned) -> tuple[str, str, str, str, int]:
    return image.concept, image.variant, image.prompt, image.negative, image.seed


def _settings(files: ModelFiles, options: GenerateOptions, prompts: Sequence[Prompt]) -> Settings:
    negatives = bool(options.negative.strip()) or any(prompt.negative for prompt in prompts)
    steps, guidance = arguments(files, options, negatives)
    return Settings(
        pipeline=files.pipeline, scheduler=files.scheduler, weights_sha256=files.weights_sha256,
        config_sha256=files.config_sha256, precision=options.precision, steps=steps, guidance=guidance,
        size=None if options.size is None else "{}x{}".format(*options.size),
    )  # fmt: skip


def _make(
    missing: Sequence[Planned], files: ModelFiles, out: Path, there: folder.There, run: GenerateRun, report: Generated
) -> folder.There:  # fmt: skip
    """Make images, and list them whatever ends the run; returns what is there then."""
    from iconicity.indexer.encode.encoder import pick_device

    device = pick_device(run.device)
    alone = device == "cpu" and run.batch_size > 1
    if alone:
        report.notices.append(
            "`batch_size` was not used: on a processor a batch would change the last bits of its images"
        )
    pipeline = TextToImage(files, missing[0].settings.precision, device)
    report.notices += _too_long(pipeline, missing)
    maker = Maker(pipeline, 1 if alone else run.batch_size)
    about = _about(files, device)
    taken = {held.file_name for held in there.images.values()}
    sums: dict[tuple[str, str], str] = {}
    began = time.monotonic()
    try:
        run.progress("images", report.there, report.total)
        for images in maker.batches(missing):
            for image, drawn in zip(images, maker.draw(images), strict=True):
                data = _picture(image, drawn, about)
                name = folder.free_name(image.file_name, taken)
                folder.write_picture(out, name, data)
                sums[name, image.identity] = hashlib.sha256(data).hexdigest()
                report.made += 1
            run.progress("images", report.there + report.made, report.total)
    finally:
        if sums:
            folder.write_times(out, report.made, time.monotonic() - began)
        there = folder.write_metadata(out, there, sums)
    report.notices += maker.notes
    return there


def _about(files: ModelFiles, device: str) -> dict[str, str | None]:
    """What all images of a run have in common beside their settings."""
    import diffusers
    import torch
    import transformers

    if device.startswith("cuda"):
        on = torch.cuda.get_device_name(device)
    else:
        on = f"cpu, {counted(torch.get_num_threads(), 'thread')}" if device == "cpu" else device
    return {
        "model": files.name, "revision": files.revision, "device": on, "diffusers": str(diffusers.__version__),
        "torch": str(torch.__version__), "transformers": str(transformers.__version__),
    }  # fmt: skip


def _picture(image: Planned, drawn: Drawn, about: Mapping[str, str | None]) -> bytes:
    """The file of an image, whose numbers are rounded as diffusers rounds them."""
    numbers, flagged = drawn
    pixels = (numbers * 255).round().astype(np.uint8)
    return png(
        pixels, Facts.model_validate({**dict(image), **about, "flagged": None if flagged is None else bool(flagged)})
    )


def _too_long(pipeline: TextToImage, images: Sequence[Planned]) -> list[str]:
    texts = dict.fromkeys(text for image in images for text in (image.prompt, image.negative) if text)
    cut = [text for text in texts if pipeline.too_long(text)]
    if not cut:
        return []
    are = counted(
        len(cut),
        "prompt is longer than the model reads, and its end has",
        "prompts are longer than the model reads, and their ends have",
    )
    return [f"{are} no effect: first {cut[0][:60]!r}"]


def _left(out: Path, there: folder.There, wanted: Sequence[Planned], shard: Shard | None) -> list[str]:
    """Lines on files of the folder that were not asked for."""
    keys = {image.key for image in wanted}
    others = [
        held.file_name
        for key, held in there.images.items()
        if key not in keys and (shard is None or held.facts.concept in shard)
    ]
    kinds = (
        (others, "of other prompts or seeds, listed in metadata.csv, too"),
        (there.twice, "held by another file as well, not listed in metadata.csv"),
        (there.strange, "not whole or not made here, not listed in metadata.csv"),
    )
    return [f"{out}: {counted(len(names), 'image')} {what}: first {names[0]}" for names, what in kinds if names]
