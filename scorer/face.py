"""Indexes and results as objects, for scripts and notebooks. Everything is done elsewhere; docs/python.md shows each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from iconicity.scorer.measure.calibrate.options import CalibrationOptions
from iconicity.scorer.measure.intervals import DRAWS
from iconicity.scorer.models import models_at, require_apart
from iconicity.scorer.options import AttributeFiles, ScoreOptions, Writing
from iconicity.scorer.results import STUDY, index_of, require_results, results_in
from iconicity.scorer.table import Table
from iconicity.scorer.validate.words import COPIED, NOT_COPIED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iconicity.scorer.measure.calibrate.calibration import Calibration
    from iconicity.scorer.measure.study import Study
    from iconicity.scorer.scoring import ScoreReport
    from iconicity.scorer.validate.labelled import Label


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

        run = run if run.cache is not None else replace(run, cache=VectorCache(default_directory()))
        held = Results([], calibration=calibration).calibration()
        report = score(self.opened, generated, out, options, calibration=held, select=select, writing=writing, run=run)
        return Results([local(out)], report=report)

    def search(self, image: Place | str, k: int = 10, *, run: Run = Run()) -> Table:
        """The ``k`` nearest references of an image (rows without a patch), and the nearest cells of each patch."""

        from iconicity.scorer.search import hits_finding, search_image

        return Table(hits_finding(search_image(image, self.opened, k, default_directory(), run)), "hits")

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
    """Scores of generated images, in one or more results directories of the same settings.

    Methods that draw take ``draws``, the bootstrap samples of each interval, and their ``seed``.
    """

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
        """Results that are there, also by the folder of their study. A calibration.json adds its thresholds to each table; thresholds left None are the results' own."""
        found = cls(
            [results_in(local(at)) for at in locations], calibration=calibration, tau_cra=tau_cra, tau_vr=tau_vr
        )
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
        return Index.open(index_of(require_results(self.locations[0])))

    def study(self, *columns: str) -> Study:
        """The rows as arrays, with further columns of the results where they are named."""
        from iconicity.scorer.measure.study import open_study

        return open_study(self.locations, columns, **self._tau)

    def calibration(self, *, beside: bool = False, thresholds: bool = True) -> Calibration | None:
        """The calibration that was named, else (``beside``) that of the first directory; see :func:`calibration_beside`."""
        from iconicity.scorer.measure.calibrate.calibration import calibration_beside, read_calibration

        named = None if self._calibration is None else local(self._calibration)
        if beside:
            return calibration_beside(self.locations[0], named, thresholds=thresholds)
        return None if named is None else read_calibration(named)

    def summary(
        self, table: str = "models", *, aggregate: str = "macro", vi_scope: str = "recognised", draws: int = DRAWS, seed: int = 0
    ) -> Table:  # fmt: skip
        """CRA, VR, VI and CRT of each model, with 95 % intervals; ``table`` concepts: of each concept; patches: each reused one."""
        from iconicity.scorer.measure.patches import COLUMNS
        from iconicity.scorer.measure.summary import summarise

        found = summarise(
            self.study(*COLUMNS), self.calibration(), vi_scope=vi_scope, aggregate=aggregate, draws=draws, seed=seed,
            concepts=table == "concepts", patches=table == "patches",
        )  # fmt: skip
        return Table(found, table)

    def compare(
        self, *models: str, table: str = "pairs", vi_scope: str = "recognised", draws: int = DRAWS, seed: int = 0
    ) -> Table:
        """Differences between models, the first minus the second, over the concepts that both have."""
        from iconicity.scorer.measure.compare import compare

        study, held, both = self.study(), self.calibration(), table == "concepts"
        found = compare(study, models, vi_scope=vi_scope, calibration=held, draws=draws, seed=seed, concepts=both)
        return Table(found, table)

    def sweep(
        self, table: str = "curves", *, step: float = 0.05, vi_scope: str = "recognised", draws: int = DRAWS, seed: int = 0
    ) -> Table:  # fmt: skip
        """CRA, VR and CRT at every threshold; ``table`` flips: where two models change places."""
        from iconicity.scorer.measure.sweep import sweep

        study, held = self.study(), self.calibration()
        return Table(sweep(study, step=step, vi_scope=vi_scope, calibration=held, draws=draws, seed=seed), table)

    def attribute(
        self, index: Index | None = None, table: str = "models", *, draws: int = DRAWS, seed: int = 0
    ) -> Table:
        """Which concept each image resembles most, of results with scope all; ``table`` concepts, confusion, images or references."""
        from iconicity.scorer.measure.attribute import COLUMNS, attribute

        opened, held = (index or self.index).opened, self.calibration()
        return Table(attribute(self.study(*COLUMNS), opened, held, draws=draws, seed=seed), table)

    def correlate(
        self, attributes: AttributeFiles | Path | str, table: str = "pairs", *, vi_scope: str = "recognised", draws: int = DRAWS, seed: int = 0
    ) -> Table:  # fmt: skip
        """Rank correlations of the measures with attributes of the concepts; ``table`` values: what was correlated."""
        from iconicity.scorer.measure.attributes import concept_attributes
        from iconicity.scorer.measure.correlate import correlate

        study, held = self.study(), self.calibration()
        files = attributes if isinstance(attributes, AttributeFiles) else AttributeFiles(local(attributes))
        read, drawn = concept_attributes(study.concepts, **vars(files)), {"draws": draws, "seed": seed}
        return Table(
            correlate(study, read, controls=files.controls, vi_scope=vi_scope, calibration=held, **drawn), table
        )

    def sentences(self) -> list[str]:
        """What was found, in plain words: what each model recognises and reuses, and what to look at first."""
        from iconicity.scorer.say.plain import sentences

        return sentences(self.study("p_ref_cell"))

    def export(self, *, draws: int = DRAWS, seed: int = 0) -> Table:
        """A row for each image and measure, to write as a file; a file that ends in .json holds the models' scalars."""
        from iconicity.scorer.measure.export import COLUMNS, export
        from iconicity.scorer.measure.summary import summarise

        study, held = self.study(*COLUMNS), self.calibration()
        return Table(export(study, summarise(study, held, draws=draws, seed=seed, concepts=False), held), "long")

    def check(
        self, *rules: str, of: str = "image", least_n: int = 1, table: str = "failures", draws: int = DRAWS, seed: int = 0
    ) -> Table:  # fmt: skip
        """What breaks a rule such as "vr > 0.5", of each ``of``: image, concept or model; ``table`` undefined: what no rule judges."""
        from iconicity.scorer.measure.check import check

        study, held = self.study("p_ref_cell"), self.calibration(beside=True)
        return Table(check(study, rules, of, calibration=held, least_n=least_n, draws=draws, seed=seed), table)

    def labels(
        self, labels: Sequence[Label] | Path | str, copied: Sequence[str] = COPIED, not_copied: Sequence[str] = (),
        table: str = "scores", *, draws: int = DRAWS, seed: int = 0,
    ) -> Table:  # fmt: skip
        """How well scores tell copies from other outputs of a concept, by ``labels`` of people: a table, or its rows.

        ``copied``: words that mean copied. ``not_copied``: words that mean the opposite, beside those that always do.
        """
        from iconicity.scorer.validate.labelled import read_labels, word
        from iconicity.scorer.validate.labels import validate_labels

        others = [*not_copied, *(w for w in NOT_COPIED if w not in map(word, copied))]
        rows = read_labels(local(labels)) if isinstance(labels, (Path, str)) else labels
        study, held = self.study("gen_path"), self.calibration()
        return Table(validate_labels(study, rows, copied, others, draws, seed, held), table)

    def calibrate(
        self, index: Index | None = None, options: CalibrationOptions = CalibrationOptions(), *,
        apply: Path | str | None = None, to: Path | str | None = None, run: Run = Run(),
    ) -> Table:  # fmt: skip
        """The thresholds at a false-positive rate, written to ``to``, else to calibration.json in the first directory.

        ``apply``: a calibration that is used as it is; then only the images are compared with its concepts.
        """
        from iconicity.scorer.measure.calibrate.calibrate import calibration_finding

        at = (index or self.index).opened, run.cache or VectorCache(default_directory())
        path, used = local(to or self.locations[0] / "calibration.json"), None if apply is None else local(apply)
        found = calibration_finding(self.study(), *at, options, apply=used, to=path, progress=run.progress)
        return Table(found, "thresholds")

    def plot(self, figure: str, *, measure: str | None = None, draws: int = DRAWS, seed: int = 0) -> Figure:
        """A figure for print: bars, recognition, curves, heatmap or nulls. ``measure``: of curves and a heat map, else CRT."""
        from iconicity.scorer.say.figures import figure_of

        held = self.calibration(beside=True, thresholds=False) if figure == "nulls" else None
        return figure_of(figure, self.study(), measure, held, draws, seed)

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
            calibration=self.calibration(beside=True), labels=labels_of_study(location), run=run,
        )  # fmt: skip
        return done.page

    def reproduce(self, table: str = "models", *, run: Run = Run()) -> Table:
        """How many rows are the same when the images are scored again; ``table`` differences: the rows that are not."""
        from iconicity.scorer.reproduce import reproduce_results

        (location,) = self.locations
        return Table(reproduce_results(require_results(location), self.index.opened, run=run), table)

    def verify(self) -> list[str]:
        """Problems of the stored bytes, none for whole results."""
        from iconicity.scorer.verify import verify_results

        return [problem for location in self.locations for problem in verify_results(location)]

    def __repr__(self) -> str:
        study = self.study()
        tau = ", ".join(f"tau_{metric} {value}" for metric, value in study.tau.items() if value is not None)
        head = (
            f"Results {', '.join(map(str, self.locations))}: {counted(len(study.model), 'image')}, "
            f"{counted(len(study.models), 'model')} ({', '.join(study.models)}), {counted(len(study.concepts), 'concept')}"
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
    writing = Writing(update=True, prune=prune)
    results = index.score(generated, folder / STUDY, scoring, select=select, writing=writing, run=stage("2 of 3"))
    results.built = index.report
    results.page = results.report(folder / "report", run=stage("3 of 3"))
    return results


def _loaded(encoders: str | EncoderOptions | Encoders, run: Run) -> Encoders:
    if isinstance(encoders, Encoders):
        return encoders
    options = EncoderOptions(encoders) if isinstance(encoders, str) else encoders
    return load_encoders(options, run.device)
