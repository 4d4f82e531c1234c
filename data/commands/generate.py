"""``iconicity generate``: parse, call, print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.data.generate.options import GenerateOptions, GenerateRun
from iconicity.indexer.command_line import DIRECTORY, dry_run_option, say_note, takes
from iconicity.indexer.display import progress_bar
from iconicity.indexer.help import command
from iconicity.indexer.text import counted, echo_line

if TYPE_CHECKING:
    from iconicity.data.generate.generate import Rehearsal


@command("generate")
@click.option(
    "--prompts",
    type=DIRECTORY,
    required=True,
    help="Table with the columns concept and prompt; and, where there are any, variant and negative.",
)
@click.option(
    "--model",
    required=True,
    metavar="ID|FOLDER",
    help="Text-to-image pipeline of diffusers: id on the hub, or a folder. Only safetensors are read.",
)
@click.option(
    "--out", type=DIRECTORY, required=True, help="Folder for the images, one folder a concept, and metadata.csv."
)
@takes(GenerateOptions, "options")
@takes(GenerateRun, "run")
@dry_run_option
def generate_command(
    prompts: Path, model: str, out: Path, options: GenerateOptions, run: GenerateRun, dry_run: bool
) -> int:  # fmt: skip
    """Make the images of a table of prompts with any text-to-image pipeline of diffusers.

    An image that is there is not made again. metadata.csv says of each image what made it; --gen of 'iconicity score'
    reads the folder.

    \b
    Example:
      iconicity generate --prompts prompts.csv --model stable-diffusion-v1-5/stable-diffusion-v1-5 --seeds 50 --out gen/sd15
    """
    from iconicity.data.generate.generate import generate, rehearse
    from iconicity.data.prompts import read_prompts

    found = read_prompts(prompts, say_note)
    if dry_run:
        _say_rehearsal(rehearse(found, model, out, options, run.shard), model, out)
        return 0
    report = generate(found, model, out, options, replace(run, progress=progress_bar()))
    for notice in report.notices:
        say_note(notice)
    echo_line(
        f"{out}: {counted(report.total, 'image')}: {report.made} made, {report.there} there before, "
        f"{len(report.flagged)} flagged"
    )
    return 0


def _say_rehearsal(found: Rehearsal, model: str, out: Path) -> None:
    more = []
    if found.seconds_an_image is not None:
        minutes = found.to_make * found.seconds_an_image / 60
        more.append(f"about {max(1, round(minutes))} min" if minutes < 120 else f"about {minutes / 60:.1f} h")
    if found.bytes_an_image is not None:
        more.append(f"{found.to_make * found.bytes_an_image / 1e9:.2g} GB")
    if not found.model_here:
        say_note(f"{model}: is not here and would be downloaded; images that are there were told by prompt and seed")
    echo_line(
        f"dry run: {out}: would make {found.to_make} of {counted(found.total, 'image')}, {found.there} are there"
        + (f"; {' and '.join(more)} more" if more and found.to_make else "")
        + "; nothing was written"
    )
