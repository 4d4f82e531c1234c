"""The process that decodes gives what decoding here gives, and no file takes more than the limits."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.mutate import bmp_header, chunk, encoded, lying_strip, png, webp_header
from PIL import Image
from toys import draw, make_gen, make_refs, running, toy_encoders

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.decode import MAX_ASPECT, decode
from iconicity.indexer.encode.decoder import Decoder, shared
from iconicity.indexer.errors import IconicityError, ImageError
from iconicity.scorer.scoring import score


def blank(side: int) -> bytes:
    return png(side, side, zlib.compress(b"\0" * (side + 1) * side, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_pixels_and_reasons_are_those_of_decoding_here(kind: str) -> None:
    data = encoded(draw(1), kind)
    assert shared().decode(data, "x").image.tobytes() == decode(data, "x").image.tobytes()
    for bad in (b"no image", data[: len(data) // 2], data[:60]):
        try:
            expected = decode(bad, "x").image.tobytes()
        except ImageError as e:
            with pytest.raises(ImageError) as there:
                shared().decode(bad, "folder/x")
            assert (there.value.reason, there.value.path) == (e.reason, "folder/x")
        else:
            assert shared().decode(bad, "x").image.tobytes() == expected


def test_more_pixels_than_the_limit_are_refused_in_words_before_anything_is_decoded() -> None:
    data = blank(200)
    assert shared().decode(data, "x", max_pixels=40_000).image.size == (200, 200)
    with pytest.raises(ImageError, match=r"more pixels than the limit of 39999 \(`max_pixels`\)"):
        shared().decode(data, "x", max_pixels=39_999)
    decoder = Decoder()
    for liar in (png(100_000, 100_000), png(13_378, 13_378), bmp_header(), webp_header(16_384, 16_384)):
        with pytest.raises(ImageError, match=r"more pixels than the limit of 178956970|cannot be decoded"):
            decoder.decode(liar, "x")
    assert peak(decoder) < 200 << 20
    decoder.close()


def peak(decoder: Decoder) -> int:
    """Most memory a decoder has had, in bytes."""
    lines = Path(f"/proc/{decoder.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def test_text_chunks_that_swell_are_not_unpacked() -> None:
    swelling = zlib.compress(b"a" * 200_000_000, 9)
    data = png(8, 8, zlib.compress(bytes(72)), chunk(b"zTXt", b"k\0\0" + swelling))
    with pytest.raises(ImageError, match="cannot be decoded"):
        shared().decode(data, "x")
    data = png(8, 8, zlib.compress(bytes(72)), chunk(b"iTXt", b"k\0\1\0\0\0" + swelling))
    with pytest.raises(ImageError, match="cannot be decoded"):
        shared().decode(data, "x")


def test_the_first_of_ten_thousand_frames_is_decoded_alone() -> None:
    frames = [Image.new("P", (16, 16), i % 250) for i in range(10_000)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    decoder = Decoder()
    assert decoder.decode(data, "x").image.size == (16, 16)
    assert peak(decoder) < 200 << 20
    decoder.close()


def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_decoded() -> None:
    decoder = Decoder(cpu_seconds=0.02)
    with pytest.raises(ImageError, match=r"decoding it takes more than 0\.02 s of the processor"):
        decoder.decode(blank(12_000), "slow.png")
    assert decoder.decode(encoded(draw(1), "PNG"), "x").image.size == draw(1).size
    decoder.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_is_bounded_by_what_the_pixels_can_need() -> None:
    decoder = Decoder()
    # Pillow reads the compressed data of a TIFF by its declared strip length, whatever the size of the image
    with pytest.raises(ImageError, match="cannot be decoded"):
        decoder.decode(lying_strip(), "x")
    assert peak(decoder) < 1 << 30
    decoder.close()


def test_a_process_that_was_killed_from_outside_is_started_again() -> None:
    decoder = Decoder()
    data = encoded(draw(1), "PNG")
    assert decoder.decode(data, "x").image.size == draw(1).size
    assert decoder.pid is not None
    os.kill(decoder.pid, 9)
    assert decoder.decode(data, "x").image.tobytes() == draw(1).tobytes()
    decoder.close()
    assert decoder.pid is None and decoder.decode(data, "x").image.size == draw(1).size
    decoder.close()


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iconicity.indexer.encode.pool._BOOT", "raise SystemExit(1)")
    with pytest.raises(IconicityError, match="cannot be started"):
        Decoder().decode(encoded(draw(1), "PNG"), "x")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(IconicityError, match=r"/nowhere/python: .* cannot be started \(No such file"):
        Decoder().decode(encoded(draw(1), "PNG"), "x")


def test_the_decoder_sees_no_module_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "PIL", "signal"):
        (tmp_path / f"{name}.py").write_text("open('was_here', 'w')\nraise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    assert decoder.decode(encoded(draw(1), "PNG"), "x").image.size == draw(1).size
    decoder.close()
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("shape", [(1, MAX_ASPECT + 1), (40_000, 16)])
def test_a_line_of_pixels_is_refused_and_what_lies_beside_it_scores_the_same(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    """An encoder would enlarge the short side of 1 x 40 000 pixels to 224, and so the long one to 9 million."""
    refs, gen = make_refs(tmp_path / "refs", ["alpha"]), make_gen(tmp_path / "gen", ["alpha"])
    encoders = toy_encoders()
    build_index(refs, tmp_path / "i", encoders)
    score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders))
    before = (tmp_path / "o" / "results_cra_dynamic.csv").read_text().splitlines()
    Image.new("RGB", shape).save(gen / "alpha" / "zz.png")
    report = score(tmp_path / "i", {"m": gen}, tmp_path / "o", run=running(encoders))
    (skipped,) = report.skipped
    assert f"{shape[0]} x {shape[1]} pixels: narrower than 1:{MAX_ASPECT}" in skipped.reason
    after = (tmp_path / "o" / "results_cra_dynamic.csv").read_text().splitlines()
    assert [line for line in after if "zz.png" not in line] == before
    Image.new("RGB", shape).save(refs / "alpha" / "zz.png")
    built = build_index(refs, tmp_path / "i", encoders)
    assert [s.reason for s in built.skipped] == [skipped.reason]


def test_a_stop_in_the_middle_leaves_no_answer_for_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder()
    decoder.decode(encoded(draw(1), "PNG"), "x")
    connection = decoder.process._connection
    assert connection is not None

    def stopped(_: float) -> bool:
        raise SystemExit(143)

    monkeypatch.setattr(connection, "poll", stopped)
    with pytest.raises(SystemExit):
        decoder.decode(encoded(draw(2), "PNG"), "x")
    assert decoder.decode(encoded(draw(3), "PNG"), "x").image.tobytes() == draw(3).tobytes()
    decoder.close()


def test_threads_take_turns() -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted: Callable[[int], bytes] = lambda i: draw(i).tobytes()  # noqa: E731
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: shared().decode(encoded(draw(i), "PNG"), "x").image.tobytes(), range(20)))
    assert found == [wanted(i) for i in range(20)]
