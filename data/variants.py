"""Variants of prompts: other words, a description, with and without the creator's name."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iconicity.data.creators import NoName, name_words, other_name, span_of
from iconicity.data.english import (
    DETERMINERS,
    FUNCTION_WORDS,
    GERUND,
    PAST,
    PLURAL,
    PREPOSITIONS,
    WORD,
    article_before,
    inflect,
    like,
    neighbours,
    part_of_speech,
)
from iconicity.data.prompts import CONCEPT, ORIGINAL, PROMPT, VARIANT, Prompt, cell_concept, cell_text
from iconicity.data.synonyms import Synonyms
from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.tables import Tell, not_used, read_table
from iconicity.indexer.text import counted

SYNONYM, LITERAL, NONE = "synonym", "literal", "none"
KINDS = (ORIGINAL, SYNONYM, LITERAL, NONE)
TITLE, CREATOR, NEGATIVE = "title", "creator", "negative"
_ARTIST = "artist"  # what tables of titles call the creator
_ITEM, _LABEL = "item", "label"  # of `iconicity collect`: the item's own title, where the user named the item alone
_COLUMNS = (CONCEPT, PROMPT, TITLE, CREATOR, _ARTIST, _ITEM, _LABEL, SYNONYM, LITERAL, NEGATIVE, VARIANT)
_NAMED = 3  # concepts in a note
_SPAN = 4  # words of a name
_MARKS = 9  # blanks and quotes before a word
_PARTICLES = frozenset(
    ("van", "von", "de", "da", "di", "del", "della", "der", "den", "la", "le", "el", "of", "the")
)  # of names: Vincent van Gogh
_MARKUP = re.compile(r"<[^<>]*>")  # names of weights in prompts, such as <lora:x:1>


@dataclass(frozen=True)
class Origin:
    """A row that variants are made of. ``prompt`` is the title where the row has no prompt; what a row lacks is ""."""

    concept: str
    prompt: str
    title: str = ""
    creator: str = ""
    synonym: str = ""
    literal: str = ""
    negative: str = ""


@dataclass
class Variants:
    """Prompts with a text each that says what is changed, and kind -> concepts of which it cannot be made, with the reasons."""

    prompts: list[Prompt] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    lacking: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    origins: int = 0

    def notes(self) -> list[str]:
        """A line for each kind that not every row has."""
        out = []
        for kind, those in self.lacking.items():
            shown = ", ".join(f"{concept} ({reason})" for concept, reason in those[:_NAMED])
            more = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
            out.append(f"{kind}: not made of {len(those)} of {counted(self.origins, 'prompt')}: {shown}{more}")
        return out


def read_origins(path: Path, tell: Tell = warnings.warn) -> list[Origin]:
    """Rows of a table with the columns concept and prompt, or title in the place of prompt.

    Rows without either are counted and not used. ``tell`` gets a line on what a user should know. Raises
    :class:`InputError` for a file that cannot be read, a column that is missing, a cell that names nothing, two rows of
    one concept and prompt, and for a row that is a variant already.
    """
    table = read_table(path, {CONCEPT: ""}, _COLUMNS[1:], tell)
    if PROMPT not in table.columns and TITLE not in table.columns:
        raise InputError(
            f"{path}: no column '{PROMPT}' or '{TITLE}' (columns: {', '.join(table.columns)}); rename the one that is meant"
        )
    if (others := not_used(path, set(table.columns) - set(_COLUMNS))) is not None:
        tell(others)
    out, empty = list[Origin](), list[int]()
    lines: dict[tuple[str, str], int] = {}
    for line, row in table.rows:
        where = f"{path}:{line}"
        cells = {name: " ".join(cell_text(where, name, row.get(name, "")).split()) for name in _COLUMNS}
        cells[CREATOR] = cells[CREATOR] or cells[_ARTIST]
        cells[TITLE] = cells[TITLE] or (cells[_LABEL] if cells[_ITEM] else "")
        prompt = cells[PROMPT] or cells[TITLE]
        if not prompt:
            empty.append(line)
            continue
        if cells[VARIANT] not in ("", ORIGINAL):
            raise InputError(
                f"{where}: is the variant '{cells[VARIANT][:40]}' already; name a table of original prompts, with variants of "
                f"your own in its columns {SYNONYM} and {LITERAL}"
            )
        found = {name: cells[name] for name in (TITLE, CREATOR, SYNONYM, LITERAL, NEGATIVE)}
        origin = Origin(cell_concept(where, cells[CONCEPT]), prompt, **found)
        first = lines.setdefault((origin.concept, prompt), line)
        if first != line:
            raise InputError(f"{where}: has the concept and prompt of line {first}; delete one of the two")
        out.append(origin)
    if empty:
        rows, are = counted(len(empty), "row has", "rows have"), "is" if len(empty) == 1 else "are"
        tell(f"{path}: {rows} neither {PROMPT} nor {TITLE} and {are} not used, first line {empty[0]}")
    if not out:
        raise InputError(f"{path}: holds no prompt; write one a line below the header")
    return out


def make_variants(
    origins: Sequence[Origin], kinds: Sequence[str], synonyms: Synonyms | None = None,
    captions: Mapping[str, str] | None = None, *, most: int = 2, seed: int = 0,
) -> Variants:  # fmt: skip
    """The variants of each row, in the order of ``kinds``.

    ``synonyms``: of at most ``most`` words a prompt, drawn by ``seed``. ``captions``: concept -> caption of its first
    reference. None: only what the rows themselves hold. The same rows, seed and synonyms give the same prompts anywhere.
    """
    out = Variants(origins=len(origins))
    makers: dict[str, Callable[[Origin], tuple[str, str] | NoName]] = {
        ORIGINAL: lambda origin: (origin.prompt, ""),
        SYNONYM: lambda origin: _synonym(origin, synonyms, most, seed),
        LITERAL: lambda origin: _literal(origin, captions),
        NONE: lambda origin: other_name(origin.prompt, origin.title or origin.prompt, origin.creator),
    }
    there: set[tuple[str, str, str]] = set()
    for origin in origins:
        for kind in kinds:
            made = makers[kind](origin)
            if not isinstance(made, NoName):
                prompt, changed = made
                key = (origin.concept, kind, prompt)
                if key not in there and (kind == ORIGINAL or prompt != origin.prompt):
                    there.add(key)
                    out.prompts.append(Prompt(origin.concept, kind, prompt, origin.negative))
                    out.changed.append(changed)
                    continue
                made = NoName("the same prompt is there already")
            out.lacking.setdefault(kind, []).append((origin.concept, made.reason))
    return out


def _synonym(origin: Origin, synonyms: Synonyms | None, most: int, seed: int) -> tuple[str, str] | NoName:
    if origin.synonym:
        return origin.synonym, f"column {SYNONYM}"
    if synonyms is None:
        return NoName(f"its column {SYNONYM} is empty")

    def drawn(*of: str) -> bytes:
        return hashlib.sha256("\0".join((str(seed), origin.concept, origin.prompt, *of)).encode()).digest()

    text = origin.prompt
    tokens = list(WORD.finditer(text))
    choices = {
        i: min(found, key=lambda synonym: drawn(tokens[i][0].lower(), synonym))
        for i, found in replaceable(origin, tokens, synonyms)
    }
    if not choices:
        return NoName("no word has a synonym")
    chosen = sorted(sorted(choices, key=lambda i: (drawn(tokens[i][0].lower()), i))[:most])
    out, changed, at = [], list[str](), 0
    for i in chosen:
        word, instead = tokens[i], like(tokens[i][0], choices[i])
        article = tokens[i - 1] if i and tokens[i - 1].end() >= at else None
        if article is not None and article[0].lower() in ("a", "an") and text[article.end() : word.start()].isspace():
            right = article_before(instead, article[0])
            out += [text[at : article.start()], right, text[article.end() : word.start()]]
            changed += [f"{article[0]}->{right}"] if right != article[0] else []
        else:
            out.append(text[at : word.start()])
        out.append(instead)
        changed.append(f"{word[0]}->{instead}")
        at = word.end()
    return "".join([*out, text[at:]]), ", ".join(changed)


def replaceable(origin: Origin, tokens: Sequence[re.Match[str]], synonyms: Synonyms) -> Iterator[tuple[int, list[str]]]:
    """(place, synonyms of its part of speech) of each word of a prompt that may be another one; no name is among them."""
    names = _names(origin, tokens, synonyms)
    for i, token in enumerate(tokens):
        word = token[0].lower()
        if i in names or word in FUNCTION_WORDS or len(word) < 3 or not word.isalpha():
            continue
        found = synonyms.of(word)
        parts = [part for part in found if part]
        part = part_of_speech(word, *neighbours(origin.prompt, tokens, i), parts)
        fitting = [s for s in dict.fromkeys([*found.get(part or "", ()), *found.get("", ())]) if s.lower() != word]
        if fitting:
            yield i, fitting


def _names(origin: Origin, tokens: Sequence[re.Match[str]], synonyms: Synonyms) -> set[int]:
    """Places of words that are or may be a part of a name: rather too many than one too few."""
    text, words = origin.prompt, [t[0] for t in tokens]
    of_creator = name_words(origin.creator)
    out = {i for i, word in enumerate(words) if word.lower() in of_creator or (len(word) > 1 and word.isupper())}
    for markup in _MARKUP.finditer(text):
        out |= {i for i, t in enumerate(tokens) if markup.start() <= t.start() < markup.end()}
    start, end = span_of(origin.title, text)
    in_title = {i for i, t in enumerate(tokens) if start <= t.start() < end}
    for part in (in_title, set(range(len(tokens))) - in_title):
        meaning = [i for i in sorted(part) if words[i].lower() not in FUNCTION_WORDS]
        if not all(words[i][0].isupper() for i in meaning):  # written as a sentence: capitals mean names
            out |= {i for i in meaning if words[i][0].isupper() and not _begins(text, tokens[i], start)}
    for i in range(len(words)):
        if words[i].lower() == "by":
            out |= set(_capitals(words, i + 1))
    for n in range(1, _SPAN + 1):
        for i in range(len(words) - n + 1):
            span = text[tokens[i].start() : tokens[i + n - 1].end()]
            if (n > 1 or span[0].isupper()) and synonyms.names(" ".join(span.split())):
                out |= set(range(i, i + n))
    for i, word in enumerate(words):
        start, end = tokens[i].span()
        if "-" in (text[start - 1 : start], text[end : end + 1]):  # a part of a compound
            out.add(i)
        elif word[0].isupper() and word.lower() not in FUNCTION_WORDS and not synonyms.knows(word):
            out |= {j for j in (i - 1, i, i + 1) if 0 <= j < len(words) and words[j][0].isupper()}
    out |= {i for i in range(2, len(words)) if i - 2 in out and words[i - 1] == "the" and words[i][0].isupper()}
    return out


def _capitals(words: Sequence[str], i: int) -> Iterator[int]:
    """Places from ``i`` on of capitalised words, and of the particles of names between them."""
    while i < len(words) and (words[i][0].isupper() or words[i] in _PARTICLES):
        yield i
        i += 1


def _begins(text: str, token: re.Match[str], title: int) -> bool:
    """Whether a word begins a sentence, or the title that stands at ``title``."""
    start = token.start()
    before = text[max(0, start - _MARKS) : start].rstrip(" \"'“‘(")
    return start == title or (before[-1] in ".!?:" if before else start <= _MARKS)


def _literal(origin: Origin, captions: Mapping[str, str] | None) -> tuple[str, str] | NoName:
    if origin.literal:
        return origin.literal, f"column {LITERAL}"
    if captions is None:
        return NoName(f"its column {LITERAL} is empty")
    if origin.concept not in captions:
        return NoName("no reference of it can be described")
    return without_words(captions[origin.concept], origin.title or origin.prompt, origin.creator)


def without_words(caption: str, title: str, creator: str = "") -> tuple[str, str] | NoName:
    """A caption without the words of the title and of the creator's name, and which those were.

    >>> without_words("a painting of the scream by a man", "The Scream")
    ('a painting by a man', 'caption without: scream')
    """
    told = {w[0].lower() for w in WORD.finditer(title)} - FUNCTION_WORDS | name_words(creator)
    told |= {form for word in told for kind in (PLURAL, GERUND, PAST) if (form := inflect(word, kind))}
    tokens = list(WORD.finditer(caption))
    gone = {i for i, t in enumerate(tokens) if t[0].lower().removesuffix("'s").removesuffix("’s") in told}
    removed = list(dict.fromkeys(tokens[i][0] for i in sorted(gone)))
    for i in sorted(gone, reverse=True):  # "of the" before what is gone, where no other word takes its place
        if i + 1 in gone or (i + 1 < len(tokens) and tokens[i + 1][0].lower() not in FUNCTION_WORDS):
            continue
        j = i - 1
        while j in gone or (j >= 0 and tokens[j][0].lower() in DETERMINERS | PREPOSITIONS):
            gone.add(j)
            j -= 1
    kept = [i for i in range(len(tokens)) if i not in gone]
    if all(tokens[i][0].lower() in FUNCTION_WORDS for i in kept):
        return NoName("its caption holds no other words than its title")
    text = "".join(
        caption[tokens[i - 1].end() if i else 0 : t.start()] + (t[0] if i not in gone else "")
        for i, t in enumerate(tokens)
    )
    text = re.sub(r"\s+([,;.:!?])", r"\1", " ".join((text + caption[tokens[-1].end() :]).split())).strip(" ,;:")
    return text, f"caption without: {', '.join(removed)}" if removed else "caption"
