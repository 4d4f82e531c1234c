"""Reading images: every kind of bad or unusual input has a stated behaviour."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import pytest
from PIL import Image as Picture
from toys import draw, write

from iconicity.indexer.encode.decode import FORMATS, decode
from iconicity.indexer.errors import ImageError, InputError
from iconicity.indexer.sources.folders import (
    NOT_AN_IMAGE,
    NOT_UTF8,
    concept_name,
    folder_images,
    read_bytes,
    read_concepts,
)
from iconicity.indexer.sources.image import Image
from iconicity.indexer.sources.suffixes import LOOSE, NESTED, UNSUPPORTED

AVIF = "AVIF" in FORMATS
needs_avif = pytest.mark.skipif(not AVIF, reason="this Pillow has no AVIF")


def encoded(image: Picture.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_the_pixels(kind: str) -> None:
    image = draw(1).quantize(64).convert("RGB")
    assert decode(encoded(image, kind), "x").image.size == image.size
    if kind != "GIF":
        assert decode(encoded(image, kind), "x").image.tobytes() == image.tobytes()


def test_webp_and_jpeg() -> None:
    for kind in ("WEBP", "JPEG"):
        assert decode(encoded(draw(1), kind), "x").image.mode == "RGB"


@needs_avif
def test_avif_gives_its_pixels_turned_as_its_header_says() -> None:
    image = Picture.new("RGB", (48, 32), "red")
    image.paste("blue", (0, 0, 48, 16))
    turned = Picture.Exif()
    turned[0x0112] = 6  # clockwise: what was above stands at the right
    for exif, size, where in ((Picture.Exif(), (48, 32), (24, 4)), (turned, (32, 48), (28, 24))):
        found = decode(encoded(image, "AVIF", exif=exif), "x").image
        r, g, b = found.getpixel(where)  # type: ignore[misc]
        assert found.size == size and b > 240 and r < 15 and g < 15


def test_a_pillow_without_avif_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0 ftypavif\0\0\0\0avifmif1miaf" + b"\0" * 40
    monkeypatch.setattr("iconicity.indexer.encode.decode.FORMATS", ("JPEG", "PNG"))
    with pytest.raises(ImageError, match=r"AVIF, which this Pillow cannot read; install pillow 11\.3 or later"):
        decode(data, "a.avif")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0 ftypheic\0\0\0\0", "HEIC"),
        (b"\n<!DOCTYPE HTML><title>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_other_bytes_under_an_image_name_are_called_what_they_are(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"not an image of a known format: .*{what}"):
        decode(data, "a.jpg")


def test_animations_give_their_first_frame() -> None:
    frames = [Picture.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for kind in ("GIF", "WEBP", *(("AVIF",) if AVIF else ())):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        r, g, b = decode(data, "x").image.getpixel((4, 4))  # type: ignore[misc]
        assert r > 240 and g < 10 and b < 10


def test_modes_become_rgb_as_pillow_converts_them() -> None:
    base = draw(2, (8, 8))
    for mode in ("L", "P", "CMYK", "1"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        image = base.convert(mode)
        assert decode(encoded(image, kind), "x").image.tobytes() == image.convert("RGB").tobytes(), mode


def test_one_pixel() -> None:
    assert decode(encoded(Picture.new("RGB", (1, 1)), "PNG"), "x").image.size == (1, 1)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data is a few bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"just some text", "not an image"),
        (encoded(draw(4), "PNG")[:200], "cannot be decoded"),
        (encoded(draw(4), "JPEG")[:400], "cannot be decoded"),
        (bomb(100_000, 100_000), "more pixels than the limit"),
        (bomb(15_000, 15_000), "more pixels than the limit"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not an image|cannot be decoded"),
    ],
)
def test_unusable_bytes_are_named_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as e:
        decode(data, "folder/file.png")
    assert e.value.path == "folder/file.png"
    assert "\n" not in e.value.reason


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="empty file"):
        read_bytes(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_bytes(tmp_path / "gone.png")


def test_concept_names() -> None:
    assert concept_name(" The Scream ") == "the_scream"
    assert concept_name("Cafe\u0301") == "caf\u00e9"


def test_discover_lists_what_is_read_and_names_the_rest(tmp_path: Path) -> None:
    one = tmp_path / "The One"
    (one / "nested" / "deeper").mkdir(parents=True)
    names = (
        "b.PNG",
        "a.jpg",
        "x.JFIF",
        "c.gif",
        "d.Avif",
        ".hidden.png",
        "notes.txt",
        "Thumbs.db",
        "e.HEIC",
        "f.jp2",
        "g.jpg_large",
    )
    for name in (
        *names,
        "nested/in.png",
        "nested/deeper/in.heic",
        "nested/.in.png",
        "nested/in.txt",
        "../loose.jpg",
        "../README",
    ):
        (one / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    found = list(folder_images(tmp_path))
    good = [image for image in found if image.problem is None]
    assert good[0] == Image(str(one), "the_one")
    assert [image.id for image in good[1:]] == [f"the_one/{n}" for n in ("a.jpg", "b.PNG", "c.gif", "d.Avif", "x.JFIF")]
    ignored = [Path(image.path).name for image in found if image.problem == NOT_AN_IMAGE]
    assert sorted(ignored) == ["README", "Thumbs.db", "in.txt", "notes.txt"]
    passed = [image for image in found if image.problem not in (None, NOT_AN_IMAGE)]
    assert sorted((i.concept, i.path.removeprefix(f"{tmp_path}/"), i.problem) for i in passed) == [
        ("", "loose.jpg", LOOSE),
        ("the_one", "The One/e.HEIC", UNSUPPORTED),
        ("the_one", "The One/f.jp2", UNSUPPORTED),
        ("the_one", "The One/g.jpg_large", UNSUPPORTED),
        ("the_one", "The One/nested/deeper/in.heic", NESTED),
        ("the_one", "The One/nested/in.png", NESTED),
    ]


def test_two_folders_of_one_concept_are_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "The Wave").mkdir()
    (tmp_path / "the_wave").mkdir()
    with pytest.raises(InputError, match=r"The Wave.*the_wave"):
        list(folder_images(tmp_path))


def test_names_that_are_not_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "c") + b"/bad\xff.png")).write_bytes(b"x")
    write(tmp_path / "c" / "good.png", draw(0))
    folder, bad, good = folder_images(tmp_path)
    assert folder.name == "" and bad.problem == NOT_UTF8 and good.name == "good.png" and good.problem is None
    assert bad.path.endswith("bad\\xff.png")


def test_concepts_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("label_clean,title\nThe Wave,x\n,y\nthe_wave,z\nOther,q\n", encoding="utf-8-sig")
    assert read_concepts(path, "label_clean") == ["the_wave", "the_wave", "other"]
    with pytest.raises(InputError, match="columns: label_clean, title"):
        read_concepts(path, "slug")
    with pytest.raises(InputError, match="cannot be read"):
        read_concepts(tmp_path / "none.csv", "slug")
