"""Variants of prompts: what is changed is what is said, no name is replaced, and a seed gives the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from lexicon import small_wordnet

from iconicity.data.creators import NoName
from iconicity.data.english import PARTS
from iconicity.data.prompts import read_prompts, write_prompts
from iconicity.data.synonyms import Synonyms, SynonymTable, WordNet
from iconicity.data.variants import KINDS, Origin, make_variants, read_origins, without_words
from iconicity.indexer.errors import InputError

MUNCH = "Edvard Munch"


def table(tmp_path: Path, rows: str) -> SynonymTable:
    path = tmp_path / "synonyms.csv"
    path.write_text(f"word,synonym,pos\n{rows}")
    return SynonymTable(path)


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordNet]:
    tmp_path = tmp_path_factory.mktemp("wn")
    with small_wordnet(tmp_path / "data", tmp_path / "small.xml"):
        yield WordNet()


def synonym(origin: Origin, synonyms: Synonyms, most: int = 9, seed: int = 0) -> tuple[str, str] | str:
    made = make_variants([origin], ["synonym"], synonyms, most=most, seed=seed)
    return (made.prompts[0].prompt, made.changed[0]) if made.prompts else made.lacking["synonym"][0][1]


@pytest.mark.parametrize(
    ("prompt", "title", "made"),
    [
        ("The Scream", "The Scream", ("The Shriek", "Scream->Shriek")),
        ("a big picture of a red sky", "", ("a large image of a red sky", "big->large, picture->image")),
        ("a crying woman", "", ("a weeping woman", "crying->weeping")),
        ("a woman cried", "", "no word has a synonym"),  # wept
        ("A picture, THE SCREAM", "The Scream", ("An image, THE SCREAM", "A->An, picture->image")),
        ("a scream in Paris", "", ("a shriek in Paris", "scream->shriek")),
        ("The Night", "The Night", "no word has a synonym"),  # a goddess, too
        ("the night", "", ("the nighttime", "night->nighttime")),
        ("Mona Lisa", "Mona Lisa", "no word has a synonym"),
        ("a Picture of the sky", "", "no word has a synonym"),  # a capital within a sentence
        ("a picture of The Scream", "The Scream", ("an image of The Shriek", "a->an, picture->image, Scream->Shriek")),
        ("Picture by Scream", "", ("Image by Scream", "Picture->Image")),
        ("Kanagawa Scream", "", "no word has a synonym"),  # beside a word that no one knows
        ("<lora:scream:1> picture", "", ("<lora:scream:1> image", "picture->image")),
        ("scream-picture, 8k", "", "no word has a synonym"),
        ("", "", "no word has a synonym"),
    ],
)
def test_words_become_synonyms_and_names_stay(lexicon: WordNet, prompt: str, title: str, made: object) -> None:
    assert synonym(Origin("c", prompt, title), lexicon) == made


def test_the_creators_name_stays(tmp_path: Path) -> None:
    synonyms = table(tmp_path, "munch,chew,\nedvard,x,\nscream,shriek,n\n")
    made = synonym(Origin("c", "the scream, munch", "The Scream", MUNCH), synonyms)
    assert made == ("the shriek, munch", "scream->shriek")


def test_of_a_table_the_part_of_speech_decides_too(tmp_path: Path) -> None:
    synonyms = table(tmp_path, "scream,shriek,n\nscream,yell,v\nkiss,peck,\n")
    assert synonym(Origin("c", "the scream and the kiss"), synonyms) == (
        "the shriek and the peck", "scream->shriek, kiss->peck",
    )  # fmt: skip
    assert synonym(Origin("c", "to scream"), synonyms) == ("to yell", "scream->yell")


def test_most_words_and_the_seed(tmp_path: Path) -> None:
    words = [f"{a}{b}a" for a, b in product("bdfg", "aeiou")]
    synonyms = table(tmp_path, "".join(f"{w},{w}n{i},\n" for w in words for i in "xyz"))
    origin = Origin("c", " ".join(words))
    made = {seed: synonym(origin, synonyms, most=3, seed=seed) for seed in range(8)}
    assert made == {seed: synonym(origin, synonyms, most=3, seed=seed) for seed in range(8)}
    assert len(set(made.values())) == 8
    for found in made.values():
        assert isinstance(found, tuple)
        text, changed = found
        pairs = [pair.split("->") for pair in changed.split(", ")]
        assert len(pairs) == 3 and all(after.startswith(f"{before}n") for before, after in pairs)
        swapped = dict(pairs)
        assert text.split() == [swapped.get(w, w) for w in words]
    # of SHA-256, so on every machine; a change here changes published prompts
    assert made[0] == synonym(origin, synonyms, most=3) and made[0][1] == PINNED


PINNED = "baa->baanx, dea->deany, dia->diany"


def test_captions_without_the_title() -> None:
    for caption, title, made in (
        ("a painting of the scream by a man", "The Scream", ("a painting by a man", "caption without: scream")),
        ("a scream on a bridge", "The Scream", ("on a bridge", "caption without: scream")),
        ("screaming man, red sky", "The Scream", ("man, red sky", "caption without: screaming")),
        ("a man, his hands on his ears", "The Scream", ("a man, his hands on his ears", "caption")),
        ("the starry night over a town", "The Starry Night", ("over a town", "caption without: starry, night")),
        ("a sky by edvard munch", "The Scream", ("a sky", "caption without: edvard, munch")),
        ("the scream", "The Scream", NoName("its caption holds no other words than its title")),
        ("", "The Scream", NoName("its caption holds no other words than its title")),
        ("1893 .*", "The Scream", NoName("its caption holds no other words than its title")),
    ):
        assert without_words(caption, title, MUNCH) == made, caption


def test_all_kinds_of_a_table(tmp_path: Path) -> None:
    path, told = tmp_path / "prompts.csv", list[str]()
    path.write_text(
        "concept,prompt,title,artist,synonym,literal,negative,sitelinks\n"
        'the_scream,"The Scream by Edvard Munch",The Scream,Edvard Munch,,,blurry,9\n'
        "The Kiss,,The Kiss,,The Peck,A couple,,\n"
        "guernica,,Guernica,Pablo Picasso,,,,\n"
        "empty,,,,,,,\n"
    )
    origins = read_origins(path, told.append)
    assert told == [
        f"{path}: columns that were not used: sitelinks",
        f"{path}: 1 row has neither prompt nor title and is not used, first line 5",
    ]
    made = make_variants(origins, KINDS, table(tmp_path, "scream,shriek,n\n"), {"the_scream": "a man on a bridge"})
    rows = [(p.concept, p.variant, p.prompt, said) for p, said in zip(made.prompts, made.changed, strict=True)]
    assert rows == [
        ("the_scream", "original", "The Scream by Edvard Munch", ""),
        ("the_scream", "synonym", "The Shriek by Edvard Munch", "Scream->Shriek"),
        ("the_scream", "literal", "a man on a bridge", "caption"),
        ("the_scream", "none", "The Scream", "dropped: by Edvard Munch"),
        ("the_kiss", "original", "The Kiss", ""),
        ("the_kiss", "synonym", "The Peck", "column synonym"),
        ("the_kiss", "literal", "A couple", "column literal"),
        ("guernica", "original", "Guernica", ""),
        ("guernica", "none", "Guernica by Pablo Picasso", "added: by Pablo Picasso"),
    ]
    assert [p.negative for p in made.prompts[:5]] == ["blurry"] * 4 + [""]
    assert made.notes() == [
        "none: not made of 1 of 3 prompts: the_kiss (no creator)",
        "synonym: not made of 1 of 3 prompts: guernica (no word has a synonym)",
        "literal: not made of 1 of 3 prompts: guernica (no reference of it can be described)",
    ]
    write_prompts(tmp_path / "v.csv", made.prompts, {"changed": made.changed})
    assert read_prompts(tmp_path / "v.csv", told.append) == made.prompts and len(told) == 2


def test_the_concepts_of_collect(tmp_path: Path) -> None:
    path, told = tmp_path / "concepts.csv", list[str]()
    path.write_text(
        "concept,title,item,label,creator,date,sitelinks,pageviews\n"
        "the_scream,The Scream,Q18891156,The Scream,Edvard Munch,1893,99,1000\n"
        'q2,,Q2,Ghent Altarpiece,"Jan van Eyck, Hubert van Eyck",1432,50,10\n'
    )
    origins = read_origins(path, told.append)
    assert [(o.concept, o.prompt) for o in origins] == [("the_scream", "The Scream"), ("q2", "Ghent Altarpiece")]
    assert told == [f"{path}: columns that were not used: date, pageviews, sitelinks"]
    made = make_variants(origins, ["none"])
    assert [p.prompt for p in made.prompts] == [
        "The Scream by Edvard Munch", "Ghent Altarpiece by Jan van Eyck and Hubert van Eyck",
    ]  # fmt: skip


def test_one_prompt_that_two_rows_give_stands_once() -> None:
    origins = [
        Origin("c", "one", literal="A man"),
        Origin("c", "two", literal="A man"),
        Origin("c", "A man", literal="A man"),
    ]
    made = make_variants(origins, ["original", "literal"])
    assert [p.prompt for p in made.prompts] == ["one", "A man", "two", "A man"]
    assert made.notes() == [
        "literal: not made of 2 of 3 prompts: c (the same prompt is there already), c (the same prompt is there already)"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concept,text\na,b\n", ": no column 'prompt' or 'title' (columns: concept, text)"),
        ("prompt\na\n", ": no column 'concept'"),
        ("concept,prompt\na,b\nA,b\n", ":3: has the concept and prompt of line 2"),
        ("concept,prompt,variant\na,b,synonym\n", ":2: is the variant 'synonym' already"),
        ("concept,prompt\n", ": holds no prompt"),
        ("concept,prompt\n../x,a\n", ":2: its concept '../x' names no folder"),
    ],
)
def test_faults_of_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError) as e:
        read_origins(path)
    assert str(e.value).startswith(f"{path}{message}")


HOSTILE = ["=cmd|'/c calc'!A1", "(((((" * 200, "a" * 5000, "\x1b[2J\u202etxt", "by " * 2000, "\\1 \\g<0> %s {0}", "<" * 3000, "𝕬 ａ́ ß İ ŉ", "by Edvard Munch" * 300]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_become_rows_and_no_more(tmp_path: Path, text: str) -> None:
    synonyms = table(tmp_path, f"scream,shriek,\n{PARTS[0]}aa,b,\n")
    origins = [
        Origin("c", text, text, text),
        Origin("d", f"the scream {text}", "The Scream", text[:50]),
        Origin("e", "x", "", text),
    ]
    made = make_variants(origins, KINDS, synonyms, {"c": text, "d": text, "e": text})
    path = tmp_path / "v.csv"
    write_prompts(path, made.prompts, {"changed": made.changed})
    held = [(p.concept, p.variant, " ".join(p.prompt.split())) for p in read_prompts(path)]
    assert held == [(p.concept, p.variant, " ".join(p.prompt.split())) for p in made.prompts]
    assert not any(line.startswith(("=", "+", "-", "@")) for line in path.read_text().splitlines())
