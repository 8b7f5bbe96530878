"""Stable Audio Open: latents of a waveform autoencoder, a diffusion transformer conditioned on T5 states and on the duration (Evans et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tta_bench.errors import ConfigError
from tta_bench.systems.hf import hf_part, quiet
from tta_bench.systems.pipeline import Conditioning, Pipeline, Request


class StableAudio(Pipeline):
    """StableAudioPipeline of diffusers. Its latents always have full length; audio is cut to what was asked for, channels are averaged."""

    kind: ClassVar[str] = "stable_audio"

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        transformer: nn.Module = self.parts.transformer
        return transformer

    @property
    def sample_rate_hz(self) -> int:
        """Of the autoencoder."""
        return int(self.parts.vae.config.sampling_rate)

    @property
    def default_audio_s(self) -> float:
        """The longest that it makes."""
        return float(self.parts.transformer.config.sample_size * self.parts.vae.hop_length / self.sample_rate_hz)

    def latent_shape(self, audio_s: float) -> tuple[int, ...]:
        """(C, L), whatever the length."""
        if int(audio_s * self.sample_rate_hz) < 1 or audio_s > self.default_audio_s:
            raise ConfigError(f"{self.name}: audio_s = {audio_s:g} cannot be made; its longest is {self.default_audio_s:g} s")
        return self.parts.transformer.config.in_channels, int(self.parts.transformer.config.sample_size)

    @torch.no_grad()
    def conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """encoder_hidden_states (B, S + 2, D): T5 states, start and end; global_hidden_states (B, 1, 2 D): start and end."""
        with quiet():
            text = self.parts.encode_prompt(list(captions), self.device, False)
        start, end = self.parts.encode_duration(0.0, audio_s, self.device, False, len(captions))
        return {"encoder_hidden_states": torch.cat([text, start, end], dim=1), "global_hidden_states": torch.cat([start, end], dim=2)}

    def null_conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """As the stock pipeline without a negative prompt: zeros in place of text and duration, the global duration kept."""
        found = self.conditioning(captions, audio_s)
        return {**found, "encoder_hidden_states": torch.zeros_like(found["encoder_hidden_states"])}

    def denoise(self, z: Tensor, timestep: Tensor, conditioning: Conditioning, denoiser: nn.Module | None = None) -> Tensor:
        """(B, C, L); timestep is the scheduler's, in (0, 1)."""
        length = z.shape[2] + conditioning["global_hidden_states"].shape[1]
        embed = hf_part("diffusers.models.embeddings", "get_1d_rotary_pos_embed")
        rotary = embed(self.parts.rotary_embed_dim, length, use_real=True, repeat_interleave_real=False)
        times = timestep.reshape(-1).expand(len(z)) if timestep.numel() == 1 else timestep
        output: Tensor = (denoiser or self.denoiser)(z, times, rotary_embedding=rotary, return_dict=False, **conditioning)[0]
        return output

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, C, L), the same signal in every channel, cut or padded with silence to full length."""
        channels = int(self.parts.vae.config.audio_channels)
        whole = int(self.parts.transformer.config.sample_size) * int(self.parts.vae.hop_length)
        samples = torch.nn.functional.pad(audio[:, :whole], (0, max(0, whole - audio.shape[-1])))
        stereo = samples[:, None].expand(-1, channels, -1).to(self.device, self.parts.vae.dtype)
        latents: Tensor = self.parts.vae.encode(stereo).latent_dist.mode()
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor, audio_s: float) -> Tensor:
        """(B, C, L) -> (B, int(audio_s * sample_rate_hz)), the mean of the channels."""
        audio: Tensor = self.parts.vae.decode(latents.to(self.parts.vae.dtype)).sample
        return audio.float().mean(dim=1)[:, : int(audio_s * self.sample_rate_hz)]

    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """(B, C, L) by the stock pipeline's `__call__`. Its own scheduler draws noise at every step, here from each clip's generator."""
        self.parts.scheduler = request.scheduler
        with quiet():
            made: Tensor = self.parts(
                list(captions),
                audio_end_in_s=request.audio_s,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance_scale,
                latents=noise,
                generator=request.generators,
                output_type="latent",
            ).audios
        return made
