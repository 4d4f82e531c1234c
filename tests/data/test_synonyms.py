"""Synonyms of a table and of a small WordNet: the same part of speech and the same form."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lexicon import small_wordnet, written

from iconicity.data.synonyms import SynonymTable, WordNet, open_synonyms
from iconicity.indexer.errors import InputError


@pytest.fixture
def lexicon(tmp_path: Path) -> Iterator[WordNet]:
    with small_wordnet(tmp_path / "data", tmp_path / "small.xml"):
        yield WordNet()


def test_first_meanings_in_the_form_of_the_word(lexicon: WordNet) -> None:
    assert lexicon.label == "small:1.0"
    assert lexicon.of("crying") == {"v": ["weeping"]} and lexicon.of("screams") == {"n": ["shrieks"], "v": ["yells"]}
    assert lexicon.of("cried") == {"v": []}  # wept
    assert lexicon.of("bank") == {"n": []}  # its first meaning has no other word
    assert lexicon.of("girl") == {"n": []}  # several words, and a capital
    assert lexicon.of("big") == {"a": ["large"]} and lexicon.of("nothing") == {}
    assert lexicon.of("twelve") == {"n": []}  # xii


def test_names_are_known(lexicon: WordNet) -> None:
    assert lexicon.names("Paris") and lexicon.names("Mona Lisa") and lexicon.names("Night")
    assert not lexicon.names("Scream") and lexicon.knows("Scream") and not lexicon.knows("Kanagawa")


def test_which_lexicon(tmp_path: Path, lexicon: WordNet) -> None:
    assert open_synonyms("small").label == open_synonyms("small:1.0").label == "small:1.0"
    with pytest.raises(InputError, match=r"wn has no data of oewn:2024 \(it has: small:1.0\); pip install"):
        open_synonyms("oewn:2024")
    import wn

    wn.add(written(tmp_path / "b.xml", "other"), progress_handler=None)
    with pytest.raises(InputError, match=r"several lexicons \(other:1.0, small:1.0\); name one with `synonyms`"):
        open_synonyms(None)


def test_without_data_or_package_one_line_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wn = pytest.importorskip("wn")
    monkeypatch.setattr(wn.config, "data_directory", tmp_path)
    with pytest.raises(InputError, match=r"wn has no data of an English WordNet \(it has: none\)"):
        open_synonyms(None)
    (tmp_path / "wn.db").write_text("no database")
    monkeypatch.setitem(sys.modules, "wn", None)
    with pytest.raises(InputError, match="need the package wn, which is not installed; pip install 'iconicity"):
        open_synonyms(None)


def test_a_table(tmp_path: Path) -> None:
    path, told = tmp_path / "s.csv", list[str]()
    path.write_text("Word,synonym,POS,note\nScream,shriek,noun,x\nscream,yell,v,\nscream,shriek,n,\nkiss,peck,,\n")
    table = SynonymTable(path, told.append)
    assert table.of("scream") == {"n": ["shriek"], "v": ["yell"]} and table.of("kiss") == {"": ["peck"]}
    assert table.of("sky") == {} and not table.names("Paris") and table.knows("Kanagawa")
    assert told == [f"{path}: columns that were not used: note"]
    assert isinstance(open_synonyms(str(path), told.append), SynonymTable)


@pytest.mark.parametrize(
    ("rows", "message"),
    [("a,,n", ":2: its synonym is empty"), (",b,n", ":2: its word is empty"), ("a,b,q", ":2: pos 'q' is not known"), ("", ": holds no synonym")],
)  # fmt: skip
def test_faults_of_a_table(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"word,synonym,pos\n{rows}\n")
    with pytest.raises(InputError) as e:
        SynonymTable(path)
    assert str(e.value).startswith(f"{path}{message}")
