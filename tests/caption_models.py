"""Small image-to-text models that transformers itself saves: BLIP, an encoder with a decoder, and one that is asked in a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toys import fill_weights

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] <image> a painting of the scream by man bridge red sky : user assistant".split()  # noqa: SIM905
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}  # fmt: skip
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(WORDS), "max_position_embeddings": 128}  # fmt: skip
SIDES = {"height": 32, "width": 32}


def tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return BertTokenizerFast(str(folder / "vocab.txt"), additional_special_tokens=["<image>"])


def blip(folder: Path, seed: int = 1) -> Path:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    tokens = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = TEXT | tokens | {"encoder_hidden_size": 16, "projection_dim": 16}
    sizes = {"projection_dim": 16, "image_text_hidden_size": 16}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=VISION | {"projection_dim": 16}, **sizes)
    )
    fill_weights(model, seed)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size=SIDES), tokenizer(folder / "words")).save_pretrained(folder)
    return folder


def encoder_decoder(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), BertConfig(**TEXT))
    model = VisionEncoderDecoderModel(config)
    fill_weights(model, 2)
    for name, value in {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    ViTImageProcessor(size=SIDES).save_pretrained(folder)
    tokenizer(folder / "words").save_pretrained(folder)
    return folder


def chat(folder: Path) -> Path:
    from transformers import (  # fmt: skip
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    llama = LlamaConfig(**TEXT, num_key_value_heads=2, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=llama,
        image_token_id=5,
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config)
    fill_weights(model, 3)
    model.save_pretrained(folder)
    template = (
        "{% for m in messages %}{{ m.role }}:{% for c in m.content %}{% if c.type == 'image' %} <image> {% else %}{{ c.text }}"
        "{% endif %}{% endfor %}{% endfor %} assistant :"
    )
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDES), tokenizer(folder / "words"), patch_size=16,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>", chat_template=template,
    ).save_pretrained(folder)  # fmt: skip
    return folder
