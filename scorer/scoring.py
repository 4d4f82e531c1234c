"""Score folders of generated images against an index; rows that are known are not computed again."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from iconicity.indexer.encode.encoder import EncoderChoice, Encoders, reproduce
from iconicity.indexer.encode.engine import Engine
from iconicity.indexer.encode.fit import areas_seen
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.errors import InputError
from iconicity.indexer.fill import Embedded, GeneratedEmbedder, GeneratedImage, Need, Wanted
from iconicity.indexer.left_out import LeftOut, Skipped, left_out_lines, renewed
from iconicity.indexer.places import Place, local
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.files import lock, sweep
from iconicity.indexer.store.index import Index, open_index
from iconicity.indexer.text import counted
from iconicity.scorer.caveats import caveats
from iconicity.scorer.choose import Chosen, Selected, select
from iconicity.scorer.left_out import INDEX, NO_REFERENCES, NOT_NAMED, missing, of_index
from iconicity.scorer.measure.calibrate.calibration import Calibration
from iconicity.scorer.measure.everywhere import Elsewhere
from iconicity.scorer.measure.judgement import departures, of_settings
from iconicity.scorer.measure.metrics import DEFAULT_TAU_CRA, DEFAULT_TAU_VR
from iconicity.scorer.measure.own import OwnConcept
from iconicity.scorer.measure.shards import open_shards
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
from iconicity.scorer.say.derived import METRICS, write_derived

SCOPES = ("concept", "all")
SEARCHES = ("exact", "approximate")
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


@dataclass(frozen=True)
class Scoring:
    """How to score: what a results directory is for (mode to search), and how to get there."""

    metrics: Sequence[str] = METRICS
    mode: str = "dynamic"
    scope: str = "concept"
    search: str = "exact"
    settle: bool = False  # approximate search: scan everything for patches without a hit
    k_gen: int = 50
    search_shards: int = 1


def score(
    index: Index | Place | str,
    generated: Mapping[str, Place | str | Chosen],
    out: Path | str,
    *,
    metrics: Sequence[str] = METRICS,
    mode: str = "dynamic",
    scope: str = "concept",
    search: str = "exact",
    settle: bool = False,
    search_shards: int = 1,
    tau_cra: float | None = None,
    tau_vr: float | None = None,
    k_gen: int = 50,
    calibration: Calibration | None = None,
    note: str | None = None,
    concepts: Iterable[str] | None = None,
    shard: Shard | None = None,
    update: bool = False,
    replace: bool = False,
    cache: VectorCache | None = None,
    rehash: bool = False,
    load: Callable[[], Encoders] | None = None,
    batch_size: int | None = None,
    workers: int | Callable[[int], int] = 0,
    max_pixels: int = MAX_PIXELS,
    follow_links: bool = False,
    image_key: str | None = None,
    device: str = "cpu",
    engine: Engine | None = None,
    out_csv: Path | str | None = None,
    out_meta: Path | str | None = None,
    progress: Progress = no_progress,
) -> ScoreReport:
    """Score ``generated`` (model name -> a folder or tar of its images, or those listed already) and write a results directory.

    ``mode`` dynamic takes each concept's kept references, static the first by name. ``scope`` all compares with
    every other concept too: exactly, or (``search`` approximate) by an index whose hits are true but may be
    missed; ``settle`` then scans for the patches without a hit. More than one of ``search_shards`` search in a process each.
    Thresholds left None are those the directory
    already has, else the paper's; a ``calibration`` adds decisions at its thresholds. ``note`` is a caveat that
    every table of the results carries. A model called ``NAME@VARIANT`` has that variant in every row. The first
    ``k_gen`` images of a concept and variant count, by file name. ``concepts`` and ``shard`` restrict the run; rows of others
    stay, and a shard may have no image. ``update`` scores every row of ``out`` again when the index has changed. Rows of a
    model whose images are not among those given now go only with ``replace``. ``workers`` is a number of
    processes, or a function of the number of images. Images of more than ``max_pixels`` are skipped, and links that lead out of the folders
    named unless ``follow_links``. ``image_key`` names the image of a WebDataset sample that counts. ``engine``: where images are embedded into the cache before they are scored. Raises :class:`SettingsError` when ``out`` or the index was
    made with other settings, :class:`InputError` when a folder holds nothing to score.
    """
    idx = index if isinstance(index, Index) else open_index(index)
    out = local(out)
    out_csv, out_meta = (None if path is None else local(path) for path in (out_csv, out_meta))
    how = Scoring(metrics, mode, scope, search, settle, k_gen, search_shards)
    if out.is_file():
        raise InputError(f"{out}: a file; name a folder with --out")
    report = ScoreReport()
    given = select(idx, generated, concepts, shard, scope == "all", k_gen, follow_links, image_key)
    for chosen in given.work.values():
        report.skipped += chosen.skipped
    if engine is not None and cache is None:
        raise InputError("another engine embeds into the cache: name one with --cache, and leave --no-cache out")
    embedder = GeneratedEmbedder(
        idx,
        load or (lambda: reproduce(*idx.specs, EncoderChoice(device=device))),
        cache,
        rehash=rehash,
        batch_size=batch_size,
        workers=workers(given.total) if callable(workers) else workers,
        max_pixels=max_pixels,
    )
    with lock(out, "writing these results"), closing(embedder):
        for folder, name in ((out, "*"), *((p.parent, p.name) for p in (out_csv, out_meta) if p is not None)):
            sweep(folder, name)
        held = open_results(out, mode)
        settings = settings_of(idx, how)
        if held is not None:
            require_same_settings(held, settings, update)
        report.tau = tau = _thresholds(idx, how, tau_cra, tau_vr, held)
        report.notices += [j.sentence for j in of_settings(settings, tau, metrics, calibration) if not j.holds]
        run = Run(idx, how, tau, held, given, shard, embedder, cache, device, engine, progress)
        if calibration is not None:
            calibration.require_for(settings, str(out))
        calibrated = calibration.brief() if calibration is not None else held.calibration if held else None
        notes = list(dict.fromkeys([*(held.notes if held else ()), *([note] if note else ())]))
        if held is not None and not replace:
            require_kept(out, run.lost())
        run.fill()
        left_out = {m: run.left_out(m) for m in run.models} | {INDEX: of_index(idx)}
        with closing(run), writing_scores(out, mode, settings, tau, notes, calibrated, left_out) as writer:
            for model in run.models:
                run.model(model, writer, report)
        report.embedded, report.forwards = embedder.embedded, embedder.forwards
        if cache is not None and cache.damaged:
            report.notices.append(
                f"{cache.path}: {counted(cache.damaged, 'damaged row was', 'damaged rows were')} computed again"
            )
        results = require_results(out, mode)
        report.files = write_derived(results, idx, report.notices, metrics, out_csv, out_meta)
        report.notices += caveats(results)
        report.notices += left_out_lines({m: items for m, items in left_out.items() if m in run.changed})
        if kept := [m for m in run.models if m not in run.changed]:
            report.notices.append(f"models of {out} that this run does not name stay as they are: {', '.join(kept)}")
    if not given.total:  # of this run, and not of the results that its part becomes
        report.notices.append(f"none of the {counted(given.listed, 'image')} has a concept of shard {shard}")
    return report


def settings_of(idx: Index, how: Scoring) -> dict[str, Any]:
    """What the rows of a run depend on, beside the images."""
    clip, dino = idx.specs
    return {
        "mode": how.mode, "scope": how.scope, "search": how.search, "index_id": idx.index_id,
        "clip": clip.fingerprint, "dino": dino.fingerprint, "encoders": {"clip": clip.label, "dino": dino.label},
        "pixels": idx.settings["pixels"], "grid": list(idx.grid), "pool": dino.pool, "patch_mode": idx.settings["patch_mode"], "k_gen": how.k_gen,
        **({"reference_cells": "overlapping"} if idx.overlapping else {}), "published": departures(idx),
    }  # fmt: skip


def _thresholds(
    idx: Index, how: Scoring, tau_cra: float | None, tau_vr: float | None, held: Results | None
) -> dict[str, float | None]:
    """Given, else the directory's, else the paper's; token mode, an earlier layer and another pooling have none of their own."""
    if how.mode not in DEFAULT_TAU_CRA or how.scope not in SCOPES or how.search not in SEARCHES:
        raise InputError(f"mode {how.mode}, scope {how.scope}, search {how.search}: unknown; see --help")
    dino = idx.specs[1]
    published = idx.settings["patch_mode"] == "crop" and dino.layer is None and dino.pool != "gem"
    defaults = {"cra": DEFAULT_TAU_CRA[how.mode], "vr": DEFAULT_TAU_VR if published else None}
    out: dict[str, float | None] = {}
    for metric, given, flag in (("cra", tau_cra, "--ic-tau"), ("vr", tau_vr, "--patch-tau")):
        tau = given if given is not None else held.tau[metric] if held else None
        out[metric] = tau = defaults[metric] if tau is None else tau
        if tau is not None and not -1.0 <= tau <= 1.0:
            raise InputError(f"{flag} {tau}: a threshold on a cosine lies between -1 and 1")
    if out["vr"] is None and "vr" in how.metrics:
        raise InputError(
            "--patch-tau is missing: 0.60 was published for crop mode and the last layer's mean, and belongs to no other vectors; "
            "name any, and let 'iconicity calibrate' find one"
        )
    return out


Request = tuple[GeneratedImage, Record | None]


class Run:
    """One scoring run: what it needs of everything, model by model. Without an embedder it can only be asked."""

    def __init__(
        self,
        idx: Index,
        how: Scoring,
        tau: Mapping[str, float | None],
        held: Results | None,
        given: Selected,
        shard: Shard | None,
        embedder: GeneratedEmbedder | None = None,
        cache: VectorCache | None = None,
        device: str = "cpu",
        engine: Engine | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self._engine = engine
        self._idx = idx
        self._counts = idx.concepts()
        self._how = how
        self._tau = tau
        self._held = held
        self._same_index = held is not None and held.settings["index_id"] == idx.index_id
        self._work = work = given.work
        self._rows_left_out = given.rows_left_out
        self.models = sorted({*work, *(held.models if held else ())})
        self.changed = set(work) if self._same_index else set(self.models)
        self._only = given.only
        self._shard = shard
        self._embedder = embedder
        self._progress = progress
        self._cache = cache
        directory = None if cache is None else cache.directory
        shards = partial(open_shards, idx, how.mode, tau["vr"], directory, device, how.search_shards, engine, progress)
        self._elsewhere = Elsewhere(shards, how.search, how.settle, tau["vr"])
        self.close = self._elsewhere.close

    def fill(self) -> None:
        """Have the engine, where there is one, embed what the images of all models lack."""
        if self._engine is not None:
            assert self._embedder is not None
            self._embedder.fill(self._engine, self.requests(), self._progress)

    def requests(self) -> Iterator[tuple[GeneratedImage, Record | None, Need]]:
        """Images of the models that change with their rows, and which vectors they still need."""
        for model in self.models:
            if model in self.changed:
                wanted = self._wanted(self._metrics(model))
                yield from ((image, row, wanted) for image, row in self._requests(model))

    def model(self, model: str, writer: ScoresWriter, report: ScoreReport) -> None:
        """Write a model's rows."""
        if model not in self.changed:
            assert self._held is not None
            for group in self._held.batches(model):
                writer.copy(group)
            return
        chosen = self._work.get(model)
        if chosen is None:
            report.notices.append(f"{model}: its rows were scored again for the changed index")
        done, total = 0, 0 if chosen is None else chosen.total
        for row in self._rows(model):
            writer.write(row)
            if chosen is None:
                continue
            done += 1
            self._progress(f"score {model}", min(done, total), total)
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
        lost = () if self._how.scope == "all" else sorted(stays.keys() - self._counts.keys())
        if chosen is None:
            new = renewed(held, (), ())
        else:
            new = [i for i in (*self._rows_left_out, *chosen.left_out) if i.kind != NOT_NAMED or i.concept not in stays]
            new = renewed(held, new, self._only)
        new += [LeftOut(NO_REFERENCES, stays[c], 0, c, f"'{c}'") for c in lost]
        return [*new, *missing(self._counts, set(self._order(model)), self._shard)]

    def lost(self) -> dict[str, Lost]:
        """Rows of the models named that this run would take away."""
        indexed = None if self._how.scope == "all" else self._counts
        return {
            m: lost_rows(self._held, m, chosen, partial(self._asked, chosen), self._cache, indexed)
            for m, chosen in self._work.items()
            if self._held is not None and m in self._held.models
        }

    def _asked(self, chosen: Chosen | None, concept: str) -> bool:
        """Whether a run that names a model is about a concept."""
        return chosen is not None and (self._only is None or concept in self._only)

    def _rows(self, model: str) -> Iterator[Record]:
        assert self._embedder is not None
        own = OwnConcept(self._idx, self._counts, self._how.mode, self._order(model))
        stream = self._embedder.stream(self._requests(model), self._wanted(self._metrics(model)))
        rows = ((self._usable(e), self._row(e, own)) for e in stream)
        return (row for _, row in rows) if self._how.scope == "concept" else self._elsewhere.add(rows, _TOGETHER)

    def _metrics(self, model: str) -> set[str]:
        """What the model's rows already have, and of a named one what is asked, so that no column is half full."""
        have = {m for m in METRICS if self._held is not None and is_scored(self._held, model, m)}
        return have | set(self._how.metrics) if model in self._work else have

    @staticmethod
    def _usable(e: Embedded) -> Embedded:
        """Raises :class:`InputError` rather than lose a row whose image cannot be had any more."""
        if e.reason is not None and e.image.stored_reason is None and e.image.stored:
            raise InputError(
                f"{e.image.path}: {e.reason}, and its vectors are not in the cache, so that its row of {e.image.model} "
                "cannot be scored again; restore the file, or score into a new folder with --out"
            )
        return e

    def _wanted(self, metrics: set[str]) -> Callable[[GeneratedImage, Record | None], Wanted]:
        everywhere = self._how.scope == "all"

        def wanted(image: GeneratedImage, row: Record | None) -> Wanted:
            if row is None or not self._same_index:
                return Wanted("cra" in metrics, "vr" in metrics)
            if image.stored:
                return Wanted(False, False)  # not what this run is about
            # an image whose concept has no references has no rank, an index of one concept no other similarity
            column = (
                ("cra_sim", "p")
                if not everywhere
                else ("other_sim" if row["cra_sim"] is None else "own_rank", "p_other")
            )
            clip, patches = (m in metrics and row[c] is None for m, c in zip(METRICS, column, strict=True))
            return Wanted(clip, patches or ("vr" in metrics and self._elsewhere.unsettled(row)))

        return wanted

    def _order(self, model: str) -> list[str]:
        """Concepts of a model's rows."""
        chosen = self._work.get(model)
        order = set[str]() if chosen is None else {c.concept for c in chosen.concepts}
        if self._held is not None and (chosen is None or self._only is not None):
            for batch in self._held.batches(model, ["concept"]):
                order.update(c for c in batch.column("concept").to_pylist() if not self._asked(chosen, c))
        return sorted(order)

    def _requests(self, model: str) -> Iterator[Request]:
        """Images to score with the rows they have, sorted; rows of concepts this run is not about come along."""
        chosen = self._work.get(model)
        listed = () if chosen is None else chosen.concepts
        images = (
            ((c.concept, f"{c.concept}/{i.name}"), 0, GeneratedImage(model, c.concept, i.path, f"{c.concept}/{i.name}", i.seed, i.prompt, i.variant, identity=i.identity))
            for c in listed
            for i in c.images
        )  # fmt: skip
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
                if concept not in self._counts and self._how.scope == "concept":
                    continue  # its references are gone, and left_out says so
                assert row is not None
                sha = row["gen_sha256"] if row["status"] == "ok" else None
                image = GeneratedImage(
                    model, concept, row["gen_path"], relpath, row["seed"], row["prompt"], row["variant"], sha, row["reason"],
                )  # fmt: skip
            yield image, row

    def _seen(self, size: tuple[int, int]) -> Record:
        """How much of an image the encoders look at; of token mode the whole."""
        clip, dino = (spec.preprocess for spec in self._idx.specs)
        return dict(zip(("cra_area_seen", "area_seen"), areas_seen(clip, dino, size, self._idx.grid), strict=True))

    def _row(self, e: Embedded, own: OwnConcept) -> Record:
        row: Record = dict(e.row) if e.row is not None and self._same_index else dict.fromkeys(SCHEMA.names)
        row |= {
            "model": e.image.model, "concept": e.image.concept, "gen_path": e.image.path,
            "gen_relpath": e.image.relpath, "gen_sha256": e.sha256, "seed": e.image.seed, "prompt": e.image.prompt,
            "variant": e.image.variant, "reason": e.reason, "status": "ok" if e.reason is None else "skipped",
            **({} if e.facts is None else {**e.facts.columns(), **self._seen(e.facts.size)}),
        }  # fmt: skip
        return row | own.columns(e.image.concept, e.clip, e.patches)
