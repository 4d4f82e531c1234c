"""What a decision at a threshold means for the encoders that ran.

A published threshold belongs to the encoders and settings it was published for. Any threshold means nothing where
unrelated concepts reach it often. Where the threshold means nothing, the one that was fitted to the encoders decides
instead; where there is none, there is no verdict. :func:`deciding` says which thresholds decide, and every table, page
and figure asks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iconicity.indexer.encode.encoder import PAPER_CLIP, PAPER_DINO
from iconicity.indexer.errors import InputError, SettingsError
from iconicity.indexer.spec import EncoderSpec
from iconicity.indexer.text import counted
from iconicity.scorer.measure.arrays import patch_matrix
from iconicity.scorer.measure.calibrate.calibration import NULL_EDGES, Calibration, read_calibration
from iconicity.scorer.measure.measures import CRA, CRA_CAL, STRICT, VR, VR_CAL
from iconicity.scorer.measure.metrics import DEFAULT_TAU_CRA, DEFAULT_TAU_VR, Bools, passes
from iconicity.scorer.text import percent
from iconicity.scorer.thresholds import CALIBRATION, INDEX, PACKAGE

if TYPE_CHECKING:
    from iconicity.indexer.store.index import Index
    from iconicity.scorer.measure.study import Study
    from iconicity.scorer.results import Results

CHANCE = 0.05  # share of unrelated concepts that may reach a threshold which still means something
FEWEST = 5  # images; where fewer reach a threshold without exception, that is no sign that it separates nothing
UNPROVEN, ANOTHER = "weights unproven", "another encoder"
GIVEN, NAMED, HELD = (
    "given",
    "calibration named",
    "held",
)  # thresholds that may decide: of the results, of a calibration, see scorer/thresholds.py
_OWNERS = {INDEX: "the index's", PACKAGE: "the package's", CALIBRATION: "the calibration's"}
_PUBLISHED = {"cra": PAPER_CLIP, "vr": PAPER_DINO}
_ENCODER = {"cra": "clip", "vr": "dino"}
_CLIP_NAME = 'transformers CLIPModel {"hidden_act":"quick_gelu","image_size":224,"layer_norm_eps":1e-05,"num_attention_heads":12}'
_CLIP_DIM, _DINO_SIZE, _GRID = 512, 256, (4, 4)


@dataclass(frozen=True)
class Judgement:
    """One threshold: where it comes from, whether a decision at it means something, and a sentence that says so.

    ``origin``: published, given (by the user) or calibrated. ``chance``: share of comparisons with unrelated concepts
    that reach it, None where nothing is known.
    """

    metric: str
    tau: float
    origin: str
    holds: bool
    chance: float | None
    sentence: str

    def facts(self) -> dict[str, Any]:
        name = f"tau_{self.metric}"
        return {f"{name}_origin": self.origin, f"{name}_holds": self.holds, f"{name}_chance": self.chance}


@dataclass(frozen=True)
class Evidence:
    """What is known of a threshold beside the encoders.

    ``chance``: share of comparisons with an unrelated concept that reach it, as ``source`` says. ``elsewhere``: share
    of the images (of VR: patches) that reach it with any other concept. ``reached`` of ``of`` images or patches reach it.
    """

    chance: float | None = None
    source: str = ""
    calibrated: bool = False  # the threshold is one of the calibration's own
    elsewhere: float | None = None
    saturated: str = ""  # "all 30 images", where all of enough do
    instead: bool = False  # the results hold a threshold that was fitted to the encoders


@dataclass(frozen=True)
class Basis:
    """Which thresholds of a metric decide: their kind, whose they are, and what the measure at them is called.

    ``strict``: a patch must reach both thresholds of VR strict. ``alpha``: share of unrelated references that reach a
    fitted one.
    """

    kind: str
    owner: str
    label: str
    strict: bool = False
    alpha: float = 0.0


def departures(index: Index) -> dict[str, str]:
    """How the encoders and settings of an index differ from those the thresholds were published for, for each metric.

    Empty: they do not. :data:`UNPROVEN`: the architecture is the published one, the weights came from a file. The
    hub's names are recorded in the index, and are what this rests on.
    """
    clip, dino = index.specs
    how = [
        "token mode" if index.settings["patch_mode"] != "crop" else "",
        "" if dino.layer is None else f"layer {dino.layer}",
        "" if dino.pool in ("all", "token") else f"pool {dino.pool}",
        "overlapping reference cells" if index.overlapping else "",
        "" if tuple(index.grid) == _GRID else f"a grid of {index.grid[0]} x {index.grid[1]}",
        "" if _size(dino) == _DINO_SIZE else f"an image size of {_size(dino)}",
    ]
    squashed = "squashed images" if "squash" in (index.settings.get("fit"), clip.preprocess.get("fit")) else ""
    cells = "squashed cells" if "squash" in (index.settings.get("fit"), dino.preprocess.get("fit")) else ""
    if index.settings["patch_mode"] != "crop":
        cells = ""  # part of the mode
    patch = _dino(dino)
    return {
        "cra": _clip(clip) or squashed,
        "vr": patch if patch == ANOTHER else ", ".join(filter(None, [*how, cells])) or patch,
    }


def _clip(spec: EncoderSpec) -> str:
    source = str(spec.source.get("model"))
    if spec.family != "clip" or spec.name != _CLIP_NAME or spec.dim != _CLIP_DIM:
        return ANOTHER
    if source == PAPER_CLIP:
        return ""
    return UNPROVEN if Path(source).is_absolute() else ANOTHER


def _dino(spec: EncoderSpec) -> str:
    base = PAPER_DINO.split(".")[0]
    source = str(spec.source.get("model"))
    if spec.family != "timm" or spec.name != f"timm {base}":
        return ANOTHER
    if spec.source.get("weights") is None:
        return {PAPER_DINO: "", base: UNPROVEN}.get(source, ANOTHER)
    return UNPROVEN


def _size(spec: EncoderSpec) -> int | None:
    size = spec.preprocess.get("input_size")
    return int(size[-1]) if isinstance(size, Sequence) and size else None


def judge(metric: str, tau: float, settings: Mapping[str, Any], evidence: Evidence) -> Judgement:
    """Judge one threshold of results with these ``settings``."""
    default = DEFAULT_TAU_CRA.get(settings["mode"]) if metric == "cra" else DEFAULT_TAU_VR
    origin = "calibrated" if evidence.calibrated else "published" if tau == default else "given"
    differs = str((settings.get("published") or {}).get(metric, UNPROVEN))
    chance, often = evidence.chance, evidence.chance is not None and evidence.chance > CHANCE
    rare = chance is not None and chance <= CHANCE
    if origin == "published":  # for other encoders it means nothing, whatever reaches it
        holds = not often if differs == "" else rare and differs == UNPROVEN
    else:
        elsewhere = evidence.elsewhere is not None and evidence.elsewhere > CHANCE
        holds = rare or not (often or evidence.saturated or elsewhere)
    label = settings["encoders"][_ENCODER[metric]]
    words = [
        f"{metric.upper()} threshold {tau:g} {_origin(metric, origin, differs, label)}",
        *_reached(metric, evidence),
    ]
    if not holds:
        way = "use the calibrated thresholds" if chance is not None else "run 'iconicity calibrate'"
        way = "fitted thresholds decide" if evidence.instead else way
        words.append(f"a decision at it is no verdict: {way}")
    elif origin == "given" and chance is None and evidence.elsewhere is None:
        words.append("how often unrelated concepts reach it is not known: 'iconicity calibrate' measures it")
    return Judgement(metric, tau, origin, holds, chance, "; ".join(words))


def _origin(metric: str, origin: str, differs: str, label: str) -> str:
    paper = _PUBLISHED[metric]
    if origin == "given":
        return f"was given by the user ({label} ran)"
    if origin == "calibrated":
        return f"is a calibrated one for {label}"
    if differs == "":
        return f"is the published one, and its encoder ran ({paper} by its name on the hub: {label})"
    if differs == UNPROVEN:
        return f"was published for {paper}; whether the weights that ran are the published ones is not known ({label}, not from the hub)"
    if differs == ANOTHER:
        return f"was published for {paper}, and {label} ran"
    return f"was published for {paper} without {differs} ({label} ran)"


def _reached(metric: str, evidence: Evidence) -> list[str]:
    """What reaches a threshold, as far as it is known."""
    out = []
    if evidence.chance is not None:
        out.append(f"{percent(evidence.chance)} of comparisons with unrelated concepts reach it ({evidence.source})")
    if evidence.elsewhere is not None:
        things = "images" if metric == "cra" else "patches"
        out.append(f"{percent(evidence.elsewhere)} of the {things} reach it with some other concept")
    if evidence.saturated:
        out.append(f"{evidence.saturated} reach it")
    return out


def chance_at(calibration: Calibration, metric: str, tau: float, references: Sequence[int] = ()) -> float | None:
    """Share of comparisons with unrelated concepts that reach ``tau``: a mean over concepts with these numbers of
    references (empty: all that the calibration knows), None where it knows none of them.

    Rates that were measured at this very threshold count first, else the stored null is read between its steps.
    """
    known: dict[int, float] = {}
    for null in calibration.nulls:
        if null["metric"] == metric:
            known[int(null["references"])] = float(np.interp(tau, NULL_EDGES, np.asarray(null["reached"], np.float64)))
    for row in calibration.thresholds:
        rate = row.get("rate_given")
        if row["null"] == "unrelated" and row["metric"] == metric and rate is not None and row.get("tau_given") == tau:
            known[int(row["references"])] = float(rate)
    rates = [known[j] for j in (references or known) if j in known]
    return float(np.mean(rates)) if rates else None


def beside(results: Sequence[Results]) -> tuple[Calibration | None, list[str]]:
    """The calibration that ``iconicity calibrate`` left in the first results directory that has a fitting one, and
    a note of each that could not be used."""
    notes: list[str] = []
    for source in results:
        path = source.path / "calibration.json"
        if not path.is_file():
            continue
        try:
            found = read_calibration(path)
            found.require_for(source.settings, str(source.path))
            return found, notes
        except (InputError, SettingsError) as e:
            notes.append(f"not used to judge the thresholds: {e}")
    return None, notes


def judgements(study: Study, calibration: Calibration | None, source: str) -> tuple[Judgement, ...]:
    """Judge the thresholds of a study for the metrics it was scored for. ``source`` names the ``calibration``.

    The CRA threshold also where images have been compared with other concepts alone, since their own have no references.
    """
    values = {"cra": study.similarity[:, None], "vr": study.p}
    references = [int(j) for j in study.references if j > 0]
    out = []
    for metric, tau in study.tau.items():
        usable = _usable(study, metric)
        if tau is None or not (usable.any() or _only_others(study, metric)):
            continue
        known = None if calibration is None else chance_at(calibration, metric, tau, references)
        calibrated = calibration is not None and tau in calibration.taus(metric).values()
        instead = _fitted(study, metric) is not None
        if not usable.any():
            evidence = Evidence(known, source, calibrated, instead=instead)
            out.append(judge(metric, tau, _settings(study), evidence))
            continue
        hit = passes(values[metric][usable], tau)
        thing = "image" if metric == "cra" else "patch"
        whole = bool(hit.all()) and len(hit) >= FEWEST
        saturated = f"all {counted(hit.size, thing, 'patches' if metric == 'vr' else None)}" if whole else ""
        evidence = Evidence(known, source, calibrated, _elsewhere(study, metric, tau), saturated, instead)
        out.append(judge(metric, tau, _settings(study), evidence))
    return tuple(out)


def _usable(study: Study, metric: str) -> Bools:
    """Images (n,) that can be used and were scored for a metric."""
    values = study.similarity[:, None] if metric == "cra" else study.p
    return np.asarray(study.ok & ~np.isnan(values).any(axis=1))


def _only_others(study: Study, metric: str) -> bool:
    """Whether no image has a similarity to its own concept, and some have one to another."""
    return metric == "cra" and not _usable(study, metric).any() and _elsewhere(study, metric, 1.0) is not None


def deciding(study: Study) -> dict[str, Basis]:
    """Metric -> the thresholds that decide. A metric is not in it where no threshold means anything.

    First the results' own threshold, where it means something. Then those of the calibration that the user named, else
    those that the results hold (of the index, or of the package).
    """
    out = {}
    for metric, measure in (("cra", CRA), ("vr", VR)):
        own = study.judged.get(metric)
        if own is not None and own.holds:
            out[metric] = Basis(GIVEN, "the results' own", measure.label)
        elif (fitted := _fitted(study, metric)) is not None:
            out[metric] = fitted
    return out


def _fitted(study: Study, metric: str) -> Basis | None:
    """The thresholds of a metric that were fitted to the encoders, where there are some and images to decide on."""
    usable = _usable(study, metric)
    of = study.concept[usable]
    others = _only_others(study, metric)
    if study.named is not None:
        there = bool(study.named.taus(metric)) if others else not np.isnan(study.named.tau(study, metric)[of]).all()
        if not there:
            return None
        return Basis(NAMED, "the calibration's", f"{metric.upper()} (calibrated)", alpha=study.named.alpha)
    held = study.thresholds
    if held is None or (
        np.isnan(held.each(metric, study.references)[of]).all() and not (others and held.tau.get(metric))
    ):
        return None
    asked = list(held.tau[metric]) if others else study.references[np.unique(of)]
    used = {s for s in held.sources(metric, asked) if s}
    owner = " and ".join(_OWNERS[s] for s in sorted(used))
    if metric == "cra":
        return Basis(HELD, owner, CRA_CAL.label, alpha=held.alpha)
    strict = _strict(study, usable & ~np.isnan(held.each(metric, study.references)[study.concept]))
    return Basis(HELD, owner, (STRICT if strict else VR_CAL).label, strict, held.alpha)


def _strict(study: Study, images: Bools) -> bool:
    """Whether all that VR strict needs is known of some images (n,)."""
    if study.thresholds is None:
        return False
    tau = study.thresholds.each("vr_csls", study.references)[study.concept[images]]
    csls = patch_matrix(study.table, "p_csls")[0][images]
    return not (np.isnan(tau).any() or np.isnan(csls).any())


def decided_words(study: Study) -> str:
    """At which fitted thresholds was decided, in a line; empty where none decides."""
    fitted = [b for b in study.deciding.values() if b.kind != GIVEN]
    if not fitted:
        return ""
    owners = " and ".join(dict.fromkeys(b.owner for b in fitted))
    labels = ", ".join(b.label for b in fitted)
    return f"decided at {owners} thresholds ({labels}): {percent(fitted[0].alpha)} of unrelated references reach them"


def of_settings(
    settings: Mapping[str, Any],
    tau: Mapping[str, float | None],
    metrics: Sequence[str],
    calibration: Calibration | None,
) -> list[Judgement]:
    """Judge thresholds before any row is read."""
    return [
        judge(
            m, t, settings, Evidence() if calibration is None else Evidence(chance_at(calibration, m, t), "calibration")
        )
        for m in metrics
        if (t := tau[m]) is not None
    ]


def _settings(study: Study) -> Mapping[str, Any]:
    """The settings; equal weights are known where one of several results directories knows them."""
    known = [s.settings.get("published") or {} for s in study.sources]
    return {**study.settings, "published": {m: min((k.get(m, UNPROVEN) for k in known), key=bool) for m in _ENCODER}}


def _elsewhere(study: Study, metric: str, tau: float) -> float | None:
    """Share of usable images (patches) that reach ``tau`` with some other concept; None without scope all."""
    reached = total = 0
    for source in study.sources:
        if source.settings["scope"] != "all":
            continue
        for batch in source.batches(columns=["other_sim" if metric == "cra" else "p_other"]):
            if metric == "cra":
                values = batch.column("other_sim").to_numpy().astype(np.float32)
            else:
                values = patch_matrix(batch, "p_other")[0].ravel()
            values = values[~np.isnan(values)]
            reached += int(passes(values, tau).sum())
            total += len(values)
    return reached / total if total else None
