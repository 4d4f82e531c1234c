"""Write the ladder of a folder of references: the references, what is made of them, and ``truth.csv``."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iconicity.indexer.csv_cells import csv_text
from iconicity.indexer.encode.decoder import shared
from iconicity.indexer.encode.dedup import hamming, phash
from iconicity.indexer.errors import ImageError, InputError
from iconicity.indexer.left_out import Skipped
from iconicity.indexer.null.design import half_of
from iconicity.indexer.null.pool import choose, rank
from iconicity.indexer.null.same_work import NEAR, work_of
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.sources.folders import concept_name, folder_images, read_bytes
from iconicity.indexer.sources.listing import grouped
from iconicity.indexer.sources.tables import Tell, read_table
from iconicity.indexer.store.files import write_atomically
from iconicity.indexer.text import counted
from iconicity.scorer.measure.metrics import Float64
from iconicity.scorer.validate.manipulate import coverage_of
from iconicity.scorer.validate.options import RUNGS, SCANS, LadderOptions
from iconicity.scorer.validate.register import can_register, register
from iconicity.scorer.validate.rungs import CELLS, DONORS, GRID, Made, make_rungs, moved_boxes_fit, rng_of

MARK = ".iconicity-ladder"  # only a folder with it, or an empty one, is written into
VERSION = 3  # of the manipulations: another one makes all images anew
SIZE = 1024  # longest side of the images made, in pixels
FEWEST = 6  # concepts: four to be manipulated, two that give what is pasted into
_SCANS = 2  # of a work, at most
_SHOWN = 0.8  # share of a cell that a second scan must show for the cell to count
CELL_COLUMNS = [f"cell_{i}" for i in range(CELLS)]


@dataclass(frozen=True)
class Ladder:
    """Where a ladder lies, and its truth: a row an image, sorted by (rung, gen_relpath)."""

    out: Path
    truth: pd.DataFrame
    halves: Mapping[str, str]  # concept -> A (choosing) or B (reporting)
    donors: Sequence[str]
    skipped: Sequence[Skipped]

    @property
    def coverage(self) -> Float64:
        """(n, 16): how much of each cell is the reference's, nan where that is not defined."""
        return self.truth[CELL_COLUMNS].to_numpy(np.float64)

    def rungs(self) -> dict[str, Path]:
        """Rung -> the folder of its images."""
        return {r: self.out / "gen" / r for r in sorted(set(self.truth.rung))}


@dataclass(frozen=True)
class _Concept:
    """A concept's reference, decoded, and its other files with their relation, empty where it is not known."""

    name: str
    path: Path
    image: Image.Image
    phash: str
    others: Sequence[tuple[Path, str]] = field(default=())


def read_relations(path: Path, tell: Tell = warnings.warn) -> dict[tuple[str, str], str]:
    """(concept, file name) -> relation, of a table with the columns path and relation. Raises :class:`InputError`.

    ``same_work`` is a reproduction, a word with ``variant`` another version of the work. ``tell`` gets a line on what a
    user should know.
    """
    table = read_table(path, {"path": "", "relation": ""}, tell=tell)
    rows = [(Path(row["path"].strip().replace("\\", "/")), row["relation"].strip().lower()) for _, row in table.rows]
    return {(concept_name(p.parent.name), p.name): relation for p, relation in rows}


