"""Small copies of images, named by the original's SHA-256 and how its pixels are read: made once, in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from iconicity.indexer.encode.decoder import Decoder, shared
from iconicity.indexer.encode.limits import MAX_PIXELS
from iconicity.indexer.errors import ImageError
from iconicity.indexer.progress import Progress, no_progress
from iconicity.indexer.sources.folders import read_bytes, sha256_hex
from iconicity.indexer.store.files import replacing
from iconicity.indexer.store.schema import is_sha256

SIZE = 320  # longest side in pixels
_PARALLEL = 256  # images from which on processes are worth starting


@dataclass(frozen=True)
class Picture:
    """An image file and the bytes it is known by."""

    path: str
    sha256: str


def thumbnail_key(sha256: str, pixels: str) -> str:
    """What decides a thumbnail's pixels: the bytes of the image, and how they are read (``pixels``)."""
    return f"{sha256}-{pixels}"


def thumbnail_name(key: str) -> str:
    """Path of the thumbnail of a :func:`thumbnail_key` below the site's folder."""
    return f"thumbs/{key[:2]}/{key}.jpg"


def make_thumbnails(
    pictures: Iterable[Picture],
    site: Path,
    pixels: str,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = no_progress,
) -> dict[str, str]:
    """Make those that are missing. Returns SHA-256 -> why there is none (file gone, changed since, not decodable)."""
    wanted = {p.sha256: p for p in pictures}
    failed = {sha: "its SHA-256 is none" for sha in wanted if not is_sha256(sha)}  # it would become a path
    wanted = {sha: p for sha, p in wanted.items() if sha not in failed}
    places = {sha: site / thumbnail_name(thumbnail_key(sha, pixels)) for sha in wanted}
    missing = [p for sha, p in wanted.items() if not places[sha].is_file()]
    for folder in {places[p.sha256].parent for p in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    for i, (sha, reason) in enumerate(
        _run(missing, partial(_make, site=site, pixels=pixels, max_pixels=max_pixels), workers), 1
    ):
        progress("thumbnails", i, len(missing))
        if reason is not None:
            failed[sha] = reason
    return failed


def _run(
    pictures: list[Picture], make: Callable[..., tuple[str, str | None]], workers: int
) -> Iterator[tuple[str, str | None]]:
    if workers == 0 or len(pictures) < _PARALLEL:
        for picture in pictures:
            yield make(picture, shared())
        return
    mine, decoders = threading.local(), [Decoder() for _ in range(workers)]
    idle = iter(decoders)

    def start() -> None:
        mine.decoder = next(idle)

    try:
        with ThreadPoolExecutor(workers, "thumbnails", start) as threads:  # Pillow works without Python's lock
            yield from threads.map(lambda picture: make(picture, mine.decoder), pictures)
    finally:
        for decoder in decoders:
            decoder.close()


def _make(picture: Picture, decoder: Decoder, site: Path, pixels: str, max_pixels: int) -> tuple[str, str | None]:
    try:
        data = read_bytes(picture.path)
        if sha256_hex(data) != picture.sha256:
            return picture.sha256, "the file has changed since it was scored"
        image = decoder.decode(data, picture.path, pixels, max_pixels).image
    except ImageError as e:
        return picture.sha256, e.reason
    with replacing(site / thumbnail_name(thumbnail_key(picture.sha256, pixels))) as tmp:
        small(image).save(tmp, "JPEG", quality=82)
    return picture.sha256, None


def small(image: Image.Image) -> Image.Image:
    """The same image, made as small as a thumbnail where it is larger."""
    image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    return image
