"""Images of every format and name: what is read, and how what is not is counted and named."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from toys import draw, running, toy_encoders

from iconicity.indexer.build import build_index
from iconicity.indexer.command_line import say_skipped
from iconicity.indexer.encode.decode import FORMATS
from iconicity.indexer.errors import InputError
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.sources.suffixes import READ, SUFFIXES, SUPPORTED, UNREAD, UNSUPPORTED, not_images, passed_over
from iconicity.indexer.store.index import open_index
from iconicity.scorer.results import Results, require_results
from iconicity.scorer.scoring import ScoreReport, score

READABLE = [(kind, suffix) for kind in READ if kind in FORMATS for suffix in READ[kind]]


def image(path: Path, kind: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(seed).save(path, kind)


def score_toys(index: Path, generated: dict[str, Path], out: Path) -> tuple[ScoreReport, Results]:
    report = score(index, generated, out, run=running())
    return report, require_results(out)


def test_every_suffix_is_read_in_any_case_on_both_sides(tmp_path: Path) -> None:
    for i, (kind, suffix) in enumerate(READABLE):
        image(tmp_path / "refs" / "alpha" / f"r{suffix.upper()}", kind, i)
        image(tmp_path / "gen" / "alpha" / f"g{suffix.title()}", kind, i)
    built = build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), IndexOptions(dedup_distance=None))
    assert (built.embedded, built.skipped, built.notices) == (len(READABLE), [], [])
    report, found = score_toys(tmp_path / "i", {"m": tmp_path / "gen"}, tmp_path / "o")
    assert (report.scored, report.skipped) == (len(READABLE), []) and all("threshold" in n for n in report.notices)
    for row in found.table().to_pylist():  # each is found as itself, whatever its format
        assert row["cra_sim"] > 0.999 and row["cra_ref_id"].lower().endswith(Path(row["gen_path"]).suffix.lower()), row


def test_suffixes_are_of_one_kind() -> None:
    assert not SUFFIXES & UNREAD and all(s == s.lower() and s.startswith(".") for s in SUFFIXES | UNREAD)


def test_what_is_not_read_is_counted_by_suffix_apart_from_what_is_no_image(tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    image(refs / "alpha" / "01.png", "PNG", 1)
    for name in ("a.heic", "b.HEIC", "c.jp2", "n.txt", "m.json", "deep/x.png", "../loose.JPG", "../beta/only.heic"):
        (refs / "alpha" / name).parent.mkdir(exist_ok=True)
        (refs / "alpha" / name).write_bytes(b"x")
    built = build_index(refs, tmp_path / "i", toy_encoders())
    assert [n.partition(", first")[0] for n in built.notices] == [
        f"folders without an image: 1; first {refs}/beta",
        "ignored 2 files that are no image by name: .json 1, .txt 1",
        f"ignored 4 images with unsupported extensions: .heic 3, .jp2 1 (supported: {SUPPORTED})",
        "ignored 1 image beside the concept folders",
        "ignored 1 image in folders within the concept folders",
    ]
    assert len(built.skipped) == 6
    manifest = open_index(tmp_path / "i").manifest
    assert [s["path"].removeprefix(f"{refs}/") for s in manifest["skipped"] if s["reason"] == UNSUPPORTED] == [
        "alpha/a.heic",
        "alpha/b.HEIC",
        "alpha/c.jp2",
        "beta/only.heic",
    ]
    assert manifest["log"][-1]["skipped"] == 6
    again = build_index(refs, tmp_path / "i", toy_encoders())
    assert not again.changed and again.skipped == built.skipped


def test_generated_images_that_are_not_read_reach_the_meta_and_the_exit_code(tmp_path: Path) -> None:
    image(tmp_path / "refs" / "alpha" / "01.png", "PNG", 1)
    gen = tmp_path / "gen"
    image(gen / "alpha" / "01.jfif", "JPEG", 1)
    for name in ("02.heic", "03.avif.jxl", "notes.txt"):
        (gen / "alpha" / name).write_bytes(b"x")
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    report, _ = score_toys(tmp_path / "i", {"m": gen}, tmp_path / "o")
    assert report.scored == 1 and len(report.skipped) == 2
    told = "ignored 2 images with unsupported extensions: .heic 1, .jxl 1"
    meta = json.loads((tmp_path / "o" / "results_cra_dynamic.meta.json").read_text())
    for notices in (report.notices, meta["notices"]):
        assert sum(told in n for n in notices) == 1 and sum("no image by name: .txt 1" in n for n in notices) == 1


def test_folders_without_any_image_that_is_read_say_which_lie_there(tmp_path: Path) -> None:
    image(tmp_path / "refs" / "alpha" / "01.png", "PNG", 1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    (tmp_path / "gen" / "alpha").mkdir(parents=True)
    for name in ("1.heic", "2.heic", "3.svg"):
        (tmp_path / "gen" / "alpha" / name).write_bytes(b"x")
    told = r"3 images with unsupported extensions: \.heic 2, \.svg 1"
    with pytest.raises(InputError, match=told):
        build_index(tmp_path / "gen", tmp_path / "j", toy_encoders())
    with pytest.raises(InputError, match=told):
        score_toys(tmp_path / "i", {"m": tmp_path / "gen"}, tmp_path / "o")


def test_members_of_a_tar_and_rows_of_metadata(tmp_path: Path) -> None:
    image(tmp_path / "refs" / "alpha" / "01.png", "PNG", 1)
    build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    image(tmp_path / "f" / "alpha" / "1.GIF", "GIF", 1)
    (tmp_path / "f" / "alpha" / "2.heic").write_bytes(b"x")
    (tmp_path / "f" / "alpha" / "2.txt").write_text("alpha")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.add(tmp_path / "f" / "alpha", "alpha")
    (tmp_path / "f" / "metadata.csv").write_text("file_name\nalpha/1.GIF\nalpha/2.heic\n")
    for name in ("m.tar", "f"):
        report, _ = score_toys(tmp_path / "i", {"m": tmp_path / name}, tmp_path / f"o{name}")
        assert report.scored == 1, name
        assert [s.path.rpartition("/")[2] for s in report.skipped] == ["2.heic"]
        assert sum("1 image with unsupported extensions: .heic 1" in n for n in report.notices) == 1


def test_only_images_make_the_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "refs" / "alpha" / "01.png", "PNG", 1)
    (tmp_path / "refs" / "alpha" / "notes.txt").write_text("x")
    built = build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    assert say_skipped(built.skipped, built.notices) == 0
    (tmp_path / "refs" / "alpha" / "02.heic").write_text("x")
    built = build_index(tmp_path / "refs", tmp_path / "i", toy_encoders())
    capsys.readouterr()
    assert say_skipped(built.skipped, built.notices) == 3
    said = capsys.readouterr().err
    assert said.count("02.heic") == 1 and "note: ignored 1 image with unsupported extensions: .heic 1" in said


def test_lines_without_files() -> None:
    assert (passed_over([]), not_images([])) == ([], [])
