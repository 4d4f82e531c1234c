"""Image files that lie, seeded: small good ones in every accepted format, and ways to spoil them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
from profiles import ADOBE, cmyk_profile, grey_profile, rgb_profile
from toys import draw

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tiff", ".tif")
Rng = np.random.Generator
_PNG = b"\x89PNG\r\n\x1a\n"
# what header fields are made to say
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 100_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def good() -> dict[str, list[bytes]]:
    """Good files by format: colour modes, compressions, frames, palettes, EXIF and colour profiles."""
    rgb, large = draw(1, (40, 30)), draw(2, (200, 150))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = rgb.convert("RGBA")
    alpha.putalpha(draw(3, (40, 30)).convert("L"))
    palette = rgb.quantize(17)
    frames = [draw(i, (40, 30)) for i in range(4, 8)]
    animated: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": 50}
    extra: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    text = PngImagePlugin.PngInfo()
    text.add_text("short", "words " * 20, zip=True)
    text.add_itxt("long", "words " * 20, "en", "key", zip=True)
    wide = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    real = Image.fromarray(np.linspace(-1, 300, 1200, dtype=np.float32).reshape(30, 40))
    numbers = Image.fromarray(np.arange(1200, dtype=np.int32).reshape(30, 40) << 20)
    return {
        "JPEG": [
            encoded(rgb, "JPEG"), encoded(large, "JPEG", progressive=True, quality=60), encoded(rgb.convert("L"), "JPEG"),
            encoded(rgb.convert("CMYK"), "JPEG"), encoded(rgb, "JPEG", **extra),
            encoded(large, "JPEG", restart_marker_blocks=3),
        ],
        "PNG": [
            encoded(rgb, "PNG"), encoded(large, "PNG"), encoded(alpha, "PNG"), encoded(palette, "PNG", transparency=3),
            encoded(rgb.quantize(4), "PNG", bits=2), encoded(rgb.convert("1"), "PNG"), encoded(wide, "PNG"),
            encoded(alpha.convert("LA"), "PNG", **extra), encoded(rgb, "PNG", pnginfo=text), encoded(rgb, "PNG", **animated),
        ],
        "GIF": [
            encoded(palette, "GIF"), encoded(rgb, "GIF", **animated), encoded(palette, "GIF", transparency=2),
            encoded(rgb, "GIF", **animated, disposal=2, optimize=False), encoded(rgb.convert("L"), "GIF"),
        ],
        "BMP": [
            encoded(rgb, "BMP"), encoded(palette, "BMP"), encoded(rgb.convert("1"), "BMP"), encoded(alpha, "BMP"), rle_bmp(),
        ],
        "WEBP": [
            encoded(rgb, "WEBP"), encoded(rgb, "WEBP", lossless=True), encoded(alpha, "WEBP", **extra),
            encoded(rgb, "WEBP", **animated), encoded(large, "WEBP", quality=40),
        ],
        "TIFF": [
            *(encoded(rgb, "TIFF", compression=c) for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
            encoded(rgb.convert("1"), "TIFF", compression="group4"), encoded(wide, "TIFF"), encoded(real, "TIFF"), encoded(numbers, "TIFF"),
            encoded(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw"), encoded(palette, "TIFF", **extra),
            encoded(rgb, "TIFF", save_all=True, append_images=frames, big_tiff=True), encoded(alpha, "TIFF"),
        ],
    }  # fmt: skip


def rle_bmp() -> bytes:
    """A BMP of 8 bits with run lengths, which Pillow reads and does not write."""
    rows = b"".join(bytes([20, i % 256, 20, (i + 1) % 256, 0, 0]) for i in range(30)) + b"\0\1"
    colours = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, 40, 30, 1, 8, 1, len(rows), 0, 0, 256, 0)
    offset = 14 + len(head) + len(colours)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + colours + rows


def _flip(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    for at in rng.integers(0, len(data), int(rng.integers(1, 33))):
        data[at] ^= 1 << int(rng.integers(0, 8))
    return data


def _truncate(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _splice(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def _lie(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    """Fields, most of them in the first 200 bytes, say something extreme, in either byte order."""
    for _i in range(int(rng.integers(1, 4))):
        size = int(rng.choice([1, 2, 4]))
        most = len(data) if rng.random() < 0.3 else min(len(data), 200)
        at = int(rng.integers(0, max(1, most - size)))
        value = int(rng.choice(_EXTREMES)) & ((1 << 8 * size) - 1)
        data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return data


def _repeat(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    low, high = sorted(int(x) for x in rng.integers(0, len(data), 2))
    return data[:high] + data[low:high] * int(rng.integers(1, 20)) + data[high:]


def _cut(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    low, high = sorted(int(x) for x in rng.integers(0, len(data), 2))
    return data[:low] + data[min(high, low + 64) :]


def _noise(data: bytearray, rng: Rng, _: bytes) -> bytearray:
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    data[at : at + n] = rng.integers(0, 256, n, dtype=np.uint8).tobytes()
    return data


MUTATIONS: tuple[Callable[[bytearray, Rng, bytes], bytearray], ...] = (
    _flip, _truncate, _splice, _lie, _lie, _repeat, _cut, _noise,
)  # fmt: skip


def mend_png(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums they should, so that what they say is believed."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        n = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + n > len(data):
            break
        out += data[at : at + 8 + n] + zlib.crc32(data[at + 4 : at + 8 + n]).to_bytes(4, "big")
        at += 12 + n
    return bytes(out + data[at:])


def profiles() -> list[tuple[str, bytes]]:
    """Good colour profiles, each with the mode of images that it is for."""
    inks = cmyk_profile(lambda ink: (1 - ink[:3]) * (1 - ink[3]))
    return [("RGB", rgb_profile(*ADOBE)), ("L", grey_profile(1.8)), ("CMYK", inks)]


def with_spoiled_profile(rng: Rng, kind: str) -> bytes:
    """A good image with a colour profile that lies: what a file cannot show is reached only through a whole container."""
    modes = profiles()[: {"JPEG": 3, "TIFF": 3, "PNG": 2, "WEBP": 1}[kind]]
    mode, profile = modes[int(rng.integers(0, len(modes)))]
    data = bytearray(profile)
    for _ in range(int(rng.integers(1, 4))):
        data = MUTATIONS[int(rng.integers(0, len(MUTATIONS)))](data, rng, profile) if data else data
    return encoded(draw(1, (40, 30)).convert(mode), kind, icc_profile=bytes(data[: 1 << 20]))


def mutated(rng: Rng, files: dict[str, list[bytes]], kind: str) -> bytes:
    """A file of a format, spoiled in one to three ways."""
    if kind in ("JPEG", "TIFF", "PNG", "WEBP") and rng.random() < 0.2:
        return with_spoiled_profile(rng, kind)
    data = bytearray(files[kind][int(rng.integers(0, len(files[kind])))])
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        others = files[kind if rng.random() < 0.7 else str(rng.choice(sorted(files)))]
        other = others[int(rng.integers(0, len(others)))]
        data = MUTATIONS[int(rng.integers(0, len(MUTATIONS)))](data, rng, other)
    out = bytes(data)
    return mend_png(out) if out.startswith(_PNG) and rng.random() < 0.8 else out


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def png(width: int, height: int, data: bytes = b"", *before: bytes) -> bytes:
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp_header() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    data[18:26] = (100_000).to_bytes(4, "little") * 2
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def lying_strip() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "TIFF", compression="tiff_lzw"))
    at = data.index((279).to_bytes(2, "little")) + 8
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    return bytes(data)


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """(format, what it is, bytes): small files that ask for much."""
    swelling = zlib.compress(b"a" * 100_000_000, 9)
    tiny = zlib.compress(bytes(72))
    for side in (20_000, 46_341, 65_536, 100_000):
        yield "PNG", f"header of {side} x {side}", png(side, side, tiny)
    yield "PNG", "header below the limit, no data", png(13_377, 13_377, b"")
    yield "PNG", "13 377 x 13 377 of one colour", png(13_377, 13_377, zlib.compress(bytes(13_378 * 13_377), 9))
    yield "PNG", "data for 13 377 rows in 8 x 8", png(8, 8, zlib.compress(bytes(13_378 * 13_377), 9))
    yield "PNG", "zTXt of 100 MB", png(8, 8, tiny, chunk(b"zTXt", b"k\0\0" + swelling))
    yield "PNG", "iTXt of 100 MB", png(8, 8, tiny, chunk(b"iTXt", b"k\0\1\0\0\0" + swelling))
    yield "PNG", "iCCP of 100 MB", png(8, 8, tiny, chunk(b"iCCP", b"k\0\0" + swelling))
    yield "PNG", "5 000 texts", png(8, 8, tiny, *[chunk(b"tEXt", b"k\0" + b"a" * 20_000)] * 5_000)
    yield "BMP", "header of 100 000 x 100 000", bmp_header()
    yield "WEBP", "header of 16 384 x 16 384", webp_header(16_384, 16_384)
    yield "WEBP", "header of 16 777 216 x 16", webp_header(16_777_216, 16)
    yield "TIFF", "strip of 4 GB", lying_strip()
    frames = [Image.new("P", (16, 16), i % 250) for i in range(10_000)]
    yield "GIF", "10 000 frames", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "WEBP", "1 000 frames", encoded(draw(1), "WEBP", save_all=True, append_images=[draw(i) for i in range(1_000)])
    yield (
        "TIFF",
        "2 000 pages",
        encoded(draw(1, (8, 8)), "TIFF", save_all=True, append_images=[draw(1, (8, 8))] * 2_000),
    )
    gif = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    at = gif.index(b"\x2c")
    gif[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    yield "GIF", "frame of 65 535 x 65 535 in 16 x 16", bytes(gif)
    jpeg = bytearray(encoded(Image.new("L", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    yield "JPEG", "header of 65 500 x 65 500", bytes(jpeg)
    jpeg[at + 5 : at + 9] = b"\x34\x41\x34\x41"
    yield "JPEG", "header of 13 377 x 13 377", bytes(jpeg)
    scans = bytearray(encoded(Image.new("L", (3000, 3000)), "JPEG", progressive=True))
    at = scans.rindex(b"\xff\xda")
    yield "JPEG", "3 000 scans of 9 million pixels", bytes(scans[:at] + scans[at:-2] * 3_000 + scans[-2:])
    big = encoded(Image.new("1", (13_370, 13_370)), "TIFF", compression="group4")
    yield "TIFF", "13 370 x 13 370 in a fax of few bytes", big
