"""The front ends of `tta_bench.spectrum` for batches, in torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tta_bench.spectrum import LogMel


class TorchLogMel:
    """`LogMel` for equally long clips on a device: (B, T) in [-1, 1] -> (B, frames, bands) float32, computed in float64: beside a pure
    tone float32's rounding is above the floor of the logarithm.
    """

    def __init__(self, front_end: LogMel, device: torch.device) -> None:
        self.front_end = front_end
        self._window = torch.from_numpy(front_end.hann).to(device)
        self._matrix = torch.from_numpy(front_end.matrix).to(device)

    def __call__(self, audio: Tensor) -> Tensor:
        """T must be at least `front_end.min_samples`."""
        settings = self.front_end
        samples = audio.double()
        if settings.centred:
            half = settings.n_fft // 2
            samples = functional.pad(samples[:, None], (half, half), mode="reflect")[:, 0]
        frames = samples.unfold(-1, settings.window, settings.hop) * self._window
        magnitude = torch.fft.rfft(frames, settings.n_fft).abs()
        mel = (magnitude if settings.power == 1 else magnitude.square()) @ self._matrix
        log_mel = torch.log(mel + settings.floor) if settings.log == "offset" else 10.0 * torch.log10(mel.clamp(min=settings.floor))
        return log_mel.float()
