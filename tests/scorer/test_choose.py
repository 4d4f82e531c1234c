"""Which images of a folder count: concepts by name or prompt, variants, at most so many of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from layouts import (
    COUNTS,
    as_csv,
    lines,
)
from toys import Study, draw, make_gen, write

from iconicity.indexer.errors import InputError
from iconicity.scorer.choose import list_images
from iconicity.scorer.options import ScoreOptions


def test_names_that_meet_in_one_concept_stay_apart(tmp_path: Path) -> None:
    names = ["alpha/1.png", "1.png", "train/alpha/1.png", "test/Alpha/1.png", "Alpha/1.png", "beta/2.png"]
    for i, name in enumerate(names):
        write(tmp_path / name, draw(i))
    (tmp_path / "metadata.jsonl").write_text(lines([{"file_name": n, "concept": "alpha"} for n in names]))
    listing = list_images(tmp_path, COUNTS)
    got = {i.name: Path(i.path).relative_to(tmp_path).as_posix() for i in listing.concepts["alpha"]}
    assert got == {
        "1.png": "alpha/1.png",
        "train/1.png": "train/alpha/1.png",
        "test/1.png": "test/Alpha/1.png",
        "Alpha/1.png": "Alpha/1.png",
        "beta/2.png": "beta/2.png",
    }
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
        ("alpha/00000/0000.png", "Alpha", 9),
        ("alpha/00000/0001.png", "Alpha", 9),
        ("beta/00001/0000.png", "beta!", 9),
        ("beta/00001/0001.png", "beta!", 9),
    ]
    text = "\n".join(report.notices)
    assert "4 images not scored" in text and "'a photo of a bench'" in text and "give each a 'concept'" in text
    assert "1 folder without metadata.jsonl beside samples/ was ignored" in text
    assert [(s.path, s.reason) for s in report.skipped] == [
        (f"{tmp_path}/g/00004/metadata.jsonl", "holds no JSON object")
    ]
    for folder in ("00000", "00001"):
        (tmp_path / "g" / folder / "metadata.jsonl").write_text('{"prompt": "a photo of a dog"}')
    with pytest.raises(InputError, match=r"no generated image belongs .*like its prompt 'a photo of a dog'"):
        study({"m1": tmp_path / "g"})


def test_variant_in_the_label(study: Study, gen: Path, tmp_path: Path) -> None:
    other = make_gen(tmp_path / "other", seed=9000)
    study({"m@plain": gen, "m@styled": other, "m": gen})
    held = study.results()
    assert held.models == ["m", "m@plain", "m@styled"]
    for model, variant in (("m@plain", "plain"), ("m@styled", "styled"), ("m", None)):
        assert {r["variant"] for r in held.rows(model)} == {variant} and len(held.rows(model)) == 9
    as_csv(gen, gen)
    with pytest.raises(InputError, match=r"metadata\.csv:2: variant 'v', but the model's name says @plain"):
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
    study({"m1": gen}, ScoreOptions(k_gen=2))
    got = [(r["gen_relpath"], r["variant"]) for r in study.results().rows("m1")]
    assert got == [
        ("alpha/00.png", "a"),
        ("alpha/01.png", "b"),
        ("alpha/02.png", "a"),
        ("alpha/10.png", "b"),
        ("alpha/13.png", None),
        ("alpha/14.png", None),
    ]
