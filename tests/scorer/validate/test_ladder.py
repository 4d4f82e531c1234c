"""The ladder on disk: truth as written, disjoint donors, seeds, halves by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scenes import picture, rescanned
from toys import draw, make_refs, write

from iconicity.indexer.errors import InputError
from iconicity.indexer.grid import cell_boxes
from iconicity.indexer.spec import file_sha256
from iconicity.scorer.validate import manipulate as m
from iconicity.scorer.validate.evaluate import half
from iconicity.scorer.validate.ladder import CELL_COLUMNS, Ladder, read_relations, write_ladder
from iconicity.scorer.validate.options import RUNGS, LadderOptions
from iconicity.scorer.validate.rungs import GRID, KS, LABELS, make_rungs

NAMES = [f"c{i:02d}" for i in range(12)]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return make_refs(tmp_path / "many", NAMES, each=1)


def hashes(ladder: Ladder) -> dict[str, str]:
    gen = ladder.out / "gen"
    return {str(p.relative_to(gen)): file_sha256(p) for p in gen.rglob("*") if p.is_file()}


def test_every_rung_says_what_its_pixels_are() -> None:
    ref, donors = draw(1, (96, 72)), [draw(2, (90, 90)), draw(3, (90, 90))]
    fitted = [np.asarray(m.fit(d, ref.size)) for d in donors]
    made = list(make_rungs("c", ref, donors, 0))
    assert {x.rung for x in made} == RUNGS.keys() - {"S"} and {x.label for x in made} == set(LABELS) - {"scan"}
    assert [x.name for x in made if x.label == "repainted"] == ["repainted_1", "repainted_2", "repainted_3"]
    assert [x.name for x in make_rungs("c", ref, donors, 0, ["N", "G2"])] == [
        "repainted_2",
        "unrelated_1",
        "unrelated_2",
    ]
    assert [x.k for x in made if x.rung == "R2"] == list(KS)
    for x in made:
        out = np.asarray(x.image)
        assert x.coverage.shape == (16,)
        assert (x.k is None) == bool(np.isnan(x.coverage).all())
        if x.rung in ("R0", "R2", "R3", "R4"):
            of = [d for d in fitted if shows(out, d, x.coverage)] or fitted[:1]
            assert x.rung == "R2" or x.coverage.all() or of[0] is fitted[0]
            for (x0, y0, x1, y1), share in zip(cell_boxes(*ref.size, *GRID), x.coverage, strict=True):
                if share == 0:  # what counts as not reused holds no pixel of the reference
                    assert np.array_equal(out[y0:y1, x0:x1], of[0][y0:y1, x0:x1]), x.name
                elif x.rung == "R0":
                    assert np.array_equal(out[y0:y1, x0:x1], np.asarray(ref)[y0:y1, x0:x1])
        if x.rung in ("R0", "R2"):
            assert x.coverage.sum() == x.k
        if x.rung == "R3":
            assert x.coverage.sum() == pytest.approx(x.k, abs=0.01) and x.offset > 0
    assert len({x.name for x in made}) == len(made)
    changed = [np.asarray(x.image) for x in made if x.rung == "R2"]
    turns = [[shows(out, d, x.coverage) for d in fitted] for out, x in
             zip(changed, (x for x in made if x.rung == "R2"), strict=True)]  # fmt: skip
    assert turns[:-1] in ([[True, False], [False, True]] * 3, [[False, True], [True, False]] * 3)  # donors take turns
    unrelated = [np.asarray(x.image) for x in made if x.name.startswith("unrelated")]
    assert all(np.array_equal(a, b) for a, b in zip(unrelated, fitted, strict=True))


def shows(out: Any, donor: Any, coverage: Any) -> bool:
    """Whether the cells without reuse are the donor's."""
    boxes = cell_boxes(out.shape[1], out.shape[0], *GRID)
    return all(
        np.array_equal(out[y0:y1, x0:x1], donor[y0:y1, x0:x1])
        for (x0, y0, x1, y1), share in zip(boxes, coverage, strict=True)
        if share == 0
    )


