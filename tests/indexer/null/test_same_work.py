"""Concepts that are one work: shared pictures, the user's word, and their joint name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import InputError
from iconicity.indexer.null.same_work import read_column, same_works, work_of
from iconicity.indexer.store.index import open_index


def test_shared_and_near_identical_pictures(tmp_path: Path) -> None:
    refs = make_refs(tmp_path / "refs", ["a", "b", "c", "d"], each=2)
    (refs / "e").mkdir()
    shutil.copy(refs / "a" / "01.png", refs / "e" / "copy.png")  # same bytes
    write(refs / "f" / "near.png", draw(100).resize((61, 45)))  # b's first picture, another size
    build_index(refs, tmp_path / "i", toy_encoders())
    index = open_index(tmp_path / "i")
    names = index.concepts()
    assert same_works(index, names) == {("a", "e"), ("b", "f")}
    assert same_works(index, ["a", "b", "c"]) == set()
    assert same_works(index, names, {"c": "x", "d": "x", "gone": "x"}) == {("a", "e"), ("b", "f"), ("c", "d")}


def test_works_are_named_by_their_first_concept() -> None:
    work = work_of("abcdef", [("b", "c"), ("c", "e"), ("d", "f")])
    assert work == {"a": "a", "b": "b", "c": "b", "e": "b", "d": "d", "f": "d"}
    assert work_of("abcdef", [("c", "e"), ("b", "c"), ("d", "f")]) == work


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufefflabel_clean,artist\nThe Scream,Munch\nb,\nc, Hokusai \n", encoding="utf-8")
    assert read_column(path, "artist", "label_clean", "") == {"the_scream": "Munch", "c": "Hokusai"}
    with pytest.raises(InputError, match="no column 'genre'"):
        read_column(path, "genre", "label_clean", "")
    with pytest.raises(InputError, match="`concept_col`"):
        read_column(path, "artist", "slug", "")
    with pytest.raises(InputError, match="cannot be read"):
        read_column(tmp_path, "artist", "label_clean", "")
