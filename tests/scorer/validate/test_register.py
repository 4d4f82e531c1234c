"""Second scans: where a scan lies over its reference, what its mask says, and what is no second scan."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scenes import picture, rescanned

from iconicity.scorer.validate.manipulate import coverage_of
from iconicity.scorer.validate.register import register

pytest.importorskip("skimage", reason="registering needs scikit-image (pip install 'iconicity[validate]')")


def test_a_scan_lies_over_its_reference_whatever_its_crop_and_size() -> None:
    reference = picture(1)
    found = register(rescanned(reference, (16, 13, 304, 235), (380, 290)), reference)
    assert found is not None and found[0].size == found[1].size == reference.size
    inside = np.asarray(found[1]) == 255
    a, b = (np.asarray(i.convert("L"), np.float64)[inside] for i in (found[0], reference))
    assert np.corrcoef(a, b)[0, 1] > 0.85
    shifted = np.corrcoef(np.asarray(found[0].convert("L"), float)[40:-40, 40:-40].ravel(),
                          np.asarray(reference.convert("L"), float)[40:-40, 46:-34].ravel())[0, 1]  # fmt: skip
    assert shifted < 0.8  # six pixels off is worse: the places are right


def test_cells_that_the_scan_leaves_out_are_not_covered() -> None:
    reference = picture(2)
    found = register(rescanned(reference, (0, 0, 160, 240), (200, 300)), reference)
    assert found is not None
    covered = coverage_of(found[1], (4, 4)).reshape(4, 4)
    assert covered[:, :2].min() > 0.9 and covered[:, 2:].max() < 0.1


def test_other_pictures_and_the_same_photograph_are_no_second_scans() -> None:
    reference = picture(3)
    assert register(picture(4), reference) is None
    assert register(reference.resize((280, 210)), reference) is None
    assert register(Image.new("RGB", (320, 240), "grey"), reference) is None


def test_the_same_two_images_register_alike() -> None:
    reference = picture(5)
    scan = rescanned(reference, (6, 6, 310, 232), (330, 250))
    first, again = register(scan, reference), register(scan, reference)
    assert first is not None and again is not None
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
