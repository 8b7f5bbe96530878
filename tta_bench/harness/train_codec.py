"""Training the codec: multi-resolution STFT loss, no adversary."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.harness.corpus import Corpus
from tta_bench.harness.recipe import CodecRecipe
from tta_bench.harness.stft import stft_distance
from tta_bench.harness.training import Batch, Objective, batch_indices, initial_weights, noise
from tta_bench.models.bundle import load_network
from tta_bench.models.codec import Codec, CodecShape


def codec_shape(recipe: CodecRecipe) -> CodecShape:
    """Sizes that the recipe asks for."""
    sizes = (recipe.channels, recipe.bands, recipe.dim, recipe.hidden, recipe.encoder_blocks, recipe.decoder_blocks)
    return CodecShape(*sizes, causal=recipe.causal)


class CodecObjective(Objective):
    """batch: "audio" (B, T), "noise" (B, C, L). before: a codec whose encoder is kept, and whose decoder is where training starts."""

    def __init__(self, recipe: CodecRecipe, before: Codec | None = None) -> None:
        super().__init__()
        self.codec = Codec(codec_shape(recipe) if before is None else replace(before.shape, causal=recipe.causal))
        self.recipe = recipe
        if before is not None:
            self.codec.load_state_dict(before.state_dict())
            self.codec.encoder.requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        audio = batch["audio"]
        latents = self.codec.encode_raw(audio).float()
        decoded = self.codec.decode_raw(latents + self.recipe.latent_noise * batch["noise"]).float()
        with torch.autocast(audio.device.type, enabled=False):
            log_distance, convergence = (part.mean() for part in stft_distance(decoded, audio))
            penalty = latents.square().mean()
            loss = log_distance + convergence + self.recipe.latent_penalty * penalty
        return {"loss": loss, "log_distance": log_distance, "convergence": convergence, "latent_power": penalty}


class CodecTask:
    """See `tta_bench.harness.training.Task`."""

    name = "codec"

    def __init__(self, recipe: CodecRecipe, corpus: Corpus, seed: int) -> None:
        self.recipe, self.corpus, self.seed = recipe, corpus, seed
        before, card = load_network(recipe.encoder, "codec", Codec) if recipe.encoder else (None, {})
        with initial_weights(seed, self.name):
            self.objective = CodecObjective(recipe, before)
        self.identity: dict[str, Any] = {"audio_sha256": corpus.audio_sha256, "shape": asdict(self.objective.codec.shape)}
        if card:
            self.identity["encoder_sha256"] = card["sha256"]

    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """See `Task`."""
        chosen = batch_indices(self.seed, self.name, len(self.corpus), self.recipe.batch, step)[share]
        shape = self.objective.codec.shape
        frames = self.corpus.audio.shape[1] // shape.samples_per_latent
        drawn = noise(self.seed, self.name, step, (self.recipe.batch, shape.channels, frames))[share]
        audio = self.corpus.samples(chosen)[:, : frames * shape.samples_per_latent]
        return {"audio": torch.from_numpy(audio).to(device), "noise": torch.from_numpy(drawn).to(device)}


@torch.inference_mode()
def set_latent_statistics(codec: Codec, corpus: Corpus, clips: int = 4096) -> None:
    """Mean and standard deviation of each latent channel over the first `clips` training clips, into the codec."""
    frames = corpus.audio.shape[1] // codec.shape.samples_per_latent * codec.shape.samples_per_latent
    count = min(clips, len(corpus))
    device = codec.latent_mean.device
    parts = [torch.from_numpy(corpus.samples(np.arange(a, min(a + 64, count)))[:, :frames]).to(device) for a in range(0, count, 64)]
    latents = torch.cat([codec.encode_raw(part) for part in parts]).double()
    codec.latent_mean.copy_(latents.mean(dim=(0, 2)))
    codec.latent_std.copy_(latents.std(dim=(0, 2)))
