"""Captions by small models: the same each time, once an image, and kept from the moment they are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from caption_models import WORDS, blip, chat, encoder_decoder
from toys import draw, write

from iconicity.data.captions import Captioner, caption_references
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.options import Run


@pytest.mark.parametrize("make", [blip, encoder_decoder, chat])
def test_models_of_each_kind_load_and_say_the_same_each_time(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path / "m")
    picture = draw(1, (40, 50))
    first, second = (Captioner(str(folder), "cpu") for _ in range(2))
    said = first.caption(picture)
    assert said and said == second.caption(picture) and set(said.split()) <= set(WORDS)
    assert first.weights == second.weights and len(first.weights) == 64


def test_a_caption_is_the_likeliest_word_after_the_other(tmp_path: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

    folder, picture = str(encoder_decoder(tmp_path / "m")), draw(1, (40, 50))
    model = VisionEncoderDecoderModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    said = [2]
    while len(said) <= 40 and said[-1] != 3:
        with torch.inference_mode():
            said.append(int(model(pixel_values=pixels, decoder_input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    words = AutoTokenizer.from_pretrained(folder).decode(said, skip_special_tokens=True)
    assert Captioner(folder, "cpu").caption(picture) == words


def test_the_first_reference_that_can_be_read_is_described_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, refs, kept = str(encoder_decoder(tmp_path / "m")), tmp_path / "refs", tmp_path / "v.captions.jsonl"
    for i, name in enumerate(("a/1.png", "b/2.png", "b/3.png", "c/1.png")):
        write(refs / name, draw(i, (40, 50)))
    (refs / "b" / "1.png").write_bytes(b"no image")
    run = Run(device="cpu")
    first = caption_references(refs, ["a", "b", "gone"], model, kept, run)
    assert first.made == 2 and first.of.keys() == {"a", "b"}
    assert [(s.path, s.concept) for s in first.skipped] == [(str(refs / "b" / "1.png"), "b")]
    lines = kept.read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [str(refs / "a" / "1.png"), str(refs / "b" / "2.png")]
    kept.write_text("\n".join([*lines, lines[0][:30]]))  # killed while it wrote
    more = caption_references(refs, ["a", "b", "c"], model, kept, run)
    assert more.made == 1 and {c: more.of[c] for c in first.of} == first.of
    assert len(kept.read_text().splitlines()) == 3

    def no_model(*_: object) -> None:
        raise AssertionError("all is known")

    monkeypatch.setattr("iconicity.data.captions.Captioner", no_model)
    assert caption_references(refs, ["a", "b", "c"], model, kept, run).of == more.of


def test_captions_of_other_weights_do_not_mix(tmp_path: Path) -> None:
    model, kept = tmp_path / "m", tmp_path / "v.captions.jsonl"
    write(tmp_path / "refs" / "a" / "1.png", draw(0, (40, 50)))
    blip(model)
    caption_references(tmp_path / "refs", ["a"], str(model), kept, Run(device="cpu"))
    blip(model, seed=9)
    write(tmp_path / "refs" / "b" / "1.png", draw(1, (40, 50)))
    with pytest.raises(
        InputError, match=r"v\.captions\.jsonl: holds captions that other weights of .* made; delete it"
    ):
        caption_references(tmp_path / "refs", ["a", "b"], str(model), kept, Run(device="cpu"))


def test_what_is_no_such_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "code.M"}}')
    (tmp_path / "m" / "code.py").write_text("raise SystemExit('run')")
    for name, message in (
        (str(tmp_path / "m"), "cannot be loaded as an image-to-text model"),
        ("gone", "no such folder"),
    ):
        with pytest.raises(ModelUnavailableError, match=message) as e:
            Captioner(name, "cpu")
        assert "\n" not in str(e.value)
