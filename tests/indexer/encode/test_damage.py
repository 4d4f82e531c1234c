"""Files that are not whole are named, and whole ones are not: of each format, cut with and without an end mark."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from fuzz.mutate import good
from PIL import Image
from toys import SHARED, draw

from iconicity.indexer.encode.decode import FORMATS, decode
from iconicity.indexer.encode.pixels import Note
from iconicity.indexer.errors import ImageError

END = b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "one grey": {"subsampling": "4:4:4"},
}


def jpeg(image: Image.Image, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=90, **options)
    return held.getvalue()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_was_cut_and_given_an_end_mark_is_not_whole(name: str, mode: str) -> None:
    data = jpeg(draw(1, (160, 120)).convert(mode), **KINDS[name])
    assert decode(data, "x").notes == Note.NONE
    for share in (0.4, 0.5, 0.6, 0.8, 0.95):
        with pytest.raises(ImageError, match=r"cut short|truncated|broken"):
            decode(data[: int(len(data) * share)] + END, "x")


@pytest.mark.parametrize("name", KINDS)
def test_pictures_of_the_grey_that_libjpeg_paints_are_whole(name: str) -> None:
    picture = draw(2, (160, 120))
    picture.paste((128, 128, 128), (0, 60, 160, 120))
    for image in (picture, Image.new("RGB", (64, 64), (128, 128, 128)), Image.new("L", (9, 9), 128)):
        assert decode(jpeg(image, **KINDS[name]), "x").notes == Note.NONE


def test_blank_bytes_in_place_of_the_rest_are_damage() -> None:
    data = jpeg(draw(1, (160, 120)))
    half = len(data) // 2
    with pytest.raises(ImageError, match=r"cut short|truncated"):
        decode(data[:half] + bytes(len(data) - half), "x")


def test_bytes_after_the_end_are_a_note() -> None:
    for data in (jpeg(draw(1)), jpeg(draw(1), progressive=True), encoded(draw(1), "PNG")):
        clean = decode(data, "x")
        more = decode(data + b"a payload", "x")
        assert (clean.notes, more.notes) == (Note.NONE, Note.TRAILING)
        assert decode(data + bytes(100), "x").notes == Note.NONE  # padding
        assert more.image.tobytes() == clean.image.tobytes()
    two = encoded(draw(1), "MPO", save_all=True, append_images=[draw(2)])
    assert decode(two, "x").notes == Note.NONE  # it declares its second image


def test_a_png_with_other_bytes_than_its_checksum_says_is_damaged() -> None:
    data = bytearray(encoded(draw(1), "PNG"))
    at = data.index(b"IDAT") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    data[at + 8 + size] ^= 1
    with pytest.raises(ImageError, match=r"checksum of its IDAT chunk is wrong|broken"):
        decode(bytes(data), "x")
    cut = bytearray(encoded(draw(1), "PNG"))
    body = bytes(cut[at + 8 : at + 8 + size // 2])
    with pytest.raises(ImageError, match=r"truncated|cut short"):
        decode(
            bytes(cut[:at]) + len(body).to_bytes(4, "big") + b"IDAT" + body
            + zlib.crc32(b"IDAT" + body).to_bytes(4, "big") + bytes(cut[-12:]), "x"
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP", *(("AVIF",) if "AVIF" in FORMATS else ())])
def test_half_a_file_of_another_format_is_not_whole(kind: str) -> None:
    data = encoded(draw(1, (160, 120)), kind)
    with pytest.raises(ImageError, match="damaged or cut short" if kind == "AVIF" else None):
        decode(data[: len(data) // 2], "x")


def test_good_files_are_whole() -> None:
    for kind, files in good().items():
        for i, data in enumerate(files):
            assert not decode(data, f"{kind} {i}").notes & (Note.TRAILING | Note.NO_END), (kind, i)


def test_good_pictures_are_whole() -> None:
    pictures = [p for p in (SHARED / "data" / "art").rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not pictures:
        pytest.skip("the shared pictures are not here")
    for path in pictures[:20]:
        decode(path.read_bytes(), path)


def test_hostile_markers_end_in_an_answer() -> None:
    rng = np.random.default_rng(5)
    files = [jpeg(draw(3, (48, 32)), **options) for options in KINDS.values()]
    for i in range(300):
        data = bytearray(files[i % len(files)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(2, len(data)))] = int(
                rng.choice([0, 1, 0xC2, 0xD9, 0xDA, 0xFF, int(rng.integers(256))])
            )
        try:
            decode(bytes(data[: int(rng.integers(4, len(data) + 1))]), "x")
        except ImageError as e:
            assert e.reason
