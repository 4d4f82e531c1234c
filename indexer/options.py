"""Options of the library, as three kinds: what numbers depend on, which images a run is about, and how it is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iconicity.indexer.encode.limits import MAX_PIXELS, PIXELS
from iconicity.indexer.errors import InputError
from iconicity.indexer.progress import Progress, no_progress

if TYPE_CHECKING:
    from iconicity.indexer.encode.engine import Engine, LoadEncoders
    from iconicity.indexer.shards import Shard
    from iconicity.indexer.store.cache import VectorCache

REFERENCE_CELLS = ("grid", "overlapping")
VECTORS = ("float32", "float16")


@dataclass(frozen=True)
class IndexOptions:
    """What the numbers of an index depend on, beside its encoders and images. The index records them.

    ``reference_cells`` overlapping adds the cells at half steps between those of the ``grid`` (rows, columns), so that
    a box that was moved has a cell near it. References at a pHash distance of ``dedup_distance`` or less are
    near-duplicates; None keeps all. ``pixels``: see :func:`iconicity.indexer.encode.decode.decode`. ``vectors`` float16
    halves the index and moves a cosine by up to 5e-5. Raises :class:`InputError` for a value that does not exist.
    """

    grid: tuple[int, int] = (4, 4)
    reference_cells: str = "grid"
    dedup_distance: int | None = 18
    pixels: str = "shown"
    vectors: str = "float32"

    def __post_init__(self) -> None:
        require_one_of("vectors", self.vectors, VECTORS)
        require_one_of("pixels", self.pixels, PIXELS)
        require_one_of("reference cells", self.reference_cells, REFERENCE_CELLS)


@dataclass(frozen=True)
class Select:
    """Which images a run is about. No number of another image moves.

    Only the ``concepts`` named and those of one ``shard``; None: all. Links that lead out of the folders named are
    skipped unless ``follow_links``. ``image_key`` names the image of a WebDataset sample that is scored, as ``png``.
    """

    concepts: Iterable[str] | None = None
    shard: Shard | None = None
    follow_links: bool = False
    image_key: str | None = None


@dataclass(frozen=True)
class Run:
    """How the work is done. No number depends on it.

    ``load`` loads the encoders that an index names; None: from where they were found, on ``device``. ``engine``: where
    images are embedded; None: in this process. ``batch_size`` counts network inputs; None: measured. ``workers`` are
    processes that decode and preprocess; None: as many as the images and the machine call for. Images of more than
    ``max_pixels`` are skipped before they are decoded. ``cache`` keeps the vectors of generated images; with ``rehash``
    every file is read again, also where its size and times are as they were. ``search_shards``: how many
    actors of a Ray ``engine`` search all concepts together.
    """

    load: LoadEncoders | None = None
    device: str = "auto"
    engine: Engine | None = None
    batch_size: int | None = None
    workers: int | None = 0
    max_pixels: int = MAX_PIXELS
    cache: VectorCache | None = None
    rehash: bool = False
    search_shards: int = 1
    progress: Progress = no_progress

    def processes(self, images: int) -> int:
        """Processes that decode and preprocess a number of images."""
        from iconicity.indexer.encode.prepare import default_workers

        return default_workers(images) if self.workers is None else self.workers


def require_one_of(what: str, value: str, values: Iterable[str]) -> None:
    """Raises :class:`InputError` for a value that does not exist."""
    if value not in values:
        raise InputError(f"{what} {value}: choose one of {', '.join(values)}")
