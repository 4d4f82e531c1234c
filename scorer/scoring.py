"""Score folders of generated images against an index; rows that are known are not computed again."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from iconicity.indexer.cached import CachedVectors, Unread
from iconicity.indexer.encode.batch import Vectors
from iconicity.indexer.encode.encoder import Encoders, reproduce
from iconicity.indexer.encode.engine import Engine, Outcome, Plan, Runner
from iconicity.indexer.encode.fit import areas_seen
from iconicity.indexer.encode.pixels import note_names
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import NOTHING, Wanted, fill
from iconicity.indexer.left_out import LeftOut, Skipped, left_out_lines, renewed
from iconicity.indexer.null.neighbours import open_neighbours
from iconicity.indexer.options import Run, Select
from iconicity.indexer.places import Place, local
from iconicity.indexer.sources.image import Image, stored_image
from iconicity.indexer.store.files import lock, sweep
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.text import counted
from iconicity.scorer.caveats import caveats
from iconicity.scorer.choose import Chosen, Selected, choose_images
from iconicity.scorer.left_out import INDEX, NO_REFERENCES, NOT_NAMED, missing, of_index
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.everywhere import Elsewhere
from iconicity.scorer.measure.judgement import departures, of_settings
from iconicity.scorer.measure.metrics import DEFAULT_TAU_CRA, DEFAULT_TAU_VR
from iconicity.scorer.measure.own import OwnConcept
from iconicity.scorer.measure.shards import open_shards, require_served
from iconicity.scorer.options import METRICS, ScoreOptions, Writing
from iconicity.scorer.replacing import Lost, lost_rows, require_kept
from iconicity.scorer.results import (
    SCHEMA,
    Record,
    Results,
    ScoresWriter,
    open_results,
    require_results,
    require_same_settings,
    writing_scores,
)
from iconicity.scorer.say.csv import is_scored
from iconicity.scorer.say.derived import write_derived
from iconicity.scorer.thresholds import beside_given, thresholds_for

_TOGETHER = 64  # images matched against all concepts at once


@dataclass
class ScoreReport:
    """What a scoring run did, and the files it wrote."""

    embedded: int = 0  # images that went through a forward pass
    forwards: int = 0  # network inputs that did
    scored: int = 0  # rows of the models asked for that have scores
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    tau: dict[str, float | None] = field(default_factory=dict)


def score(
    index: Index | Place | str,
    generated: Mapping[str, Place | str | Chosen],
    out: Path | str,
    options: ScoreOptions = ScoreOptions(),
    *,
    calibration: Calibration | None = None,
    select: Select = Select(),
    writing: Writing = Writing(),
    run: Run = Run(),
) -> ScoreReport:
    """Score ``generated`` (model name -> a folder or tar of its images, or those listed already) and write a results directory.

    A model called ``NAME@VARIANT`` has that variant in every row. A ``calibration`` adds decisions at its thresholds.
    Rows of concepts that are not selected stay, and a shard may have no image. An engine of ``run`` embeds images into
    the cache before they are scored. Raises :class:`SettingsError` when ``out`` or the index was made with other
    options, :class:`InputError` when a folder holds nothing to score.
    """
    idx = index if isinstance(index, Index) else open_index(index)
    out = local(out)
    out_csv, out_meta = (None if path is None else local(path) for path in (writing.csv, writing.meta))
    mode, metrics, cache = options.mode, options.metrics, run.cache
    if out.is_file():
        raise InputError(f"{out}: a file; name a folder with `out`")
    given = choose_images(idx, generated, options, select)
    report = ScoreReport(skipped=[s for chosen in given.work.values() for s in chosen.skipped])
    require_served(run.search_shards, run.engine)
    if run.engine is not None and cache is None:
        raise InputError("another engine embeds into the cache, and this run has none: name one with `cache` instead")
    plan = Plan(
        *idx.specs, idx.grid, idx.settings["pixels"], max_pixels=run.max_pixels, batch_size=run.batch_size,
        workers=run.processes(given.total),
    )  # fmt: skip
    runner = Runner(plan, lambda _clip, _dino: encoders_of(idx, run))
    vectors = CachedVectors(idx, cache, rehash=run.rehash)
    with lock(out, "writing these results"), closing(runner):
        for folder, name in ((out, "*"), *((p.parent, p.name) for p in (out_csv, out_meta) if p is not None)):
            sweep(folder, name)
        held = open_results(out, mode)
        settings = settings_of(idx, options)
        if held is not None:
            require_same_settings(held, settings, writing.update)
        report.tau = tau = _thresholds(idx, options, held)
        job = ScoringRun(idx, options, tau, held, given, run)
        if calibration is not None:
            calibration.require_for(settings, str(out))
        named = calibration.for_results() if calibration is not None else held.thresholds if held else None
        thresholds, said = thresholds_for(idx, mode, named)
        fitted = {} if thresholds is None else thresholds.tau  # where there are any, the given ones decide nothing
        given_ones = of_settings(settings, tau, metrics, calibration)
        report.notices += [j.sentence for j in given_ones if not j.holds and j.metric not in fitted]
        report.notices += said + beside_given(options.tau_cra, options.tau_vr, thresholds)
        notes = list(dict.fromkeys([*(held.notes if held else ()), *([writing.note] if writing.note else ())]))
        if held is not None and not writing.prune:
            require_kept(out, job.lost())
        if run.engine is not None:
            job.embed_ahead(run.engine, plan, vectors)
        left_out = {m: job.left_out(m) for m in job.models} | {INDEX: of_index(idx)}
        with closing(job), writing_scores(out, mode, settings, tau, notes, thresholds, left_out) as writer:
            for model in job.models:
                job.model(model, writer, report, vectors, runner)
        report.embedded, report.forwards = vectors.embedded, vectors.forwards
        if cache is not None and cache.damaged:
            rows = counted(cache.damaged, "damaged row was", "damaged rows were")
            report.notices.append(f"{cache.path}: {rows} computed again")
        results = require_results(out, mode)
        report.files = write_derived(results, idx, report.notices, metrics, out_csv, out_meta)
        report.notices += caveats(results)
        report.notices += left_out_lines({m: items for m, items in left_out.items() if m in job.changed})
        if kept := [m for m in job.models if m not in job.changed]:
            report.notices.append(f"models of {out} that this run does not name stay as they are: {', '.join(kept)}")
    if not given.total:  # of this run, and not of the results that its part becomes
        report.notices.append(f"none of the {counted(given.listed, 'image')} has a concept of shard {select.shard}")
    return report


def encoders_of(idx: Index, run: Run) -> Encoders:
    """The encoders of an index, loaded as the run says. Raises :class:`SettingsError` for other ones."""
    if run.load is not None:
        return run.load(*idx.specs)
    return reproduce(*idx.specs, device=run.device)


def settings_of(idx: Index, options: ScoreOptions) -> dict[str, Any]:
    """What the rows of a run depend on, beside the images."""
    clip, dino = idx.specs
    return {
        "mode": options.mode, "scope": options.scope, "search": options.search, "index_id": idx.index_id,
        "clip": clip.fingerprint, "dino": dino.fingerprint, "encoders": {"clip": clip.label, "dino": dino.label},
        "pixels": idx.settings["pixels"], "grid": list(idx.grid), "pool": dino.pool, "patch_mode": idx.settings["patch_mode"], "k_gen": options.k_gen,
        **({"reference_cells": "overlapping"} if idx.overlapping else {}), "published": departures(idx),
    }  # fmt: skip


def _thresholds(idx: Index, options: ScoreOptions, held: Results | None) -> dict[str, float | None]:
    """Given, else the directory's, else the paper's; token mode, an earlier layer and another pooling have none of their own."""
    dino = idx.specs[1]
    published = idx.settings["patch_mode"] == "crop" and dino.layer is None and dino.pool != "gem"
    defaults = {"cra": DEFAULT_TAU_CRA[options.mode], "vr": DEFAULT_TAU_VR if published else None}
    out: dict[str, float | None] = {}
    for metric, given in (("cra", options.tau_cra), ("vr", options.tau_vr)):
        tau = given if given is not None else held.tau[metric] if held else None
        out[metric] = defaults[metric] if tau is None else tau
    if out["vr"] is None and "vr" in options.metrics:
        raise InputError(
            "`tau_vr` is missing: 0.60 was published for crop mode and the last layer's mean, and belongs to no other vectors; "
            "name any, and let 'iconicity calibrate' find one"
        )
    return out


Request = tuple[Image, Record | None]


class ScoringRun:
    """One scoring run: what it needs of everything, model by model."""

    def __init__(
        self,
        idx: Index,
        options: ScoreOptions,
        tau: Mapping[str, float | None],
        held: Results | None,
        given: Selected,
        run: Run,
    ) -> None:
        self._run = run
        self._asked_metrics: dict[str, set[str]] = {}
        self._idx = idx
        self._counts = idx.concepts()
        self._options = options
        self._tau = tau
        self._near = open_neighbours(idx, options.mode)
        self._held = held
        self._same_index = held is not None and held.settings["index_id"] == idx.index_id
        self._work = work = given.work
        self._rows_left_out = given.rows_left_out
        self.models = sorted({*work, *(held.models if held else ())})
        self.changed = set(work) if self._same_index else set(self.models)
        self._only = given.only
        self._shard = given.shard
        directory = None if run.cache is None else run.cache.directory
        shards = partial(
            open_shards,
            idx,
            options.mode,
            tau["vr"],
            directory,
            run.device,
            run.search_shards,
            run.engine,
            run.progress,
        )
        self._elsewhere = Elsewhere(shards, options.search, options.settle, tau["vr"])
        self.close = self._elsewhere.close

    def embed_ahead(self, engine: Engine, plan: Plan, vectors: CachedVectors) -> None:
        """Have an engine embed what the images of all models lack into the cache, where scoring then finds it.

        Files that the cache does not know are read by the engine alone. One that cannot be used is left to scoring.
        """
        total = sum(1 for _ in self.requests())
        ahead = fill(
            self.requests(), self.wanted, Unread(vectors), vectors, partial(engine.run, plan), hash_first=False
        )  # fmt: skip
        for done, _ in enumerate(ahead, 1):
            self._run.progress("embed", done, total)

    def requests(self) -> Iterator[Request]:
        """Images of the models that change, with their rows."""
        return (request for model in self.models if model in self.changed for request in self._requests(model))

    def model(
        self, model: str, writer: ScoresWriter, report: ScoreReport, vectors: CachedVectors, runner: Runner
    ) -> None:
        """Write a model's rows; what is not known of its images the runner embeds."""
        if model not in self.changed:
            assert self._held is not None
            for group in self._held.batches(model):
                writer.copy(group)
            return
        chosen = self._work.get(model)
        if chosen is None:
            report.notices.append(f"{model}: its rows were scored again for the changed index")
        done, total = 0, 0 if chosen is None else chosen.total
        for row in self._rows(model, vectors, runner):
            writer.write(row)
            if chosen is None:
                continue
            done += 1
            self._run.progress(f"score {model}", min(done, total), total)
            if row["status"] == "ok":
                report.scored += 1
            else:
                report.skipped.append(Skipped(row["gen_path"], row["concept"], row["reason"]))

    def left_out(self, model: str) -> list[LeftOut]:
        """What is not in a model's numbers."""
        held = () if self._held is None else self._held.left_out.get(model, ())
        if model not in self.changed:
            return list(held)
        chosen = self._work.get(model)
        stays = Counter[str]()  # rows of concepts that this run is not about
        if self._held is not None and (chosen is None or self._only is not None):
            for batch in self._held.batches(model, ["concept"]):
                stays.update(c for c in batch.column("concept").to_pylist() if not self._asked(chosen, c))
        lost = () if self._options.scope == "all" else sorted(stays.keys() - self._counts.keys())
        if chosen is None:
            new = renewed(held, (), ())
        else:
            new = [i for i in (*self._rows_left_out, *chosen.left_out) if i.kind != NOT_NAMED or i.concept not in stays]
            new = renewed(held, new, self._only)
        new += [LeftOut(NO_REFERENCES, stays[c], 0, c, f"'{c}'") for c in lost]
        return [*new, *missing(self._counts, set(self._order(model)), self._shard)]

    def lost(self) -> dict[str, Lost]:
        """Rows of the models named that this run would take away."""
        indexed = None if self._options.scope == "all" else self._counts
        return {
            m: lost_rows(self._held, m, chosen, partial(self._asked, chosen), self._run.cache, indexed)
            for m, chosen in self._work.items()
            if self._held is not None and m in self._held.models
        }

    def _asked(self, chosen: Chosen | None, concept: str) -> bool:
        """Whether a run that names a model is about a concept."""
        return chosen is not None and (self._only is None or concept in self._only)

    def _rows(self, model: str, vectors: CachedVectors, runner: Runner) -> Iterator[Record]:
        own = OwnConcept(self._idx, self._counts, self._options.mode, self._order(model), self._near)
        filled = fill(self._requests(model), self.wanted, vectors, vectors, runner.stream)
        rows = (
            (outcome.vectors, self._row(_usable(image, outcome), row, outcome, own)) for image, row, outcome in filled
        )
        return (row for _, row in rows) if self._options.scope == "concept" else self._elsewhere.add(rows, _TOGETHER)

    def _metrics(self, model: str) -> set[str]:
        """What the model's rows already have, and of a named one what is asked, so that no column is half full."""
        have = {m for m in METRICS if self._held is not None and is_scored(self._held, model, m)}
        return have | set(self._options.metrics) if model in self._work else have

    def wanted(self, image: Image, row: Record | None) -> Wanted:
        """Which vectors and facts an image still needs, where its row is that of its bytes."""
        if image.model not in self._asked_metrics:
            self._asked_metrics[image.model] = self._metrics(image.model)
        metrics, row = self._asked_metrics[image.model], _true(row, image)
        facts = row is None or row["width"] is None
        if row is None or not self._same_index:
            return Wanted("cra" in metrics, "vr" in metrics, facts)
        if image.stored:
            return NOTHING._replace(facts=facts)  # not what this run is about
        # an image whose concept has no references has no rank, an index of one concept no other similarity
        column = (
            ("cra_sim", "p")
            if self._options.scope != "all"
            else ("other_sim" if row["cra_sim"] is None else "own_rank", "p_other")
        )
        clip, patches = (m in metrics and row[c] is None for m, c in zip(METRICS, column, strict=True))
        without = self._near is not None and row["p"] is not None and row["p_csls"] is None
        return Wanted(clip, patches or ("vr" in metrics and (without or self._elsewhere.unsettled(row))), facts)

    def _order(self, model: str) -> list[str]:
        """Concepts of a model's rows."""
        chosen = self._work.get(model)
        order = set[str]() if chosen is None else set(chosen.concepts)
        if self._held is not None and (chosen is None or self._only is not None):
            for batch in self._held.batches(model, ["concept"]):
                order.update(c for c in batch.column("concept").to_pylist() if not self._asked(chosen, c))
        return sorted(order)

    def _requests(self, model: str) -> Iterator[Request]:
        """Images to score with the rows they have, sorted; rows of concepts this run is not about come along."""
        chosen = self._work.get(model)
        listed = {} if chosen is None else chosen.concepts
        images = (((concept, i.id), 0, i._replace(model=model)) for concept, found in listed.items() for i in found)
        stored = (
            ((row["concept"], row["gen_relpath"]), 1, row)
            for batch in (self._held.batches(model) if self._held is not None else ())
            for row in batch.to_pylist()
        )
        merged = heapq.merge(images, stored, key=lambda item: item[:2])
        for (concept, relpath), group in groupby(merged, key=lambda item: item[0]):
            found = {rank: value for _, rank, value in group}
            image, row = found.get(0), found.get(1)
            if image is None:
                if self._asked(chosen, concept):
                    continue  # the file is gone
                if concept not in self._counts and self._options.scope == "concept":
                    continue  # its references are gone, and left_out says so
                assert row is not None
                sha = row["gen_sha256"] if row["status"] == "ok" else None
                image = stored_image(row["gen_path"], concept, relpath, sha, row["reason"])
                image = image._replace(model=model, seed=row["seed"], prompt=row["prompt"], variant=row["variant"])
            yield image, row

    def _seen(self, size: tuple[int, int]) -> Record:
        """How much of an image the encoders look at; of token mode the whole."""
        clip, dino = (spec.preprocess for spec in self._idx.specs)
        return dict(zip(("cra_area_seen", "area_seen"), areas_seen(clip, dino, size, self._idx.grid), strict=True))

    def _row(self, image: Image, stored: Record | None, outcome: Outcome, own: OwnConcept) -> Record:
        true = _true(stored, image)
        row: Record = dict(true) if true is not None and self._same_index else dict.fromkeys(SCHEMA.names)
        row |= {
            "model": image.model, "concept": image.concept, "gen_path": image.path, "gen_relpath": image.id,
            "gen_sha256": image.sha256, "seed": image.seed, "prompt": image.prompt, "variant": image.variant,
            "reason": outcome.reason, "status": "ok" if outcome.reason is None else "skipped",
        }  # fmt: skip
        size, notes = outcome.size, note_names(outcome.notes)
        if size == (0, 0) and true is not None and true["width"] is not None:
            size, notes = (true["width"], true["height"]), true["pixel_notes"]
        if size != (0, 0):
            row |= {"width": size[0], "height": size[1], "pixel_notes": notes, **self._seen(size)}
        vectors = outcome.vectors or Vectors(None, None)
        return row | own.columns(image.concept, vectors.clip, vectors.patches)


def _true(row: Record | None, image: Image) -> Record | None:
    """A stored row if it is of an image with these bytes."""
    true = row is not None and row["status"] == "ok" and image.sha256 is not None and row["gen_sha256"] == image.sha256
    return row if true else None


def _usable(image: Image, outcome: Outcome) -> Image:
    """The image. Raises :class:`InputError` rather than lose a row whose image cannot be had any more."""
    if outcome.reason is not None and image.problem is None and image.stored:
        raise InputError(
            f"{image.path}: {outcome.reason}, and its vectors are not in the cache, so that its row of {image.model} "
            "cannot be scored again; restore the file, or score into a new folder with `out`"
        )
    return image
