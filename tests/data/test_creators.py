"""The creator's name is dropped where it is, added where it is not, and left alone in doubt."""

from __future__ import annotations

import pytest

from iconicity.data.creators import NoName, creator_names, other_name, span_of

MUNCH, GOGH = "Edvard Munch", "Vincent van Gogh"


@pytest.mark.parametrize(
    ("prompt", "title", "creator", "made", "said"),
    [
        ("The Scream by Edvard Munch", "The Scream", MUNCH, "The Scream", "dropped: by Edvard Munch"),
        ("the scream BY munch, oil on canvas", "The Scream", MUNCH, "the scream, oil on canvas", "dropped: BY munch"),
        ("The Scream (by Edvard Munch).", "The Scream", MUNCH, "The Scream.", "dropped: by Edvard Munch"),
        ("The Scream, painted by E. Munch", "The Scream", MUNCH, "The Scream", "dropped: painted by E. Munch"),
        ("Munch's The Scream", "The Scream", MUNCH, "The Scream", "dropped: Munch's"),
        ("Edvard Munch: The Scream", "The Scream", MUNCH, "The Scream", "dropped: Edvard Munch"),
        ("The Scream (Munch), 1893", "The Scream", MUNCH, "The Scream, 1893", "dropped: Munch"),
        ("The Scream, Edvard  Munch", "The Scream", MUNCH, "The Scream", "dropped: Edvard Munch"),
        ("a night in the style of van Gogh", "Night", GOGH, "a night", "dropped: in the style of van Gogh"),
        ("The Scream", "The Scream", MUNCH, "The Scream by Edvard Munch", "added: by Edvard Munch"),
        ("a picture, oil.", "The Scream", MUNCH, "a picture, oil by Edvard Munch.", "added: by Edvard Munch"),
        ("Altar", "", "Jan van Eyck; Hubert van Eyck", "Altar by Jan van Eyck and Hubert van Eyck", "added: by Jan van Eyck and Hubert van Eyck"),
        ("Concert by Titian", "Concert", "Giorgione, Titian", "Concert", "dropped: by Titian"),
        ("Altar by Jan van Eyck, Hubert van Eyck", "Altar", "Jan van Eyck, Hubert van Eyck", "Altar", "dropped: by Jan van Eyck, Hubert van Eyck"),
        ("Altar by Hubert van Eyck", "Altar", "Jan van Eyck | Hubert van Eyck", "Altar", "dropped: by Hubert van Eyck"),
        ("Whistler's Mother", "Whistler's Mother", "James Whistler", "Whistler's Mother by James Whistler", "added: by James Whistler"),
        ("a munchkin", "", MUNCH, "a munchkin by Edvard Munch", "added: by Edvard Munch"),
        ("x", "", "C++ (.*) [a", "x by C++ (.*) [a", "added: by C++ (.*) [a"),
    ],
)  # fmt: skip
def test_names(prompt: str, title: str, creator: str, made: str, said: str) -> None:
    assert other_name(prompt, title, creator) == (made, said)


@pytest.mark.parametrize(
    ("prompt", "creator", "reason"),
    [
        ("The Scream", " ", "no creator"),
        ("by Edvard Munch", MUNCH, "nothing but the creator's name"),
        ("Edvard Munch stands before a picture", MUNCH, "the creator's name is a part of its sentence"),
    ],
)
def test_where_it_cannot_be_done_the_reason_is_given(prompt: str, creator: str, reason: str) -> None:
    assert other_name(prompt, "The Scream", creator) == NoName(reason)


def test_adding_and_dropping_undo_each_other() -> None:
    for prompt in ("The Scream", "a picture of the scream, oil", "Blick."):
        made = other_name(prompt, "The Scream", MUNCH)
        assert not isinstance(made, NoName)
        assert other_name(made[0], "The Scream", MUNCH) == (prompt, "dropped: by Edvard Munch")


def test_titles_are_found_whatever_their_case() -> None:
    assert span_of("The Scream", "Print of THE  SCREAM.") == (9, 20)
    assert span_of("The Scream", "the screams") == span_of("", "x") == (0, 0)
    assert creator_names(" ;A  B;|c") == ["A B", "c"]
