"""Synonyms of a word in its own form: from a table, or from WordNet through the package ``wn``."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from iconicity.data.english import PARTS, PAST, PLURAL, bases, inflect
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import Tell, not_used, read_table

WAYS_ON = (
    "pip install 'iconicity[variants]' and run 'python -m wn download oewn:2024' once, or name a CSV with the columns word and "
    "synonym with `synonyms`"
)
_PART_NAMES = {"noun": "n", "verb": "v", "adj": "a", "adjective": "a", "adv": "r", "adverb": "r", "s": "a"}
_ROMAN = re.compile("[ivxlcdm]+")
_SPECIFIER = re.compile(r"[A-Za-z][\w-]*(?::[\w.+-]+)?")


class Synonyms(Protocol):
    """Where synonyms come from. ``label`` names it with its version."""

    label: str

    def of(self, word: str) -> dict[str, list[str]]:
        """Part of speech that a lower-case word can be -> its synonyms in the same form; part "" fits every place."""

    def names(self, text: str) -> bool:
        """Whether a capitalised word, or several, are a proper name."""

    def knows(self, word: str) -> bool:
        """Whether a word is one of the language, as far as can be told; others are taken for names."""


class SynonymTable:
    """Synonyms that the user wrote: the columns word, synonym and, where there is one, pos."""

    def __init__(self, path: Path, tell: Tell = warnings.warn) -> None:
        """Raises :class:`InputError` for a file that cannot be read, an empty cell, or a part of speech that is not known."""
        self.label = str(path)
        table = read_table(path, {"word": "", "synonym": ""}, ("pos",), tell)
        if (others := not_used(path, set(table.columns) - {"word", "synonym", "pos"})) is not None:
            tell(others)
        self._of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for line, row in table.rows:
            word, synonym, part = (" ".join(row.get(name, "").split()) for name in ("word", "synonym", "pos"))
            if not word or not synonym:
                raise InputError(
                    f"{path}:{line}: its {'synonym' if word else 'word'} is empty; write one, or delete the line"
                )
            part = _PART_NAMES.get(part.lower(), part.lower())
            if part and part not in PARTS:
                raise InputError(f"{path}:{line}: pos {part[:20]!r} is not known; write {', '.join(PARTS)}, or nothing")
            if synonym not in self._of[word.lower()][part]:
                self._of[word.lower()][part].append(synonym)
        if not self._of:
            raise InputError(f"{path}: holds no synonym; write one a line below the header")

    def of(self, word: str) -> dict[str, list[str]]:
        return {part: list(found) for part, found in self._of.get(word, {}).items()}

    def names(self, text: str) -> bool:
        return False

    def knows(self, word: str) -> bool:
        return True


class WordNet:
    """Synonyms of a lexicon of the package ``wn``: single words that share the first meaning of both as a part of speech."""

    def __init__(self, lexicon: str | None = None) -> None:
        """``lexicon``: as ``wn`` names it, such as oewn:2024; None: the only English one that is there.

        Raises :class:`InputError` where the package or its data are missing, or several lexicons could be meant.
        """
        try:
            import wn
        except ImportError as e:
            raise InputError(f"synonyms need the package wn, which is not installed; {WAYS_ON}") from e
        try:
            there = [(f"{x.id}:{x.version}", x.language) for x in wn.lexicons()]
        except (wn.Error, sqlite3.Error, OSError) as e:
            raise InputError(f"wn cannot read its data ({' '.join(str(e).split())[:120]}); {WAYS_ON}") from e
        asked = lexicon or "en"
        held = sorted(
            name for name, of in there if asked in (name, name.partition(":")[0]) or (lexicon is None and of == "en")
        )
        if not held:
            known = ", ".join(sorted(name for name, _ in there)) or "none"
            raise InputError(f"wn has no data of {lexicon or 'an English WordNet'} (it has: {known}); {WAYS_ON}")
        if len(held) > 1:
            raise InputError(f"wn has several lexicons ({', '.join(held)}); name one with `synonyms`")
        self.label = held[0]
        self._words: Callable[[str], list[Any]] = lru_cache(1 << 14)(wn.Wordnet(held[0]).words)

    def of(self, word: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for base, part, form in bases(word):
            for entry in self._entries(base, part):
                known = found.setdefault(part, [])
                if not known:
                    known += self._synonyms(entry, base, part, form)
        return found

    def names(self, text: str) -> bool:
        return any(w.lemma().casefold() == text.casefold() and not w.lemma().islower() for w in self._words(text))

    def knows(self, word: str) -> bool:
        return bool(self._words(word)) or bool(self.of(word.lower()))

    def _entries(self, lemma: str, part: str) -> list[Any]:
        parts = (part, "s") if part == "a" else (part,)
        return [w for w in self._words(lemma) if w.lemma() == lemma and w.pos in parts]

    def _synonyms(self, entry: Any, base: str, part: str, form: str) -> list[str]:
        synset = _first(entry)
        others = [str(lemma) for lemma in (synset.lemmas() if synset else ()) if lemma != base]
        made = (
            self._inflected(other, part, form)
            for other in others
            if other.isalpha() and other.islower() and len(other) > 2 and not _ROMAN.fullmatch(other)
            if any(_first(e) == synset for e in self._entries(other, part))
        )
        return [word for word in made if word is not None]

    def _inflected(self, lemma: str, part: str, form: str) -> str | None:
        """A form of a lemma; None where it has irregular ones of its own."""
        word = inflect(lemma, form)
        if word is None or form not in (PLURAL, PAST):
            return word
        irregular = {str(f) for entry in self._entries(lemma, part) for f in entry.forms()} - {lemma}
        return word if not irregular or word in irregular else None


def _first(entry: Any) -> Any:
    synsets = entry.synsets()
    return synsets[0] if synsets else None


def open_synonyms(named: str | None, tell: Tell = warnings.warn) -> Synonyms:
    """The synonyms that a user names: a file, or a lexicon of ``wn``; None: the English one that ``wn`` has.

    Raises :class:`InputError`.
    """
    if named is None or (_SPECIFIER.fullmatch(named) and not Path(named).exists()):
        return WordNet(named)
    return SynonymTable(Path(named), tell)
