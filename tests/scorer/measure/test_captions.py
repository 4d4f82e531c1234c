"""Textual uniqueness, against a plain loop."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iconicity.indexer.errors import InputError
from iconicity.scorer.measure.captions import read_captions, textual_uniqueness, title_overlaps, words


def test_words() -> None:
    assert words("ＴＨＥ Ｗａｖｅ") == ["the", "wave"]  # full width
    assert words("STRASSE straße") == ["strasse", "strasse"]
    assert words("Folies-Bergère") == words("folies BERGE\u0300RE") == ["folies", "bergère"]
    assert words("_ - ... !") == []


alphabet = ["a", "b", "c", "A", "d1", "é"]
text = st.lists(st.sampled_from(alphabet), max_size=6).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(titles=st.lists(text, min_size=1, max_size=6), captions=st.lists(text, min_size=1, max_size=12))
def test_equals_a_plain_loop(tmp_path_factory: pytest.TempPathFactory, titles: list[str], captions: list[str]) -> None:
    path = tmp_path_factory.mktemp("c") / "c.txt"
    path.write_text("\n".join([*captions, "z"]), encoding="utf-8")
    found = textual_uniqueness({f"c{i}": t for i, t in enumerate(titles)}, path)
    split = [unicodedata.normalize("NFKC", t).casefold().split() for t in titles]
    held = [unicodedata.normalize("NFKC", c).casefold().split() for c in [*captions, "z"] if c.strip()]
    assert found.captions == len(held)
    rows: list[dict[Any, Any]] = found.values.to_dict("records")
    for row, title in zip(rows, split, strict=True):
        if not title:
            assert all(math.isnan(row[c]) for c in ("caption_count", "caption_share", "title_overlap"))
            continue
        count = sum(any(c[i : i + len(title)] == title for i in range(len(c))) for c in held)
        assert row["caption_count"] == count and row["caption_share"] == count / len(held)
    for i, title in enumerate(split):
        others = [(len({*title} & {*o}) / len({*title} | {*o}), k) for k, o in enumerate(split) if k != i and o]
        row = rows[i]
        if title and others:
            best = max(o[0] for o in others)
            assert row["title_overlap"] == pytest.approx(best)
            first = next(k for o, k in others if o == best)
            assert row["nearest_title"] == titles[first] if best else pd.isna(row["nearest_title"])
        else:
            assert math.isnan(row["title_overlap"])


def test_a_title_counts_once_a_caption_and_only_as_whole_words(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("Wave, wave and WAVE\nwaves\n\n   \nthe great-wave!\ngreat big wave\n")
    found = textual_uniqueness({"w": "Wave", "g": "The Great Wave", "h": "great wave", "q": "?!"}, tmp_path / "c.txt")
    assert found.captions == 4 and found.values.index.tolist() == ["g", "h", "q", "w"]
    np.testing.assert_array_equal(found.values.caption_count, [1, 1, np.nan, 3])
    assert found.values.title_overlap["g"] == pytest.approx(2 / 3) and found.values.nearest_title["g"] == "great wave"
    notes = " ".join(found.notes)
    assert "share of the captions that hold the title's words next to each other" in notes and "4 captions" in notes
    assert "without a word, so without textual uniqueness: 1 (first: q)" in notes


def test_blocks_of_titles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    titles = [[f"w{k}" for k in rng.integers(0, 30, rng.integers(0, 5))] for _ in range(50)]
    overlap, nearest = title_overlaps(titles)
    monkeypatch.setattr("iconicity.scorer.measure.captions._BLOCK", 7)
    again, also = title_overlaps(titles)
    np.testing.assert_array_equal(overlap, again)
    assert nearest == also


def test_formats_agree(tmp_path: Path) -> None:
    captions = ['a "wave", again', "the\u2028wave", "", "é"]
    frame = pd.DataFrame({"id": range(4), "text": captions})
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_parquet(tmp_path / "c.parquet")
    lines = [json.dumps({"id": 1, "text": c}, ensure_ascii=False) for c in captions]
    (tmp_path / "c.jsonl").write_text("\n".join([*lines, "", '{"id": 2}', '{"text": null}']), encoding="utf-8")
    (tmp_path / "c.txt").write_text("\n".join(captions), encoding="utf-8")
    for name in ("c.csv", "c.parquet", "c.jsonl", "c.txt"):
        held = [c.strip() for c in read_captions(tmp_path / name)]
        assert [c for c in held if c] == [c for c in captions if c], name
    assert list(read_captions(tmp_path / "c.csv", "id")) == ["0", "1", "2", "3"]
    assert list(read_captions(tmp_path / "c.parquet", "id")) == ["0", "1", "2", "3"]


def test_the_first_known_column_is_taken(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("\ufeffprompt,caption\np,c\n", encoding="utf-8")
    assert list(read_captions(tmp_path / "c.csv")) == ["c"]
    assert list(read_captions(tmp_path / "c.csv", "prompt")) == ["p"]


@pytest.mark.parametrize(
    ("name", "data", "column", "message"),
    [
        ("c.csv", b"a,b\n1,2\n", None, "no column 'caption' or 'text' or 'prompt' .columns: a, b.; .* `caption_col`"),
        ("c.csv", b"caption\n1\n", "x", "no column 'x'"),
        ("c.csv", b"", None, "no column"),
        ("c.txt", b"wave\n", "caption", "has no columns; leave `caption_col` out"),
        ("c.txt", b"\n \n", None, "holds no caption"),
        ("c.jsonl", b'{"text": "a"}\n{"text"\n', None, "c.jsonl:2: not a JSON object; give one object a line"),
        ("c.jsonl", b"[1]\n", None, "no column"),
        ("c.jsonl", b'{"id": 1}\n', None, "no column"),
        ("c.parquet", b"no parquet", None, "cannot be read as Parquet"),
        ("c.csv", b'caption\n"' + b"x" * 200_000, None, "cannot be read"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, data: bytes, column: str | None, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        textual_uniqueness({"a": "wave"}, tmp_path / name, column)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_captions_that_a_comma_cut_do_not_count_and_are_told(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("ID; Caption \n1;the wave\n2;a wave; cut\n")
    found = textual_uniqueness({"w": "wave"}, tmp_path / "c.csv")
    assert found.captions == 1 and found.values.caption_count["w"] == 1
    assert list(found.notes[:2]) == [
        f"{tmp_path}/c.csv: its cells are separated by semicolons",
        f"{tmp_path}/c.csv:3: 3 cells under a header of 2; quote cells that hold semicolons",
    ]


def test_missing_files(tmp_path: Path) -> None:
    for name in ("none.txt", "none.csv", "none.parquet", "none.jsonl"):
        with pytest.raises(InputError, match=f"{name}: .*cannot be read .No such file"):
            list(read_captions(tmp_path / name))


def test_bytes_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"the wave\ncaf\xe9 wave\n")
    found = textual_uniqueness({"w": "wave"}, tmp_path / "c.txt")
    assert found.values.caption_count["w"] == 2
    assert any(n.startswith("1 caption holds U+FFFD") for n in found.notes)
