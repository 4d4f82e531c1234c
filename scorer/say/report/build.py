"""Make a report: thumbnails, then the data of its pages, a part at a time."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iconicity.indexer.options import Run
from iconicity.indexer.places import named, place
from iconicity.indexer.sources.folders import concept_name, read_concept_rows, shown
from iconicity.indexer.sources.tables import Tell
from iconicity.indexer.store.files import lock
from iconicity.indexer.store.index import Index
from iconicity.indexer.store.rows import Reference
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.measures import CRT
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.moved import UNMOVED, Moved
from iconicity.scorer.say.report.data import COLUMNS, ImageParts, Sweeps, needed_references, overview
from iconicity.scorer.say.report.labels import Labels
from iconicity.scorer.say.report.options import ReportOptions
from iconicity.scorer.say.report.pages import claim, drop_other_thumbnails, require_room, write_folder, write_single
from iconicity.scorer.say.report.surfaced import attribution, surfaced_part
from iconicity.scorer.say.report.thumbnails import Picture, make_thumbnails, thumbnail_key

_CREDITS = ("title", "artist", "year")


@dataclass
class Report:
    """Where a report is, and what it could not show."""

    page: Path
    images: int = 0
    concepts: int = 0
    problems: dict[str, str] = field(default_factory=dict)  # path -> why there is no thumbnail of it


def report(
    results: Path,
    index: Index,
    out: Path,
    options: ReportOptions = ReportOptions(),
    *,
    calibration: Calibration | None = None,
    moved: Moved = UNMOVED,
    labels: Labels | None = None,
    run: Run = Run(),
) -> Report:
    """Write a report of one results directory; nothing is embedded. ``out`` is a folder, or for a single file a file.

    ``calibration`` adds its thresholds and what unrelated references reach. ``moved``: where files lie now. ``labels``:
    what people said of these images. Of ``run`` the workers make thumbnails. Thumbnails that are there already are kept. Raises :class:`InputError` for a folder
    that holds other files, :class:`SettingsError` for an index the results were not scored against, or a calibration
    of other settings.
    """
    study = open_study(results, COLUMNS).with_calibration(calibration)
    study.require_index(index)
    summary = summarise(
        study,
        vi_scope=options.vi_scope,
        calibration=calibration,
        draws=options.draws,
        seed=options.seed,
        concepts=False,
    )
    references = needed_references(study, index)
    titles = options.titles or {}
    attributed = attribution(study, index, calibration, options)
    surfaced = 0 if attributed is None else attributed.table("references").reference.nunique()
    done = Report(out if options.single_file else out / "index.html", int(study.ok.sum()), len(study.concepts))
    pictures = _pictures(study, references, index, moved)
    pixels, title = index.settings["pixels"], named(str(results)).rpartition("/")[2] or "results"

    def parts(failed: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        sweeps = Sweeps.of(study, options.vi_scope)
        held = ImageParts(study, references, failed, index.specs[1].preprocess, pixels, labels)
        called = _calling(references, titles)
        shown = {"names": list(map(called, study.concepts)), "said": labels and labels.overview(), "surfaced": surfaced}
        yield "overview", overview(study, summary, index, sweeps, held, calibration) | shown
        if attributed is not None and surfaced:
            yield "surfaced", surfaced_part(attributed, study, held, called)
        yield CRT.key, sweeps.crt()
        yield "images", held.listing()
        for c, concept in enumerate(study.concepts):
            run.progress("concepts", c + 1, len(study.concepts))
            yield f"concept_{c}", held.concept(c, titles.get(concept, {}))
            for block, patches in enumerate(held.evidence(c)):
                yield f"evidence_{c}_{block}", patches

    def thumbnails(folder: Path) -> dict[str, str]:
        failed = make_thumbnails(
            pictures.values(), folder, pixels, run.processes(len(pictures)), run.max_pixels, run.progress
        )
        done.problems = {shown(place(pictures[sha].path)): reason for sha, reason in failed.items()}
        return failed

    if options.single_file:
        with tempfile.TemporaryDirectory() as made:
            write_single(out, title, parts(thumbnails(Path(made))), Path(made))
        return done
    require_room(out)
    with lock(out, "writing this report"):
        claim(out)
        write_folder(out, title, parts(thumbnails(out)))
        drop_other_thumbnails(out, {thumbnail_key(sha, pixels) for sha in pictures})
    return done


def _calling(references: Mapping[str, Reference], titles: Mapping[str, Mapping[str, str]]) -> Callable[[str], str]:
    """What people call a concept: its title, else the name of its folder of references as it is written there."""
    folders = {r.concept: str(r.path).rpartition("/")[0].rpartition("/")[2] for r in references.values()}

    def called(concept: str) -> str:
        own = folders.get(concept, "")
        written = own if concept_name(own) == concept else concept
        return titles.get(concept, {}).get("title") or written.replace("_", " ").strip()

    return called


def _pictures(study: Study, references: Mapping[str, Reference], index: Index, moved: Moved) -> dict[str, Picture]:
    """Everything that is shown, by SHA-256."""
    columns = ("model", "gen_relpath", "gen_path", "gen_sha256")
    rows = list(zip(*(study.table.column(c).to_pylist() for c in columns), strict=True))
    found: dict[str, Picture] = {}
    models = list(dict.fromkeys(model for model, *_ in rows))
    moved.require_models(models)
    for model in models:
        mine = [(relpath, path, sha) for of, relpath, path, sha in rows if of == model and sha]
        paths = moved.images(model, index, {relpath: path for relpath, path, _ in mine})
        found |= {sha: Picture(paths[relpath], sha) for relpath, _, sha in mine}
    now = moved.references(references)
    return found | {r.sha256: Picture(now[r.ref_id], r.sha256) for r in references.values()}


def read_titles(path: Path, concept_col: str, tell: Tell = warnings.warn) -> dict[str, dict[str, str]]:
    """Concept -> title, artist and year, of the columns a table has of these.

    ``tell`` gets a line on what a user should know. Raises :class:`InputError`.
    """
    rows = read_concept_rows(path, {concept_col: "`concept_col`"}, _CREDITS, tell)
    if rows and not any(column in rows[0][1] for column in _CREDITS):
        tell(f"{path}: no column is one of {', '.join(_CREDITS)}, so that no concept gets a title")
    return {concept: {k: row[k] for k in _CREDITS if row.get(k)} for concept, row in rows}