def write_ladder(
    refs: Path,
    out: Path,
    options: LadderOptions = LadderOptions(),
    *,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> Ladder:
    """Manipulate concepts of a folder of references; a fifth of the others are donors.

    A concept's reference is its first file (of those that the relations do not call variants). Other files that register
    with it are second scans of the work. Files that the relations call variants are transformations. The rest is left out.
    Donors are never indexed, none shows a work that is, and each serves one half of the concepts. A folder that holds
    the same ladder is left as it is. ``facts`` are further facts it stands for. Raises :class:`InputError`.
    """
    rungs, seed = options.rungs, options.seed
    known = {**(options.relations or {})}
    if not set(rungs) <= RUNGS.keys() or "R2" not in rungs:
        raise InputError(f"`rungs` {','.join(rungs)}: some of {', '.join(RUNGS)}, and R2 among them")
    files = {c: [Path(i.path) for i in images] for c, images in grouped(folder_images(refs), refs, []).concepts.items()}
    names = [c for c, paths in files.items() if paths]
    if len(names) < FEWEST:
        raise InputError(f"{refs}: {counted(len(names), 'concept')} with images; a ladder needs {FEWEST} or more")
    donor_names = sorted(names, key=lambda c: rank(seed, f"donor|{c}"))[: max(2, len(names) // 5)]
    subject_names = choose(set(names) - set(donor_names), options.concepts, seed)
    skipped: list[Skipped] = []
    subjects = [c for n in subject_names if (c := _open(n, files[n], known, skipped)) is not None]
    donors = [c for n in donor_names if (c := _open(n, files[n], known, skipped)) is not None]
    donors = [d for d in donors if all(hamming(d.phash, s.phash) > NEAR for s in subjects)]
    pairs = {(a.name, b.name) for a, b in combinations(subjects, 2) if hamming(a.phash, b.phash) <= NEAR}
    halves = {c: half_of(w, seed) for c, w in work_of([s.name for s in subjects], pairs).items()}
    counts = {h: sum(v == h for v in halves.values()) for h in "AB"}
    if min(counts.values()) < 2 or len(donors) < 2:
        raise InputError(
            f"{refs}: {counts['A']} and {counts['B']} usable concepts in the halves and {counted(len(donors), 'donor')}; two of each "
            "are needed: add concepts, or try another `seed`"
        )
    artists = dict(options.artists or {})
    identity = {
        "version": VERSION, "seed": seed, "size": SIZE, "rungs": sorted(rungs), "scans": can_register(), **(facts or {}),
        "files": _digest([*subjects, *donors]), "artists": {c.name: artists.get(c.name) for c in [*subjects, *donors]},
    }  # fmt: skip
    _claim(out, identity)
    rows = _written(out)
    if rows is None:
        rows = []
        by_half = {h: donors[i::2] for i, h in enumerate("AB")}
        for n, subject in enumerate(subjects, 1):
            folder = out / "refs" / subject.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(subject.path, folder / subject.path.name)
            for made in _images(subject, by_half[halves[subject.name]], artists, seed, rungs):
                rows.append({**_write(out, subject.name, made), "half": halves[subject.name]})
            progress("ladder", n, len(subjects))
        frame = pd.DataFrame(rows).sort_values(["rung", "gen_relpath"], ignore_index=True)
        write_atomically(out / "truth.csv", csv_text(frame))
        write_atomically(out / MARK, json.dumps(identity, sort_keys=True) + "\n")  # last: the ladder is whole
    truth = pd.read_csv(out / "truth.csv")
    return Ladder(out, truth, halves, [d.name for d in donors], skipped)


def _open(
    concept: str, files: Sequence[Path], known: Mapping[tuple[str, str], str], skipped: list[Skipped]
) -> _Concept | None:
    """The first file that is the work and can be used."""
    said = {p: known.get((concept, p.name), "") for p in files}
    ordered = [p for p in files if "variant" not in said[p]] or list(files)
    for path in ordered:
        try:
            image = shared().decode(read_bytes(path), path).image
        except ImageError as e:
            skipped.append(Skipped(str(path), concept, e.reason))
            continue
        image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
        if not moved_boxes_fit(image.size):
            skipped.append(Skipped(str(path), concept, "too small: a cell has fewer than 8 pixels"))
            continue
        return _Concept(concept, path, image, phash(image), [(p, said[p]) for p in files if p != path])
    return None


def _images(
    subject: _Concept, donors: Sequence[_Concept], artists: Mapping[str, str], seed: int, rungs: Collection[str]
) -> Iterator[Made]:
    """All images of a concept in some rungs: manipulated, found, and by the same artist."""
    mine = artists.get(subject.name)
    kin = [d for d in donors if mine is not None and artists.get(d.name) == mine]
    strangers = [d for d in donors if d not in kin] or donors
    rng = rng_of(seed, subject.name, "donor")
    first = int(rng.integers(len(strangers)))
    others = [d for i, d in enumerate(strangers) if i != first]
    order = rng_of(seed, subject.name, "donors").permutation(len(others))[: DONORS - 1]
    serving = [strangers[first], *(others[i] for i in order)]
    yield from make_rungs(subject.name, subject.image, [d.image for d in serving], seed, rungs)
    if kin and "N" in rungs:
        yield Made("N", "same_artist", "other", kin[int(rng.integers(len(kin)))].image, 0, np.zeros(CELLS))
    if "T" in rungs:
        for i, image in enumerate(_decoded(p for p, r in subject.others if "variant" in r), 1):
            yield Made("T", f"version_{i}", "transformed", image, None, np.full(CELLS, np.nan))
    if SCANS in rungs and can_register():
        scans = _decoded(p for p, r in subject.others if "variant" not in r)
        laid = (found for scan in scans if (found := register(scan, subject.image)) is not None)
        for i, (image, mask) in enumerate(islice(laid, _SCANS), 1):
            shown = coverage_of(mask, GRID)
            # of a cell that the scan shows in part, nobody can say whether it should be found
            yield Made(SCANS, f"scan_{i}", "scan", image, None, np.where(shown >= _SHOWN, shown, np.nan))


def _decoded(paths: Iterable[Path]) -> Iterator[Image.Image]:
    """Images of the ladder's size, without files that cannot be read."""
    for path in paths:
        try:
            image = shared().decode(read_bytes(path), path).image
        except ImageError:
            continue
        image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
        yield image


def _write(out: Path, concept: str, made: Made) -> dict[str, Any]:
    relpath = f"{concept}/{made.name}{made.suffix}"
    path = out / "gen" / made.rung / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    made.image.save(path, **made.save)
    return {
        "rung": made.rung, "gen_relpath": relpath, "concept": concept, "name": made.name, "label": made.label,
        "k": made.k, "offset": made.offset, **dict(zip(CELL_COLUMNS, made.coverage.tolist(), strict=True)),
    }  # fmt: skip


def _digest(concepts: Sequence[_Concept]) -> str:
    digest = hashlib.sha256()
    for c in concepts:
        for path in (c.path, *(p for p, _ in c.others)):
            digest.update(f"{c.name}|{path.name}|".encode() + path.read_bytes())
        digest.update(repr([r for _, r in c.others]).encode())
    return digest.hexdigest()


def _claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Take a folder that is empty or a ladder's; another ladder's images and tables go. Raises :class:`InputError`."""
    mark = out / MARK
    if out.is_file() or (out.is_dir() and not mark.is_file() and any(out.iterdir())):
        raise InputError(f"{out}: holds something that is no ladder; name a new folder with `out`")
    out.mkdir(parents=True, exist_ok=True)
    held = mark.read_text(encoding="utf-8") if mark.is_file() else ""
    if held != json.dumps(identity, sort_keys=True) + "\n":
        for path in out.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    mark.touch()


def _written(out: Path) -> list[Any] | None:
    """Not None when the folder holds the whole ladder."""
    return [] if (out / MARK).stat().st_size and (out / "truth.csv").is_file() else None
