"""Imagefolders as Hugging Face reads them, and metadata as people write them: nothing is passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from unicodedata import normalize

import pytest
from layouts import COUNTS
from toys import draw, write

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.listing import Listing
from iconicity.scorer.choose import list_images


def folder(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        write(root / name, draw(i))
    return root


def listed(root: Path) -> Listing:
    return list_images(root, COUNTS)


def facts(listing: Listing) -> list[tuple[object, ...]]:
    return [(c, i.name, i.seed, i.prompt, i.variant) for c, images in sorted(listing.concepts.items()) for i in images]


@pytest.mark.parametrize("header", ["file_name,concept,seed,prompt,variant", "File Name, CONCEPT,Seed ,Text,Variant", "\ufefffile_name;Label_Clean;SEED;caption;variant"])  # fmt: skip
def test_fields_are_found_whatever_case_blanks_and_delimiter(tmp_path: Path, header: str) -> None:
    folder(tmp_path, "alpha/1.png", "alpha/2.png")
    d = ";" if ";" in header else ","
    rows = ["alpha/1.png|beta|12.0|a, b|v", "alpha/2.png|Alpha||nan|"]
    rows = [d.join(f'"{cell}"' if "," in cell else cell for cell in row.split("|")) for row in rows]
    (tmp_path / "metadata.csv").write_text("\r\n".join([header, *rows]))
    found = listed(tmp_path)
    assert facts(found) == [("alpha", "2.png", None, None, None), ("beta", "alpha/1.png", 12, "a, b", "v")]
    told = [f"{tmp_path}/metadata.csv: its cells are separated by semicolons"] if d == ";" else []
    name = header.split(d)[3].lower()
    field = {"prompt": "prompt", "text": "text", "caption": "caption"}[name]
    assert found.notices == [*told, f"{tmp_path}/metadata.csv:3: {field} 'nan' counts as empty"]


def test_columns_that_are_not_understood_are_named(tmp_path: Path) -> None:
    folder(tmp_path, "alpha/1.png")
    (tmp_path / "metadata.csv").write_text(",file_name,Prompts,steps\n0,alpha/1.png,p,20\n")
    said = f"{tmp_path}/metadata.csv: columns that were not used: (no name), Prompts, steps"
    assert listed(tmp_path).notices == [said]
    (tmp_path / "metadata.csv").rename(tmp_path / "Metadata.CSV")
    assert listed(tmp_path).notices == [said.replace("metadata.csv", "Metadata.CSV")]
    (tmp_path / "Metadata.CSV").unlink()
    rows = [{"file_name": "alpha/1.png", "SEED": 4, "steps": 20}]
    (tmp_path / "metadata.jsonl").write_text(json.dumps(rows[0]))
    found = listed(tmp_path)
    assert facts(found) == [("alpha", "1.png", 4, None, None)]
    assert found.notices == [f"{tmp_path}/metadata.jsonl: columns that were not used: steps"]


def test_a_file_name_is_found_with_backslashes_blanks_and_other_unicode(tmp_path: Path) -> None:
    names = [normalize("NFD", "alpha/é.png"), normalize("NFC", "alpha/ü.png"), "alpha/3.png", "alpha/4.png"]
    folder(tmp_path, *names)
    given = [normalize("NFC", names[0]), normalize("NFD", names[1]), "alpha\\3.png", " ./alpha/4.png "]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps({"file_name": n}) + "\n" for n in given))
    found = listed(tmp_path)
    assert {i.path for i in found.concepts["alpha"]} == {f"{tmp_path}/{name}" for name in names}
    assert not found.notices and not found.skipped


def test_splits_hold_their_own_metadata(tmp_path: Path) -> None:
    folder(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/alpha/3.png", "beta/9.png", "test/deep/5.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,concept\n1.png,alpha\n")
    (tmp_path / "test" / "metadata.csv").write_text(
        "file_name,concept\n1.png,alpha\nalpha/3.png,\ndeep/5.png,beta\n../train/2.png,beta\n"
    )
    (tmp_path / "test" / "deep" / "metadata.jsonl").write_text(
        '{"file_name": "5.png", "concept": "alpha", "seed": 5}\n'
    )
    found = listed(tmp_path)
    assert facts(found) == [
        ("alpha", "test/1.png", None, None, None),
        ("alpha", "test/3.png", None, None, None),
        ("alpha", "test/deep/5.png", 5, None, None),
        ("alpha", "train/1.png", None, None, None),
        ("beta", "9.png", None, None, None),
    ]
    assert [(s.path, s.reason.split(";")[0]) for s in found.skipped] == [
        (f"{tmp_path}/test/metadata.csv:5", "file_name '../train/2.png' leaves the folder")
    ]
    assert sorted(found.notices) == [
        f"{tmp_path}/test/metadata.csv: lists 1 image for which a nearer metadata file counts instead, "
        f"first test/deep/5.png ({tmp_path}/test/deep/metadata.jsonl)",
        f"{tmp_path}/train/metadata.csv: does not list 1 image of its folder, and it does not count, first 2.png",
    ]


def test_a_file_beside_a_concept_that_names_no_image_changes_no_layout(tmp_path: Path) -> None:
    folder(tmp_path, "alpha/1.png", "beta/1.png")
    (tmp_path / "alpha" / "metadata.jsonl").write_text('{"prompt": "x"}\n')
    assert sorted(listed(tmp_path).concepts) == ["alpha", "beta"]
    (tmp_path / "alpha" / "metadata.csv").write_text("file_name\n")
    with pytest.raises(InputError, match="two lists of the same folder; keep one"):
        listed(tmp_path)
