"""What ``bench search`` measures: vectors of a kind, then search over all and matching within concepts."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.large import opening
from bench.report import Figure
from bench.scale import write_index
from bench.search import bench_own, bench_search, real_vectors, synthetic_vectors
from iconicity.indexer.encode.encoder import Encoders

_REFERENCES = 20  # of a concept


def run_search(
    load: Callable[[], Encoders], images: Path | None, patches: Sequence[int], synthetic: bool, repeat: int
) -> list[Figure]:
    """Search over each number of patches; then, of the largest number, an index with 20 references a concept."""
    figures: list[Figure] = []
    largest = max(patches)
    with tempfile.TemporaryDirectory() as folder:
        if synthetic:
            vectors, queries = synthetic_vectors(Path(folder) / "vectors.npy", largest)
        else:
            vectors, queries = real_vectors(load(), images, largest)
        for n in sorted(patches):
            figures += bench_search(vectors[:n], queries, repeat, settle=not synthetic)
        concepts = largest // (16 * _REFERENCES)
        if concepts:
            index = Path(folder) / "index"
            write_index(index, vectors, concepts, _REFERENCES)
            figures.append(bench_own(index, 50 if concepts < 2000 else 1, repeat))
            figures += opening(index, repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    return [*figures, Figure("peak memory of this process, memory maps included", [peak], "MB")]
