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


def mel_parts(seed: int, rates: tuple[int, int] = (2, 2)) -> dict[str, Any]:
    """VAE with 4 channels and factor 2, vocoder of 8 mels and a hop of the rates' product at 16 kHz, AudioLDM's noise schedule."""
    from diffusers import AutoencoderKL
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = {"block_out_channels": [8, 16], "norm_num_groups": 4, "in_channels": 1, "out_channels": 1, "latent_channels": 4, "scaling_factor": 0.9}
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16_000, upsample_initial_channel=16,
        upsample_rates=list(rates), upsample_kernel_sizes=[2 * rate for rate in rates],
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


def audioldm(folder: Path, seed: int = 0, rates: tuple[int, int] = (2, 2)) -> Any:
    """AudioLDMPipeline of 50,000 parameters; `folder` for its tokenizer's files. rates: see `mel_parts`."""
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
        **mel_parts(seed, rates),
    )


def write_audioldm(folder: Path, seed: int = 0) -> Path:
    """The folder of a tiny AudioLDM pipeline, as `save_pretrained` writes it: 16 kHz, 4 latent channels, 16 samples a latent frame."""
    audioldm(folder.with_name(f".{folder.name}"), seed).save_pretrained(folder, safe_serialization=True)
    return folder


def t5_tokenizer() -> Any:
    """Whole words of WORDS, others by their letters."""
    from transformers import T5Tokenizer

    letters = [(chr(code), -9.0) for code in range(97, 123)]
    words = [("▁" + word, -3.0) for word in WORDS]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *words, *letters], extra_ids=0, model_max_length=40)


def t5_encoder(seed: int, dim: int) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=64, d_model=dim, d_ff=24, d_kv=8, num_heads=2, num_layers=1)
    return seeded(lambda: T5EncoderModel(config), seed)


def clap(seed: int) -> nn.Module:
    from transformers import ClapConfig, ClapModel

    text = {
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2,
        "num_hidden_layers": 1, "vocab_size": 200, "projection_dim": 16, "max_position_embeddings": 64,
    }  # fmt: skip
    audio = {
        "spec_size": 64, "window_size": 4, "num_mel_bins": 64, "intermediate_size": 24, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "hidden_size": 32, "projection_dim": 16, "patch_size": 4, "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 16,
    }  # fmt: skip
    return seeded(lambda: ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)), seed)


def audioldm2(folder: Path, seed: int = 0) -> Any:
    """AudioLDM2Pipeline; `folder` for its tokenizer's files."""
    from diffusers import AudioLDM2Pipeline, AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel
    from transformers import ClapFeatureExtractor, GPT2Config, GPT2LMHeadModel

    language = GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=64, n_positions=64, n_ctx=64, max_new_tokens=8)
    unet = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 32, "in_channels": 4, "out_channels": 4, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": ([None, 16, 32], [None, 16, 32]), "attention_head_dim": 4,
    }  # fmt: skip
    return AudioLDM2Pipeline(
        text_encoder=clap(seed + 3),
        text_encoder_2=t5_encoder(seed + 4, 32),
        projection_model=seeded(lambda: AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=32, langauge_model_dim=16), seed + 5),
        language_model=seeded(lambda: GPT2LMHeadModel(language), seed + 6),
        tokenizer=roberta_tokenizer(folder / "words"),
        tokenizer_2=t5_tokenizer(),
        feature_extractor=ClapFeatureExtractor(),
        unet=seeded(lambda: AudioLDM2UNet2DConditionModel(**unet), seed + 7),
        **mel_parts(seed),
    )


def stable_audio(seed: int = 0) -> Any:
    """StableAudioPipeline of 2 s at 4 kHz, two channels."""
    from diffusers import AutoencoderOobleck, CosineDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline, StableAudioProjectionModel

    transformer = {
        "sample_size": 1000, "in_channels": 3, "out_channels": 3, "num_layers": 1, "attention_head_dim": 4, "num_attention_heads": 2,
        "num_key_value_attention_heads": 2, "cross_attention_dim": 4, "time_proj_dim": 8, "global_states_input_dim": 8,
        "cross_attention_input_dim": 4,
    }  # fmt: skip
    vae = {
        "encoder_hidden_size": 6, "downsampling_ratios": [2, 4], "decoder_channels": 3, "decoder_input_channels": 3, "audio_channels": 2,
        "channel_multiples": [2, 4], "sampling_rate": 4000,
    }  # fmt: skip
    return StableAudioPipeline(
        transformer=seeded(lambda: StableAudioDiTModel(**transformer), seed),
        scheduler=CosineDPMSolverMultistepScheduler(solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"),
        vae=seeded(lambda: AutoencoderOobleck(**vae), seed + 1),
        text_encoder=t5_encoder(seed + 2, 16),
        tokenizer=t5_tokenizer(),
        projection_model=seeded(lambda: StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=4, min_value=0, max_value=32), seed + 3),
    )


