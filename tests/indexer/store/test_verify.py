"""Every flipped byte is found, or harmless."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from run import run
from toys import make_refs, toy_encoders

from iconicity.indexer.build import build_index
from iconicity.indexer.errors import CorruptIndexError, IconicityError, IndexFormatError
from iconicity.indexer.info import index_facts, info_text
from iconicity.indexer.store.files import LOCKS
from iconicity.indexer.store.index import open_index
from iconicity.indexer.store.manifest import MANIFEST, digest, index_id
from iconicity.indexer.store.rows import ReferenceStore, Row, row_checksum
from iconicity.indexer.store.table import HINT
from iconicity.indexer.store.verify import verify_index


@pytest.fixture
def index(refs: Path, tmp_path: Path) -> Path:
    build_index(refs, tmp_path / "i", toy_encoders())
    return tmp_path / "i"


def test_flipped_bytes_in_every_file_are_found(index: Path) -> None:
    rng = random.Random(3)
    files = sorted(p for p in index.rglob("*") if p.is_file() and p.name not in {*LOCKS, HINT})
    assert len(files) >= 4
    for path in files:
        good = path.read_bytes()
        for _ in range(8):
            at = rng.randrange(len(good))
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :])
            assert any(str(path) in p for p in verify_index(index)), (path, at)
        path.write_bytes(good)
    assert verify_index(index) == []


def test_references_that_were_moved_are_read_where_they_lie_now(tmp_path: Path) -> None:
    refs = make_refs(tmp_path / "refs", ["alpha", "beta"], each=2)
    (refs / "alpha").rename(refs / "Alpha ")  # the folder's own spelling
    build_index(refs, tmp_path / "i", toy_encoders())
    refs.rename(tmp_path / "moved")
    assert len(verify_index(tmp_path / "i", deep=True)) == 6
    assert verify_index(tmp_path / "i", deep=True, refs=tmp_path / "moved") == []
    deep = ["index", "verify", "--index", tmp_path / "i", "--deep"]
    assert "6 problems; " in (said := run(*deep, code=1).stderr) and "name their folder with --refs" in said
    file = tmp_path / "moved" / "beta" / "00.png"
    file.write_bytes(b"others")
    said = run(*deep, "--refs", tmp_path / "moved", code=1).stderr
    assert f"{file}: bytes differ from what was indexed as beta/00.png" in said and "1 problem" in said
    assert "1 problems" not in said and "--refs" not in said
    assert "add --deep" in run(*deep[:-1], "--refs", tmp_path / "moved", code=2).stderr


def test_missing_and_foreign_files_are_found(index: Path) -> None:
    (index / "references.lance" / "data" / "extra.lance").write_bytes(b"x")
    assert any("not listed" in p for p in verify_index(index))


def test_a_changed_row_is_found_also_when_written_through_the_table(index: Path) -> None:
    store = ReferenceStore.open(index)
    assert store is not None
    row = store.rows(["alpha/00.png"])[0]
    assert row.clip is not None
    store.upsert([Row(row.reference, row.clip[::-1].copy(), row.patches)])
    assert verify_index(index)
    assert open_index(index).store.rows(["alpha/00.png"])[0].clip is not None  # readers keep to their version


def test_rows_with_wrong_checksums_are_never_returned(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.indexer.store.rows.row_checksum", lambda *a: "0" * 64)
    with pytest.raises(CorruptIndexError, match=r"alpha/00\.png does not match its checksum"):
        open_index(index).block(["alpha"])


def test_the_checksum_covers_every_column(index: Path) -> None:
    from dataclasses import fields, replace

    store = ReferenceStore.open(index)
    assert store is not None
    row = store.rows(["alpha/03_dup.png"])[0]
    seen = {row_checksum(row.reference, None, None)}
    for f in fields(row.reference):
        value = getattr(row.reference, f.name)
        other: Any = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}x"
        seen.add(row_checksum(replace(row.reference, **{f.name: other}), None, None))
    assert len(seen) == 1 + len(fields(row.reference))


def test_index_id_is_content(index: Path) -> None:
    opened = open_index(index)
    identities = opened.store.identities()
    prints = [s.fingerprint for s in opened.specs]
    assert index_id(identities[::-1], prints) == opened.index_id
    assert index_id(identities[1:], prints) != opened.index_id
    assert index_id(identities, prints[::-1]) != opened.index_id


def test_manifest_is_its_own_witness(index: Path) -> None:
    path = index / MANIFEST
    manifest = json.loads(path.read_text())
    assert manifest["digest"] == digest(manifest)
    for change, message in (
        ({"format": 99, "created": "later"}, "format 99"),
        ({"format": 99}, "digest"),  # one damaged number
        ({"created": "never"}, "digest"),
    ):
        path.write_text(json.dumps({**manifest, **change}))
        with pytest.raises(IconicityError, match=message):
            open_index(index)
    path.write_text("{")
    with pytest.raises(CorruptIndexError, match="cannot be read"):
        open_index(index)
    path.unlink()
    with pytest.raises(IndexFormatError, match="index build"):
        open_index(index)
    with pytest.raises(IndexFormatError, match="no such index"):
        open_index(index / "nowhere")


def test_info_says_what_it_holds(index: Path) -> None:
    facts = index_facts(index)
    assert facts["counts"] == {"concepts": 3, "references": 12, "kept": 9, "dropped": 3}
    assert facts["concepts"]["beta"]["dropped"][0]["dup_of"] == "beta/00.png"
    assert "beta/03_dup.png: distance" in info_text(facts)
