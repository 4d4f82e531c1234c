"""How much of an image an encoder looks at, from the facts of its preprocessing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from iconicity.indexer.grid import Box, cell_boxes

Facts = Mapping[str, Any]  # an encoder's ``spec.preprocess``


def fit_of(facts: Facts) -> str:
    """crop: the published preprocessing, which cuts the long side. squash: the whole is squeezed to the input size."""
    return str(facts.get("fit", "crop"))


def seen(facts: Facts, width: int, height: int) -> tuple[float, float] | None:
    """Shares (across, down) of an image of ``width`` x ``height`` pixels that reach the network: a box in its centre.

    Each is in (0, 1]. None where the facts are not those of timm's or CLIP's preprocessing.
    """
    if fit_of(facts) == "squash":
        return 1.0, 1.0
    if "input_size" in facts:
        resized, cut = _timm(facts, width, height)
    elif isinstance(facts.get("size"), Mapping):
        resized, cut = _clip(facts, width, height)
    else:
        return None
    return min(1.0, cut[0] / resized[0]), min(1.0, cut[1] / resized[1])


def area_seen(facts: Facts, boxes: Sequence[Box]) -> float | None:
    """Share of the area of boxes of an image that an encoder sees when each box is embedded alone."""
    looked, total = 0.0, 0
    for left, top, right, bottom in boxes:
        found = seen(facts, right - left, bottom - top)
        if found is None:
            return None
        area = (right - left) * (bottom - top)
        looked += found[0] * found[1] * area
        total += area
    return looked / total


def areas_seen(
    clip: Facts, patches: Facts, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[float | None, float | None]:
    """What the global encoder sees of a whole image, and the patch encoder of its cells."""
    return area_seen(clip, [(0, 0, *size)]), area_seen(patches, cell_boxes(*size, *grid))


Size = tuple[float, float]


def _timm(facts: Facts, width: int, height: int) -> tuple[Size, Size]:
    """Size after resizing, and the size that is cut from it: timm's ``transforms_imagenet_eval``."""
    _, down, across = facts["input_size"]
    scale = tuple(math.floor(n / (facts.get("crop_pct") or 0.875)) for n in (across, down))
    mode = facts.get("crop_mode") or "center"
    if mode == "squash":
        return (scale[0], scale[1]), (across, down)
    if mode == "center" and scale[0] == scale[1]:
        return _short_side(width, height, scale[0]), (across, down)
    ratios = (width / scale[0], height / scale[1])
    ratio = max(ratios) if mode == "border" else min(ratios)
    return (max(1, round(width / ratio)), max(1, round(height / ratio))), (across, down)


def _clip(facts: Facts, width: int, height: int) -> tuple[Size, Size]:
    """Size after resizing, and the size that is cut from it, of transformers' image processor for CLIP."""
    size, cut = facts["size"], facts.get("crop_size") or {}
    resized: Size = (width, height)
    if facts.get("do_resize"):
        edge = size.get("shortest_edge")
        resized = _short_side(width, height, edge) if edge else (size["width"], size["height"])
    return resized, (cut["width"], cut["height"]) if facts.get("do_center_crop") else resized


def _short_side(width: int, height: int, edge: int) -> Size:
    """Torchvision's ``Resize`` by the shorter side."""
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