TANGO_VAE = {
    "image_key": "fbank", "subband": 1, "embed_dim": 4, "time_shuffle": 1, "scale_factor": 0.9,
    "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 32, "downsample_time": False, "in_channels": 1, "out_ch": 1, "ch": 32,
        "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip
TANGO_STFT = {
    "filter_length": 1024, "hop_length": 160, "win_length": 1024, "n_mel_channels": 8, "sampling_rate": 16_000, "mel_fmin": 0, "mel_fmax": 8000,
}  # fmt: skip
TANGO_UNET = {
    "_class_name": "UNet2DConditionModel", "block_out_channels": [16, 32], "layers_per_block": 1, "sample_size": [32, 2], "in_channels": 4,
    "out_channels": 4, "norm_num_groups": 8, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 16, "attention_head_dim": [2, 4],
    "use_linear_projection": True,
}  # fmt: skip


def tango_parts(seed: int = 0) -> dict[str, Any]:
    """The networks of a tiny Tango, as diffusers and transformers have them."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    vae = {
        "in_channels": 1, "out_channels": 1, "latent_channels": 4, "block_out_channels": [32, 64], "layers_per_block": 1, "scaling_factor": 0.9,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    }  # fmt: skip
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, upsample_initial_channel=32, upsample_rates=[5, 4, 2, 2, 2], upsample_kernel_sizes=[16, 16, 8, 4, 4],
        resblock_kernel_sizes=[3, 7, 11], resblock_dilation_sizes=[[1, 3, 5]] * 3, normalize_before=False, initializer_range=0.2,
    )  # fmt: skip
    unet = {key: value for key, value in TANGO_UNET.items() if key != "_class_name"}
    return {
        "unet": seeded(lambda: UNet2DConditionModel(**unet), seed),
        "text_encoder": t5_encoder(seed + 1, 16),
        "vae": seeded(lambda: AutoencoderKL(**vae), seed + 2),
        "vocoder": seeded(lambda: SpeechT5HifiGan(vocoder), seed + 3),
    }


def audioldm_names(vae: nn.Module) -> dict[str, torch.Tensor]:
    """A VAE of two resolutions under the names that AudioLDM's own code gives its tensors."""
    names = {
        ".down_blocks.0.resnets.0.": ".down.0.block.0.", ".down_blocks.1.resnets.0.": ".down.1.block.0.",
        ".down_blocks.0.downsamplers.0.conv.": ".down.0.downsample.conv.", ".up_blocks.0.upsamplers.0.conv.": ".up.1.upsample.conv.",
        ".up_blocks.0.resnets.0.": ".up.1.block.0.", ".up_blocks.0.resnets.1.": ".up.1.block.1.",
        ".up_blocks.1.resnets.0.": ".up.0.block.0.", ".up_blocks.1.resnets.1.": ".up.0.block.1.",
        ".mid_block.resnets.0.": ".mid.block_1.", ".mid_block.resnets.1.": ".mid.block_2.",
        ".mid_block.attentions.0.group_norm.": ".mid.attn_1.norm.",
        ".mid_block.attentions.0.to_q.": ".mid.attn_1.q.", ".mid_block.attentions.0.to_k.": ".mid.attn_1.k.",
        ".mid_block.attentions.0.to_v.": ".mid.attn_1.v.", ".mid_block.attentions.0.to_out.0.": ".mid.attn_1.proj_out.",
        ".conv_norm_out.": ".norm_out.", ".conv_shortcut.": ".nin_shortcut.",
    }  # fmt: skip
    made = {}
    for name, tensor in vae.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        made[name] = tensor[:, :, None, None] if ".attn_1." in name and tensor.ndim == 2 else tensor
    return made


def write_tango(folder: Path, seed: int = 0) -> Path:
    """A tiny Tango checkpoint in the official layout, with its UNet's configuration and its text encoder's vocabulary beside it."""
    parts = tango_parts(seed)
    folder.mkdir(parents=True)
    main = {"text_encoder_name": "google/tiny-t5", "scheduler_name": "stabilityai/stable-diffusion-2-1"}
    (folder / "main_config.json").write_text(json.dumps({**main, "unet_model_config_path": "configs/tiny_config.json", "snr_gamma": 5.0}))
    (folder / "vae_config.json").write_text(json.dumps(TANGO_VAE))
    (folder / "stft_config.json").write_text(json.dumps(TANGO_STFT))
    (folder / "tiny_config.json").write_text(json.dumps(TANGO_UNET))
    parts["text_encoder"].config.save_pretrained(folder / "tiny-t5")
    t5_tokenizer().save_pretrained(folder / "tiny-t5")
    weights = {f"{name}.{key}": value for name in ("unet", "text_encoder") for key, value in parts[name].state_dict().items()}
    torch.save(weights, folder / "pytorch_model_main.bin")
    vocoder = {f"vocoder.{key.replace('upsampler.', 'ups.')}": value for key, value in parts["vocoder"].state_dict().items()}
    vocoder = {key: value for key, value in vocoder.items() if key not in ("vocoder.mean", "vocoder.scale")}
    torch.save({**audioldm_names(parts["vae"]), **vocoder}, folder / "pytorch_model_vae.bin")
    return folder
