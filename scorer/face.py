"""Indexes and results as objects, for scripts and notebooks. Everything is done elsewhere; docs/python.md shows each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iconicity.indexer.build import add_references, build_index, remove_references
from iconicity.indexer.builder import BuildReport
from iconicity.indexer.encode.encoder import Encoders, load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.info import index_facts
from iconicity.indexer.options import IndexOptions, Run, Select
from iconicity.indexer.places import Place, local, place
from iconicity.indexer.progress import within
from iconicity.indexer.store import index as stored
from iconicity.indexer.store.cache import VectorCache, default_directory
from iconicity.indexer.store.verify import verify_index
from iconicity.indexer.text import counted
from iconicity.scorer.measure.finding import ALL, Finding, Layout, as_text, write_finding
from iconicity.scorer.models import models_at, require_apart
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import index_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from iconicity.scorer.measure.calibrate.calibration import Calibration
    from iconicity.scorer.measure.study import Study
    from iconicity.scorer.scoring import ScoreReport


@dataclass(frozen=True, repr=False)
class Table:
    """One table of a finding: text in a terminal, HTML in a notebook, ``frame`` for pandas."""

    finding: Finding
    name: str
    layout: Layout = ALL

    @property
    def frame(self) -> pd.DataFrame:
        """All columns in full precision. Columns ``x_low`` and ``x_high`` are the interval of column ``x``."""
        return self.finding.table(self.name)

    @property
    def notes(self) -> Sequence[str]:
        """What to know about the numbers."""
        return self.finding.notes

    def write(self, path: Path | str) -> list[Path]:
        """The files written: .csv, .parquet, .tex or .json by the ending of ``path``, and a .meta.json beside it."""
        return write_finding(self.finding, local(path), self.name, layout=self.layout)

    def __repr__(self) -> str:
        return as_text(self.finding, self.name, layout=self.layout)

    def _repr_html_(self) -> str:
        frame, shown = self.layout.of(self.finding, self.name)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        digits = self.layout.digits
        return (
            frame[shown].to_html(index=False, na_rep="", float_format=f"{{:.{digits}f}}".format) + f"<ul>{notes}</ul>"
        )


class Index:
    """An index of reference images at a location."""

    def __init__(self, opened: stored.Index, report: BuildReport | None = None) -> None:
        self.opened = opened
        self.report = report  # what the last change of the index did, where this object made it

    @classmethod
    def build(
        cls,
        refs: Place | str,
        location: Place | str,
        encoders: str | EncoderOptions | Encoders = "paper",
        options: IndexOptions = IndexOptions(),
        *,
        prune: bool = False,
        select: Select = Select(),
        run: Run = Run(),
    ) -> Index:
        """The index of ``refs/<concept>/*`` at ``location``, made or brought up to date.

        ``encoders`` are a preset's name, a choice, or loaded ones. See :func:`iconicity.indexer.build.build_index`.
        """
        report = build_index(refs, location, _loaded(encoders, run), options, prune=prune, select=select, run=run)
        return cls(stored.open_index(location), report)

    @classmethod
    def open(cls, location: Place | str) -> Index:
        """An index that is there. Raises :class:`IndexFormatError` or :class:`CorruptIndexError`."""
        return cls(stored.open_index(location))

    def add(self, refs: Place | str, *, select: Select = Select(), run: Run = Run()) -> BuildReport:
        """Add files or concepts, and say what was done. Nothing is removed."""
        return self._changed(add_references(refs, self.opened.path, select=select, run=run))

    def remove(
        self, *, concepts: Sequence[str] = (), references: Sequence[str] = (), purge: bool = False, run: Run = Run()
    ) -> BuildReport:
        """Remove concepts, or references named <concept>/<file>, and say what was done.

        ``purge`` writes the files of the index anew, so that no byte of what was removed is left.
        """
        at = self.opened.path
        return self._changed(remove_references(at, concepts=concepts, ref_ids=references, purge=purge, run=run))

    def score(
        self,
        generated: Mapping[str, Place | str],
        out: Path | str,
        options: ScoreOptions = ScoreOptions(),
        *,
        calibration: Path | str | None = None,
        select: Select = Select(),
        writing: Writing = Writing(),
        run: Run = Run(),
    ) -> Results:
        """Results of ``generated`` (model -> folder of its images) in the directory ``out``.

        Vectors are kept in the cache of ``run``, or the user's own. See :func:`iconicity.scorer.scoring.score`.
        """
        from iconicity.scorer.scoring import score

        report = score(
            self.opened, generated, out, options, calibration=_calibration(calibration), select=select, writing=writing,
            run=_with_cache(run),
        )  # fmt: skip
        return Results([local(out)], report=report)

    def search(self, image: Place | str, k: int = 10, *, run: Run = Run()) -> Table:
        """The ``k`` nearest references of an image (rows without a patch), and the nearest cells of each patch."""
        import pandas as pd

        from iconicity.scorer.search import search_image

        hits = search_image(image, self.opened, k, default_directory(), run)
        ranked: list[tuple[int | None, int, Any]] = [(None, rank, hit) for rank, hit in enumerate(hits["image"], 1)]
        ranked += [(p, rank, hit) for p, found in enumerate(hits["patches"]) for rank, hit in enumerate(found, 1)]
        rows = [{"patch": patch, "rank": rank, **hit} for patch, rank, hit in ranked]
        frame = pd.DataFrame(rows).astype({"patch": "Int64", "cell": "Int64"})
        shown = {"hits": [str(c) for c in frame if c != "path"]}
        return Table(Finding({"hits": frame}, [f"encoders: {'; '.join(hits['encoders'])}"], shown=shown), "hits")

    def info(self) -> dict[str, Any]:
        """What the index holds: encoders, counts, size, versions, and the references of each concept."""
        return index_facts(self.opened.path)

    def verify(self, *, deep: bool = False) -> list[str]:
        """Problems of the stored bytes, none for a whole index. ``deep`` reads every source image again, too."""
        return verify_index(self.opened.path, deep=deep)

    def _changed(self, report: BuildReport) -> BuildReport:
        self.opened, self.report = stored.open_index(self.opened.path), report
        return report

    def __repr__(self) -> str:
        counts, settings, (clip, dino) = self.opened.manifest["counts"], self.opened.settings, self.opened.specs
        rows, cols = self.opened.grid
        return "\n".join(
            [
                f"Index {self.opened.path}: {counted(counts['concepts'], 'concept')}, {counted(counts['kept'], 'reference')} kept, "
                f"{counted(counts['dropped'], 'near-duplicate')} dropped",
                f"  global encoder {clip.label}; patch encoder {dino.label}",
                f"  grid {rows} x {cols}, {settings['patch_mode']} mode, pixels {settings['pixels']}",
            ]
        )


class Results:
    """Scores of generated images, in one or more results directories of the same settings."""

    def __init__(
        self,
        locations: Sequence[Path],
        *,
        calibration: Path | str | None = None,
        tau_cra: float | None = None,
        tau_vr: float | None = None,
        report: ScoreReport | None = None,
    ) -> None:
        self.locations = list(locations)
        self.scored = report  # what the scoring run did, where this object is its result
        self.built: BuildReport | None = None  # what the build of the index did, and
        self.page: Path | None = None  # the first page of the report, where evaluate() made both
        self._calibration = calibration
        self._tau = {"tau_cra": tau_cra, "tau_vr": tau_vr}

    @classmethod
    def open(
        cls,
        *locations: Path | str,
        calibration: Path | str | None = None,
        tau_cra: float | None = None,
        tau_vr: float | None = None,
    ) -> Results:
        """Results that are there. A calibration.json adds its thresholds to each table; thresholds left None are the results' own."""
        found = cls([local(at) for at in locations], calibration=calibration, tau_cra=tau_cra, tau_vr=tau_vr)
        found.study()
        return found

    @property
    def models(self) -> tuple[str, ...]:
        """Models, each with its variants as NAME@VARIANT."""
        return self.study().models

    @property
    def concepts(self) -> tuple[str, ...]:
        """Concepts that have generated images."""
        return self.study().concepts

    @property
    def index(self) -> Index:
        """The index that the results were scored against, where it lies now. Raises :class:`InputError`."""
        return Index.open(index_of(self.study().sources[0]))

    def study(self, *columns: str) -> Study:
        """The rows as arrays, with further columns of the results where they are named."""
        from iconicity.scorer.measure.study import open_study

        return open_study(self.locations, columns, **self._tau)

    def summary(self, table: str = "models", *, aggregate: str = "macro", draws: int = 10_000, seed: int = 0) -> Table:
        """CRA, VR, VI and CRT of each model, with 95 % intervals; ``table`` concepts: of each concept."""
        from iconicity.scorer.measure.summary import summarise

        found = summarise(
            self.study("p_ref_cell"), aggregate=aggregate, calibration=self._read_calibration(), draws=draws, seed=seed,
            concepts=table == "concepts",
        )  # fmt: skip
        return Table(found, table)

    def compare(self, *models: str, table: str = "pairs", draws: int = 10_000, seed: int = 0) -> Table:
        """Differences between models, the first minus the second, over the concepts that both have."""
        from iconicity.scorer.measure.compare import compare

        found = compare(
            self.study(),
            models,
            calibration=self._read_calibration(),
            draws=draws,
            seed=seed,
            concepts=table == "concepts",
        )
        return Table(found, table)

    def sweep(self, table: str = "curves", *, step: float = 0.05, draws: int = 10_000, seed: int = 0) -> Table:
        """CRA, VR and CRT at every threshold; ``table`` flips: where two models change places."""
        from iconicity.scorer.measure.sweep import sweep

        found = sweep(self.study(), step=step, calibration=self._read_calibration(), draws=draws, seed=seed)
        return Table(found, table)

    def sentences(self) -> list[str]:
        """What was found, in plain words: what each model recognises and reuses, and what to look at first."""
        from iconicity.scorer.say.plain import sentences

        return sentences(self.study("p_ref_cell"))

    def evidence(self, image: str) -> Figure:
        """One generated image, MODEL/CONCEPT/FILE, beside the reference that most of its reused patches match."""
        from iconicity.scorer.say.figures import EVIDENCE_COLUMNS, evidence

        return evidence(self.study(*EVIDENCE_COLUMNS), self.index.opened, image)

    def report(self, out: Path | str, *, single_file: bool = False, run: Run = Run()) -> Path:
        """The first page of a report that is written to the folder ``out``, or to one file."""
        from iconicity.scorer.say.report.build import report
        from iconicity.scorer.say.report.options import ReportOptions
        from iconicity.scorer.validate.labels import labels_of_study

        (location,) = self.locations
        done = report(
            location, self.index.opened, local(out), ReportOptions(single_file=single_file),
            calibration=self._read_calibration(), labels=labels_of_study(location), run=run,
        )  # fmt: skip
        return done.page

    def _read_calibration(self) -> Calibration | None:
        """The calibration whose thresholds the tables show beside the results' own; None: none was named."""
        return _calibration(self._calibration)

    def __repr__(self) -> str:
        study = self.study()
        models = ", ".join(study.models)
        tau = ", ".join(f"tau_{metric} {value}" for metric, value in study.tau.items() if value is not None)
        head = (
            f"Results {', '.join(map(str, self.locations))}: {counted(len(study.model), 'image')}, "
            f"{counted(len(study.models), 'model')} ({models}), {counted(len(study.concepts), 'concept')}"
        )
        scope = f"  mode {study.mode}, scope {study.settings['scope']}; {tau or 'no threshold'}"
        return "\n".join([head, scope, *(f"  {note}" for note in study.notes)])


def evaluate(
    refs: Place | str,
    generated: Mapping[str, Place | str] | Place | str,
    out: Path | str,
    *,
    encoders: str | EncoderOptions | Encoders = "paper",
    scoring: ScoreOptions = ScoreOptions(),
    select: Select = Select(),
    prune: bool = False,
    run: Run = Run(),
) -> Results:
    """Results of generated images against references: index, scores and report, all below the folder ``out``.

    ``generated``: model -> folder of its images, or one folder as :func:`iconicity.scorer.models.models_at` understands
    it. Run again, only what is new is embedded. References and scores whose files are gone are removed with ``prune``,
    else :class:`InputError` names them. The results say what was done in ``built``, ``scored`` and ``page``.
    """
    folder, references = local(out), place(refs)
    if not isinstance(generated, Mapping):
        generated = models_at(place(generated), references, select.follow_links).generated
    require_apart(references, [place(at) for at in generated.values()], folder)

    def stage(number: str) -> Run:
        return replace(run, progress=within(number, run.progress))

    index = Index.build(references, folder / "index", encoders, prune=prune, select=select, run=stage("1 of 3"))
    writing = Writing(update=True, replace=prune)
    results = index.score(generated, folder / "results", scoring, select=select, writing=writing, run=stage("2 of 3"))
    results.built = index.report
    results.page = results.report(folder / "report", run=stage("3 of 3"))
    return results


def _loaded(encoders: str | EncoderOptions | Encoders, run: Run) -> Encoders:
    if isinstance(encoders, Encoders):
        return encoders
    options = EncoderOptions(encoders) if isinstance(encoders, str) else encoders
    return load_encoders(options, run.device)


def _with_cache(run: Run) -> Run:
    """The run with the user's own cache, where it names none."""
    return run if run.cache is not None else replace(run, cache=VectorCache(default_directory()))


def _calibration(path: Path | str | None) -> Calibration | None:
    from iconicity.scorer.measure.calibrate.calibration import read_calibration

    return None if path is None else read_calibration(local(path))
