"""Search over all concepts, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import draw, running, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.encoder import encode
from iconicity.indexer.errors import ImageError
from iconicity.indexer.grid import cells
from iconicity.indexer.store.index import open_index
from iconicity.scorer.search import search_image
from iconicity.scorer.text import search_text


def test_hits_are_the_nearest_of_all_concepts(refs: Path, tmp_path: Path) -> None:
    encoders = toy_encoders()
    build_index(refs, tmp_path / "i", encoders)
    image = write(tmp_path / "q.png", draw(100))  # beta/00.png
    hits = search_image(image, tmp_path / "i", k=4, run=running(encoders))
    block = open_index(tmp_path / "i").block(["alpha", "beta", "gamma"])
    similarity = block.clip @ encode(encoders.clip, [draw(100)])[0]
    order = np.argsort(-similarity)[:4]
    assert [h["ref_id"] for h in hits["image"]] == [block.references[i].ref_id for i in order]
    assert hits["image"][0]["ref_id"] == "beta/00.png" and hits["image"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    q = encode(encoders.dino, cells(draw(100), 4, 4))
    flat = block.patches.reshape(-1, block.patches.shape[2])
    for i, found in enumerate(hits["patches"]):
        assert found[0]["similarity"] == pytest.approx(float((flat @ q[i]).max()), abs=1e-6)
        assert (found[0]["ref_id"], found[0]["cell"]) == ("beta/00.png", i)
    assert "beta/00.png" in search_text(hits)


def test_more_than_there_are_and_no_image(refs: Path, tmp_path: Path) -> None:
    build_index(refs, tmp_path / "i", toy_encoders())
    image = write(tmp_path / "q.png", draw(1))
    assert len(search_image(image, tmp_path / "i", k=500, run=running())["image"]) == 9
    with pytest.raises(ImageError, match="cannot be read"):
        search_image(tmp_path / "none.png", tmp_path / "i", run=running())
