"""Figures for print: matplotlib, fonts embedded, colours that colour-blind readers tell apart (Okabe & Ito)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.fit import seen
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.errors import ImageError, InputError
from iconicity.indexer.grid import Box, cell_boxes
from iconicity.indexer.sources.folders import read_bytes
from iconicity.indexer.store.files import replacing
from iconicity.indexer.store.index import Index
from iconicity.indexer.text import counted
from iconicity.scorer.measure.calibrate.calibration import Calibration, own_and_null
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.finding import Finding
from iconicity.scorer.measure.judgement import GIVEN
from iconicity.scorer.measure.measures import CRA, CRT, DECIDED, VI_RECOGNISED, VR, VR_RECOGNISED, Measure, of_concepts
from iconicity.scorer.measure.naming import ImageNames
from iconicity.scorer.measure.recognised import recognised_rows
from iconicity.scorer.measure.study import Study, brief
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.measure.sweep import sweep
from iconicity.scorer.say.credits import credit_line

if TYPE_CHECKING:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".svg", ".png")
EVIDENCE_COLUMNS = ("gen_path", "p_ref_id", "p_ref_cell")  # of the scores, that an evidence plate needs
SLIDE = (9.6, 5.4)  # inches of a plate: 1920 x 1080 pixels as PNG
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c510a")
_MARKS = "osD^vP*X"
_LINES = ("-", "--", ":", "-.")
_BARS = (CRA, VR_RECOGNISED, VI_RECOGNISED, CRT)
_CRA, _VR, _CRT = DECIDED.values()


@contextmanager
def pages(path: Path) -> Iterator[PdfPages]:
    """A PDF file whose pages are figures, written as a whole at the end."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        matplotlib.rc_context({"pdf.fonttype": 42}),
        replacing(path) as tmp,
        PdfPages(tmp, metadata={"CreationDate": None}) as written,
    ):
        yield written


def add_page(book: PdfPages, figure: Figure) -> None:
    book.savefig(figure)  # type: ignore[no-untyped-call]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure by the suffix of ``path``. Raises :class:`InputError` for another one."""
    import matplotlib

    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: the ending names the format, one of {', '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "iconicity"}),
        replacing(path) as tmp,
    ):
        undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
        figure.savefig(tmp, format=path.suffix[1:], dpi=200, metadata=undated)
    return path


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _fitted(facts: Mapping[str, Any], frame: pd.DataFrame) -> bool:
    """Whether a table is to be shown at thresholds that were fitted to the encoders, since these decide."""
    return bool(facts.get("decided")) and any(m.key in frame for m in DECIDED.values())


def _captioned(
    figure: Figure,
    facts: Mapping[str, Any],
    metrics: Sequence[str] = ("cra", "vr"),
    said: str = "",
    fitted: bool = False,
) -> Figure:
    """The figure with a caption: what is ``said``, and each threshold in use that means nothing.

    ``fitted``: what it shows is at the thresholds that decide, and the caption says which these are.
    """
    lines = [said] if said else []
    if fitted:
        lines.append(facts["decided"])
        metrics = ()
    for metric, encoder in zip(metrics, ({"cra": "clip", "vr": "dino"}[m] for m in metrics), strict=True):
        if facts.get(f"tau_{metric}_holds") is False:
            name = f"{metric.upper()} threshold {facts[f'tau_{metric}']:g}"
            lines.append(f"no verdict: the {name} means nothing for {facts[f'encoder_{encoder}']}")
    if lines:
        width = int(13 * figure.get_figwidth())
        figure.supxlabel("\n".join(part for line in lines for part in wrap(line, width)), fontsize=7)
    return figure


