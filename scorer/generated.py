"""Vectors of generated images: from the cache by content, else decoded and embedded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iconicity.indexer.embed import DEFAULT_BATCH, Embedder
from iconicity.indexer.encoders import Encoders, FloatArray
from iconicity.indexer.errors import ImageError
from iconicity.indexer.images import decode, read_bytes, sha256_hex
from iconicity.indexer.index import Index
from iconicity.scorer.cache import VectorCache, stat_text

_CHUNK = 64  # images looked up, and committed to the cache, at once
_EMBED_IMAGES = 8


@dataclass(frozen=True)
class GeneratedImage:
    """One generated image: ``path`` as given, ``relpath`` = <concept>/<file>."""

    model: str
    concept: str
    path: Path
    relpath: str


@dataclass(frozen=True)
class Embedded:
    """A generated image's vectors, or the reason why it has none."""

    image: GeneratedImage
    sha256: str | None
    clip: FloatArray | None = None
    patches: FloatArray | None = None
    reason: str | None = None


class GeneratedEmbedder:
    """Looks vectors up and computes the missing ones; weights are loaded when the first one is missing."""

    def __init__(
        self,
        index: Index,
        load: Callable[[], Encoders],
        cache: VectorCache | None,
        *,
        rehash: bool = False,
        batch_size: int = DEFAULT_BATCH,
    ) -> None:
        self._load = load
        self._cache = cache
        self._rehash = rehash
        self._batch_size = batch_size
        self._grid = index.grid
        self._exif = bool(index.settings["exif"])
        clip, dino = index.specs
        self._dino_dim = dino.dim
        rows, cols = index.grid
        exif = f"exif={self._exif}"
        self._clip_key = f"clip|{clip.fingerprint}|{exif}"
        self._patch_key = f"patches|{dino.fingerprint}|{rows}x{cols}|{index.settings['patch_mode']}|{exif}"
        self._embedder: Embedder | None = None

    @property
    def embedded(self) -> int:
        """Images that went through a forward pass."""
        return self._embedder.images if self._embedder else 0

    def identify(self, image: GeneratedImage) -> Embedded:
        """The image's SHA-256, without reading a file that has not changed; else the reason."""
        sha = None if self._cache is None or self._rehash else self._cache.known_sha256(image.path)
        if sha is not None:
            return Embedded(image, sha)
        stat = stat_text(image.path)
        try:
            sha = sha256_hex(read_bytes(image.path))
        except ImageError as e:
            return Embedded(image, None, reason=e.reason)
        if self._cache is not None and stat:
            self._cache.remember_files([(image.path, stat, sha)])
        return Embedded(image, sha)

    def vectors(self, found: Sequence[Embedded], clip: bool, patches: bool) -> Iterator[Embedded]:
        """Vectors of identified images, in order."""
        for i in range(0, len(found), _CHUNK):
            yield from self._chunk(found[i : i + _CHUNK], clip, patches)

    def _chunk(self, found: Sequence[Embedded], clip: bool, patches: bool) -> Iterator[Embedded]:
        shas = sorted({e.sha256 for e in found if e.sha256})
        clips = self._cache.get(shas, self._clip_key) if self._cache and clip else {}
        blocks = self._cache.get(shas, self._patch_key) if self._cache and patches else {}
        missing: dict[str, GeneratedImage] = {}
        for e in found:
            if e.sha256 and ((clip and e.sha256 not in clips) or (patches and e.sha256 not in blocks)):
                missing.setdefault(e.sha256, e.image)
        reasons: dict[str, str] = {}
        self._compute(missing, clips if clip else None, blocks if patches else None, reasons)
        for e in found:
            if e.sha256 is None or e.sha256 in reasons:
                yield Embedded(e.image, e.sha256, reason=e.reason or reasons[e.sha256 or ""])
                continue
            block = blocks[e.sha256].reshape(-1, self._dino_dim) if patches else None
            yield Embedded(e.image, e.sha256, clips[e.sha256] if clip else None, block)

    def _compute(
        self,
        missing: dict[str, GeneratedImage],
        clips: dict[str, FloatArray] | None,
        blocks: dict[str, FloatArray] | None,
        reasons: dict[str, str],
    ) -> None:
        """Fill ``clips`` and ``blocks`` (None: not wanted) and the cache; only what is missing is computed."""
        items = list(missing.items())
        for i in range(0, len(items), _EMBED_IMAGES):
            batch = []
            for sha, image in items[i : i + _EMBED_IMAGES]:
                try:
                    data = read_bytes(image.path)
                    if sha256_hex(data) != sha:
                        raise ImageError(image.path, "changed while it was read")
                    picture = decode(data, image.path, self._exif)
                except ImageError as e:
                    reasons[sha] = e.reason
                    continue
                want_clip = clips is not None and sha not in clips
                want_patches = blocks is not None and sha not in blocks
                batch.append((sha, self._get().prepare(picture, want_clip, want_patches)))
            if not batch:
                continue
            rows = []
            for (sha, _), v in zip(batch, self._get().embed([p for _, p in batch]), strict=True):
                if clips is not None and v.clip is not None:
                    clips[sha] = v.clip
                    rows.append((sha, self._clip_key, v.clip))
                if blocks is not None and v.patches is not None:
                    blocks[sha] = v.patches
                    rows.append((sha, self._patch_key, v.patches))
            if self._cache is not None:
                self._cache.put(rows)

    def _get(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(self._load(), *self._grid, self._batch_size)
        return self._embedder
