"""Metadata reach the rows and nothing else: bad ones lose no good one, and are said with file and line."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    COUNTS,
    as_csv,
    images_of,
    lines,
)
from toys import Study, draw, make_gen, write

from iconicity.indexer.errors import InputError
from iconicity.indexer.options import Select
from iconicity.indexer.sources.tables import open_table
from iconicity.scorer.choose import list_images


def test_changed_metadata_change_rows_and_embed_nothing(study: Study, gen: Path) -> None:
    other = make_gen(gen.parent / "m2", seed=9000)
    study({"m1": as_csv(gen, gen), "m2": as_csv(other, other)})
    passes, before = study.forwards, study.results().rows("m2")
    text = (gen / "metadata.csv").read_text()
    (gen / "metadata.csv").write_text(text.replace("painted", "drawn").replace("alpha/00.png,0,", "alpha/00.png,-77,"))
    report = study({"m1": gen}, run=replace(study.run, cache=None))
    assert report.embedded == 0 and study.forwards == passes and study.loads == 1
    rows = study.results().rows("m1")
    assert rows[0]["seed"] == -77 and rows[0]["prompt"] == "alpha, drawn" and rows[0]["cra_sim"] > 0.99
    assert study.results().rows("m2") == before  # rows that are not listed again keep theirs
    study({"m1": gen}, select=Select(concepts=["beta"]))
    assert study.results().rows("m1") == rows
    (gen / "metadata.csv").unlink()
    study({"m1": gen})
    assert {r["prompt"] for r in study.results().rows("m1")} == {None}
    assert study.forwards == passes


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


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_images_that_a_safety_checker_flagged_are_counted_and_not_scored(study: Study, gen: Path, form: str) -> None:
    names = sorted(str(p.relative_to(gen)) for p in gen.rglob("*.png"))
    flagged = {names[0]: True, names[4]: "True", names[1]: False, names[2]: None, names[3]: "no"}
    rows = [{"file_name": name, "flagged": flagged.get(name)} for name in names]
    if form == "jsonl":
        (gen / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [f"{row['file_name']},{'' if row['flagged'] is None else row['flagged']}\n" for row in rows]
        (gen / "metadata.csv").write_text("file_name,flagged\n" + "".join(lines))
    report = study({"m1": gen})
    assert report.scored == 7 and len(study.results().rows("m1")) == 7
    said = f"left out 2 images that the model's safety checker flagged, first {gen / names[0]}"
    assert [n for n in report.notices if "flagged" in n] == [said]
    assert {s.reason for s in report.skipped} == {"flagged by the model's safety checker"}


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
        ({"file_name": "alpha/\0.png"}, "is not a file name"),
        ({"file_name": "alpha/\ud800.png"}, "is not a file name"),
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
        ("alpha/00.png", 1),
        ("alpha/near.png", 2),
        ("beta/00.png", None),
    ]
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
    fails("metadata.csv", b"file_name,prompt\nalpha/00.png," + b"x" * 200_000 + b"\n", "metadata.csv:2: cannot be read")
    fails("metadata.parquet", b"PAR1 not", "cannot be read")
    fails("metadata.jsonl", b'{"name": "alpha/00.png"}\n', "metadata.jsonl:1: no file_name")
    (gen / "metadata.csv").write_text("file_name\n")
    fails("metadata.jsonl", b"{}\n", "metadata.csv", "keep one")


def test_a_prompt_with_a_comma_that_is_not_quoted_shifts_no_column(study: Study, gen: Path) -> None:
    (gen / "metadata.csv").write_text(
        '\ufefffile_name,prompt,seed\nalpha/00.png,a, b,1\nalpha/01.png,"a, b",2\nbeta/00.png\n'
    )
    report = study({"m1": gen})
    assert [s.path for s in report.skipped] == [
        f"{gen}/metadata.csv:2"
    ] and "quote cells that hold commas" in report.skipped[0].reason
    assert [(r["gen_relpath"], r["prompt"], r["seed"]) for r in study.results().rows("m1")] == [
        ("alpha/01.png", "a, b", 2),
        ("beta/00.png", None, None),
    ]


def test_a_long_list_is_read_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "c{i % 500}/{i}.png", "seed": {i}, "prompt": "c{i % 500}"}}\n' for i in range(100_000))
    )
    start = time.process_time()
    listing = list_images(tmp_path, COUNTS)
    assert sum(len(images) for images in listing.concepts.values()) == 100_000
    assert time.process_time() - start < 20  # about 2 on one core; squared time would take minutes
    assert len({id(i.prompt) for images in listing.concepts.values() for i in images}) == 500


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b'"' + b"x" * (9 << 20) + b'"\n{"a": 2}\n' + b"y" * (5 << 20))
    assert list(open_table(path, []).lines) == [
        (1, {"a": 1}),
        (2, "a line of more than 4 MB"),
        (3, {"a": 2}),
        (4, "a line of more than 4 MB"),
    ]
