"""Names of encoders, ``FAMILY[:MODEL][,OPTION=VALUE...]``, and what a user chooses of them. Loads no library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags

# The global encoder and the patch encoder of each preset. A family without a model means its own usual one.
PRESETS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": ("clip", "timm"),
        "copy": ("clip", "sscd"),
        "offline": ("offline", "offline"),
        "offline-copy": ("offline", "sscd-distilled"),
    }
)
PATCH_MODES = ("crop", "token")
FITS = ("crop", "squash")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # -> torch's names
NAMED = "FAMILY[:MODEL][,OPTION=VALUE...]"
_OPTION = re.compile(r",(?=[a-z_]+=)")  # a path may hold commas


@dataclass(frozen=True)
class EncoderName:
    """One encoder: its family, the model within the family (None: the family's usual one), and options by name.

    >>> str(EncoderName.parse("timm:vit_small_patch14_dinov2,pool=gem").but(layer=9))
    'timm:vit_small_patch14_dinov2,layer=9,pool=gem'
    """

    family: str
    model: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> EncoderName:
        """The encoder that a text names. Raises :class:`InputError` where the text has no family, or an option twice."""
        named, *options = _OPTION.split(text)
        family, _, model = named.partition(":")
        pairs = [option.partition("=")[::2] for option in options]
        if not family or len(dict(pairs)) < len(pairs):
            raise InputError(f"{text!r}: does not name an encoder; write FAMILY:MODEL,OPTION=VALUE, each option once")
        return cls(family, model or None, dict(pairs))

    def but(self, **options: object) -> EncoderName:
        """The same encoder with other options; None leaves an option out."""
        changed = {**self.options, **options}
        return EncoderName(self.family, self.model, {k: str(v) for k, v in changed.items() if v is not None})

    def __str__(self) -> str:
        options = (f",{name}={self.options[name]}" for name in sorted(self.options))
        return self.family + (f":{self.model}" if self.model else "") + "".join(options)


@dataclass(frozen=True)
class EncoderOptions:
    """Which two encoders embed images, and how they see them. Everything here is part of an index.

    ``encoders`` names a preset; ``global_encoder`` and ``patch_encoder`` each take the place of the preset's half.
    ``fit`` says what happens to sides of different length (None: what the encoder's makers do).
    """

    encoders: str = flags(
        "paper",
        Flag(
            "--encoders",
            "Pair of encoders for whole images and patches. paper: CLIP and DINOv3. copy: CLIP and SSCD. offline: "
            "EfficientNet-Lite0 twice. offline-copy: EfficientNet-Lite0 and a small SSCD. The last two need no download.",
            choices=tuple(PRESETS),
        ),
    )
    global_encoder: str | None = flags(
        None,
        Flag(
            "--global-encoder",
            "Encoder of whole images (CRA), in place of the pair's: clip:FOLDER, or a hub id like "
            "clip:openai/clip-vit-base-patch16.",
            metavar=NAMED,
        ),
    )
    patch_encoder: str | None = flags(
        None,
        Flag(
            "--patch-encoder",
            "Encoder of patches (VR), in place of the pair's, as timm:MODEL,weights=FILE,pool=gem,layer=9. docs/encoders.md "
            "lists families and options.",
            metavar=NAMED,
        ),
    )
    patch_mode: str = flags(
        "crop",
        Flag(
            "--patch-mode",
            "Embed each cell alone (crop), or embed the image once and average its tokens in each cell (token; faster, other numbers).",
            choices=PATCH_MODES,
        ),
    )
    precision: str = flags(
        "fp32", Flag("--precision", "Number format of the forward passes.", choices=tuple(PRECISIONS))
    )
    fit: str | None = flags(
        None,
        Flag(
            "--fit",
            "How a cell or image gets the shape of an encoder's input: cut to its centre, or squeezed as a whole.",
            choices=FITS,
            shown="the encoder's own",
        ),
    )

    def names(self) -> tuple[EncoderName, EncoderName]:
        """The global encoder and the patch encoder. Raises :class:`InputError` for a choice that there is not."""
        for what, value, known in (
            ("encoders", self.encoders, PRESETS),
            ("patch mode", self.patch_mode, PATCH_MODES),
            ("precision", self.precision, PRECISIONS),
            ("fit", self.fit, (None, *FITS)),
        ):
            if value not in known:
                raise InputError(f"{what} {value}: choose one of {', '.join(filter(None, known))}")
        whole, patches = PRESETS[self.encoders]
        return EncoderName.parse(self.global_encoder or whole), EncoderName.parse(self.patch_encoder or patches)
