"""``iconicity run``: index, scores and report in one command, or a whole study.toml. Parse, call, print."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import (
    DIRECTORY,
    PLACE,
    dry_run_option,
    say_note,
    say_skipped,
    takes,
    takes_run,
    takes_select,
)
from iconicity.indexer.commands import say_build, say_rehearsal
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import typed
from iconicity.indexer.help import command
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place
from iconicity.indexer.text import counted, echo, echo_line
from iconicity.scorer.commands.scoring import Generated, generated_by

if TYPE_CHECKING:
    from iconicity.scorer.scoring import ScoreReport


@command("run")
@click.argument("refs", type=PLACE, required=False)
@click.argument("gen", type=PLACE, required=False)
@click.option(
    "--gen", "named", multiple=True, metavar="NAME=FOLDER", type=Generated(),
    help="Images of one model, in place of GEN. May be repeated.",
)  # fmt: skip
@takes_select(without=["shard"])
@click.option(
    "--study",
    type=DIRECTORY,
    metavar="FILE",
    help="study.toml with all stages of a study, in place of REFS, GEN and other options: a table is a command, a key one of its options.",
)
@click.option(
    "--out", type=DIRECTORY, help="Folder for the index, the results and the report.  [required without --study]"
)
@takes(EncoderOptions, "encoders")
@click.option("--prune", "--replace", "prune", is_flag=True, help="Remove references and scores whose files are gone.")
@click.option("--open", "opens", is_flag=True, help="Open the report in a browser.")
@dry_run_option
@takes_run(moved=False, only=["device", "batch_size", "workers", "max_pixels", "cache"])
def run_command(
    refs: Place | None, gen: Place | None, named: Sequence[str], study: Path | None, out: Path | None, encoders: EncoderOptions, select: Select, run: Run,
    **switches: bool,
) -> int:  # fmt: skip
    """Compare generated images with references: index, scores and report in one command.

    REFS holds one folder of images for each concept. GEN holds the same for one model, or one such folder for each
    model. A second run computes only what is new.

    \b
    Example:
      iconicity run refs/ gen/ --out study/ --encoders offline-copy
      iconicity run --study study.toml
    """
    if study is not None:
        return _run_study(study, **{name: switches[name] for name in ("dry_run", "opens")})
    if refs is None or out is None:
        raise click.UsageError("name the folders REFS and GEN and a folder with --out, or a file with --study")
    from iconicity.scorer.face import evaluate
    from iconicity.scorer.measure.finding import Layout, as_text
    from iconicity.scorer.models import Models, models_at

    if (gen is None) == (not named):
        raise click.UsageError("name the generated images once: the folder GEN, or --gen NAME=FOLDER for each model")
    follow = select.follow_links
    models = Models(generated_by(named, None, None, follow)) if gen is None else models_at(gen, refs, follow)
    echo_line(
        f"{counted(len(models.generated), 'model')}: {', '.join(f'{m} ({at})' for m, at in models.generated.items())}"
    )
    for notice in models.notices:
        say_note(notice)
    if switches["dry_run"]:
        return _rehearse(refs, models.generated, out, select, run, prune=switches["prune"])
    results = evaluate(refs, models.generated, out, encoders=encoders, select=select, prune=switches["prune"], run=run)
    assert results.built is not None and results.scored is not None and results.page is not None
    code = max(say_build(results.built, out / "index"), _say_new(results.scored, results.study().notes))
    layout = Layout(notes=0, more=f"'iconicity summary {typed(out)} --notes all'")
    echo(as_text(results.summary().finding, layout=layout))
    for sentence in ("", *results.sentences(), "", f"report: {results.page.resolve()}"):
        echo_line(sentence)
    if switches["opens"] and not webbrowser.open(results.page.resolve().as_uri()):
        say_note("no browser was found; open the report yourself")
    return code


def _run_study(path: Path, **switches: bool) -> int:
    """Run the stages of a file. Raises :class:`click.UsageError` for what belongs into the file."""
    from iconicity.data.commands.collect import collect_command
    from iconicity.data.commands.generate import generate_command
    from iconicity.data.commands.study import read_study, run_study
    from iconicity.data.commands.variants import variants_command

    context = click.get_current_context()
    alone = {"study", *switches}
    for param in context.command.params:
        given = param.name and context.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
        if given and param.name not in alone:
            name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            raise click.UsageError(f"{name} beside --study: write it into {path}, table [run]")
    stages = (collect_command, variants_command, generate_command, run_command)
    return run_study(read_study(path, {str(command.name): command for command in stages}), **switches)


def _rehearse(
    refs: Place, generated: Mapping[str, Place], out: Path, select: Select, run: Run, prune: bool
) -> int:  # fmt: skip
    """Say what the command would do. Scores can be told where there is an index, of the references that it has now."""
    from iconicity.indexer.rehearsal import rehearse_build
    from iconicity.indexer.store.index import open_index
    from iconicity.indexer.store.manifest import MANIFEST
    from iconicity.scorer.options import ScoreOptions, Writing
    from iconicity.scorer.rehearsal import rehearse_score
    from iconicity.scorer.results import STUDY

    index = out / "index"
    code = say_rehearsal(rehearse_build(refs, index, prune=prune, select=select), index)
    if not (index / MANIFEST).is_file():
        echo_line(
            f"dry run: {out / STUDY}: would score all images; there is no index yet to say which of them can be used"
        )
        return code
    kept = None if run.cache is None else run.cache.directory
    writing = Writing(update=True, prune=prune)
    found = rehearse_score(
        open_index(index), generated, out / STUDY, ScoreOptions(), select=select, writing=writing, cache=kept
    )
    return max(code, say_rehearsal(found, out / STUDY))


def _say_new(scored: ScoreReport, notes: Sequence[str]) -> int:
    """What the scoring did, and what the table below it does not say."""
    code = say_skipped(scored.skipped, [n for n in scored.notices if n not in notes])
    echo_line(f"{counted(scored.scored, 'image')} scored, {scored.embedded} embedded, {len(scored.skipped)} skipped")
    return code