def measure_of(name: str | None, swept: bool = False) -> Measure:
    """A measure by its name, for a heat map or (``swept``) for curves; None: CRT. Raises :class:`InputError`."""
    known = [CRA, VR, CRT] if swept else of_concepts()
    by_name = {name: m for m in known for name in (m.key, m.image_key, m.label.lower()) if name}
    wanted = CRT.key if name is None else name.lower()
    if wanted not in by_name:
        raise InputError(f"`measure` {name}: no such measure here; there are {', '.join(m.key for m in known)}")
    return by_name[wanted]


def figure_of(
    name: str, study: Study, measure: str | None, calibration: Calibration | None, draws: int, seed: int
) -> Figure:
    """A figure of a whole study by its name: bars, recognition, curves, heatmap, or nulls of a ``calibration``.

    Raises :class:`InputError` for another name or measure.
    """
    if name == "curves":
        return curves(sweep(study, step=0.01, draws=draws, seed=seed), measure_of(measure, swept=True))
    if name == "heatmap":
        return heatmap(summarise(study, concepts=False, draws=draws, seed=seed), measure_of(measure))
    if name in ("bars", "recognition"):
        return {"bars": bars, "recognition": recognition}[name](
            summarise(study, concepts=False, draws=draws, seed=seed)
        )
    if name != "nulls":
        raise InputError(f"{name}: no such figure; there are bars, recognition, curves, heatmap and nulls")
    if calibration is None:
        raise InputError(
            f"{study.sources[0].path}: has no calibration; run 'iconicity calibrate', or name one with `calibration`"
        )
    taus = {metric: calibration.taus(metric) for metric in ("cra", "vr")}
    histograms = own_and_null(study, calibration)
    if histograms.empty:
        raise InputError(
            f"{study.sources[0].path}: the calibration has no null for its numbers of references; add concepts"
        )
    return nulls(histograms, study.with_calibration(calibration), taus)


