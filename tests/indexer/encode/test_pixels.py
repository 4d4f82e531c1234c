"""Pixels as people see them, against values that follow from the formats and not from our code; and the published ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from profiles import ADOBE, P3, PROPHOTO, cmyk_profile, grey_in_srgb, grey_profile, in_srgb, rgb_profile
from toys import draw, toy_encoders, write

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import decode
from iconicity.indexer.encode.pixels import Note, Noted, named_notes, note_names
from iconicity.indexer.options import IndexOptions, Run

GREY = np.asarray(draw(7, (40, 30)).convert("L"))
LIGHT = np.uint8(40) + GREY // 2  # neither black nor white


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(decode(data, "x").image)


def notes(data: bytes) -> Note:
    return decode(data, "x").notes


def grey(values: np.ndarray[Any, Any], kind: str = "TIFF", **options: Any) -> bytes:
    return encoded(Image.fromarray(values), kind, **options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("values", [GREY, LIGHT // 4])
def test_sixteen_bits_are_scaled_whatever_they_hold(kind: str, values: np.ndarray[Any, Any]) -> None:
    data = grey(values.astype(np.uint16) * 257, kind)
    assert (shown(data) == values[..., None]).all() and notes(data) is Note.NONE
    assert decode(data, "x", "published").image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_big_endian_and_inverted_and_twelve_bit_tiffs() -> None:
    deep = GREY.astype(np.uint16) * 257
    assert (shown(tiff(deep.astype(">u2"), order="MM")) == GREY[..., None]).all()
    assert (shown(tiff(deep, inverted=True)) == 255 - GREY[..., None]).all()
    pairs = np.full((30, 40), 4095, np.uint32)
    packed = np.stack([pairs[:, ::2] >> 4, (pairs[:, ::2] & 15) << 4 | pairs[:, 1::2] >> 8, pairs[:, 1::2] & 255], -1)
    assert (shown(tiff(packed.astype(np.uint8), bits=12, width=40)) == 255).all()


def tiff(
    values: np.ndarray[Any, Any],
    order: str = "II",
    bits: int = 0,
    kind: int = 1,
    inverted: bool = False,
    width: int = 0,
) -> bytes:
    """An uncompressed grey TIFF, written by hand: Pillow writes neither all byte orders nor all numbers."""
    little = "little" if order == "II" else "big"
    fields = {
        256: width or values.shape[1], 257: values.shape[0], 258: bits or values.itemsize * 8, 259: 1, 262: 0 if inverted else 1,
        273: 8, 277: 1, 278: values.shape[0], 279: values.nbytes, 339: kind,
    }  # fmt: skip

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little" if order == "II" else "big")

    assert little
    entries = b"".join(number(tag, 2) + number(4, 2) + number(1, 4) + number(v, 4) for tag, v in fields.items())
    head = order.encode() + number(42, 2) + number(8 + values.nbytes, 4)
    return head + values.tobytes() + number(len(fields), 2) + entries + bytes(4)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1 / 255, 0), (1.0, 0), (257.0, 0), (2.0**24 / 255, 0), (1.2 / 255, 0), (1 / 255, -0.0)]
)
def test_floats_find_their_white(scale: float, offset: float) -> None:
    values = GREY.astype(np.float32) * np.float32(scale) + np.float32(offset)
    data = grey(values)
    white = {1.2 / 255: 1.2}.get(scale)
    expected = GREY.astype(float) if white is None else np.minimum(GREY * 1.2, 255)
    assert np.abs(shown(data) - expected[..., None]).max() <= 1
    assert notes(data) == Note.NO_WHITE


@pytest.mark.parametrize("scale", [1, 257, 2**23])
def test_whole_numbers_of_32_bits_find_their_white(scale: int) -> None:
    data = grey(GREY.astype(np.int32) * scale)
    assert np.abs(shown(data).astype(int) - GREY[..., None]).max() <= 1
    assert notes(data) == Note.NO_WHITE


def test_unsigned_and_signed_numbers() -> None:
    unsigned = GREY.astype(np.uint32) * np.uint32(0x01010101)
    assert np.abs(shown(tiff(unsigned)).astype(int) - GREY[..., None]).max() <= 1
    signed = (GREY.astype(float) * 32767 / 255).round().astype(np.int16)
    assert np.abs(shown(tiff(signed, kind=2)).astype(int) - GREY[..., None]).max() <= 1


def test_undefined_numbers_are_black_and_told() -> None:
    values = GREY.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    data = grey(values)
    assert shown(data)[0, :3, 0].tolist() == [0, 255, 0]
    assert (shown(data)[1:] == GREY[1:, :, None]).all()
    assert notes(data) == Note.NO_WHITE | Note.UNDEFINED


def test_a_large_deep_image_is_scaled_block_by_block() -> None:
    values = (np.arange(1500 * 1000, dtype=np.uint32) % 65536).astype(np.uint16).reshape(1000, 1500)
    assert (shown(grey(values))[..., 0] == np.rint(values / 257)).all()


def over_white(image: Image.Image, alpha: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    a = alpha[..., None] / 255.0
    return np.asarray(image.convert("RGB")) * a + 255 * (1 - a)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(kind: str, mode: str) -> None:
    if (kind, mode) == ("WEBP", "LA"):
        pytest.skip("the format has no grey")
    base = draw(3, (40, 30)).convert(mode.removesuffix("A"))
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    image = base.convert(mode)
    image.putalpha(Image.fromarray(alpha))
    data = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.abs(shown(data) - over_white(base, alpha)).max() <= 1
    assert notes(data) is Note.NONE
    published = np.asarray(decode(data, "x", "published").image)
    assert (published == np.asarray(base.convert("RGB"))).all()


def test_transparent_colours_of_palettes_and_greys() -> None:
    palette = draw(3, (40, 30)).quantize(17)
    clear = np.asarray(palette) == 2
    for data in (encoded(palette, "PNG", transparency=2), encoded(palette, "GIF", transparency=2)):
        expected = np.where(clear[..., None], 255, np.asarray(palette.convert("RGB")))
        assert (shown(data) == expected).all()
    soft = encoded(palette, "PNG", transparency=bytes([255, 255, 128, *[255] * 14]))
    alpha = np.where(clear, 128, 255)
    assert np.abs(shown(soft) - over_white(palette, alpha)).max() <= 1
    level = int(GREY[0, 0])
    assert (
        shown(encoded(Image.fromarray(GREY), transparency=level))[..., 0] == np.where(level == GREY, 255, GREY)
    ).all()
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    data = with_chunk(encoded(deep), b"tRNS", (level * 257).to_bytes(2, "big"))
    assert (shown(data)[..., 0] == np.where(level == GREY, 255, GREY)).all()


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    import zlib

    chunk = len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
    return png[:33] + chunk + png[33:]


def test_a_wholly_transparent_image_is_white_and_told() -> None:
    image = draw(3, (8, 8)).convert("RGBA")
    image.putalpha(0)
    assert (shown(encoded(image)) == 255).all() and notes(encoded(image)) == Note.TRANSPARENT
    assert decode(encoded(image), "x", "published").image.tobytes() == draw(3, (8, 8)).tobytes()


@pytest.mark.parametrize("space", [ADOBE, PROPHOTO, P3])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colour_profiles_become_srgb(space: tuple[Any, float], kind: str) -> None:
    image = draw(5, (40, 30))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image, kind, icc_profile=rgb_profile(*space), **options)
    expected = in_srgb(np.asarray(image, float), *space)
    assert np.abs(shown(data) - expected).max() <= 2
    assert np.abs(shown(data) - np.asarray(image, float)).max() > 10
    assert notes(data) is Note.NONE
    assert decode(data, "x", "published").image.tobytes() == image.tobytes()


def test_profiles_that_change_nothing_leave_the_bytes() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (draw(5), draw(5).convert("L"), draw(5).quantize(9)):
        data = encoded(image, icc_profile=srgb)
        assert decode(data, "x").image.tobytes() == image.convert("RGB").tobytes() and notes(data) is Note.NONE


def test_grey_profiles() -> None:
    data = encoded(Image.fromarray(GREY), icc_profile=grey_profile(1.0))
    expected = grey_in_srgb(GREY.astype(float), 1.0)[..., None]
    assert np.abs(shown(data) - expected).max() <= 2
    deep = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), icc_profile=grey_profile(1.0))
    assert (shown(deep) == shown(data)).all()
    coloured = encoded(Image.fromarray(GREY), icc_profile=rgb_profile(*PROPHOTO))
    assert np.abs(shown(coloured) - grey_in_srgb(GREY.astype(float), 1.8)[..., None]).max() <= 2


INKS = {"c": (0.0, 0.62, 0.88), "m": (0.89, 0.0, 0.48), "y": (1.0, 0.93, 0.0)}


def printed(ink: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    paper = np.prod([np.array(INKS[n]) ** ink[i] for i, n in enumerate("cmy")], axis=0)
    return np.asarray(paper * (1 - 0.9 * ink[3]))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile_and_without(kind: str) -> None:
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    for i, ink in enumerate("cmy"):
        values = [0, 0, 0, 0]
        values[i] = 255
        image = Image.new("CMYK", (16, 16), tuple(values))
        data = encoded(image, kind, icc_profile=cmyk_profile(printed), **options)
        assert np.abs(shown(data)[8, 8] - 255 * np.array(INKS[ink])).max() <= 8, ink
        assert notes(data) is Note.NONE
        plain = encoded(image, kind, **options)
        assert decode(plain, "x").image.tobytes() == Image.open(io.BytesIO(plain)).convert("RGB").tobytes()


def test_broken_profiles_are_told_and_left_out() -> None:
    image, good = draw(5), rgb_profile(*ADOBE)
    flat = rgb_profile(np.full((3, 3), 1e-4), 2.2)
    for bad in (b"\0" * 200, good[:100], good[:140], good[:200], b"text", flat):
        for kind in ("PNG", "TIFF"):
            data = encoded(image, kind, icc_profile=bad)
            assert decode(data, "x").image.tobytes() == image.tobytes(), bad[:8]
            assert notes(data) == Note.BROKEN_PROFILE
    half = with_chunk(encoded(image), b"iCCP", b"name\0\0" + b"no deflate stream")
    assert decode(half, "x").image.tobytes() == image.tobytes() and notes(half) == Note.BROKEN_PROFILE
    parts = encoded(image, "JPEG", icc_profile=good).replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2")  # one of two
    assert notes(parts) == Note.BROKEN_PROFILE
    other = encoded(image, icc_profile=grey_profile(2.2))
    assert decode(other, "x").image.tobytes() == image.tobytes() and notes(other) == Note.OTHER_PROFILE


def test_orientation_alpha_and_profile_together() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = draw(5, (40, 30)).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(GREY > 128, 255, 0).astype(np.uint8)))
    data = encoded(image, exif=exif, icc_profile=rgb_profile(*ADOBE))
    colour = in_srgb(np.asarray(draw(5, (40, 30)), float), *ADOBE)
    expected = np.rot90(np.where((GREY > 128)[..., None], colour, 255), -1)
    assert np.abs(shown(data) - expected).max() <= 2
    assert decode(data, "x", "published").image.tobytes() == draw(5, (40, 30)).tobytes()


def test_images_without_any_of_these_are_as_pillow_converts_them() -> None:
    base = draw(2, (16, 12))
    files = [
        encoded(base.convert(m), k)
        for m, k in (("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("CMYK", "TIFF"))
    ]
    files += [encoded(base, k) for k in ("JPEG", "BMP", "WEBP", "GIF", "TIFF")]
    files += [encoded(base.convert("YCbCr"), "JPEG"), encoded(ImageCms.applyTransform(base, lab()) or base, "TIFF")]
    for data in files:
        found = decode(data, "x")
        assert found.image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()
        assert found.notes is Note.NONE


def lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


def test_notes_are_one_line_a_kind() -> None:
    noted = Noted()
    noted.add(Note.BROKEN_PROFILE | Note.UNDEFINED, "a.png")
    noted.add(Note.BROKEN_PROFILE, "b.png")
    assert noted.lines() == [
        "2 images have a broken colour profile and were read without it, first a.png",
        "1 image has undefined pixels (NaN), which were read as black: a.png",
    ]
    both = Note.BROKEN_PROFILE | Note.TRANSPARENT
    assert named_notes(note_names(both)) == both and note_names(Note.NONE) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_build_says_which_profiles_are_broken(tmp_path: Path, workers: int) -> None:
    for i in range(3):
        write(tmp_path / "refs" / "a" / f"{i}.png", draw(i), icc_profile=b"" if i == 0 else b"no profile")
    report = build_index(tmp_path / "refs", tmp_path / "i", toy_encoders(), run=Run(workers=workers))
    first = tmp_path / "refs" / "a" / "1.png"
    assert f"2 images have a broken colour profile and were read without it, first {first}" in report.notices
    again = build_index(tmp_path / "refs", tmp_path / "p", toy_encoders(), IndexOptions(pixels="published"))
    assert not [n for n in again.notices if "profile" in n]
