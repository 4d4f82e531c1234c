"""The rungs of the ladder: what is made of one reference, with its truth. Seeded by names, so that no concept moves another.

R0 exact cells; R1 whole copies; R2 changed cells; R3 cells off the grid; R4 inpainted cells; S second scans; G1 to G3
repainted copies; O the same content in another layout; T transformed; N something else; B bland.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from iconicity.indexer.grid import cell_boxes
from iconicity.indexer.null.pool import rank
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.validate import manipulate as m
from iconicity.scorer.validate.options import REPAINTED, RUNGS
from iconicity.scorer.validate.repaint import STRENGTHS, repainted

GRID = (4, 4)
CELLS = GRID[0] * GRID[1]
KS = (0, 1, 2, 4, 8, 12, 16)
OFFSETS = (1 / 8, 1 / 4, 1 / 2)
MOVED = (2, 4, 8)  # cells that are moved off the grid; with 9 and more some would not fit
DONORS = 4  # unrelated pictures a concept, so that its false alarms are not those of one pair of pictures
LABELS = ("copy", "partial", "scan", "repainted", "layout", "transformed", "other")
_JPEG = {"quality": 92}


@dataclass(frozen=True)
class Made:
    """One image of the ladder and its truth.

    ``k`` is how many of the 16 cells are the reference's, None where no number is true (a transformed image);
    ``coverage`` (16,) how much of each cell is, nan where that is not defined. ``save`` are Pillow's options.
    """

    rung: str
    name: str
    label: str
    image: Image.Image
    k: int | None
    coverage: Float64
    offset: float = 0.0
    suffix: str = ".jpg"
    save: Mapping[str, Any] = field(default_factory=lambda: _JPEG)


def rng_of(seed: int, *names: str) -> np.random.Generator:
    """A generator that belongs to some names."""
    return np.random.default_rng(int(rank(seed, "|".join(names))[:16], 16))


def make_rungs(
    concept: str,
    reference: Image.Image,
    donors: Sequence[Image.Image],
    seed: int,
    rungs: Collection[str] = tuple(RUNGS),
) -> Iterator[Made]:
    """The images of some rungs made of one reference; ``donors`` show something else. All RGB.

    Numbers of cells that not every concept gets in every rung, and the donors of R2, go round by the concept's name;
    elsewhere the first donor serves. Second scans are found, not made: they are not among these images.
    """
    turn = int(rank(seed, f"turn|{concept}")[:8], 16)
    fitted = [m.fit(d, reference.size) for d in donors]
    for rung, part in _PARTS.items():
        if rung in rungs:
            yield from part(concept, reference, fitted[0], seed, turn)
    if "R2" in rungs:
        yield from _changed(concept, reference, fitted, seed, turn)
    if "N" in rungs:
        for i, donor in enumerate(fitted, 1):
            yield Made("N", f"unrelated_{i}", "other", donor, 0, np.zeros(CELLS))


def _label(k: int) -> str:
    return "other" if k == 0 else "copy" if k == CELLS else "partial"


def _chosen(seed: int, concept: str, name: str, k: int) -> list[int]:
    return sorted(rng_of(seed, concept, name).choice(CELLS, k, replace=False).tolist())


def _mask(chosen: Sequence[int]) -> Float64:
    covered = np.zeros(CELLS)
    covered[list(chosen)] = 1.0
    return covered


def _exact(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    k = KS[turn % len(KS)]
    name = f"exact_{k:02d}"
    chosen = _chosen(seed, concept, name, k)
    image = m.paste_cells(ref, donor, chosen, GRID)
    yield Made("R0", name, _label(k), image, k, _mask(chosen), suffix=".png", save={})


def _copies(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    made = {"resized": (m.resized(ref), 92), "jpeg30": (ref, 30), "cropped": (m.cut(ref), 92),
            "mirrored": (ImageOps.mirror(ref), 92)}  # fmt: skip
    for name, (image, quality) in made.items():
        yield Made("R1", name, "copy", image, CELLS, np.ones(CELLS), save={"quality": quality})


def _changed(concept: str, ref: Image.Image, donors: Sequence[Image.Image], seed: int, turn: int) -> Iterator[Made]:
    for i, k in enumerate(KS):
        name = f"changed_{k:02d}"
        chosen = _chosen(seed, concept, name, k)
        donor = donors[(turn + i) % len(donors)]
        image = m.paste_changed(ref, donor, chosen, GRID, rng_of(seed, concept, name, "change"))
        yield Made("R2", name, _label(k), image, k, _mask(chosen), save={"quality": 75})


def _shifted(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    for i, offset in enumerate(OFFSETS):
        k = MOVED[(turn + i) % len(MOVED)]
        name = f"shifted_{round(8 * offset)}of8_{k:02d}"
        image, mask = m.paste_shifted(ref, donor, k, offset, GRID, rng_of(seed, concept, name))
        yield Made("R3", name, "partial", image, k, m.coverage_of(mask, GRID), offset)


def _inpainted(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    k = MOVED[turn % len(MOVED)]
    name = f"inpainted_{k:02d}"
    chosen = _chosen(seed, concept, name, k)
    image, mask = m.paste_inpainted(ref, donor, chosen, GRID)
    yield Made("R4", name, "partial", image, k, m.coverage_of(mask, GRID))


def _layouts(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    for name, image in (("shuffled", ref), ("mirrored_shuffled", ImageOps.mirror(ref))):
        shuffled, _ = m.shuffle_cells(image, GRID, rng_of(seed, concept, name))
        yield Made("O", name, "layout", shuffled, CELLS, np.ones(CELLS))


def _transformed(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    ways: dict[str, Callable[[], Image.Image]] = {
        "flat_tones": lambda: m.flat_tones(ref),
        "drawing": lambda: m.drawing(ref),
        "strokes": lambda: m.strokes(ref, rng_of(seed, concept, "strokes")),
        "redrawn": lambda: m.redrawn(ref, rng_of(seed, concept, "redrawn")),
    }
    for name, way in ways.items():
        yield Made("T", name, "transformed", way(), None, np.full(CELLS, np.nan))


def _bland(concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    rng = rng_of(seed, concept, "bland")
    ways: tuple[tuple[str, Callable[[], Image.Image]], ...] = (
        ("sky", lambda: m.sky(ref.size, rng)), ("letterbox", lambda: m.letterbox(donor)),
        ("paper", lambda: m.paper(ref.size, rng)), ("gradient", lambda: m.gradient(ref.size, rng)),
    )  # fmt: skip
    for name, way in (ways[turn % 2], ways[2 + turn % 2]):
        yield Made("B", name, "other", way(), 0, np.zeros(CELLS))


def _repainted(at: int, concept: str, ref: Image.Image, donor: Image.Image, seed: int, turn: int) -> Iterator[Made]:
    name = f"repainted_{at + 1}"
    image = repainted(ref, STRENGTHS[at], rng_of(seed, concept, name))
    yield Made(REPAINTED[at], name, "repainted", image, CELLS, np.ones(CELLS))


_PARTS: dict[str, Callable[[str, Image.Image, Image.Image, int, int], Iterator[Made]]] = {
    "R0": _exact, "R1": _copies, "R3": _shifted, "R4": _inpainted, "O": _layouts, "T": _transformed, "B": _bland,
    **{rung: partial(_repainted, i) for i, rung in enumerate(REPAINTED)},
}  # fmt: skip


def moved_boxes_fit(size: tuple[int, int]) -> bool:
    """Whether an image is large enough for moves of an eighth of a cell to be moves: 8 pixels a cell or more."""
    left, top, right, bottom = cell_boxes(*size, *GRID)[0]
    return min(right - left, bottom - top) >= 8
