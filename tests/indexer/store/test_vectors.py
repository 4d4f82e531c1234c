"""All vectors as arrays: the rows of the index, sorted by concept, made anew when they are not its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import draw, make_refs, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.options import IndexOptions
from iconicity.indexer.shards import Shard
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.vectors import open_vectors
from iconicity.indexer.store.verify import verify_index


@pytest.mark.parametrize("vectors", ["float32", "float16"])
@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_are_the_index_sorted_by_concept(refs: Path, tmp_path: Path, vectors: str, mapped: bool) -> None:
    make_refs(refs, ["a", "a-b", "alpha"])  # names whose order differs from that of their rows' keys
    build_index(refs, tmp_path / "i", toy_encoders(), IndexOptions(vectors=vectors))
    index = open_index(tmp_path / "i")
    held = open_vectors(index, tmp_path / "cache" if mapped else None)
    assert held.clip.dtype == vectors and held.ref_ids.to_pylist() == sorted(held.ref_ids.to_pylist())
    assert sorted(held.concepts) == sorted(index.concepts())
    for concept in (*held.concepts, "none", "zzz"):
        lo, hi = held.rows_of(concept)
        block = index.block([concept])
        assert held.ref_ids.to_pylist()[lo:hi] == [r.ref_id for r in block.references]
        assert np.array_equal(np.asarray(held.patches[lo:hi], np.float32), block.patches)
        assert np.array_equal(np.asarray(held.clip[lo:hi], np.float32), block.clip)
        assert all(held.concept_of(row) == concept for row in range(lo, hi))
    assert verify_index(tmp_path / "i") == []


def test_derived_files_that_are_not_whole_are_made_anew(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    index = open_index(tmp_path / "i")
    first = open_vectors(index, tmp_path / "cache")
    expected, folder = np.array(first.patches), first.folder
    assert folder is not None
    del first
    for name in ("patches.npy", "done.json", "references.parquet"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-7])
        assert np.array_equal(open_vectors(index, tmp_path / "cache").patches, expected)
    (folder / "clip.npy").write_bytes(b"")
    assert np.array_equal(open_vectors(index, tmp_path / "cache").patches, expected)
    data = bytearray((folder / "patches.npy").read_bytes())
    data[-5] ^= 1
    (folder / "patches.npy").write_bytes(data)
    assert np.array_equal(open_vectors(index, tmp_path / "cache").patches, expected)
    (folder / "stray").write_bytes(b"")
    open_vectors(index, tmp_path / "cache")
    assert (folder / "stray").exists()  # whole files are not made again
    write(refs / "beta" / "new.png", draw(77))
    build_index(refs, tmp_path / "i", toy_encoders())
    assert len(open_vectors(open_index(tmp_path / "i"), tmp_path / "cache").ref_ids) == 10


def test_float16_halves_the_vectors_and_moves_a_cosine_little(refs: Path, tmp_path: Path) -> None:
    blocks = []
    for kind in ("float32", "float16"):
        build_index(refs, tmp_path / kind, toy_encoders(), IndexOptions(vectors=kind))
        blocks.append(open_index(tmp_path / kind).block(["alpha", "beta"]))
    assert float(np.abs(blocks[0].clip @ blocks[0].clip.T - blocks[1].clip @ blocks[1].clip.T).max()) < 1e-3
    assert not np.array_equal(blocks[0].clip, blocks[1].clip)


def test_two_processes_wait_for_each_other(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    script = (
        "import sys; from pathlib import Path; from iconicity.indexer.store.index import open_index;"
        "from iconicity.indexer.store import vectors; import time; chunks = vectors._chunks\n"
        "def slow(index, concepts):\n"
        "    for rows in chunks(index, concepts, 1):\n"
        "        time.sleep(0.1); yield rows\n"
        "vectors._chunks = slow\n"
        "print(float(vectors.open_vectors(open_index(Path(sys.argv[1])), Path(sys.argv[2])).clip.sum()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "i"), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [p.communicate(timeout=120)[0] for p in both]
    expected = float(open_vectors(open_index(tmp_path / "i"), None).clip.sum())
    assert [float(s) for s in sums] == [pytest.approx(expected, abs=1e-4)] * 2


@pytest.mark.parametrize("mapped", [True, False])
def test_shards_are_the_whole_in_parts(refs: Path, tmp_path: Path, mapped: bool) -> None:
    make_refs(refs, ["a", "a-b", "x'y"])
    build_index(refs, tmp_path / "i", toy_encoders())
    index = open_index(tmp_path / "i")
    cache = tmp_path / "cache" if mapped else None
    whole = open_vectors(index, cache)
    seen: list[str] = []
    for n in (1, 2, 7):
        parts = [open_vectors(index, cache, shard=Shard(i, n)) for i in range(1, n + 1)]
        ids = [r for part in parts for r in part.ref_ids.to_pylist()]
        assert sorted(ids) == whole.ref_ids.to_pylist()
        for i, part in enumerate(parts, 1):
            assert all(c in Shard(i, n) for c in part.concepts)
            for concept in part.concepts:
                (lo, hi), (start, stop) = part.rows_of(concept), whole.rows_of(concept)
                assert np.array_equal(part.clip[lo:hi], whole.clip[start:stop])
                assert np.array_equal(part.patches[lo:hi], whole.patches[start:stop])
                assert part.ref_ids.to_pylist()[lo:hi] == whole.ref_ids.to_pylist()[start:stop]
        assert min(len(p.ref_ids) for p in parts) == 0 or n < 7
        seen += [str(p.folder) for p in parts if p.folder is not None]
    assert len(seen) == len(set(seen)) and bool(seen) == mapped
    if mapped:
        folder = open_vectors(index, cache, shard=Shard(1, 1)).folder
        assert folder is not None
        (folder / "clip.npy").write_bytes(b"")
        assert np.array_equal(open_vectors(index, cache, shard=Shard(1, 1)).clip, whole.clip)
