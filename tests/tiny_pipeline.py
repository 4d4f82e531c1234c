"""A text-to-image pipeline of a few thousand random weights, made on the spot: it draws noise, but draws it as a big one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["the", "scream", "great", "wave", "painting", "of", "a", "by", "in", "style", "night", "starry"]
SIDE = 16  # pixels of an image


def tiny_pipeline(folder: Path, *, seed: int = 0, flags: bool | None = None) -> Path:
    """Save a Stable Diffusion pipeline below ``folder``. ``flags``: with a safety checker, which flags all images or none."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging
    from transformers import CLIPTextConfig, CLIPTextModel
    from transformers.utils.logging import disable_progress_bar

    logging.set_verbosity_error()
    disable_progress_bar()
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            block_out_channels=(4, 8), layers_per_block=1, sample_size=SIDE // 2, in_channels=4, out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8, attention_head_dim=2, norm_num_groups=2,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(4, 8), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        tokenizer = _tokenizer()
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=2,
                vocab_size=len(tokenizer), max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        pipeline = StableDiffusionPipeline(
            vae, text, tokenizer, unet, PNDMScheduler(skip_prk_steps=True, steps_offset=1),
            safety_checker=None if flags is None else _checker(flags), feature_extractor=None if flags is None else _extractor(),
            requires_safety_checker=flags is not None,
        )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _tokenizer() -> Any:
    """CLIP's tokenizer with letters, and the words above."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            pieces.append(parts[0])
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _checker(flags: bool) -> Any:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    small = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**small, "image_size": SIDE, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=small, vision_config=vision, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-2.0 if flags else 2.0)  # no cosine is below, or above
    return checker


def _extractor() -> Any:
    from transformers import CLIPImageProcessor

    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side)


def change_config(folder: Path, name: str, **values: Any) -> None:
    """Write other values into one of the pipeline's JSON files."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
