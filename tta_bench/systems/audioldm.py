"""AudioLDM: latents of a log-mel VAE, a UNet conditioned on the CLAP embedding of the caption, a HiFi-GAN vocoder (Liu et al. 2023)."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tta_bench.errors import ConfigError
from tta_bench.systems import audioldm_mel
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipeline import Conditioning, Pipeline, Request


class MelPipeline(Pipeline):
    """What AudioLDM, AudioLDM 2 and Tango share: the VAE over log-mels and the vocoder."""

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        unet: nn.Module = self.parts.unet
        return unet

    @property
    def sample_rate_hz(self) -> int:
        """Of the vocoder."""
        return int(self.parts.vocoder.config.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples a log-mel frame."""
        return math.prod(self.parts.vocoder.config.upsample_rates)

    @property
    def factor(self) -> int:
        """Log-mel frames, and bands, a latent frame."""
        return int(2 ** (len(self.parts.vae.config.block_out_channels) - 1))

    @property
    def default_audio_s(self) -> float:
        """As many latent frames as the UNet's sample_size."""
        size = self.parts.unet.config.sample_size
        frames = size if isinstance(size, int) else max(size)
        return float(frames * self.factor * self.hop / self.sample_rate_hz)

    def latent_shape(self, audio_s: float) -> tuple[int, ...]:
        """(C, L, F): the stock pipelines' frames, rounded up to whole latent frames."""
        frames = int(audio_s / (self.hop / self.sample_rate_hz))  # in the stock pipelines' own order of rounding
        if frames < self.factor:
            shortest = self.factor * self.hop / self.sample_rate_hz
            raise ConfigError(f"{self.name}: audio_s = {audio_s:g} is shorter than one latent frame; ask for at least {shortest:g} s")
        return self.parts.unet.config.in_channels, math.ceil(frames / self.factor), self.parts.vocoder.config.model_in_dim // self.factor

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, C, L, F); L covers T. Raises ConfigError for a pipeline of another rate than 16 kHz, whose log-mels are not known here."""
        if self.sample_rate_hz != audioldm_mel.SAMPLE_RATE_HZ:
            raise ConfigError(f"{self.name}: makes audio at {self.sample_rate_hz} Hz; only 16 kHz pipelines can be given audio")
        whole = self.hop * self.factor
        samples = torch.nn.functional.pad(audio.to(self.device), (0, -audio.shape[-1] % whole))
        mel = audioldm_mel.log_mel(samples, self.parts.vocoder.config.model_in_dim, self.hop)
        latents: Tensor = self.parts.vae.encode(mel[:, None].to(self.parts.vae.dtype)).latent_dist.mode() * self.parts.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor, audio_s: float) -> Tensor:
        """(B, C, L, F) -> (B, int(audio_s * sample_rate_hz))."""
        scaled = (1 / self.parts.vae.config.scaling_factor * latents).to(self.parts.vae.dtype)
        mel = self.parts.vae.decode(scaled).sample.squeeze(1)
        audio: Tensor = self.parts.vocoder(mel)
        return audio.float()[:, : int(audio_s * self.sample_rate_hz)]

    def level_of_training(self, audio: Tensor) -> Tensor:
        """Without offset, peaks at 0.5."""
        return audioldm_mel.level_of_training(audio)

    @abstractmethod
    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """(B, C, L, F)"""


class AudioLDM(MelPipeline):
    """AudioLDMPipeline of diffusers."""

    kind: ClassVar[str] = "audioldm"

    @torch.no_grad()
    def conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """class_labels (B, D): CLAP embeddings of unit length."""
        return {"class_labels": self.parts._encode_prompt(list(captions), self.device, 1, False)}

    @torch.no_grad()
    def null_conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """class_labels (B, D) of the empty text."""
        return {"class_labels": self.parts._encode_prompt(list(captions), self.device, 1, True).chunk(2)[0]}

    def denoise(self, z: Tensor, timestep: Tensor, conditioning: Conditioning, denoiser: nn.Module | None = None) -> Tensor:
        """(B, C, L, F)"""
        output: Tensor = (denoiser or self.denoiser)(z, timestep, encoder_hidden_states=None, **conditioning).sample
        return output

    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """(B, C, L, F) by the stock pipeline's `__call__`."""
        self.parts.scheduler = request.scheduler
        with quiet(), _ending_at_latents(self.parts):
            made: Tensor = self.parts(
                list(captions),
                audio_length_in_s=request.audio_s,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance_scale,
                latents=noise,
                generator=request.generators,
                output_type="pt",
            ).audios
        return made


@contextlib.contextmanager
def _ending_at_latents(pipe: Any) -> Iterator[None]:
    """This pipeline knows no output_type "latent": what follows its sampling changes nothing meanwhile. Its last cut, to the number of
    samples, then falls on the latents' channels, which are fewer."""
    pipe.decode_latents = pipe.mel_spectrogram_to_waveform = lambda latents: latents
    try:
        yield
    finally:
        del pipe.decode_latents, pipe.mel_spectrogram_to_waveform
