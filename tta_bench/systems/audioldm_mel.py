"""Log-mels as AudioLDM's VAE was trained on them, and Tango's, which is the same: STFT of 1024 samples, 64 Slaney mels up to 8 kHz, magnitude.

Source: haoheliu/AudioLDM, audioldm/audio/{stft,tools,audio_processing}.py.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from tta_bench.errors import InputError
from tta_bench.spectrum import mel_matrix_slaney

SAMPLE_RATE_HZ = 16_000
N_FFT = 1024
_FLOOR = 1e-5
_HIGHEST_HZ = 8_000.0


def log_mel(audio: Tensor, bands: int = 64, hop: int = 160) -> Tensor:
    """(B, T) in [-1, 1] at 16 kHz -> (B, ceil(T / hop), bands): ln(max(mel, 1e-5)).

    The frames are centred, edges reflected; audio is padded with silence to whole hops, and the frame beyond its end dropped, as in training.
    Raises InputError for audio that is no longer than half a window, which cannot be reflected.
    """
    samples = functional.pad(audio.float().clamp(-1.0, 1.0), (0, -audio.shape[-1] % hop))
    if samples.shape[-1] <= N_FFT // 2:
        raise InputError(f"{audio.shape[-1]} samples are too few for AudioLDM's log-mel, which needs more than {N_FFT // 2}; give longer audio")
    window = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples, N_FFT, hop, window=window, center=True, pad_mode="reflect", return_complex=True).abs()
    mel = spectrum.transpose(1, 2)[:, :-1] @ _matrix(bands).to(samples.device)
    return mel.clamp(min=_FLOOR).log()


@cache
def _matrix(bands: int) -> Tensor:
    """(N_FFT / 2 + 1, bands)"""
    return torch.from_numpy(mel_matrix_slaney(bands, N_FFT, SAMPLE_RATE_HZ, 0.0, _HIGHEST_HZ)).float()


def level_of_training(audio: Tensor) -> Tensor:
    """(B, T): without offset, peaks at 0.5, as every clip was before its log-mel was taken in training. Silence stays silence, and so do zeros
    at the end: in training clips were padded after their offset was gone.
    """
    heard = audio.ne(0.0).flip(-1).cumsum(dim=-1).flip(-1) > 0  # up to the last sample that is not zero
    centred = (audio - audio.sum(dim=-1, keepdim=True) / heard.sum(dim=-1, keepdim=True).clamp(min=1)) * heard
    return 0.5 * centred / (centred.abs().amax(dim=-1, keepdim=True) + 1e-8)
