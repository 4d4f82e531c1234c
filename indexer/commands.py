"""``iconicity index ...``: parse, call, print. Heavy imports stand inside the commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from iconicity.indexer.command_line import (
    EXIT_SKIPPED,
    PLACE,
    dry_run_option,
    index_option,
    json_option,
    refs_option,
    say_note,
    say_problems,
    say_skipped,
    takes,
    takes_run,
    takes_select,
)
from iconicity.indexer.display import progress_bar
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import mending
from iconicity.indexer.help import group
from iconicity.indexer.left_out import left_out_lines
from iconicity.indexer.options import IndexOptions, Run, Select
from iconicity.indexer.text import counted, echo, echo_line, json_text

if TYPE_CHECKING:
    from iconicity.indexer.builder import BuildReport
    from iconicity.indexer.merge import MergeReport
    from iconicity.indexer.places import Place
    from iconicity.indexer.rehearsal import Rehearsed


@group()
def index() -> None:
    """Build and look after an index of reference images.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index
    """


@index.command("build")
@refs_option("Folder or URL with one folder of images for each concept.")
@index_option
@takes_select(without=["image_key"])
@takes(EncoderOptions, "encoders")
@takes(IndexOptions, "options")
@click.option("--prune", is_flag=True, help="Remove references whose files are not among the images given now.")
@dry_run_option
@takes_run(engines=True, moved=False)
def index_build(
    refs: Place,
    index: Place,
    encoders: EncoderOptions,
    options: IndexOptions,
    prune: bool,
    dry_run: bool,
    select: Select,
    run: Run,
) -> int:
    """Embed every reference once. Run again, it embeds only what is new or changed.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index --prompt-csv prompts.csv
    """
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_build

        return say_rehearsal(rehearse_build(refs, index, prune=prune, select=select), index)
    from iconicity.indexer.build import build_index
    from iconicity.indexer.encode.encoder import load_encoders

    device = run.device if run.engine is None else "cpu"  # an engine asks for their specs alone
    loaded = load_encoders(encoders, device)
    for spec in {e.spec.fingerprint: e.spec for e in (loaded.clip, loaded.dino)}.values():
        if spec.source.get("images_a_run") == 1:
            say_note(f"{spec.label}: images are run one at a time, since a row of this model depends on its batch")
    return say_build(build_index(refs, index, loaded, options, prune=prune, select=select, run=run), index)


@index.command("add")
@refs_option("Folder or URL with new files or concepts.")
@index_option
@takes_select(without=["shard", "image_key"])
@dry_run_option
@takes_run(engines=True)
def index_add(refs: Place, index: Place, dry_run: bool, select: Select, run: Run) -> int:
    """Add new files or concepts to an index. Nothing is removed.

    \b
    Example:
      iconicity index add --refs more_refs/ --index paintings.index
    """
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_add

        return say_rehearsal(rehearse_add(refs, index, select=select), index)
    from iconicity.indexer.build import add_references

    return say_build(add_references(refs, index, select=select, run=run), index)


@index.command("remove")
@index_option
@click.option("--concept", "concepts", multiple=True, help="Concept to remove. May be repeated.")
@click.option("--ref", "ref_ids", multiple=True, help="Reference to remove, as <concept>/<file>. May be repeated.")
@click.option(
    "--purge",
    is_flag=True,
    help="Write all files of the index again, so that no byte of the removed references is left.",
)
@dry_run_option
@takes_run()
def index_remove(
    index: Place, concepts: Sequence[str], ref_ids: Sequence[str], purge: bool, dry_run: bool, run: Run
) -> int:
    """Remove concepts or single references. Their near-duplicates take their place.

    \b
    Example:
      iconicity index remove --index paintings.index --concept water_lilies
    """
    if not concepts and not ref_ids:
        raise click.UsageError("name what to remove with --concept or --ref")
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_remove

        return say_rehearsal(rehearse_remove(index, concepts=concepts, ref_ids=ref_ids), index)
    from iconicity.indexer.build import remove_references

    return say_build(remove_references(index, concepts=concepts, ref_ids=ref_ids, purge=purge, run=run), index)


@index.command("merge")
@click.argument("parts", type=PLACE, nargs=-1, required=True)
@index_option
def index_merge(parts: Sequence[Place], index: Place) -> int:
    """Merge finished indexes into one, such as those of tasks that ran with --shard. Nothing is embedded.

    \b
    Example:
      iconicity index merge parts/1 parts/2 --index merged.index
    """
    from iconicity.indexer.merge import merge_indexes
    from iconicity.indexer.sources.suffixes import passed_over

    report = merge_indexes(parts, index, progress_bar())
    code = say_skipped(
        report.skipped, [*report.notices, *left_out_lines({"": report.left_out}), *passed_over(report.skipped)]
    )
    echo_line(
        f"{index}: {counted(report.merged, 'reference')} of {counted(len(parts), 'part')} written, {counted(report.unchanged, 'was', 'were')} there already"
    )
    _say_held(report)
    return code


@index.command("info")
@index_option
@json_option("Print everything as JSON.")
def index_info(index: Place, as_json: bool) -> int:
    """Show what an index holds: references kept and dropped, encoders, grid, size, versions.

    \b
    Example:
      iconicity index info --index paintings.index
    """
    from iconicity.indexer.info import LISTED, index_facts, info_text

    facts = index_facts(index, concepts=False)
    if as_json or facts["counts"]["references"] <= LISTED:
        facts = index_facts(index)
    echo(json_text(facts) if as_json else info_text(facts), as_json)
    return 0


@index.command("log")
@index_option
@json_option("Print everything as JSON.")
def index_log(index: Place, as_json: bool) -> int:
    """List what was done to an index: when, what, by which version, from which files.

    \b
    Example:
      iconicity index log --index paintings.index
    """
    from iconicity.indexer.info import log_text
    from iconicity.indexer.store.manifest import read_manifest

    log = read_manifest(index)["log"]
    echo(json_text(log) if as_json else log_text(log), as_json)
    return 0


MOVED = "if the references were moved, name their folder with --refs"


@index.command("verify")
@index_option
@click.option("--deep", is_flag=True, help="Also read every source image again, where it was indexed from.")
@click.option("--refs", type=PLACE, help="Folder where the references lie now, if they were moved. Needs --deep.")
def index_verify(index: Place, deep: bool, refs: Place | None) -> int:
    """Test every byte of an index: file digests, row checksums, norms, counts.

    \b
    Example:
      iconicity index verify --index paintings.index --deep
    """
    if refs is not None and not deep:
        raise click.UsageError("--refs says where --deep finds the source images; add --deep")
    from iconicity.indexer.store.verify import verify_index

    problems = verify_index(index, progress_bar(), deep=deep, refs=refs)
    moved = "" if refs is not None or not any("No such file" in p for p in problems) else MOVED
    return say_problems(index, problems, "; ".join(filter(None, [mending(index), moved])))


@index.command("repair")
@index_option
@takes_run()
def index_repair(index: Place, run: Run) -> int:
    """Mend a damaged index: keep what is right, embed the rest again from its files, say what is lost.

    \b
    Example:
      iconicity index repair --index paintings.index
    """
    from iconicity.indexer.repair import repair_index

    repair = repair_index(index, run=run)
    for line in repair.done:
        echo_line(line)
    for line in repair.lost:
        echo_line(f"lost: {line}", err=True)
    if repair.unfinished:
        echo_line(
            f"{index}: its last command did not finish; run the same 'iconicity index build', 'add', 'remove' or 'merge' "
            "again, what is written is kept"
        )
    elif repair.lost:
        echo_line(
            f"{index}: {len(repair.lost)} lost; 'iconicity index build' brings back what the folder of references has"
        )
    else:
        echo_line(f"{index}: whole")
    return EXIT_SKIPPED if repair.lost else 0


def say_rehearsal(found: Rehearsed, what: Place) -> int:
    """Print what a command would do to ``what``, and return its exit code."""
    code = say_skipped(found.skipped, found.notices)
    echo_line(f"dry run: {what}: {found.line()}")
    if found.refused is not None:
        echo_line(f"dry run: the command would be refused: {found.refused}")
    return code


def say_build(report: BuildReport, index: Place) -> int:
    """Print what a change of an index did, and return the exit code."""
    code = say_skipped(report.skipped, report.notices)
    if not report.changed:
        echo_line(f"{index}: nothing has changed, 0 images embedded")
    else:
        echo_line(
            f"{index}: {counted(report.embedded, 'image')} embedded, {report.copied} copied from known vectors, {report.unchanged} unchanged, "
            f"{report.removed} removed, {len(report.skipped)} skipped"
        )
    _say_held(report)
    return code


def _say_held(report: BuildReport | MergeReport) -> None:
    kept, dropped = counted(report.kept, "reference"), counted(report.dropped, "near-duplicate")
    echo_line(f"{counted(report.concepts, 'concept')}, {kept} kept, {dropped} dropped")
    echo_line(f"index_id {report.index_id}")
