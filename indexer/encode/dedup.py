"""Near-duplicate references: greedy perceptual-hash dedup in file-name order, as published."""

from __future__ import annotations

from dataclasses import dataclass, field

import imagehash
from PIL import Image

HASH_BITS = 64


def phash(image: Image.Image) -> str:
    """64-bit perceptual hash of an image (``imagehash.phash``) as 16 hex digits."""
    return str(imagehash.phash(image))


def hamming(a: str, b: str) -> int:
    """Number of differing bits (0..64) of two 16-digit hashes.

    >>> hamming("00000000000000ff", "0000000000000000")
    8
    """
    return (int(a, 16) ^ int(b, 16)).bit_count()


@dataclass
class Deduplicator:
    """Greedy dedup of one concept: feed hashes in file-name order.

    ``distance`` is the inclusive Hamming distance at or below which an image is a duplicate of a kept one;
    ``None`` keeps everything.
    """

    distance: int | None
    kept: list[tuple[str, str]] = field(default_factory=list)

    def offer(self, ref_id: str, image_hash: str) -> tuple[str | None, int | None]:
        """(ref_id, distance) of the first kept reference this one duplicates, or (None, None) when kept."""
        if self.distance is not None:
            for kept_id, kept_hash in self.kept:
                d = hamming(image_hash, kept_hash)
                if d <= self.distance:
                    return kept_id, d
        self.kept.append((ref_id, image_hash))
        return None, None