def test_one_seed_one_ladder_and_another_concept_moves_none(many: Path, tmp_path: Path) -> None:
    first = write_ladder(many, tmp_path / "a", LadderOptions(concepts=4))
    again = write_ladder(many, tmp_path / "b", LadderOptions(concepts=4))
    assert hashes(first) == hashes(again) and first.truth.equals(again.truth)
    more = write_ladder(many, tmp_path / "c", LadderOptions(concepts=8))
    common = {k: v for k, v in hashes(more).items() if k in hashes(first)}
    assert hashes(first).keys() == common.keys()
    assert more.donors == first.donors and first.halves.items() <= more.halves.items()
    other = write_ladder(many, tmp_path / "d", LadderOptions(concepts=4, seed=1))
    assert hashes(other) != hashes(first)


def test_donors_are_never_references_and_each_serves_one_half(many: Path, tmp_path: Path) -> None:
    ladder = write_ladder(many, tmp_path / "a", LadderOptions(concepts=10))
    refs = {p.name for p in (tmp_path / "a" / "refs").iterdir()}
    assert len(ladder.donors) == 2 and refs == set(ladder.halves) and not refs & set(ladder.donors)
    assert set(ladder.halves.values()) == {"A", "B"}
    donors = {d: np.asarray(draw(100 * int(d[1:]), (64, 48)), np.int64) for d in ladder.donors}
    used: dict[str, set[str]] = {"A": set(), "B": set()}
    row: Any
    for row in ladder.truth[ladder.truth.name.str.startswith("unrelated")].itertuples():
        made = np.asarray(Image.open(tmp_path / "a" / "gen" / row.rung / row.gen_relpath), np.int64)
        near = min(donors, key=lambda d: np.abs(donors[d] - made).mean())
        assert np.abs(donors[near] - made).mean() < 8
        used[row.half].add(near)
    assert not used["A"] & used["B"]
    a, b = half(ladder, "A"), half(ladder, "B")
    assert not set(a.concepts) & set(b.concepts) and len(a.rows) + len(b.rows) == len(ladder.truth)


def test_names_of_one_work_lie_in_one_half_and_never_give_donors(many: Path, tmp_path: Path) -> None:
    ladder = write_ladder(many, tmp_path / "a", LadderOptions(concepts=10))
    kept = next(iter(ladder.halves))
    for i in range(8):  # the same picture under eight more names
        write(many / f"twin{i}" / "00.png", draw(100 * int(kept[1:])).resize((62, 46)))
    found = write_ladder(many, tmp_path / "b", LadderOptions(concepts=20))
    twins = {c for c in found.halves if c.startswith("twin")} | ({kept} & found.halves.keys())
    assert len(twins) > 3 and len({found.halves[c] for c in twins}) == 1
    assert not any(d.startswith("twin") for d in found.donors) and kept not in found.donors


