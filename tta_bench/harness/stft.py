"""Multi-resolution STFT distance, for training a codec and for reporting what it loses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STFT_SIZES = (256, 512, 1024, 2048)
_FLOOR = 1e-3  # of a magnitude: 108 dB below a full-scale sine at 1024 samples


class _Power(torch.autograd.Function):
    """(..., N) real frames -> (..., N/2 + 1) |rfft|^2. Its gradient is one real inverse FFT, where autograd takes a complex one of all bins."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        """See the class."""
        spectrum = torch.fft.rfft(frames)
        ctx.save_for_backward(spectrum)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """d/dx_n of sum_k g_k |X_k|^2 = sum_k 2 g_k Re(X_k e^(2 pi i k n / N)): irfft of N g X, whose inner bins count twice by themselves."""
        (spectrum,) = ctx.saved_tensors
        size = 2 * (spectrum.shape[-1] - 1)
        scale = grads[0] * size
        scale[..., 0] *= 2.0
        scale[..., -1] *= 2.0
        gradient: Tensor = torch.fft.irfft(spectrum * scale, size)
        return gradient


def stft_power(audio: Tensor, size: int) -> Tensor:
    """(B, T) -> (B, frames, size/2 + 1) squared magnitudes; Hann window, half of it as hop, no padding. Raises ValueError if T < size."""
    if audio.shape[1] < size:
        raise ValueError(f"{audio.shape[1]} samples are shorter than an STFT of {size}")
    power: Tensor = _Power.apply(  # type: ignore[no-untyped-call]
        audio.unfold(1, size, size // 2) * torch.hann_window(size, device=audio.device)
    )
    return power


def stft_distance(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) log-magnitude distance (mean |difference| of natural logs) and (B,) spectral convergence, means over STFT sizes 256 to 2048.

    Yamamoto et al. 2020, arXiv 1910.11480, section 2.2. audio, target: (B, T) float32; no gradient flows into target.
    """
    logs, convergences = [], []
    for size in STFT_SIZES:
        a = stft_power(audio, size).add(_FLOOR**2)
        with torch.no_grad():
            b = stft_power(target, size).add(_FLOOR**2)
            norm, log_b, b = b.sum(dim=(1, 2)).sqrt(), b.log(), b.sqrt()
        logs.append(0.5 * (a.log() - log_b).abs().mean(dim=(1, 2)))
        convergences.append((a.sqrt() - b).square().sum(dim=(1, 2)).sqrt() / norm)
    return torch.stack(logs).mean(dim=0), torch.stack(convergences).mean(dim=0)
