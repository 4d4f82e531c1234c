"""What replacing English words needs: which words carry meaning, their parts of speech by simple rules, and their forms."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
NOUN, VERB, ADJECTIVE, ADVERB = PARTS = ("n", "v", "a", "r")
BASE, PLURAL, THIRD, GERUND, PAST = "base", "plural", "third", "gerund", "past"
FORMS = {NOUN: (BASE, PLURAL), VERB: (BASE, THIRD, GERUND, PAST), ADJECTIVE: (BASE,), ADVERB: (BASE,)}
DETERMINERS = _words(
    "a an the this that these those my your his her its our their some any no each every both all another other "
    "one two three four five six seven eight nine ten eleven twelve"
)
PREPOSITIONS = _words(
    "about above across after against along among around at before behind below beneath beside between beyond by down "
    "during for from in inside into near of off on onto out outside over past through to toward towards under until up "
    "upon via with within without"
)
FUNCTION_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | _words(
        "and or but nor not so than then as if while when where who whom whose which what how why there here i you he she it "
        "we they me him us them himself herself itself themselves is are was were be been being am do does did has have had "
        "having can could will would shall should may might must very too also just only more most less least such same"
    )
)
_VOWELS = "aeiou"


def inflect(word: str, form: str) -> str | None:
    """A regular form of a word; None where the rules of spelling do not settle it.

    >>> inflect("weep", GERUND), inflect("kiss", PLURAL), inflect("carry", PAST), inflect("wolf", PLURAL)
    ('weeping', 'kisses', 'carried', None)
    """
    if form == BASE:
        return word
    if len(word) < 3:
        return None
    if form in (PLURAL, THIRD):
        if word.endswith(("f", "fe", "o", "man")):
            return None
        if word.endswith(("s", "x", "z", "ch", "sh")):
            return word + "es"
        return word[:-1] + "ies" if _consonant_y(word) else word + "s"
    if form == PAST and _consonant_y(word):
        return word[:-1] + "ied"
    ending = "ing" if form == GERUND else "ed"
    if word.endswith("e"):
        if form == GERUND and word.endswith(("ee", "oe", "ye", "ie")):
            return word[:-2] + "ying" if word.endswith("ie") else word + ending
        return word[:-1] + ending
    if _ends_short(word):  # run -> running; of longer words the stress decides: open, begin
        return word + word[-1] + ending if len(re.findall("[aeiouy]+", word)) == 1 else None
    return word + ending


def bases(word: str) -> Iterator[tuple[str, str, str]]:
    """(base, part of speech, form) that a lower-case word may be by the regular rules; the word itself as each part first.

    >>> sorted({base for base, _, _ in bases("cries")})
    ['crie', 'cries', 'cry']
    """
    yield from ((word, part, BASE) for part in PARTS)
    for ending, instead in (("ies", "y"), ("es", ""), ("s", ""), ("ying", "ie"), ("ing", ""), ("ing", "e"), ("ied", "y"), ("ed", ""), ("ed", "e")):  # fmt: skip
        if not word.endswith(ending) or len(word) <= len(ending):
            continue
        stem = word[: -len(ending)] + instead
        for base in dict.fromkeys((stem, stem[:-1] if stem[-2:-1] == stem[-1:] else stem)):
            for part in (NOUN, VERB):
                for form in FORMS[part][1:]:
                    if inflect(base, form) == word:
                        yield base, part, form


def part_of_speech(word: str, before: str, after: str, parts: Collection[str]) -> str | None:
    """Part of speech of a word between its neighbours in the same phrase; None where the rules do not settle it.

    ``before`` and ``after``: the neighbours in lower case, "" at the ends of a phrase. ``parts``: those the word can be.

    >>> part_of_speech("scream", "the", "", "nv"), part_of_speech("weeping", "", "woman", "nva")
    ('n', 'v')
    """
    if len(parts) < 2:
        return next(iter(parts), None)
    meaning_follows = bool(after) and after not in FUNCTION_WORDS
    participle = word.endswith(("ing", "ed")) and VERB in parts
    if before == "to" and VERB in parts and not meaning_follows:
        return VERB
    if participle and (meaning_follows or after in DETERMINERS):
        return VERB
    if meaning_follows:
        return next((part for part in (ADJECTIVE, NOUN) if part in parts), None)
    if before in DETERMINERS or before in PREPOSITIONS or (before and before not in FUNCTION_WORDS):
        return NOUN if NOUN in parts else None
    return NOUN if NOUN in parts and not before and after in PREPOSITIONS else None


def article_before(word: str, article: str) -> str:
    """The article a or an as it stands before a word, in the case that it had.

    >>> article_before("outcry", "A"), article_before("shriek", "an")
    ('An', 'a')
    """
    right = "an" if word[:1].lower() in _VOWELS else "a"
    return like(article, right)


def like(original: str, word: str) -> str:
    """A word with the capitals of another one."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def neighbours(text: str, tokens: Sequence[re.Match[str]], i: int) -> tuple[str, str]:
    """Words before and after the i-th token of a text, in lower case; "" where a mark or an end stands between."""
    before = after = ""
    if i and text[tokens[i - 1].end() : tokens[i].start()].isspace():
        before = tokens[i - 1][0].lower()
    if i + 1 < len(tokens) and text[tokens[i].end() : tokens[i + 1].start()].isspace():
        after = tokens[i + 1][0].lower()
    return before, after


def _consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in _VOWELS


def _ends_short(word: str) -> bool:
    return word[-1] not in _VOWELS + "wxy" and word[-2] in _VOWELS and word[-3] not in _VOWELS
