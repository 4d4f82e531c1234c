"""Options of the library, as three kinds: what numbers depend on, which images a run is about, and how it is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iconicity.indexer.encode.limits import MAX_PIXELS, PIXELS
from iconicity.indexer.errors import InputError
from iconicity.indexer.flags import Flag, flags
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

    grid: tuple[int, int] = flags(
        (4, 4),
        Flag("--grid-rows", "Rows of the grid of cells.", least=1, default=4),
        Flag("--grid-cols", "Columns of the grid of cells.", least=1, default=4),
        join=lambda rows, columns: (rows, columns),
    )
    reference_cells: str = flags(
        "grid",
        Flag(
            "--reference-cells",
            "Cells of a reference: those of the grid, or also the cells at half steps between them (49 for 16). "
            "Overlapping cells find parts that were moved.",
            choices=REFERENCE_CELLS,
        ),
    )
    dedup_distance: int | None = flags(
        18,
        Flag(
            "--dedup-distance",
            "Largest pHash distance at which a reference is a near-duplicate of another one of its concept.",
            least=0,
            most=64,
        ),
        Flag("--no-dedup", "Keep near-duplicates of references.", kind="switch", default=False),
        join=lambda distance, keep_all: None if keep_all else distance,
    )
    pixels: str = flags(
        "shown",
        Flag(
            "--pixels",
            "How pixels are read: as viewers show them (rotated, 16 bit scaled, over white, in sRGB), or as the published "
            "scripts read them.",
            choices=PIXELS,
        ),
    )
    vectors: str = flags(
        "float32",
        Flag(
            "--vectors",
            "Numbers in which vectors are stored. float16 halves the index and moves a cosine by up to 5e-5.",
            choices=VECTORS,
        ),
    )

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

    concepts: Iterable[str] | None = flags(
        None,
        Flag("--prompt-csv", "CSV file of concepts. Images of other concepts are left out.", kind="path"),
        Flag(
            "--slug-col",
            "Column of --prompt-csv that holds the concept name.",
            default="label_clean",
            shown="label_clean, or concept",
        ),
    )
    shard: Shard | None = flags(
        None,
        Flag(
            "--shard",
            "Part I of N of the concepts, counted from 1, for one task of an array of N. Merge what the tasks write.",
            kind="shard",
        ),
    )
    follow_links: bool = flags(
        False,
        Flag("--follow-links", "Also read files to which links lead outside of the folders named.", kind="switch"),
    )
    image_key: str | None = flags(
        None,
        Flag(
            "--image-key",
            "Image of a WebDataset sample that is scored, as png or mask.png.",
            shown="jpg, jpeg, png or webp",
            metavar="KEY",
        ),
    )


@dataclass(frozen=True)
class Run:
    """How the work is done. No number depends on it.

    ``load`` loads the encoders that an index names; None: from where they were found, on ``device``. ``engine``: where
    images are embedded; None: in this process. ``batch_size`` counts network inputs; None: chosen by device. ``workers`` are
    processes that decode and preprocess; None: as many as the images and the machine call for. Images of more than
    ``max_pixels`` are skipped before they are decoded. ``cache`` keeps the vectors of generated images; with ``rehash``
    every file is read again, also where its size and times are as they were. ``search_shards``: how many
    actors of a Ray ``engine`` search all concepts together.
    """

    load: LoadEncoders | None = None
    device: str = flags("auto", Flag("--device", "Device of the encoders: auto, cpu, cuda or mps."))
    engine: Engine | None = None
    batch_size: int | None = flags(
        None,
        Flag(
            "--batch-size",
            "Network inputs of one forward pass. auto: 8 on a processor; on a GPU the fastest number is measured.",
            least=1,
            kind="count",
            default="auto",
        ),
    )
    workers: int | None = flags(
        0,
        Flag(
            "--workers",
            "Processes that decode and preprocess images. With 0 one small process decodes.",
            least=0,
            kind="count",
            default="auto",
        ),
    )
    max_pixels: int = flags(
        MAX_PIXELS,
        Flag(
            "--max-pixels",
            "Most pixels of an image. Larger images are skipped, since a small file can claim any size.",
            least=1,
        ),
    )
    cache: VectorCache | None = flags(
        None,
        Flag(
            "--cache",
            "Folder where vectors of generated images are kept.",
            kind="path",
            shown="$ICONICITY_CACHE, or the user's cache folder",
        ),
        Flag("--no-cache", "Do not keep vectors of generated images.", kind="switch", default=False),
    )
    rehash: bool = flags(
        False,
        Flag("--rehash", "Read every file again, also one whose size and times have not changed.", kind="switch"),
    )
    search_shards: int = flags(
        1, Flag("--search-shards", "Ray actors among which --scope all divides the references, by concept.", least=1)
    )
    progress: Progress = no_progress

    def processes(self, images: int) -> int:
        """Processes that decode and preprocess a number of images."""
        if self.workers is not None:
            return self.workers
        from iconicity.indexer.encode.prepare import default_workers

        return default_workers(images)


def require_one_of(what: str, value: str, values: Iterable[str]) -> None:
    """Check all values. Raises :class:`InputError` for a value that does not exist."""
    if value not in values:
        raise InputError(f"{what} {value}: choose one of {', '.join(values)}")
