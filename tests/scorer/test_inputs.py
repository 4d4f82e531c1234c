"""Layouts of generated images: the same images give the same scores, and metadata reach the rows and nothing else."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toys import Study, draw, make_gen, pack, write

from iconicity.indexer.build import add_references
from iconicity.indexer.errors import InputError
from iconicity.indexer.store import ConceptCount
from iconicity.scorer.inputs import list_images
from iconicity.scorer.results import Record, require_results

COUNTS = {"alpha": ConceptCount(1, 1), "beta": ConceptCount(1, 1)}


def images_of(gen: Path) -> list[Path]:
    return sorted(gen.glob("*/*.png"))


def seed_of(file: Path) -> int:
    return 10 * ["alpha", "beta", "gamma"].index(file.parent.name) + int(file.stem)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_plain(gen: Path, root: Path) -> Path:
    return gen


def as_csv(gen: Path, root: Path) -> Path:
    """Files where they are, concept by folder."""
    with (gen / "metadata.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["file_name", "seed", "text", "variant", "other"])
        writer.writerows(
            [p.relative_to(gen), seed_of(p), f"{p.parent.name}, painted", "v", "?"] for p in images_of(gen)
        )
    return gen


def rows_of(gen: Path, folder: Path) -> list[dict[str, Any]]:
    """All images flat in one folder, concept by column."""
    rows: list[dict[str, Any]] = []
    for p in images_of(gen):
        name = f"{p.parent.name}-{p.name}"
        write(folder / name, draw(0)).write_bytes(p.read_bytes())
        concept = p.parent.name.upper()
        rows.append({"file_name": name, "concept": concept, "seed": seed_of(p), "prompt": f"{p.parent.name}, painted", "variant": "v"})  # fmt: skip
    return rows


def as_jsonl(gen: Path, root: Path) -> Path:
    (root / "flat").mkdir()
    (root / "flat" / "metadata.jsonl").write_text(lines(rows_of(gen, root / "flat")))
    return root / "flat"


def as_parquet(gen: Path, root: Path) -> Path:
    pd.DataFrame(rows_of(gen, root / "table")).to_parquet(root / "table" / "metadata.parquet")
    return root / "table"


def as_geneval(gen: Path, root: Path) -> Path:
    for i, concept in enumerate(sorted(p for p in gen.iterdir() if p.is_dir())):
        folder = root / "geneval" / f"{i:05d}"
        for p in sorted(concept.iterdir()):
            write(folder / "samples" / f"{int(p.stem):04d}.png", draw(0)).write_bytes(p.read_bytes())
        write(folder / "grid.png", draw(1))
        facts = {
            "tag": "one",
            "include": [],
            "prompt": f"{concept.name}, painted",
            "seed": [10 * i, 10 * i + 1, 10 * i + 2],
        }
        (folder / "metadata.jsonl").write_text(json.dumps({**facts, "label_clean": concept.name, "variant": "v"}))
    return root / "geneval"


def members_of(gen: Path, concept: str) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for p in images_of(gen):
        if p.parent.name == concept:
            key = f"./{concept}/{p.stem}"
            out[f"{key}.txt"] = f"{concept}, painted\n".encode()
            out[f"{key}.png"] = p.read_bytes()
            out[f"{key}.json"] = json.dumps({"seed": seed_of(p), "variant": "v"}).encode()
            out[f"{key}.cls"] = b"0"
    return out


def as_shards(gen: Path, root: Path) -> Path:
    (root / "shards").mkdir()
    for concept in ("alpha", "beta", "gamma"):
        pack(root / "shards" / f"{concept[0]}.tar", members_of(gen, concept))
    return root / "shards"


def as_tar(gen: Path, root: Path) -> Path:
    return pack(root / "one.tar", {k: v for c in ("gamma", "alpha", "beta") for k, v in members_of(gen, c).items()})


LAYOUTS = [as_csv, as_jsonl, as_parquet, as_geneval, as_shards, as_tar]
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
    assert report.embedded == 9 and not report.skipped and not report.notices
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


def test_changed_metadata_change_rows_and_embed_nothing(study: Study, gen: Path) -> None:
    other = make_gen(gen.parent / "m2", seed=9000)
    study({"m1": as_csv(gen, gen), "m2": as_csv(other, other)})
    passes, before = study.forwards, study.results().rows("m2")
    text = (gen / "metadata.csv").read_text()
    (gen / "metadata.csv").write_text(text.replace("painted", "drawn").replace("alpha/00.png,0,", "alpha/00.png,-77,"))
    report = study({"m1": gen}, cache=None)
    assert report.embedded == 0 and study.forwards == passes and study.loads == 1
    rows = study.results().rows("m1")
    assert rows[0]["seed"] == -77 and rows[0]["prompt"] == "alpha, drawn" and rows[0]["cra_sim"] > 0.99
    assert study.results().rows("m2") == before  # rows that are not listed again keep theirs
    study({"m1": gen}, concepts=["beta"])
    assert study.results().rows("m1") == rows
    (gen / "metadata.csv").unlink()
    study({"m1": gen})
    assert {r["prompt"] for r in study.results().rows("m1")} == {None}
    assert study.forwards == passes


def test_an_unchanged_shard_is_not_read_again(
    study: Study, gen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = as_shards(gen, tmp_path)
    study({"m1": shards})
    read: list[Path] = []

    def no_reading(path: Path) -> bytes:
        read.append(path)
        raise AssertionError(path)

    monkeypatch.setattr("iconicity.scorer.generated.read_bytes", no_reading)
    assert study({"m1": shards}).embedded == 0 and not read
    os.utime(shards / "b.tar", ns=(1, 1))
    with pytest.raises(AssertionError):
        study({"m1": shards})
    assert read == [shards / "b.tar" / "beta" / "00.png"]


def test_workers_update_and_a_lost_cache_read_through_the_tar(
    study: Study, gen: Path, refs: Path, tmp_path: Path
) -> None:
    tar = as_tar(gen, tmp_path)
    study({"m1": tar}, workers=2, cache=None)
    one = study.results().table()
    study({"m1": tar}, out=tmp_path / "other", cache=None)
    assert require_results(tmp_path / "other").table().equals(one)
    other = make_gen(tmp_path / "m2", seed=9000)
    write(refs / "alpha" / "new.png", draw(5001))
    add_references(refs, study.index, load=lambda c, d: study.encoders)
    report = study({"m2": other}, update=True, cache=None)  # m1 is not named: its images come by gen_path alone
    assert report.embedded >= 9
    assert study.results().rows("m1")[1]["cra_ref_id"] == "alpha/new.png"
    assert study.results().rows("m1")[1]["seed"] == 1


def test_files_that_are_listed_and_missing_and_files_that_are_not_listed(study: Study, gen: Path) -> None:
    as_csv(gen, gen)
    (gen / "alpha" / "01.png").unlink()
    write(gen / "beta" / "extra.png", draw(1))
    write(gen / "delta" / "extra.png", draw(2))
    for _ in range(2):
        report = study({"m1": gen})
        assert [(s.path, s.reason) for s in report.skipped] == [
            ((gen / "alpha" / "01.png").as_posix(), "cannot be read: No such file or directory")
        ]
        assert report.scored == 8
        assert any("does not list 2 images" in n and n.endswith("first beta/extra.png") for n in report.notices)


def test_bad_rows_lose_no_good_one(study: Study, gen: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.png", draw(100))
    outside = write(tmp_path / "outside" / "x.png", draw(101))
    (gen / "alpha" / "link.png").symlink_to(secret)
    (gen / "linked").symlink_to(outside.parent)
    (gen / "alpha" / "near.png").symlink_to(gen / "alpha" / "00.png")
    bad: list[tuple[Any, str]] = [
        ({"prompt": "none"}, "no file_name"),
        ({"file_name": ["alpha/00.png"]}, "no file_name"),
        ({"file_name": "../../secret.png", "concept": "alpha"}, "leaves the folder"),
        ({"file_name": "alpha/../../../secret.png"}, "leaves the folder"),
        ({"file_name": str(secret), "concept": "alpha"}, "leaves the folder"),
        ({"file_name": "alpha/link.png"}, "a link out of the folder"),
        ({"file_name": "linked/x.png", "concept": "alpha"}, "a link out of the folder"),
        ({"file_name": "alpha/\0.png"}, "no name of a file"),
        ({"file_name": "alpha/\ud800.png"}, "no name of a file"),
        ({"file_name": "alpha/00.png", "seed": 5}, "listed in line 1 already"),
        ({"file_name": "./alpha//00.png"}, "listed in line 1 already"),
        ("[1, 2]", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[" * 100000, "not a JSON object"),
    ]
    good: list[dict[str, Any]] = [
        {"file_name": "alpha/00.png", "seed": 1},
        {"file_name": "alpha/near.png", "seed": 2},
        {"file_name": "beta/00.png"},
    ]
    text = (
        lines(good[:1])
        + "".join(b + "\n" if isinstance(b, str) else json.dumps(b) + "\n" for b, _ in bad)
        + lines(good[1:])
    )
    (gen / "metadata.jsonl").write_bytes(text.encode() + b'\n{"file_name": "beta/\xff.png"}\n')
    report = study({"m1": gen})
    assert [(r["gen_relpath"], r["seed"]) for r in study.results().rows("m1")] == [
        ("alpha/00.png", 1), ("alpha/near.png", 2), ("beta/00.png", None),
    ]  # fmt: skip
    reasons = [reason for _, reason in bad] + ["not a JSON object"]
    assert len(report.skipped) == len(reasons)
    for (i, skipped), reason in zip(enumerate(report.skipped), reasons, strict=True):
        assert reason in skipped.reason
        if "link" not in reason:
            assert skipped.path == f"{gen}/metadata.jsonl:{i + 2 if i < len(bad) else len(bad) + 5}"
    assert not any("secret" in s.reason and "leaves" not in s.reason for s in report.skipped)


@pytest.mark.parametrize(
    ("value", "seed"),
    [(7, 7), ("7", 7), (" 7.0", 7), (7.0, 7), (-3, -3), (2**63 - 1, 2**63 - 1), ("", None), (None, None), (float("nan"), None)],
)  # fmt: skip
def test_seeds(tmp_path: Path, value: object, seed: int | None) -> None:
    write(tmp_path / "alpha" / "1.png", draw(1))
    (tmp_path / "metadata.jsonl").write_text(lines([{"file_name": "alpha/1.png", "seed": value}]))
    listing = list_images(tmp_path, COUNTS)
    assert listing.concepts["alpha"][0].seed == seed and not listing.notices


def test_values_that_cannot_be_kept_are_left_empty_and_counted(study: Study, gen: Path) -> None:
    values: list[dict[str, Any]] = [{"seed": v} for v in ("x", 1.5, True, 2**63, "9" * 5000)]
    values += [{"prompt": ["a"], "variant": {}}, {"prompt": "lone \ud800", "variant": 3, "label": 4}]
    rows = [{"file_name": p.relative_to(gen).as_posix(), **v} for p, v in zip(images_of(gen), values, strict=False)]
    (gen / "metadata.jsonl").write_text(lines(rows))
    report = study({"m1": gen})
    assert report.scored == 7 and not report.skipped
    text = "\n".join(report.notices)
    assert "metadata.jsonl:1: seed 'x' is no 64-bit integer and was left empty (5 such)" in text
    assert "metadata.jsonl:6: prompt is no text" in text and "metadata.jsonl:6: variant is no text" in text
    last = study.results().rows("m1")[6]
    assert (last["prompt"], last["variant"], last["concept"]) == ("lone \\ud800", "3", "gamma")


def test_metadata_that_cannot_be_used_are_an_error_with_file_and_line(study: Study, gen: Path) -> None:
    def fails(name: str, data: bytes, *parts: str) -> None:
        (gen / name).write_bytes(data)
        with pytest.raises(InputError) as e:
            study({"m1": gen})
        assert all(part in str(e.value) for part in (name, *parts)), str(e.value)
        assert len(str(e.value).splitlines()) == 1
        (gen / name).unlink()

    fails("metadata.csv", b"name,seed\nalpha/00.png,1\n", "no column 'file_name' (columns: name, seed)")
    fails("metadata.csv", b"", "no column 'file_name'")
    fails("metadata.csv", b"file_name\nalpha/00.png\n\xff\n", "cannot be read", "UTF-8")
    fails("metadata.csv", b"file_name,prompt\nalpha/00.png," + b"x" * 200_000 + b"\n", "metadata.csv:1: cannot be read")
    fails("metadata.parquet", b"PAR1 not", "cannot be read")
    fails("metadata.jsonl", b'{"name": "alpha/00.png"}\n', "metadata.jsonl:1: no file_name")
    (gen / "metadata.csv").write_text("file_name\n")
    fails("metadata.jsonl", b"{}\n", "metadata.csv", "keep one")


def test_a_prompt_with_a_comma_that_is_not_quoted_shifts_no_column(study: Study, gen: Path) -> None:
    (gen / "metadata.csv").write_text(
        '\ufefffile_name,prompt,seed\nalpha/00.png,a, b,1\nalpha/01.png,"a, b",2\nbeta/00.png\n'
    )
    report = study({"m1": gen})
    assert [s.path for s in report.skipped] == [f"{gen}/metadata.csv:2"] and "quote the commas" in report.skipped[
        0
    ].reason
    assert [(r["gen_relpath"], r["prompt"], r["seed"]) for r in study.results().rows("m1")] == [
        ("alpha/01.png", "a, b", 2), ("beta/00.png", None, None),
    ]  # fmt: skip


def test_names_that_meet_in_one_concept_stay_apart(tmp_path: Path) -> None:
    names = ["alpha/1.png", "1.png", "train/alpha/1.png", "test/Alpha/1.png", "Alpha/1.png", "beta/2.png"]
    for i, name in enumerate(names):
        write(tmp_path / name, draw(i))
    (tmp_path / "metadata.jsonl").write_text(lines([{"file_name": n, "concept": "alpha"} for n in names]))
    listing = list_images(tmp_path, COUNTS)
    got = {i.name: Path(i.path).relative_to(tmp_path).as_posix() for i in listing.concepts["alpha"]}
    assert got == {
        "1.png": "alpha/1.png", "train/1.png": "train/alpha/1.png", "test/1.png": "test/Alpha/1.png",
        "Alpha/1.png": "Alpha/1.png", "beta/2.png": "beta/2.png",
    }  # fmt: skip
    assert [(s.path, s.reason) for s in listing.skipped] == [
        ((tmp_path / "1.png").as_posix(), "another image of 'alpha' has the same name; rename one")
    ]


def test_concepts_by_prompt_and_none_at_all(study: Study, tmp_path: Path) -> None:
    prompts = {"00000": "Alpha", "00001": " beta! ", "00002": "a photo of a bench", "00003": "a photo of a cup"}
    for folder, prompt in prompts.items():
        write(tmp_path / "g" / folder / "samples" / "0000.png", draw(int(folder)))
        write(tmp_path / "g" / folder / "samples" / "0001.png", draw(int(folder) + 50))
        (tmp_path / "g" / folder / "metadata.jsonl").write_text(json.dumps({"prompt": prompt, "seed": 9}))
    (tmp_path / "g" / "logs").mkdir()
    (tmp_path / "g" / "00004" / "samples").mkdir(parents=True)
    (tmp_path / "g" / "00004" / "metadata.jsonl").write_text("nothing")
    report = study({"m1": tmp_path / "g"})
    rows = study.results().rows("m1")
    assert [(r["gen_relpath"], r["prompt"], r["seed"]) for r in rows] == [
        ("alpha/00000/0000.png", "Alpha", 9), ("alpha/00000/0001.png", "Alpha", 9),
        ("beta/00001/0000.png", "beta!", 9), ("beta/00001/0001.png", "beta!", 9),
    ]  # fmt: skip
    text = "\n".join(report.notices)
    assert "4 images not scored" in text and "'a photo of a bench'" in text and "give each a 'concept'" in text
    assert "1 folders have no metadata.jsonl beside samples/" in text
    assert [(s.path, s.reason) for s in report.skipped] == [
        (f"{tmp_path}/g/00004/metadata.jsonl", "holds no JSON object")
    ]
    for folder in ("00000", "00001"):
        (tmp_path / "g" / folder / "metadata.jsonl").write_text('{"prompt": "a photo of a dog"}')
    with pytest.raises(InputError, match=r"no generated image belongs .*like its prompt 'a photo of a dog'"):
        study({"m1": tmp_path / "g"})


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
    report = study({"m1": tar}, scope="all")
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
    assert report.scored == 9 and any("1 tar files beside folders were not read" in n for n in report.notices)


def test_variant_in_the_label(study: Study, gen: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "other", seed=9000)
    study({"m@plain": gen, "m@styled": other, "m": gen})
    held = study.results()
    assert held.models == ["m", "m@plain", "m@styled"]
    for model, variant in (("m@plain", "plain"), ("m@styled", "styled"), ("m", None)):
        assert {r["variant"] for r in held.rows(model)} == {variant} and len(held.rows(model)) == 9
    as_csv(gen, gen)
    with pytest.raises(InputError, match=r"metadata\.csv:2: variant 'v', but --gen says @plain"):
        study({"m@plain": gen})
    assert study({"m@v": gen}).embedded == 0


def test_k_gen_counts_each_variant(study: Study, gen: Path) -> None:
    for i in range(5):
        write(gen / "alpha" / f"1{i}.png", draw(800 + i))
    rows = [
        {"file_name": f"alpha/{p.name}", "variant": "ab"[i % 2] if i < 6 else None}
        for i, p in enumerate(sorted((gen / "alpha").iterdir()))
    ]
    (gen / "metadata.jsonl").write_text(lines(rows))
    study({"m1": gen}, k_gen=2)
    got = [(r["gen_relpath"], r["variant"]) for r in study.results().rows("m1")]
    assert got == [
        ("alpha/00.png", "a"), ("alpha/01.png", "b"), ("alpha/02.png", "a"), ("alpha/10.png", "b"),
        ("alpha/13.png", None), ("alpha/14.png", None),
    ]  # fmt: skip


def test_a_long_list_is_read_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "c{i % 500}/{i}.png", "seed": {i}, "prompt": "c{i % 500}"}}\n' for i in range(100_000))
    )
    start = time.perf_counter()
    listing = list_images(tmp_path, COUNTS)
    assert sum(len(images) for images in listing.concepts.values()) == 100_000
    assert time.perf_counter() - start < 20  # about 2 on one core; squared time would take minutes
    assert len({id(i.prompt) for images in listing.concepts.values() for i in images}) == 500


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    from iconicity.scorer.metadata import read_json_lines

    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b'"' + b"x" * (9 << 20) + b'"\n{"a": 2}\n' + b"y" * (5 << 20))
    assert list(read_json_lines(path)) == [
        (1, {"a": 1}), (2, "a line of more than 4 MB"), (3, {"a": 2}), (4, "a line of more than 4 MB"),
    ]  # fmt: skip
