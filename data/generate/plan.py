"""Which images there shall be: concepts, their prompts, seeds; and what tells one image from another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from iconicity.data.generate.options import GenerateOptions
from iconicity.data.prompts import Prompt, cell_concept, cell_text
from iconicity.indexer.errors import InputError
from iconicity.indexer.shards import Shard
from iconicity.indexer.sources.metadata import FILES
from iconicity.indexer.spec import digest_of

_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_LETTERS = 40
_DIGITS = 12  # of a digest, in a file's name


class Settings(BaseModel):
    """What all images of a folder share and their pixels depend on. ``size``: None is the model's own.

    ``config_sha256`` is over the files beside the weights: schedulers, tokenizers, shapes.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    pipeline: str
    scheduler: str
    weights_sha256: str
    config_sha256: str
    precision: str
    steps: int | None
    guidance: float | None
    size: str | None


class Planned(BaseModel):
    """An image that shall be there. ``negative``: the negative prompt."""

    model_config = ConfigDict(frozen=True, strict=True)

    concept: str
    variant: str
    prompt: str
    negative: str
    seed: int
    settings: Settings

    @property
    def identity(self) -> str:
        """SHA-256 of all that the pixels depend on, but for the machine and the versions of libraries."""
        return digest_of(self.model_dump(include={"prompt", "negative", "seed", "settings"}))

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity, and of the concept and variant that the image stands for."""
        return digest_of([self.concept, self.variant, self.identity])

    @property
    def file_name(self) -> str:
        """Path below the folder of all images. Nothing of a prompt stands in it, and of a variant only plain letters."""
        slug = _SLUG.sub("-", self.variant.lower())[:_SLUG_LETTERS].strip("-") or "variant"
        return f"{self.concept}/{slug}_{self.seed:06d}_{self.key[:_DIGITS]}.png"


def plan(
    prompts: Sequence[Prompt], settings: Settings, options: GenerateOptions, shard: Shard | None = None
) -> list[Planned]:  # fmt: skip
    """Images of all prompts, those of one prompt by seed; prompts by concept and variant, else as given.

    Only those of the concepts of ``shard``. Raises :class:`InputError` for a prompt that is not as
    :func:`iconicity.data.prompts.read_prompts` reads it, and for one that stands there twice.
    """
    if not prompts:
        raise InputError("`prompts`: none was given; name at least one")
    seen: set[tuple[str, ...]] = set()
    for n, prompt in enumerate(prompts, 1):
        _require_sound(f"prompt {n} ({prompt.concept[:60]!r})", prompt)
        told = (prompt.concept, prompt.variant, prompt.prompt)
        if told in seen:
            raise InputError(f"prompt {n} ({prompt.concept[:60]!r}): was given twice; leave one out")
        seen.add(told)
    negative = cell_text("`negative`", "text", options.negative)
    mine = [p for p in prompts if shard is None or p.concept in shard]
    return [
        Planned(
            concept=p.concept, variant=p.variant, prompt=p.prompt, negative=p.negative or negative, seed=seed, settings=settings
        )
        for p in sorted(mine, key=lambda p: (p.concept, p.variant))
        for seed in range(options.seeds)
    ]  # fmt: skip


def _require_sound(where: str, prompt: Prompt) -> None:
    for name in ("concept", "variant", "prompt", "negative"):
        value = getattr(prompt, name)
        found = cell_concept(where, value) if name == "concept" else cell_text(where, name, value)
        if found != value:
            raise InputError(f"{where}: its {name} is not as a table of prompts holds it; write {found[:60]!r}")
        if not value and name != "negative":
            raise InputError(f"{where}: its {name} is empty; write one")
    if prompt.concept in FILES:
        raise InputError(f"{where}: its concept has the name of a list of images; write another one")