def bars(summary: Finding) -> Figure:
    """CRA, VR and VI of the recognised images, and CRT of each model, with intervals; or those at the thresholds that decide.

    A bar without an interval is hollow and dashed. Where a value is 0 stands 0, where it is undefined n/a.
    """
    from matplotlib.patches import Patch

    frame = summary.table("models")
    fitted = _fitted(summary.facts, frame)
    drawn_measures = [m for m in DECIDED.values() if m.key in frame] if fitted else _BARS
    shown: list[Patch] = []
    models = frame.to_dict("records")
    figure, axes = _figure(max(5.0, 1.1 * len(models) + 1.5), 3.4)
    width = 0.8 / len(drawn_measures)
    for k, measure in enumerate(drawn_measures):
        name, label = measure.key, _label(measure, summary.facts)
        x = np.arange(len(models)) + (k - (len(drawn_measures) - 1) / 2) * width
        value, low, high = (np.array([m[f"{name}{end}"] for m in models], np.float64) for end in ("", "_low", "_high"))
        known = ~np.isnan(low)
        hatch = ("", "///", "...", "xx")[k]
        drawn = {"color": _COLOURS[k], "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
        axes.bar(x[known], value[known], width * 0.92, **drawn)
        shown.append(Patch(facecolor=_COLOURS[k], hatch=hatch, edgecolor="white", label=label))
        for alone in np.flatnonzero(~known & ~np.isnan(value)):
            hollow: dict[str, Any] = {"fill": False, "edgecolor": _COLOURS[k], "linewidth": 1.0, "linestyle": "--"}
            axes.bar(x[alone], value[alone], width * 0.92, **hollow)
        for place in x[np.isnan(value)]:
            axes.annotate("n/a", (place, 0.01), color=_COLOURS[k], ha="center", va="bottom", fontsize=6, rotation=90)
        for place in x[value == 0.0]:
            axes.annotate("0", (place, 0.01), color=_COLOURS[k], ha="center", va="bottom", fontsize=6)
        ends = np.maximum(0.0, [value[known] - low[known], high[known] - value[known]])
        axes.errorbar(x[known], value[known], ends, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
    axes.set_xticks(
        np.arange(len(models)),
        [m["model"] for m in models],
        rotation=30 if len(models) > 4 else 0,
        ha="right" if len(models) > 4 else "center",
    )
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("mean over concepts")
    axes.legend(handles=shown, ncols=4, frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    return _captioned(figure, summary.facts, fitted=fitted)


def _label(measure: Measure, facts: Mapping[str, Any]) -> str:
    """Heading of a measure; of one that is decided that of the measure at these thresholds, as VR strict."""
    named = {_CRA: facts.get("decided_cra"), _VR: facts.get("decided_vr")}
    return named.get(measure) or measure.label


def recognition(summary: Finding) -> Figure:
    """CRA against VI, a mark a concept and model, dotted lines where CRT is the same."""
    figure, axes = _figure(5.0, 4.4)
    for crt in (0.1, 0.25, 0.5, 0.75):
        x = np.linspace(crt, 1.0, 60)
        axes.plot(x, crt / x, ":", color="0.6", linewidth=0.8)
        axes.annotate(
            f"{crt:g}", (1.0, crt), fontsize=7, color="0.4", xytext=(3, 0), textcoords="offset points", va="center"
        )
    frame = summary.table("concepts")
    fitted = _fitted(summary.facts, frame) and _CRT.key in frame
    for m, (model, mine) in enumerate(frame.groupby("model", sort=False)):
        cra, vi = (mine[CRA.key], mine[VI_RECOGNISED.key].fillna(1.0 - mine[VR.key]))
        if fitted:
            cra = mine[_CRA.key]
            vi = (mine[_CRT.key] / cra.where(cra > 0)).fillna(1.0 - mine[_VR.key])
        axes.scatter(
            cra, vi, s=26, alpha=0.75, color=_COLOURS[m % 8], marker=_MARKS[m % 8], label=str(model), linewidths=0
        )
    axes.set(
        xlabel="CRA (recognition)", ylabel="VI (independence)\nof the recognised images, else of all",
        xlim=(-0.03, 1.06), ylim=(-0.03, 1.03),
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=7)
    return _captioned(figure, summary.facts, fitted=fitted)


def curves(swept: Finding, measure: Measure) -> Figure:
    """CRA, VR or CRT along its threshold, a line a model, with its band."""
    along, metric = ("tau_vr", "VR") if measure is VR else ("tau_cra", "CRA")
    frame = swept.table("curves")
    frame = frame[(frame.measure == measure.key) & (frame.along == along)]
    figure, axes = _figure(5.0, 3.6)
    for m, (model, mine) in enumerate(frame.groupby("model", sort=False)):
        axes.plot(mine.tau, mine.value, _LINES[m // 8 % 4], color=_COLOURS[m % 8], label=str(model), linewidth=1.4)
        axes.fill_between(mine.tau, mine.value_low, mine.value_high, color=_COLOURS[m % 8], alpha=0.15, linewidth=0)
    axes.set(
        xlabel=f"{metric} threshold", ylabel=measure.label,
        xlim=(0, 1), ylim=(-0.02, 1.02),
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=7)
    return figure if measure is not CRT else _captioned(figure, swept.facts, ("vr",))


def nulls(histograms: pd.DataFrame, study: Study, calibrated: Mapping[str, Mapping[int, float]]) -> Figure:
    """Own similarities beside those of unrelated concepts, a row for each metric, a column for each number of references.

    ``histograms``: of :func:`~iconicity.scorer.measure.calibrate.calibration.own_and_null` of the ``study``, whose own thresholds
    are drawn; ``calibrated``: metric -> J -> threshold.
    """
    from matplotlib.figure import Figure

    metrics, js = list(dict.fromkeys(histograms.metric)), sorted(set(histograms.references))
    figure = Figure(figsize=(3.2 * len(js) + 0.6, 2.4 * len(metrics) + 0.5), layout="constrained")
    axes = figure.subplots(len(metrics), len(js), squeeze=False)
    lowest = float(histograms.low[(histograms.own > 5e-4) | (histograms.null > 5e-4)].min())
    for (i, metric), (k, j) in product(enumerate(metrics), enumerate(js)):
        a, mine = axes[i, k], histograms[(histograms.metric == metric) & (histograms.references == j)]
        a.spines[["top", "right"]].set_visible(False)
        if mine.empty:
            a.set_axis_off()
            continue
        width = float(mine.low.iloc[1] - mine.low.iloc[0])
        styles = (("null", "unrelated concepts", _COLOURS[0], "///"), ("own", "own concept", _COLOURS[1], ""))
        for name, label, colour, hatch in styles:
            a.bar(mine.low, mine[name], width, align="edge", color=colour, alpha=0.55, label=label, hatch=hatch,
                  edgecolor="white", linewidth=0)  # fmt: skip
        for value, line, label in (
            (study.tau[metric], ":", "own threshold"),
            (calibrated[metric].get(j), "-", "calibrated threshold"),
        ):
            if value is not None:
                a.axvline(value, linestyle=line, color="black", linewidth=1.0, label=label)
        a.set_xlim(lowest, 1.02)
        things, encoder = ("images", "clip") if metric == "cra" else ("patches", "dino")
        a.set(xlabel=f"similarity of {things}\n{study.settings['encoders'][encoder]}", ylabel="share" if k == 0 else "")
        a.set_title(counted(j, "reference"), fontsize=8)
    shown = {label: handle for a in axes.ravel() for handle, label in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(list(shown.values()), list(shown), frameon=False, fontsize=7, ncols=4, loc="outside upper center")
    return _captioned(figure, study.facts())


def heatmap(summary: Finding, measure: Measure) -> Figure:
    """A measure of each concept (rows) and model (columns); what is undefined is left white.

    CRA, VR and CRT are shown at the thresholds that decide. Raises :class:`InputError` for a measure that has no values.
    """
    frame = summary.table("concepts")
    decided = DECIDED.get(measure.key, measure)
    fitted = _fitted(summary.facts, frame) and decided.key in frame and decided is not measure
    measure = decided if fitted else measure
    if measure.key not in frame:
        raise InputError(
            f"`measure` {measure.key}: these results do not hold its thresholds; fit some with 'iconicity score --calibration'"
        )
    wide = frame.pivot(index="concept", columns="model", values=measure.key)
    figure, axes = _figure(2.2 + 0.45 * wide.shape[1], 1.4 + 0.2 * wide.shape[0])
    image = axes.imshow(wide.to_numpy(np.float64), vmin=0, vmax=1, cmap="cividis", aspect="auto")
    axes.set_xticks(range(wide.shape[1]), wide.columns, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(wide.shape[0]), [str(c).replace("_", " ") for c in wide.index], fontsize=6)
    figure.colorbar(image, label=_label(measure, summary.facts), shrink=0.6)
    return _captioned(figure, summary.facts, fitted=fitted)


def recognised_images(study: Study) -> list[str]:
    """The images that are recognised, as MODEL/CONCEPT/FILE."""
    return [f"{study.models[study.model[i]]}/{study.relpaths[i]}" for i in np.flatnonzero(recognised_rows(study))]


def evidence(study: Study, index: Index, image: str, most: int = 6, max_pixels: int = MAX_PIXELS) -> Figure:
    """One generated image beside the reference that most of its reused patches match, lines between matching cells.

    ``image``: MODEL/CONCEPT/FILE, CONCEPT/FILE where one model has it, or the file's path; the concept may be written as
    its folder was. Of the reused patches the ``most`` similar ones are drawn. ``study`` needs :data:`EVIDENCE_COLUMNS`. Raises
    :class:`InputError` for an image the results do not hold, or that was not scored for VR or can no longer be read.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import ConnectionPatch, Rectangle

    at = ImageNames(study).find(image)
    known = [f"{study.models[study.model[i]]}/{study.relpaths[i]}" for i in at]
    if not at:
        raise InputError(f"{image}: no image of these results; name one as MODEL/CONCEPT/FILE, as the report does")
    if len(at) > 1:
        raise InputError(f"{image}: fits {len(at)} images ({brief(known)}); name one as MODEL/CONCEPT/FILE")
    decision = decide(study)
    if np.isnan(decision.reused[at[0]]).any():
        raise InputError(f"{known[0]}: VR was not scored for this image; score it, too (`metrics`)")
    model, relpath = study.models[study.model[at[0]]], study.relpaths[at[0]]
    row = {c: study.table.column(c)[at[0]].as_py() for c in EVIDENCE_COLUMNS}
    p = study.p[at[0]]
    reused = np.flatnonzero(decision.reused[at[0]])
    matched = [row["p_ref_id"][k] for k in (reused if reused.size else [int(p.argmax())])]
    ref_id = max(sorted(set(matched)), key=matched.count)
    drawn = sorted((k for k in reused if row["p_ref_id"][k] == ref_id), key=lambda k: -p[k])[:most]
    reference = index.references([ref_id.split("/", 1)[0]]).get(ref_id)
    if reference is None:
        raise InputError(f"{index.path}: holds no {ref_id}, which these results name; score again")
    try:
        pictures = [
            shared().decode(read_bytes(path), path, index.settings["pixels"], max_pixels).image
            for path in (row["gen_path"], reference.path)
        ]
    except ImageError as e:
        raise InputError(f"{e}; restore the file, or score again") from e
    figure = Figure(figsize=SLIDE, layout="constrained")
    axes = figure.subplots(1, 2)
    titles = (f"{model}: {relpath}", f"reference: {ref_id}")
    boxes: list[list[Box]] = []
    for a, picture, title in zip(axes, pictures, titles, strict=True):
        a.imshow(picture)
        a.set_title(title, fontsize=10)
        a.set_axis_off()
        boxes.append(cell_boxes(*picture.size, *index.grid, overlapping=index.overlapping and len(boxes) == 1))
    for n, k in enumerate(drawn):
        colour, ends = _COLOURS[n % 8], []
        for a, (left, top, right, bottom) in zip(axes, (boxes[0][k], boxes[1][row["p_ref_cell"][k]]), strict=True):
            a.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
            across, down = seen(index.specs[1].preprocess, right - left, bottom - top) or (1.0, 1.0)
            w, h = across * (right - left), down * (bottom - top)
            if min(across, down) < 1.0:  # what the encoder looks at
                centre = ((left + right - w) / 2, (top + bottom - h) / 2)
                a.add_patch(Rectangle(centre, w, h, fill=False, edgecolor=colour, linewidth=0.8, linestyle=":"))
            ends.append(((left + right) / 2, (top + bottom) / 2))
        axes[0].annotate(
            f"{p[k]:.2f}",
            ends[0],
            color="white",
            fontsize=7,
            ha="center",
            va="center",
            bbox={"facecolor": "black", "alpha": 0.7, "pad": 1, "linewidth": 0},
        )
        figure.add_artist(
            ConnectionPatch(ends[0], ends[1], "data", "data", axesA=axes[0], axesB=axes[1], color=colour, linewidth=1.2)
        )
    basis = study.deciding.get("vr")
    name, tau = "VR", f"the VR threshold {study.tau['vr']}"
    if fitted := basis is not None and basis.kind != GIVEN:
        name, tau = basis.label, f"{basis.owner} thresholds"
    said = f"{name} {decision.vr[at[0]]:.3f} at {tau}; {len(drawn)} of {counted(len(reused), 'reused patch', 'reused patches')} drawn"
    if credit := credit_line(reference.path):
        said += f". Reference: {credit}"
    return _captioned(figure, study.facts(), () if fitted else ("vr",), said)
