"""``iconicity variants``: parse, call, print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import DIRECTORY, PLACE, say_note, say_skipped, takes, takes_run
from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags
from iconicity.indexer.help import command
from iconicity.indexer.options import Run
from iconicity.indexer.places import Place
from iconicity.indexer.text import counted, echo_line

if TYPE_CHECKING:
    from iconicity.data.synonyms import Synonyms
    from iconicity.data.variants import Origin

_KINDS = ("original", "synonym", "literal", "none")


@dataclass(frozen=True)
class Draw:
    """Which variants are made, and how synonyms are drawn."""

    kinds: Sequence[str] = flags(
        _KINDS,
        Flag("--kinds", "Kinds of variants to make.", default=",".join(_KINDS), metavar="A,B"),
        join=lambda text: list(dict.fromkeys(kind.strip() for kind in text.split(","))),
    )
    most: int = flags(2, Flag("--most", "Most words of a prompt that become synonyms.", least=1, metavar="N"))
    seed: int = flags(0, Flag("--seed", "Seed of the draw of words and synonyms.", least=0, metavar="N"))


@command("variants")
@click.option(
    "--prompts",
    type=DIRECTORY,
    required=True,
    help="Table with the columns concept and prompt or title; and, where there are any, creator, synonym and literal.",
)
@click.option(
    "--out", type=DIRECTORY, required=True, metavar="FILE", help="CSV file of all variants, for 'iconicity generate'."
)
@takes(Draw, "draw")
@click.option(
    "--synonyms",
    metavar="FILE|LEXICON",
    help="CSV file with the columns word, synonym and pos, or a lexicon of the package wn, such as oewn:2024.  [default: the English one that wn has]",
)
@click.option(
    "--refs", type=PLACE, help="Folder with one folder of images for each concept. The first image is described."
)
@click.option(
    "--caption-model", metavar="ID|FOLDER", help="Image-to-text model of transformers that describes the references."
)
@takes_run(moved=False, only=["device", "max_pixels"])
def variants_command(
    prompts: Path, out: Path, draw: Draw, synonyms: str | None, refs: Place | None, caption_model: str | None, run: Run
) -> int:
    """Make variants of prompts: other words, a description, with and without the creator's name.

    \b
    Example:
      iconicity variants --prompts prompts.csv --out variants.csv --kinds original,none
    """
    from iconicity.data.captions import Captions, caption_references
    from iconicity.data.prompts import CHANGED, write_origin, write_prompts
    from iconicity.data.variants import KINDS, LITERAL, SYNONYM, make_variants, read_origins

    asked = draw.kinds
    if unknown := [kind for kind in asked if kind not in KINDS]:
        raise click.UsageError(f"--kinds {unknown[0]}: choose of {', '.join(KINDS)}")
    if synonyms is not None and SYNONYM not in asked:
        raise click.UsageError("--synonyms belongs to the kind synonym, which --kinds leaves out")
    if (caption_model is None) != (refs is None):
        raise click.UsageError("--caption-model describes the images of --refs: name both, or neither")
    if caption_model is not None and LITERAL not in asked:
        raise click.UsageError("--caption-model belongs to the kind literal, which --kinds leaves out")
    if out.exists() and out.samefile(prompts):
        raise click.UsageError(f"--out {out}: is the table of --prompts; name another file")
    origins = read_origins(prompts, say_note)
    source = _synonyms(origins, synonyms) if SYNONYM in asked else None
    described: Captions | None = None
    if caption_model is not None and refs is not None:
        wanted = {origin.concept for origin in origins if not origin.literal}
        described = caption_references(refs, wanted, caption_model, out.with_suffix(".captions.jsonl"), run)
    elif LITERAL in asked and not any(origin.literal for origin in origins):
        raise click.UsageError(
            f"the kind literal needs --caption-model and --refs, or a column literal in {prompts}; leave literal out of --kinds, or name them"
        )
    found = make_variants(origins, asked, source, described.of if described else None, most=draw.most, seed=draw.seed)
    write_prompts(out, found.prompts, {CHANGED: found.changed})
    write_origin(
        out, prompts, **vars(draw), synonyms=None if source is None else source.label, caption_model=caption_model
    )
    for note in found.notes():
        say_note(note)
    done = say_skipped(described.skipped, ()) if described else 0
    number = Counter(prompt.variant for prompt in found.prompts)
    by_kind = ", ".join(f"{number[kind]} {kind}" for kind in asked)
    from_where = f"; synonyms of {source.label}, seed {draw.seed}" if source is not None else ""
    echo_line(f"{out}: {counted(len(found.prompts), 'prompt')}: {by_kind}{from_where}")
    return done


def _synonyms(origins: Sequence[Origin], named: str | None) -> Synonyms | None:
    """Where the synonyms of the rows come from; None where all that there are stand in the rows.

    Raises :class:`InputError`.
    """
    from iconicity.data.synonyms import open_synonyms

    written = [bool(origin.synonym) for origin in origins]
    if all(written) and named is None:
        return None
    try:
        return open_synonyms(named, say_note)
    except InputError:
        if named is None and any(written):
            return None
        raise
