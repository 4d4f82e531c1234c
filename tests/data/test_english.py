"""Forms of words, and parts of speech from their neighbours."""

from __future__ import annotations

import pytest

from iconicity.data.english import (
    ADJECTIVE,
    BASE,
    GERUND,
    NOUN,
    PAST,
    PLURAL,
    THIRD,
    VERB,
    article_before,
    bases,
    inflect,
    like,
    part_of_speech,
)


@pytest.mark.parametrize(
    ("word", "form", "made"),
    [
        ("scream", PLURAL, "screams"), ("church", PLURAL, "churches"), ("lily", PLURAL, "lilies"), ("boy", PLURAL, "boys"),
        ("wolf", PLURAL, None), ("woman", PLURAL, None), ("hero", PLURAL, None), ("kiss", THIRD, "kisses"),
        ("weep", GERUND, "weeping"), ("dance", GERUND, "dancing"), ("see", GERUND, "seeing"), ("lie", GERUND, "lying"),
        ("run", GERUND, "running"), ("open", GERUND, None), ("cross", PAST, "crossed"), ("carry", PAST, "carried"),
        ("stop", PAST, "stopped"), ("ox", PLURAL, None), ("blue", BASE, "blue"),
    ],
)  # fmt: skip
def test_regular_forms(word: str, form: str, made: str | None) -> None:
    assert inflect(word, form) == made


@pytest.mark.parametrize(
    ("word", "base"),
    [("stars", (("star", NOUN, PLURAL))), ("crying", ("cry", VERB, GERUND)), ("dancing", ("dance", VERB, GERUND)),
     ("running", ("run", VERB, GERUND)), ("kisses", ("kiss", NOUN, PLURAL)), ("lilies", ("lily", NOUN, PLURAL)),
     ("carried", ("carry", VERB, PAST)), ("kissed", ("kiss", VERB, PAST)), ("lying", ("lie", VERB, GERUND))],
)  # fmt: skip
def test_bases_are_found_by_their_forms(word: str, base: tuple[str, str, str]) -> None:
    found = list(bases(word))
    assert base in found
    assert all(inflect(b, form) == word for b, _, form in found)


@pytest.mark.parametrize(
    ("word", "before", "after", "parts", "part"),
    [
        ("scream", "the", "", {NOUN, VERB}, NOUN), ("scream", "to", "", {NOUN, VERB}, VERB),
        ("weeping", "", "woman", {NOUN, VERB, ADJECTIVE}, VERB), ("leading", "liberty", "the", {NOUN, VERB}, VERB),
        ("blue", "the", "boy", {NOUN, ADJECTIVE, VERB}, ADJECTIVE), ("card", "the", "players", {NOUN, VERB}, NOUN),
        ("kiss", "", "", {NOUN, VERB}, None), ("girl", "", "with", {NOUN}, NOUN), ("study", "", "of", {NOUN, VERB}, NOUN),
        ("x", "", "", set(), None),
    ],
)  # fmt: skip
def test_parts_of_speech(word: str, before: str, after: str, parts: set[str], part: str | None) -> None:
    assert part_of_speech(word, before, after, parts) == part


def test_case_and_articles() -> None:
    assert [like("Scream", "shriek"), like("SCREAM", "shriek"), like("scream", "shriek")] == [
        "Shriek",
        "SHRIEK",
        "shriek",
    ]
    assert [article_before("outcry", "a"), article_before("shriek", "An"), article_before("Outcry", "A")] == [
        "an",
        "A",
        "An",
    ]
