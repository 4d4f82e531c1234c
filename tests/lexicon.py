"""A WordNet of a few words, written by the tests for the package wn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# part of speech -> synsets in the order of their words' meanings
SYNSETS = {
    "n": [
        ["scream", "shriek"], ["bank"], ["bank", "depository"], ["girl", "young woman", "Lass"], ["twelve", "xii"],
        ["Paris"], ["Mona Lisa"], ["Night"], ["night", "nighttime"], ["woman"], ["picture", "image"], ["sky"], ["tear", "lachryma"],
    ],
    "v": [["cry", "weep"], ["scream", "yell"], ["paint"]],
    "a": [["big", "large"], ["red"], ["starry"]],
}  # fmt: skip
FORMS = {("weep", "v"): ["wept"], ("woman", "n"): ["women"]}


def written(path: Path, name: str = "small") -> Path:
    """Write the lexicon as WN-LMF."""
    entries: dict[tuple[str, str], list[str]] = {}
    synsets = []
    for part, groups in SYNSETS.items():
        for i, lemmas in enumerate(groups):
            synset = f"{name}-{part}{i}"
            synsets.append(f'<Synset id="{synset}" ili="" partOfSpeech="{part}"/>')
            for lemma in lemmas:
                entries.setdefault((lemma, part), []).append(synset)
    words = []
    for n, ((lemma, part), of) in enumerate(entries.items()):
        forms = "".join(f'<Form writtenForm="{form}"/>' for form in FORMS.get((lemma, part), ()))
        senses = "".join(f'<Sense id="{name}-s{n}-{k}" synset="{synset}"/>' for k, synset in enumerate(of))
        words.append(
            f'<LexicalEntry id="{name}-e{n}"><Lemma writtenForm="{lemma}" partOfSpeech="{part}"/>{forms}{senses}</LexicalEntry>'
        )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.1.dtd">\n'
        '<LexicalResource xmlns:dc="https://globalwordnet.github.io/schemas/dc/">'
        f'<Lexicon id="{name}" label="{name}" language="en" email="a@example.org" license="none" version="1.0">'
        f"{''.join(words)}{''.join(synsets)}</Lexicon></LexicalResource>\n"
    )
    return path


@contextmanager
def small_wordnet(data: Path, file: Path) -> Iterator[None]:
    """Have wn keep its data in a folder, with the lexicon alone. Skips where the package is not installed."""
    wn = pytest.importorskip("wn")
    before = wn.config.data_directory
    data.mkdir()
    wn.config.data_directory = data
    try:
        wn.add(written(file), progress_handler=None)
        yield
    finally:
        wn.config.data_directory = before
