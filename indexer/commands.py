"""``iconicity index ...``: parse, call, print. Heavy imports stand inside the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iconicity.indexer.command_line import (
    EXIT_SKIPPED,
    PLACE,
    csv_options,
    dry_run_option,
    encoder_options,
    engine_of,
    engine_options,
    index_option,
    links_option,
    loader,
    location_options,
    progress_bar,
    read_prompt_csv,
    say_note,
    say_problems,
    say_skipped,
    shard_option,
    speed_options,
)
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import mending
from iconicity.indexer.help import group
from iconicity.indexer.left_out import left_out_lines
from iconicity.indexer.text import counted, echo, echo_line, json_text

if TYPE_CHECKING:
    from iconicity.indexer.builder import BuildReport
    from iconicity.indexer.merge import MergeReport
    from iconicity.indexer.places import Place
    from iconicity.indexer.rehearsal import Rehearsal
    from iconicity.indexer.shards import Shard


@group()
def index() -> None:
    """Build and look after an index of reference images.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index
    """


@index.command("build")
@click.option(
    "--refs",
    "--refdir",
    "refs",
    type=PLACE,
    required=True,
    help="Folder or URL with one folder of images for each concept.",
)
@index_option
@csv_options
@links_option
@encoder_options
@click.option("--grid-rows", type=click.IntRange(1), default=4, show_default=True)
@click.option("--grid-cols", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--reference-cells",
    type=click.Choice(["grid", "overlapping"]),
    default="grid",
    show_default=True,
    help="Overlapping: references have the cells at half steps too (49 for 16), to find what was moved.",
)
@click.option(
    "--dedup-distance",
    type=click.IntRange(0, 64),
    default=18,
    show_default=True,
    help="pHash distance at or below which a reference is a duplicate.",
)
@click.option("--no-dedup", is_flag=True, help="Keep every reference.")
@click.option(
    "--pixels",
    type=click.Choice(["shown", "published"]),
    default="shown",
    show_default=True,
    help="Pixels of images: as viewers show them (rotated, 16 bit scaled, over white, in sRGB), or as the published scripts read them.",
)
@click.option(
    "--patch-mode",
    type=click.Choice(["crop", "token"]),
    default="crop",
    show_default=True,
    help="Embed each cell alone, or the image once and average its tokens cell by cell (faster; other numbers).",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the forward passes.",
)
@click.option(
    "--vectors",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How vectors are stored; float16 halves the index and moves a cosine by up to 5e-5.",
)
@click.option("--prune", is_flag=True, help="Remove references whose files are not among the images given now.")
@dry_run_option
@shard_option
@speed_options
@engine_options
def index_build(
    refs: Place, index: Place, prompt_csv: Path | None, slug_col: str, encoders: EncoderOptions, device: str,
    grid_rows: int, grid_cols: int, reference_cells: str, dedup_distance: int, no_dedup: bool, pixels: str, vectors: str, follow_links: bool, prune: bool, dry_run: bool, shard: Shard | None, batch_size: int | None, workers: int | None, max_pixels: int, where: Mapping[str, Any],
) -> int:  # fmt: skip
    """Embed every reference once. Run again, it embeds only what is new or changed.

    \b
    Example:
      iconicity index build --refs refs/ --index paintings.index --prompt-csv prompts.csv
    """
    from iconicity.indexer.build import build_index
    from iconicity.indexer.encode.encoder import load_encoders
    from iconicity.indexer.options import IndexOptions, Run, Select

    select = Select(read_prompt_csv(prompt_csv, slug_col), shard, follow_links)
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_build

        return _say_rehearsal(rehearse_build(refs, index, prune=prune, select=select), index)
    engine = engine_of(EncoderOptions(), device, where)  # which load what was found here
    loaded = load_encoders(encoders, device if engine is None else "cpu")  # with an engine for their specs alone
    for spec in {e.spec.fingerprint: e.spec for e in (loaded.clip, loaded.dino)}.values():
        if spec.source.get("images_a_run") == 1:
            say_note(f"{spec.label}: images are run one at a time, since a row of this model depends on its batch")
    report = build_index(
        refs,
        index,
        loaded,
        IndexOptions((grid_rows, grid_cols), reference_cells, None if no_dedup else dedup_distance, pixels, vectors),
        prune=prune,
        select=select,
        run=Run(None, device, engine, batch_size, workers, max_pixels, progress=progress_bar()),
    )
    return _say_build(report, index)


@index.command("add")
@click.option("--refs", "--refdir", "refs", type=PLACE, required=True, help="Folder or URL with new files or concepts.")
@index_option
@csv_options
@links_option
@dry_run_option
@location_options
@speed_options
@engine_options
def index_add(
    refs: Place, index: Place, dry_run: bool, prompt_csv: Path | None, slug_col: str, batch_size: int | None, workers: int | None,
    max_pixels: int, follow_links: bool, where: Mapping[str, Any], encoders: EncoderOptions, device: str,
) -> int:  # fmt: skip
    """Add new files or concepts to an index; nothing is removed.

    \b
    Example:
      iconicity index add --refs more_refs/ --index paintings.index
    """
    from iconicity.indexer.build import add_references
    from iconicity.indexer.options import Run, Select

    select = Select(read_prompt_csv(prompt_csv, slug_col), None, follow_links)
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_add

        return _say_rehearsal(rehearse_add(refs, index, select=select), index)
    engine = engine_of(encoders, device, where)
    run = Run(loader(encoders, device), device, engine, batch_size, workers, max_pixels, progress=progress_bar())
    report = add_references(refs, index, select=select, run=run)
    return _say_build(report, index)


@index.command("remove")
@index_option
@click.option("--concept", "concepts", multiple=True, help="A concept to remove. May be repeated.")
@click.option("--ref", "ref_ids", multiple=True, help="A reference to remove, as <concept>/<file>. May be repeated.")
@click.option("--purge", is_flag=True, help="Write the index's files anew, so that no byte of what goes is left.")
@dry_run_option
@location_options
@speed_options
def index_remove(
    index: Place, concepts: Sequence[str], ref_ids: Sequence[str], purge: bool, dry_run: bool, batch_size: int | None, workers: int | None,
    max_pixels: int, encoders: EncoderOptions, device: str,
) -> int:  # fmt: skip
    """Remove concepts or single references; duplicates of what goes take its place.

    \b
    Example:
      iconicity index remove --index paintings.index --concept water_lilies
    """
    from iconicity.indexer.build import remove_references
    from iconicity.indexer.options import Run

    if not concepts and not ref_ids:
        raise click.UsageError("name what to remove with --concept or --ref")
    if dry_run:
        from iconicity.indexer.rehearsal import rehearse_remove

        return _say_rehearsal(rehearse_remove(index, concepts=concepts, ref_ids=ref_ids), index)
    report = remove_references(
        index, concepts=concepts, ref_ids=ref_ids, purge=purge,
        run=Run(loader(encoders, device), device, None, batch_size, workers, max_pixels, progress=progress_bar()),
    )  # fmt: skip
    return _say_build(report, index)


@index.command("merge")
@click.argument("parts", type=PLACE, nargs=-1, required=True)
@index_option
def index_merge(parts: Sequence[Place], index: Place) -> int:
    """Write the rows of finished indexes into one: what tasks built with --shard. Nothing is embedded.

    \b
    Example:
      iconicity index merge parts/1 parts/2 --index merged.index
    """
    from iconicity.indexer.merge import merge_indexes
    from iconicity.indexer.sources.suffixes import passed_over

    report = merge_indexes(parts, index, progress_bar())
    code = say_skipped(report.skipped, [*left_out_lines({"": report.left_out}), *passed_over(report.skipped)])
    echo_line(
        f"{index}: {counted(report.merged, 'reference')} of {counted(len(parts), 'part')} written, {counted(report.unchanged, 'was', 'were')} there already"
    )
    _say_held(report)
    return code


@index.command("info")
@index_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def index_info(index: Place, as_json: bool) -> int:
    """Say what an index holds: references kept and dropped, encoders, grid, size, versions.

    \b
    Example:
      iconicity index info --index paintings.index
    """
    from iconicity.indexer.info import LISTED, index_facts, info_text

    facts = index_facts(index, concepts=False)
    if as_json or facts["counts"]["references"] <= LISTED:
        facts = index_facts(index)
    echo(json_text(facts) if as_json else info_text(facts))
    return 0


@index.command("log")
@index_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def index_log(index: Place, as_json: bool) -> int:
    """Say what was done to an index: when, what, by which version, from which files.

    \b
    Example:
      iconicity index log --index paintings.index
    """
    from iconicity.indexer.info import log_text
    from iconicity.indexer.store.manifest import read_manifest

    log = read_manifest(index)["log"]
    echo(json_text(log) if as_json else log_text(log))
    return 0


MOVED = "if the references were moved, name their folder with --refs"


@index.command("verify")
@index_option
@click.option("--deep", is_flag=True, help="Read every source image again too, where it was indexed from.")
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
@location_options
@speed_options
def index_repair(
    index: Place, batch_size: int | None, workers: int | None, max_pixels: int, encoders: EncoderOptions, device: str
) -> int:  # fmt: skip
    """Mend a damaged index: keep what is right, embed the rest again from its files, say what is lost.

    \b
    Example:
      iconicity index repair --index paintings.index
    """
    from iconicity.indexer.options import Run
    from iconicity.indexer.repair import repair_index

    run = Run(loader(encoders, device), device, None, batch_size, workers, max_pixels, progress=progress_bar())
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


def _say_rehearsal(found: Rehearsal, index: Place) -> int:
    code = say_skipped(found.skipped, found.notices)
    echo_line(f"dry run: {index}: {found.line()}")
    if found.refused is not None:
        echo_line(f"dry run: the command would be refused: {found.refused}")
    return code


def _say_build(report: BuildReport, index: Place) -> int:
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
