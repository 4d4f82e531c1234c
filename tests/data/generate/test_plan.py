"""Which images there shall be, in which order, and what tells them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iconicity.data.generate.options import GenerateOptions, parse_size
from iconicity.data.generate.plan import Settings, plan
from iconicity.data.prompts import Prompt
from iconicity.indexer.errors import InputError
from iconicity.indexer.shards import Shard

SETTINGS = Settings(
    pipeline="P", scheduler="S", weights_sha256="w", config_sha256="c", precision="fp32", steps=20, guidance=7.5, size=None
)  # fmt: skip
PROMPTS = [Prompt("b", "original", "the b"), Prompt("a", "synonym", "an A", "night"), Prompt("a", "original", "the a")]


def test_seeds_stand_together_and_the_order_of_prompts_changes_nothing() -> None:
    options = GenerateOptions(seeds=2, negative=" blurry ")
    found = plan(PROMPTS, SETTINGS, options)
    assert [(p.concept, p.variant, p.seed, p.negative) for p in found] == [
        ("a", "original", 0, "blurry"), ("a", "original", 1, "blurry"), ("a", "synonym", 0, "night"),
        ("a", "synonym", 1, "night"), ("b", "original", 0, "blurry"), ("b", "original", 1, "blurry"),
    ]  # fmt: skip
    assert plan(PROMPTS[::-1], SETTINGS, options) == found
    assert len({p.key for p in found}) == len({p.file_name for p in found}) == 6
    parts = [plan(PROMPTS, SETTINGS, options, Shard(n, 3)) for n in (1, 2, 3)]
    assert sorted(p.key for part in parts for p in part) == sorted(p.key for p in found)


def test_the_identity_is_of_what_the_pixels_depend_on() -> None:
    options = GenerateOptions(seeds=1)

    def first(prompt: Prompt, settings: Settings = SETTINGS) -> tuple[str, str]:
        (image,) = plan([prompt], settings, options)
        return image.identity, image.key

    one = Prompt("a", "original", "the a")
    same = [replace(one, concept="b"), replace(one, variant="none")]
    assert {first(p)[0] for p in same} == {first(one)[0]} and len({first(p)[1] for p in (one, *same)}) == 3
    others = [first(replace(one, prompt="the A")), first(replace(one, negative="x"))]
    for name, value in SETTINGS.model_dump().items():
        changed = value + 1 if isinstance(value, int | float) else "8x8"
        others.append(first(one, SETTINGS.model_copy(update={name: changed})))
    assert len({identity for identity, _ in [first(one), *others]}) == len(others) + 1


def test_names_of_files_hold_plain_letters() -> None:
    variants = ["../../x", "a b", "a-b", "=cmd|' /C calc'!A0", "große", "\u202e", "x" * 300, ".hidden", "NUL"]
    found = plan([Prompt("c", v, "../../etc") for v in variants], SETTINGS, GenerateOptions(seeds=1))
    assert len({p.file_name.lower() for p in found}) == len(variants)
    for image in found:
        folder, name = image.file_name.split("/")
        assert folder == "c" and name.isascii() and len(name) < 80 and Path(name).suffix == ".png"
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") and not name.startswith((".", "-"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("x/../y", "v", "p"), "its concept is not as a table of prompts holds it; write 'x_.._y'"),
        (Prompt("../x", "v", "p"), "names no folder"),
        (Prompt("..", "v", "p"), "names no folder"),
        (Prompt("A", "v", "p"), "its concept is not as a table of prompts holds it; write 'a'"),
        (Prompt("metadata.csv", "v", "p"), "its concept has the name of a list of images; write another one"),
        (Prompt("a", "", "p"), "its variant is empty; write one"),
        (Prompt("a", "v", ""), "its prompt is empty; write one"),
        (Prompt("a", "v", "\0"), "its prompt holds a NUL"),
        (Prompt("a", "v", "\ud800"), "its prompt is not as a table"),
    ],
)
def test_prompts_that_are_not_sound_are_refused(prompt: Prompt, message: str) -> None:
    with pytest.raises(InputError) as e:
        plan([prompt], SETTINGS, GenerateOptions())
    assert message in str(e.value) and "\n" not in str(e.value)


def test_no_prompt_and_a_prompt_twice_are_refused() -> None:
    with pytest.raises(InputError, match="none was given"):
        plan([], SETTINGS, GenerateOptions())
    with pytest.raises(InputError, match=r"prompt 2 \('a'\): was given twice"):
        plan([PROMPTS[2], replace(PROMPTS[2], negative="x")], SETTINGS, GenerateOptions())


def test_options_that_do_not_exist_are_refused() -> None:
    assert parse_size(None) is None and parse_size("8X16") == (8, 16)
    for text in ("8", "0x8", "8x8x8", "x", "8x-8", "999999x8"):
        with pytest.raises(InputError, match="write width and height"):
            parse_size(text)
    with pytest.raises(InputError, match="`seeds` 0"):
        GenerateOptions(seeds=0)
    with pytest.raises(InputError, match="`precision` int8"):
        GenerateOptions(precision="int8")
