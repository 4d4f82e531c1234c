"""Greedy dedup in file-name order, against a plain loop."""

from __future__ import annotations

import imagehash
from hypothesis import given
from hypothesis import strategies as st
from toys import draw

from iconicity.indexer.encode.dedup import Deduplicator, hamming, phash

hashes = st.lists(st.integers(0, 2**64 - 1).map(lambda v: f"{v:016x}"), max_size=12)


def test_phash_is_imagehash() -> None:
    a, b = draw(1), draw(2)
    assert phash(a) == str(imagehash.phash(a))
    assert hamming(phash(a), phash(b)) == imagehash.phash(a) - imagehash.phash(b)


@given(hashes, st.integers(0, 64))
def test_greedy_against_a_plain_loop(values: list[str], distance: int) -> None:
    dedup = Deduplicator(distance)
    kept: list[int] = []
    for i, value in enumerate(values):
        close = [k for k in kept if bin(int(values[k], 16) ^ int(value, 16)).count("1") <= distance]
        dup_of, d = dedup.offer(str(i), value)
        if close:
            assert dup_of == str(close[0])
            assert d == hamming(value, values[close[0]])
        else:
            assert dup_of is None and d is None
            kept.append(i)
    assert [k for k, _ in dedup.kept] == [str(k) for k in kept]


@given(hashes)
def test_the_first_is_always_kept_and_none_keeps_all(values: list[str]) -> None:
    everything = Deduplicator(None)
    assert all(everything.offer(str(i), v) == (None, None) for i, v in enumerate(values))
    if values:
        assert Deduplicator(64).offer("first", values[0]) == (None, None)