def test_further_references_are_second_scans_where_they_register_and_versions_where_a_table_says(
    many: Path, tmp_path: Path
) -> None:
    pytest.importorskip("skimage", reason="registering needs scikit-image (pip install 'iconicity[validate]')")
    subject = next(iter(write_ladder(many, tmp_path / "a", LadderOptions(concepts=10)).halves))
    work = picture(int(subject[1:]))
    write(many / subject / "00.png", work)
    write(many / subject / "00_series.png", picture(7001))
    half_of_it = rescanned(work, (0, 0, 160, 240), (200, 300))
    write(many / subject / "05_other_scan.png", half_of_it)
    write(many / subject / "06_version.png", rescanned(work, (0, 0, 300, 230), (280, 220)))
    write(many / subject / "07_unknown.png", picture(7002))
    table = tmp_path / "relations.csv"
    lines = [f"refs/{subject}/00_series.png,series_variant", f"refs/{subject}/06_version.png,version_variant"]
    table.write_text("path,relation\n" + "\n".join(lines) + "\n")
    options = LadderOptions(concepts=10, rungs=["R2", "S", "T"], relations=read_relations(table))
    ladder = write_ladder(many, tmp_path / "b", options)
    found = ladder.truth[ladder.truth.concept == subject].set_index("name")
    assert [n for n in found.index if n.startswith(("version", "scan"))] == ["scan_1", "version_1", "version_2"]
    assert found.label[["scan_1", "version_1"]].tolist() == ["scan", "transformed"]
    cells = found.loc["scan_1", CELL_COLUMNS].to_numpy(float).reshape(4, 4)
    assert (cells[:, :2] >= 0.8).all() and np.isnan(cells[:, 2:]).all() and np.isnan(found.k["scan_1"])
    laid = Image.open(ladder.out / "gen" / "S" / subject / "scan_1.jpg")
    assert laid.size == work.size
    left, right = (np.asarray(laid.convert("L"), float)[:, at] for at in (slice(150), slice(170, None)))
    assert np.corrcoef(left.ravel(), np.asarray(work.convert("L"), float)[:, :150].ravel())[0, 1] > 0.75
    assert right.max() < 30
    assert [p.name for p in (ladder.out / "refs" / subject).iterdir()] == ["00.png"]
    with pytest.raises(InputError, match=r"no column 'path' .columns: a, b."):
        read_relations(write_text(tmp_path / "bad.csv", "a,b\n1,2\n"))


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_same_artist_is_shown_by_a_donor(many: Path, tmp_path: Path) -> None:
    ladder = write_ladder(many, tmp_path / "a", LadderOptions(concepts=10, artists=dict.fromkeys(NAMES, "one")))
    assert (ladder.truth.name == "same_artist").sum() == len(ladder.halves)
    apart = write_ladder(many, tmp_path / "b", LadderOptions(concepts=10))
    assert not (apart.truth.name == "same_artist").any()


def test_a_ladder_that_is_there_is_left_and_another_takes_its_place(many: Path, tmp_path: Path) -> None:
    ladder = write_ladder(many, tmp_path / "a", LadderOptions(concepts=4))
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "gen").rglob("*.jpg")}
    write_ladder(many, tmp_path / "a", LadderOptions(concepts=4))
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "gen").rglob("*.jpg")}
    (tmp_path / "a" / ".iconicity-ladder").write_text("")  # a run that was killed
    assert hashes(write_ladder(many, tmp_path / "a", LadderOptions(concepts=4))) == hashes(ladder)
    fewer = write_ladder(many, tmp_path / "a", LadderOptions(concepts=4, rungs=["R2", "N"]))
    assert set(fewer.truth.rung) == {"R2", "N"} == {p.name for p in (tmp_path / "a" / "gen").iterdir()}


def test_what_cannot_be_a_ladder_is_refused(many: Path, tmp_path: Path) -> None:
    write(tmp_path / "full" / "mine.png", draw(1))
    with pytest.raises(InputError, match="holds something that is no ladder"):
        write_ladder(many, tmp_path / "full")
    assert (tmp_path / "full" / "mine.png").is_file()
    with pytest.raises(InputError, match="R2 among them"):
        write_ladder(many, tmp_path / "a", LadderOptions(rungs=["R1"]))
    with pytest.raises(InputError, match="5 concepts with images; a ladder needs 6"):
        write_ladder(make_refs(tmp_path / "few", NAMES[:5], each=1), tmp_path / "a")


def test_unusable_references_are_told_and_passed_over(many: Path, tmp_path: Path) -> None:
    subjects = list(write_ladder(many, tmp_path / "a", LadderOptions(concepts=10)).halves)
    (many / subjects[0] / "00.png").write_bytes(b"no image")
    shutil.rmtree(many / subjects[1])
    write(many / subjects[1] / "00.png", draw(9, (30, 30)))
    ladder = write_ladder(many, tmp_path / "b", LadderOptions(concepts=10))
    # the broken file's near-duplicate takes its place; the small one has none
    assert {(s.concept, s.reason.split(":")[0]) for s in ladder.skipped} == {
        (subjects[0], "not an image of a known format"), (subjects[1], "too small"),
    }  # fmt: skip
    assert subjects[0] in ladder.halves and subjects[1] not in ladder.halves
