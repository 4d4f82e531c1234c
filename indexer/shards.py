"""Shards: every concept lies whole in one of n, by a hash of its name, so that dedup and own matches never cross."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from iconicity.indexer.errors import InputError

_TEXT = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """The concepts whose hash falls to one of ``of`` shards; ``number`` counts from 1. ``concept in shard`` asks.

    Every machine and version agrees: the first 8 bytes of the SHA-256 of the name, as a big-endian number, modulo ``of``.

    >>> [n for n in (1, 2, 3) if "the_scream" in Shard(n, 3)]
    [2]
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"shard {self}: count from 1/{max(1, self.of)} to {max(1, self.of)}/{max(1, self.of)}")

    def __contains__(self, concept: object) -> bool:
        digest = hashlib.sha256(str(concept).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @staticmethod
    def parse(text: str) -> Shard:
        """A shard from ``i/n``, i counted from 1. Raises :class:`InputError`."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise InputError(f"shard {text!r}: write it as i/n, from 1/n to n/n")
        return Shard(int(found[1]), int(found[2]))
