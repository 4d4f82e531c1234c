"""Options of ``iconicity generate``: what the pixels of an image depend on, and how the work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from iconicity.indexer.encode.names import PRECISIONS
from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.options import require_one_of
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.shards import Shard

MOST_SEEDS = 1_000_000  # names of files hold six digits
_SIZE = re.compile(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})")
_OWN = "that of the pipeline's class"


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height in pixels of a text WxH; None of None. Raises :class:`InputError`.

    >>> parse_size("512x768")
    (512, 768)
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise InputError(f"`size` {text[:40]!r}: write width and height in pixels, as 512x512")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class GenerateOptions:
    """Which images are made of each prompt. Pixels depend on all of these but ``seeds``, which says how many there are.

    None is what the pipeline itself takes. ``negative``: what no image shall show, of prompts that name nothing of
    their own. ``size``: width and height in pixels. Raises :class:`InputError` for a value that does not exist.
    """

    seeds: int = flags(
        50, Flag("--seeds", "Images of each prompt: seeds 0 to N - 1.", least=1, most=MOST_SEEDS, metavar="N")
    )
    steps: int | None = flags(None, Flag("--steps", "Denoising steps.", least=1, most=10_000, shown=_OWN))
    guidance: float | None = flags(None, Flag("--guidance", "Guidance scale.", least=0.0, shown=_OWN))
    negative: str = flags(
        "", Flag("--negative", "Negative prompt of prompts that have none.", metavar="TEXT", shown="none")
    )
    size: tuple[int, int] | None = flags(
        None,
        Flag("--size", "Width and height of the images in pixels.", metavar="WxH", shown="that of the model"),
        join=parse_size,
    )
    precision: str = flags("fp32", Flag("--precision", "Number format of the model.", choices=tuple(PRECISIONS)))
    revision: str | None = flags(
        None, Flag("--revision", "Branch, tag or commit of a model of the hub.", shown="its default branch")
    )

    def __post_init__(self) -> None:
        require_one_of("`precision`", self.precision, PRECISIONS)
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise InputError(f"`seeds` {self.seeds}: take 1 to {MOST_SEEDS}")


@dataclass(frozen=True)
class GenerateRun:
    """How images are made. No image depends on it, but for the last bits of what devices of two kinds compute.

    ``batch_size``: images of one prompt made together, at most. A batch is used only where its images are bit for bit
    those made alone, see :mod:`iconicity.data.generate.make`. ``shard``: of the concepts.
    """

    device: str = flags("auto", Flag("--device", "Device of the model: auto, cpu, cuda or mps."))
    batch_size: int = flags(
        1,
        Flag(
            "--batch-size",
            "Images of one prompt that a GPU makes together, at most. A batch is used where its images are the same, bit "
            "for bit, as when made alone. Halved where memory is short.",
            least=1,
            most=1024,
        ),
    )
    shard: Shard | None = flags(
        None,
        Flag(
            "--shard",
            "Part I of N of the concepts, counted from 1, for one task of an array of N. All tasks may write to one folder.",
            kind="shard",
        ),
    )
    progress: Progress = no_progress
