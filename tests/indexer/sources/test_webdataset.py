"""WebDataset: members with one key are a sample, and one image of it counts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from layouts import COUNTS
from toys import draw, pack

from iconicity.indexer.errors import InputError
from iconicity.indexer.sources.listing import Listing
from iconicity.scorer.choose import list_images


def tar(tmp_path: Path, *members: str, **sidecars: str) -> Path:
    buffer = io.BytesIO()
    draw(1).save(buffer, "PNG")
    content = {name: buffer.getvalue() for name in members}
    return pack(
        tmp_path / "x.tar", content | {name.replace("__", "."): text.encode() for name, text in sidecars.items()}
    )


def names(listing: Listing) -> list[str]:
    return [image.path.partition(".tar/")[2] for image in listing.concepts.get("alpha", [])]


SAMPLE = ("a/0001.mask.png", "a/0001.png", "a/0001.cond.png", "a/0002.png", "a/0002.mask.png", "a/0003.mask.png")
JSON = '{"Concept": "alpha", "SEED": "12.0", "size": 3}'


def test_one_image_of_a_sample_counts_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tar(
        tmp_path, *SAMPLE, **{"a/0001__JSON": JSON, "a/0002__json": JSON, "a/0003__json": JSON, "a/0001__cls": "3"}
    )
    found = list_images(path, COUNTS)
    assert names(found) == ["a/0001.png", "a/0002.png"] and {i.seed for i in found.concepts["alpha"]} == {12}
    assert found.notices == [
        f"{path}: columns that were not used: size",
        f"{path}: one image, .json and .txt of each sample were read (`image_key` names another image); parts that were "
        "not read: mask.png (3), cls (1), cond.png (1)",
        f"{path}: 1 sample has no image jpg, jpeg, png or webp and did not count, first {path}/a/0003",
    ]
    masks = list_images(path, COUNTS, image_key="Mask")
    assert names(masks) == ["a/0001.mask.png", "a/0002.mask.png", "a/0003.mask.png"]
    conditions = list_images(path, COUNTS, image_key="cond.png")
    assert names(conditions) == ["a/0001.cond.png"]
    assert "2 samples have no image cond.png and did not count" in conditions.notices[-1]
    with pytest.raises(
        InputError, match=r"x\.tar: no sample has an image depth .images: mask.png, png, cond.png.; name one"
    ):
        list_images(path, COUNTS, image_key="depth")


def test_the_first_of_the_usual_kinds_is_taken(tmp_path: Path) -> None:
    found = list_images(
        tar(tmp_path, "alpha/1.png", "alpha/1.jpg", "alpha/2.PNG", "alpha/3.tif", "alpha/3.webp"), COUNTS
    )
    assert names(found) == ["alpha/1.jpg", "alpha/2.PNG", "alpha/3.webp"]
    assert found.notices[0].endswith("parts that were not read: png (1), tif (1)")


def test_dots_in_names(tmp_path: Path) -> None:
    """A sidecar with the whole stem says that the dots belong to the name; so do endings that come once each."""
    members = ("v1.5/s.2_a.png", "v1.5/s.2_b.png")
    path = tar(tmp_path, *members, **{"v1.5/s.2_a__json": JSON, "v1.5/s.2_b__json": JSON.replace("12", "13")})
    found = list_images(path, COUNTS)
    assert [(i.path.rpartition("/")[2], i.seed) for i in found.concepts["alpha"]] == [
        ("s.2_a.png", 12),
        ("s.2_b.png", 13),
    ]
    assert "2 images have a dot in the name" in found.notices[-1] and found.notices[-1].endswith(
        f"first {path}/{members[0]}"
    )
    path = tar(tmp_path, *members, "v1.5/t.png", **{"v1.5/s__json": JSON, "v1.5/t__json": JSON})
    assert names(list_images(path, COUNTS)) == [*members, "v1.5/t.png"]  # the key's own sidecar is for all of them


def test_a_sidecar_of_the_key_is_used_where_the_image_has_a_longer_ending(tmp_path: Path) -> None:
    path = tar(tmp_path, "1.rgb.png", "2.rgb.png", **{"1__json": JSON, "2__json": JSON})
    assert names(list_images(path, COUNTS)) == ["1.rgb.png", "2.rgb.png"]


def test_it_is_asked_for_where_it_is_open_which_image_counts(tmp_path: Path) -> None:
    path = tar(tmp_path, "1.rgb.png", "1.mask.png", "2.rgb.png", "2.mask.png", **{"1__json": JSON, "2__json": JSON})
    with pytest.raises(InputError, match=r"x\.tar: sample 1 has the images mask.png, rgb.png; name .* `image_key`"):
        list_images(path, COUNTS)
    assert names(list_images(path, COUNTS, image_key="rgb")) == ["1.rgb.png", "2.rgb.png"]


def test_an_image_key_without_a_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "alpha").mkdir()
    draw(1).save(tmp_path / "alpha" / "1.png")
    assert "holds no WebDataset tar" in list_images(tmp_path, COUNTS, image_key="png").notices[-1]
