"""Pipelines small enough to run in a test: random weights in the layouts that diffusers and Tango write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

WORDS = ("a", "dog", "barks", "rain", "falls", "on", "the", "roof", "bell", "rings", "wind")
CAPTIONS = ["A dog barks on the roof", "Rain falls", "A bell rings, then wind"]


def seeded(build: Any, seed: int = 0) -> nn.Module:
    """A network with random weights that depend on `seed` alone, ready to be used."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = build()
        for parameter in network.parameters():  # biases and gates that start at zero would hide what a test looks for
            parameter.data.add_(0.02 * torch.randn(parameter.shape))
    return network.eval()


def roberta_tokenizer(folder: Path) -> Any:
    """Byte-level BPE without merges: one token a byte."""
    from transformers import RobertaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    shown = [chr(byte) for byte in range(33, 127)] + ["Ġ"]
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *shown, "<mask>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=40)


def mel_parts(seed: int) -> dict[str, Any]:
    """VAE with 4 channels and factor 2, vocoder of 8 mels and hop 4 at 16 kHz, AudioLDM's noise schedule."""
    from diffusers import AutoencoderKL
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = {"block_out_channels": [8, 16], "norm_num_groups": 4, "in_channels": 1, "out_channels": 1, "latent_channels": 4, "scaling_factor": 0.9}
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16_000, upsample_initial_channel=16, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3, 7], resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]], normalize_before=False, initializer_range=0.3,
    )  # fmt: skip
    return {
        "vae": seeded(lambda: AutoencoderKL(**vae, **blocks), seed + 1),
        "vocoder": seeded(lambda: SpeechT5HifiGan(vocoder), seed + 2),
        "scheduler": ddim(),
    }


def ddim(**changes: Any) -> Any:
    """AudioLDM's own: betas linear in the square root from .0015 to .0195, eps-prediction."""
    from diffusers import DDIMScheduler

    facts = {
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**facts | changes)


def audioldm(folder: Path, seed: int = 0) -> Any:
    """AudioLDMPipeline of 50,000 parameters; `folder` for its tokenizer's files."""
    from diffusers import AudioLDMPipeline, UNet2DConditionModel
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    text = ClapTextConfig(
        bos_token_id=0, eos_token_id=2, pad_token_id=1, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=1,
        vocab_size=200, projection_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    unet = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 32, "in_channels": 4, "out_channels": 4, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": (16, 32), "attention_head_dim": 4, "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": 16, "class_embeddings_concat": True,
    }  # fmt: skip
    return AudioLDMPipeline(
        text_encoder=seeded(lambda: ClapTextModelWithProjection(text), seed + 3),
        tokenizer=roberta_tokenizer(folder / "words"),
        unet=seeded(lambda: UNet2DConditionModel(**unet), seed + 4),
        **mel_parts(seed),
    )


def write_audioldm(folder: Path, seed: int = 0) -> Path:
    """The folder of a tiny AudioLDM pipeline, as `save_pretrained` writes it: 16 kHz, 4 latent channels, 16 samples a latent frame."""
    audioldm(folder.with_name(f".{folder.name}"), seed).save_pretrained(folder, safe_serialization=True)
    return folder
