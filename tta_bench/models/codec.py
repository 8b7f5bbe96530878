"""The codec: log-mel in, a few latent channels at a low rate, waveform out through an inverse STFT.

Encoder and decoder are convolutional and normalise frame by frame, so the decoder's receptive field is finite. The head predicts
magnitude and phase of each frame (after Siuzdak 2023, arXiv 2306.00814); no adversary, so it is trained in minutes on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta_bench.models.convnext import CausalConv1d, ConvNeXt
from tta_bench.spectrum import LogMel

N_FFT, HOP = 1024, 320


@dataclass(frozen=True)
class CodecShape:
    """Sizes. channels: of the latent. One latent frame spans 4 STFT hops of 320 samples: 12.5 Hz at 16 kHz.

    causal: of the decoder, whose convolutions then look at the past alone. Tensors have the same names and shapes either way.
    """

    channels: int = 16
    bands: int = 96
    dim: int = 192
    hidden: int = 512
    encoder_blocks: int = 3
    decoder_blocks: int = 6
    sample_rate_hz: int = 16_000
    causal: bool = False

    @property
    def samples_per_latent(self) -> int:
        """Audio samples that one latent frame spans."""
        return 4 * HOP


class Codec(nn.Module):
    """encode: (B, T) audio in [-1, 1] -> (B, C, T / 1280) latents, normalised per channel; decode: back. T is a multiple of 1280.

    latent_mean, latent_std: (C,) statistics of the training set, set once training has ended; 0 and 1 before.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, shape: CodecShape | None = None) -> None:
        super().__init__()
        self.shape = shape or CodecShape()
        s = self.shape
        self.front_end = MelFrontEnd(s)
        blocks = [ConvNeXt(s.dim, s.hidden) for _ in range(s.encoder_blocks)]
        third = -(-s.encoder_blocks // 3)
        self.encoder = nn.Sequential(
            nn.Conv1d(s.bands, s.dim, 7, padding=3),
            *blocks[:third],
            nn.Conv1d(s.dim, s.dim, 2, stride=2),
            *blocks[third : 2 * third],
            nn.Conv1d(s.dim, s.dim, 2, stride=2),
            *blocks[2 * third :],
            nn.Conv1d(s.dim, s.channels, 1),
        )
        blocks = [ConvNeXt(s.dim, s.hidden, s.causal) for _ in range(s.decoder_blocks)]
        third = s.decoder_blocks // 3
        self.decoder = nn.Sequential(
            CausalConv1d(s.channels, s.dim, 3) if s.causal else nn.Conv1d(s.channels, s.dim, 3, padding=1),
            *blocks[:third],
            nn.ConvTranspose1d(s.dim, s.dim, 2, stride=2),
            *blocks[third : 2 * third],
            nn.ConvTranspose1d(s.dim, s.dim, 2, stride=2),
            *blocks[2 * third :],
        )
        self.head = InverseStft(s.dim)
        self.register_buffer("latent_mean", torch.zeros(s.channels))
        self.register_buffer("latent_std", torch.ones(s.channels))

    def encode(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, C, L), about standard normal per channel. Raises ValueError unless T is a positive multiple of 1280."""
        return (self.encode_raw(audio) - self.latent_mean[:, None]) / self.latent_std[:, None]

    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, L) -> (B, 1280 L)."""
        return self.decode_raw(latents * self.latent_std[:, None] + self.latent_mean[:, None])

    def encode_raw(self, audio: Tensor) -> Tensor:
        """`encode` before normalisation: what training sees."""
        if audio.dim() != 2 or audio.shape[1] == 0 or audio.shape[1] % self.shape.samples_per_latent:
            raise ValueError(f"the codec takes (B, T) with T a multiple of {self.shape.samples_per_latent}, got {tuple(audio.shape)}")
        latents: Tensor = self.encoder(self.front_end(audio))
        return latents

    def decode_raw(self, latents: Tensor) -> Tensor:
        """`decode` of latents before normalisation."""
        audio: Tensor = self.head(self.decoder(latents))
        return audio


class MelFrontEnd(nn.Module):
    """(B, T) -> (B, bands, T / 320) log-mels, roughly in [-1, 1.5]; magnitude STFT of 1024 samples, frames centred on their hop."""

    window: Tensor
    matrix: Tensor

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        spec = LogMel(shape.sample_rate_hz, N_FFT, HOP, N_FFT, shape.bands, 30.0, 7_900.0, "slaney", 1, False, "offset", 1e-3)
        self.register_buffer("window", torch.from_numpy(spec.hann).float(), persistent=False)
        self.register_buffer("matrix", torch.from_numpy(spec.matrix * 100.0).float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, bands, T / 320)."""
        with torch.autocast(audio.device.type, enabled=False):
            margin = (N_FFT - HOP) // 2
            frames = nn.functional.pad(audio.float(), (margin, margin)).unfold(1, N_FFT, HOP) * self.window
            mel = torch.fft.rfft(frames).abs() @ self.matrix
            return (torch.log(mel + 1e-3).transpose(1, 2) + 2.0) / 4.0


class InverseStft(nn.Module):
    """(B, D, frames) -> (B, 320 frames) audio: a linear layer to log-magnitude and phase, inverse FFT, overlap-add."""

    window: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = nn.Linear(dim, 2 * (N_FFT // 2 + 1))
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, frames) -> (B, 320 frames)."""
        magnitude, phase = self.out(self.norm(x.transpose(1, 2))).float().chunk(2, dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            size = torch.exp(magnitude.clamp(max=math.log(1e3)))
            frames = torch.fft.irfft(torch.complex(size * torch.cos(phase), size * torch.sin(phase)), N_FFT) * self.window
            return self._overlap_add(frames) / self._envelope(x.shape[2], frames)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """(B, frames, 1024) -> (B, 320 frames): each frame centred on its hop."""
        count = frames.shape[1]
        length = (count - 1) * HOP + N_FFT
        summed = nn.functional.fold(frames.transpose(1, 2), (1, length), (1, N_FFT), stride=(1, HOP))[:, 0, 0]
        margin = (N_FFT - HOP) // 2
        return summed[:, margin : margin + count * HOP]

    def _envelope(self, count: int, frames: Tensor) -> Tensor:
        """(1, 320 frames) sum of squared windows, by which overlap-add must be divided."""
        return self._overlap_add(self.window.square().expand(1, count, N_FFT).to(frames)).clamp(min=1e-3)
