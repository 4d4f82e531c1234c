"""A second scan of a work, laid over its reference: which cells of both show the same place is then known.

A scan differs from its reference as real copies do: another camera, another light, another crop, another size.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 512  # pixels of the longest side at which points are matched
POINTS = 800
LEAST = 15  # points that must fit one homography; two different works had none
OFF = 4.0  # pixels that a point may lie off its place
SAME_WORK, SAME_SCAN = 0.7, 0.985  # correlation of grey levels: of another work below, of the same photograph above


def can_register() -> bool:
    """Whether scikit-image is installed (``pip install 'iconicity[validate]'``)."""
    return find_spec("skimage") is not None


def register(scan: Image.Image, reference: Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """The scan as it lies over the reference, in the reference's size, and its mask (mode L, 255: the scan shows this pixel).

    None where the two do not show one work, or where the scan is the reference's own photograph. ORB points (Rublee et
    al. 2011) and a homography by RANSAC (Fischler & Bolles 1981). Both images are RGB; the same two give the same result.
    """
    small_scan, small_reference = _grey(scan), _grey(reference)
    fitted = _homography(small_scan, small_reference)
    if fitted is None:
        return None
    if not SAME_WORK <= _correlation(small_scan, small_reference, fitted) <= SAME_SCAN:
        return None
    shrink = [np.diag([s.width / i.width, s.height / i.height, 1.0]) for s, i in
              ((small_scan, scan), (small_reference, reference))]  # fmt: skip
    full = np.linalg.inv(shrink[0]) @ fitted @ shrink[1]
    return _laid(scan, full, reference.size), _laid(Image.new("L", scan.size, 255), full, reference.size)


def _grey(image: Image.Image) -> Image.Image:
    grey = image.convert("L")
    grey.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return grey


def _points(image: Image.Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """Points (n, 2) as x, y and their descriptors (n, 256); None with fewer than :data:`LEAST`."""
    from skimage.feature import ORB

    found: Any = ORB(n_keypoints=POINTS, fast_threshold=0.03)
    try:
        found.detect_and_extract(np.asarray(image, np.float64) / 255.0)
    except RuntimeError:  # how scikit-image says that there are none
        return None
    keypoints, descriptors = found.keypoints[:, ::-1], found.descriptors
    return (keypoints, descriptors) if len(keypoints) >= LEAST else None


def _homography(scan: Image.Image, reference: Image.Image) -> npt.NDArray[np.float64] | None:
    """The (3, 3) map of the reference's pixels to the scan's; None without :data:`LEAST` points that agree."""
    from skimage.feature import match_descriptors
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform

    there, here = _points(scan), _points(reference)
    if there is None or here is None:
        return None
    pairs = match_descriptors(here[1], there[1], cross_check=True, max_ratio=0.8)
    if len(pairs) < LEAST:
        return None
    sides = here[0][pairs[:, 0]], there[0][pairs[:, 1]]
    model, agree = ransac(sides, ProjectiveTransform, min_samples=5, residual_threshold=OFF, max_trials=1000, rng=0)
    return np.asarray(model.params) if agree is not None and agree.sum() >= LEAST else None


def _laid(image: Image.Image, homography: npt.NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """An image drawn where the homography puts it in a picture of some size, black around it."""
    facts = (homography / homography[2, 2]).ravel()[:8].tolist()
    return image.transform(size, Image.Transform.PERSPECTIVE, facts, Image.Resampling.BICUBIC)


def _correlation(scan: Image.Image, reference: Image.Image, homography: npt.NDArray[np.float64]) -> float:
    """Pearson's r of grey levels where both images are; 0 where the scan covers less than a quarter of the reference."""
    inside = np.asarray(_laid(Image.new("L", scan.size, 255), homography, reference.size)) == 255
    if inside.mean() < 0.25:
        return 0.0
    a, b = (np.asarray(i, np.float64)[inside] for i in (_laid(scan, homography, reference.size), reference))
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
