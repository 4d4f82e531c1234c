"""Layouts of generated images: the same images give the same scores; tars are read member by member."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    COUNTS,
    as_csv,
    as_geneval,
    as_jsonl,
    as_parquet,
    as_shards,
    as_tar,
    seed_of,
)
from toys import Study, draw, make_gen, pack, running, write

from iconicity.indexer.build import add_references
from iconicity.indexer.errors import InputError
from iconicity.scorer.choose import list_images
from iconicity.scorer.options import ScoreOptions, Writing
from iconicity.scorer.results import Record, require_results

LAYOUTS = [as_csv, as_jsonl, as_parquet, as_geneval, as_shards, as_tar]
NOT_READ = {"as_csv": ["used: other"], "as_shards": ["read: cls (9)"], "as_tar": ["read: cls (9)"]}

MEASURED = ["concept", "gen_sha256", "cra_sim", "cra_ref_id", "p", "p_ref_id", "p_ref_cell", "status", "n_ref_kept"]


def measured(rows: list[Record]) -> list[Any]:
    return sorted(([row[name] for name in MEASURED] for row in rows), key=lambda r: r[:2])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_scores_as_the_plain_folder(
    study: Study, gen: Path, tmp_path: Path, layout: Callable[[Path, Path], Path]
) -> None:
    study({"m1": gen})
    plain = study.results().rows("m1")
    assert {(r["seed"], r["prompt"], r["variant"]) for r in plain} == {(None, None, None)}
    fresh = Study(study.index, tmp_path / "fresh")
    place = layout(gen, tmp_path)
    report = fresh({"m1": place})
    rows = fresh.results().rows("m1")
    assert report.embedded == 9 and not report.skipped
    said = [n.rpartition("not ")[2] for n in report.notices if n.startswith(place.as_posix())]
    assert said == NOT_READ.get(layout.__name__, [])
    assert measured(rows) == measured(plain)
    shas = {r["gen_sha256"]: r for r in rows}
    for row in plain:
        file = gen / row["gen_relpath"]
        got = shas[row["gen_sha256"]]
        assert (got["seed"], got["prompt"], got["variant"]) == (seed_of(file), f"{row['concept']}, painted", "v")
        assert got["gen_relpath"].startswith(f"{row['concept']}/") and got["gen_path"].startswith(place.as_posix())
    before = fresh.results().table()
    again = fresh({"m1": place})
    assert again.embedded == 0 and fresh.loads == 1 and fresh.results().table().equals(before)
    with (fresh.out / "results_cra_dynamic.csv").open(newline="") as f:
        row = next(csv.DictReader(f))
    assert (row["seed"], row["prompt"], row["variant"]) == ("0", "alpha, painted", "v")
    header = list(row)
    at = header.index("gen_sha256")
    assert header[at : at + 4] == ["gen_sha256", "seed", "prompt", "variant"]


def test_names_are_those_of_the_plain_folder_where_they_can_be(gen: Path, tmp_path: Path) -> None:
    plain = {c: [i.name for i in images] for c, images in list_images(gen, COUNTS).concepts.items()}
    for layout in (as_csv, as_tar):
        got = list_images(layout(gen, tmp_path), COUNTS)
        assert {c: [i.name for i in images] for c, images in got.concepts.items()} == plain


def test_an_unchanged_shard_is_not_read_again(
    study: Study, gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = as_shards(gen, tmp_path)
    study({"m1": shards})
    read: list[str] = []

    def no_reading(path: str) -> bytes:
        read.append(path)
        raise AssertionError(path)

    monkeypatch.setattr("iconicity.indexer.sources.folders.read_bytes", no_reading)
    assert study({"m1": shards}).embedded == 0 and not read
    os.utime(shards / "b.tar", ns=(1, 1))
    with pytest.raises(AssertionError):
        study({"m1": shards})
    assert {Path(path).parent for path in read} == {shards / "b.tar" / "beta"}


def test_workers_update_and_a_lost_cache_read_through_the_tar(
    study: Study, gen: Path, refs: Path, tmp_path: Path
) -> None:
    tar = as_tar(gen, tmp_path)
    study({"m1": tar}, run=replace(study.run, workers=2, cache=None))
    one = study.results().table()
    study({"m1": tar}, out=tmp_path / "other", run=replace(study.run, cache=None))
    assert require_results(tmp_path / "other").table().equals(one)
    other = make_gen(tmp_path / "m2", seed=9000)
    write(refs / "alpha" / "new.png", draw(5001))
    add_references(refs, study.index, run=running(study.encoders))
    report = study(
        {"m2": other}, writing=Writing(update=True), run=replace(study.run, cache=None)
    )  # m1 is not named: its images come by gen_path alone
    assert report.embedded >= 9
    assert study.results().rows("m1")[1]["cra_ref_id"] == "alpha/new.png"
    assert study.results().rows("m1")[1]["seed"] == 1


def test_hostile_member_names_are_labels(study: Study, gen: Path, tmp_path: Path) -> None:
    data = (gen / "alpha" / "00.png").read_bytes()
    names = [
        "../x.png",
        "../../alpha/y.png",
        "/etc/z.png",
        "alpha/../alpha/w.png",
        "alpha/._w.png",
        "flat.png",
        "a/\ud800.png",
    ]
    inside = tmp_path / "deep" / "in"
    inside.mkdir(parents=True)
    members = {n.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"): data for n in names}
    members |= {
        "../x.json": b'{"concept": "../alpha/..", "seed": 4}',
        "flat.json": b'{"concept": "Alpha"}',
        "alpha/../alpha/w.json": b"[",
    }
    tar = pack(inside / "h.tar", members)
    before = sorted(tmp_path.rglob("*"))
    report = study({"m1": tar}, ScoreOptions(scope="all"))
    assert [p for p in sorted(tmp_path.rglob("*")) if p not in before and "/deep/" in str(p)] == []
    rows = {r["gen_path"].removeprefix(f"{tar}/"): r for r in study.results().rows("m1")}
    assert sorted(rows) == ["../../alpha/y.png", "../x.png", "alpha/../alpha/w.png", "etc/z.png", "flat.png"]
    assert all(r["status"] == "ok" for r in rows.values())
    assert not any(".." in r["gen_relpath"].split("/") for r in rows.values())
    assert [rows[n]["concept"] for n in ("flat.png", "../../alpha/y.png", "etc/z.png")] == ["alpha", "alpha", "etc"]
    assert rows["../x.png"]["seed"] == 4 and "/" not in rows["../x.png"]["concept"]
    assert [s.reason for s in report.skipped] == ["its name is not UTF-8; rename it"]
    assert any("w.json: no JSON object" in n for n in report.notices)


def test_a_truncated_tar_gives_what_is_whole_every_time(study: Study, gen: Path, tmp_path: Path) -> None:
    tar = as_tar(gen, tmp_path)
    data = tar.read_bytes()
    at = data.index((gen / "beta" / "01.png").read_bytes())
    tar.write_bytes(data[: at + 9])
    for _ in range(2):
        report = study({"m1": tar})
        assert [(s.path, s.reason) for s in report.skipped] == [(str(tar), "cut short within beta/01.png")]
        assert report.scored == 7 and {r["status"] for r in study.results().rows("m1")} == {"ok"}


def test_shards_one_of_which_is_none(study: Study, gen: Path, tmp_path: Path) -> None:
    shards = as_shards(gen, tmp_path)
    (shards / "bad.tar").write_bytes(b"no tar")
    report = study({"m1": shards})
    assert report.scored == 9 and [s.path for s in report.skipped] == [str(shards / "bad.tar")]
    same = tmp_path / "same"
    same.mkdir()
    for i in range(2):  # keys begin anew in each shard
        pack(same / f"{i}.tar", {"alpha/0.png": (gen / "alpha" / f"0{i}.png").read_bytes()})
    names = [i.name for i in list_images(same, COUNTS).concepts["alpha"]]
    assert names == ["0.tar/0.png", "1.tar/0.png"]


def test_tars_that_cannot_be_read_by_member_say_what_to_do(study: Study, gen: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed" / "x.tar.gz"
    packed.parent.mkdir()
    packed.write_bytes(b"\x1f\x8b")
    for path in (packed, packed.parent):
        with pytest.raises(InputError, match=r"x\.tar\.gz: compressed.*uncompress it"):
            study({"m1": path})
    packed.rename(tmp_path / "packed" / "x.tar")
    with pytest.raises(InputError, match="compressed with gzip"):
        study({"m1": tmp_path / "packed"})
    pack(gen / "old.tar", {"alpha/9.png": b"x"})
    report = study({"m1": gen})
    assert report.scored == 9 and any("1 tar file beside folders was not read" in n for n in report.notices)
