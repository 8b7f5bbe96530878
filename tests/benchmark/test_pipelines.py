"""Seconds per clip of an AudioLDM-sized pipeline on a GPU, by precision, compilation and memory layout.

`pytest tests/benchmark/test_pipelines.py -s --benchmark-json=FILE`; weights are random, shapes those of cvssp/audioldm-s-full-v2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.systems.pipelines import CAPTIONS, ddim, roberta_tokenizer, seeded
from tta_bench.harness.generate import Setting, timed_batch
from tta_bench.systems.diffusers import DiffusersSystem, load_diffusers
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipelines import Options
from tta_bench.systems.protocol import Clip

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")]

BATCH, STEPS, SCALE, AUDIO_S = 8, 25, 2.5, 10.24
CLIPS = [Clip(f"clip{i}", CAPTIONS[i % len(CAPTIONS)]) for i in range(BATCH)]
UNET = {
    "sample_size": 128, "in_channels": 8, "out_channels": 8, "layers_per_block": 2, "block_out_channels": (128, 256, 384, 640),
    "cross_attention_dim": (128, 256, 384, 640), "attention_head_dim": 8, "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": 512, "class_embeddings_concat": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
VAE = {
    "in_channels": 1, "out_channels": 1, "latent_channels": 8, "block_out_channels": (128, 256, 512), "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3, "scaling_factor": 0.92,
}  # fmt: skip
VOCODER = {
    "model_in_dim": 64, "sampling_rate": 16_000, "upsample_initial_channel": 1024, "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4], "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "normalize_before": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AudioLDMPipeline, AutoencoderKL, UNet2DConditionModel
    from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

    root = tmp_path_factory.mktemp("audioldm")
    text = ClapTextConfig(projection_dim=512)
    with quiet():
        pipe = AudioLDMPipeline(
            text_encoder=seeded(lambda: ClapTextModelWithProjection(text), 0),
            tokenizer=roberta_tokenizer(root / "words"),
            unet=seeded(lambda: UNet2DConditionModel(**UNET)),
            vae=seeded(lambda: AutoencoderKL(**VAE)),
            vocoder=seeded(lambda: SpeechT5HifiGan(SpeechT5HifiGanConfig(**VOCODER))),
            scheduler=ddim(),
        )
        pipe.save_pretrained(root / "pipeline", safe_serialization=True)
    return root / "pipeline"


@pytest.fixture(scope="module")
def exact(folder: Path) -> dict[str, Any]:
    """Audio in fp32, against which the others are held."""
    return timed_batch(system(folder, Options("cuda")), CLIPS, Setting(STEPS, SCALE, 0), "cuda").audio


def system(folder: Path, options: Options) -> DiffusersSystem:
    return load_diffusers(str(folder), audio_s=AUDIO_S, options=options, batch_size=BATCH)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_seconds_per_clip(benchmark: Any, folder: Path, exact: dict[str, Any], precision: Any, compiled: bool, channels_last: bool) -> None:
    made = system(folder, Options("cuda", precision, compiled, channels_last))
    timed_batch(made, CLIPS, Setting(2, SCALE, 0), "cuda")  # compiles, and chooses kernels
    torch.cuda.reset_peak_memory_stats()
    batches: list[Any] = []
    benchmark.pedantic(lambda: batches.append(timed_batch(made, CLIPS, Setting(STEPS, SCALE, 0), "cuda")), rounds=5, iterations=1)
    assert not any(batch.failed for batch in batches)
    error = max(float(abs(batches[-1].audio[clip_id] - samples).max()) for clip_id, samples in exact.items())
    sampling, decoding = (float(np.median([getattr(batch, part) or 0.0 for batch in batches])) / BATCH for part in ("sampling_s", "decoding_s"))
    benchmark.extra_info |= {
        "card": torch.cuda.get_device_name(), "steps": STEPS, "batch": BATCH, "sampling_s_per_clip": sampling,
        "decoding_s_per_clip": decoding, "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "largest_error": error,
    }  # fmt: skip
    print("\n", precision, "compiled" if compiled else "eager", "channels_last" if channels_last else "contiguous", benchmark.extra_info)
