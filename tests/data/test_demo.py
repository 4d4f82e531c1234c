"""The demo's truth is what its images hold."""

from __future__ import annotations

import numpy as np
import pytest
from toys import draw

from iconicity.indexer.grid import cell_boxes

pytest.importorskip("skimage")
from iconicity.data import demo
from iconicity.data.demo import CONCEPTS, DONORS, RECIPE, SIZE, chosen_encoders, picture, some_cells


@pytest.mark.parametrize("k", [0, 4, 12, 16])
def test_pasted_cells_are_the_references_pixels(k: int) -> None:
    reference, donor = draw(1, (SIZE, SIZE)), draw(2, (SIZE, SIZE))
    made = some_cells(reference, donor, np.random.default_rng(0), k)
    same = [made.crop(b).tobytes() == reference.crop(b).tobytes() for b in cell_boxes(SIZE, SIZE, 4, 4)]
    rest = [made.crop(b).tobytes() == donor.crop(b).tobytes() for b in cell_boxes(SIZE, SIZE, 4, 4)]
    assert sum(same) == k and sum(rest) == 16 - k


def test_recipe_and_pictures() -> None:
    assert not set(CONCEPTS) & set(DONORS)
    assert {m.model for m in RECIPE} == {"copier", "transformer"}
    assert picture("coffee").size == (SIZE, SIZE)
    assert picture("bay_at_dusk").tobytes() == picture("bay_at_dusk").tobytes() != picture("town_in_snow").tobytes()


def test_the_encoder_that_finds_copies_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_NEEDS", ("json",))
    assert chosen_encoders() == ("offline-copy", "encoders: offline-copy")
    monkeypatch.setattr(demo, "_NEEDS", ("json", "no_such_package"))
    preset, said = chosen_encoders()
    assert preset == "offline" and said.startswith("encoders: offline, since no_such_package cannot be imported")
