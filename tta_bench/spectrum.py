"""Filterbanks and log-mels of the field's evaluators, in numpy float64. Torch code takes its matrices from here.

Audio is (T,) in [-1, 1]; spectrograms are (frames, bins); frequencies in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError

Array = npt.NDArray[np.float64]


def hz_to_mel_htk(hz: npt.ArrayLike) -> Array:
    """1127 ln(1 + f / 700): HTK's scale (Young et al., The HTK Book, section 5.4)."""
    return np.asarray(1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0))


def hz_to_mel_slaney(hz: npt.ArrayLike) -> Array:
    """Slaney's Auditory Toolbox scale: linear (200/3 Hz per mel) below 1 kHz, 27 steps per factor 6.4 above."""
    f = np.asarray(hz, dtype=np.float64)
    return np.where(f < 1000.0, f * 3.0 / 200.0, 15.0 + 27.0 * np.log(np.maximum(f, 1000.0) / 1000.0) / np.log(6.4))


def mel_to_hz_slaney(mel: npt.ArrayLike) -> Array:
    """Inverse of `hz_to_mel_slaney`."""
    m = np.asarray(mel, dtype=np.float64)
    return np.where(m < 15.0, m * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) * (np.maximum(m, 15.0) - 15.0) / 27.0))


def mel_matrix_htk(bands: int, n_fft: int, sample_rate_hz: int, low_hz: float, high_hz: float) -> Array:
    """(n_fft/2 + 1, bands) triangles that are linear in mel, DC bin zeroed: VGGish's and YAMNet's (AudioSet front end)."""
    mels = hz_to_mel_htk(np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft)[:, None]
    edges = np.linspace(hz_to_mel_htk(low_hz), hz_to_mel_htk(high_hz), bands + 2)
    matrix = _triangles(mels, edges)
    matrix[0] = 0.0
    return matrix


def mel_matrix_slaney(bands: int, n_fft: int, sample_rate_hz: int, low_hz: float, high_hz: float) -> Array:
    """(n_fft/2 + 1, bands) triangles linear in Hz on Slaney's scale, each of unit area: librosa's default and PANNs'."""
    frequencies = (np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft)[:, None]
    edges = mel_to_hz_slaney(np.linspace(hz_to_mel_slaney(low_hz), hz_to_mel_slaney(high_hz), bands + 2))
    return _triangles(frequencies, edges) * (2.0 / (edges[2:] - edges[:-2]))


def _triangles(points: Array, edges: Array) -> Array:
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0.0, np.minimum((points - left) / (centre - left), (right - points) / (right - centre)))


def frames(audio: Array, size: int, hop: int) -> Array:
    """(n, size) view of overlapping frames, incomplete ones dropped. Raises InputError for audio shorter than one frame."""
    if len(audio) < size:
        raise InputError(f"{len(audio)} samples are shorter than one frame of {size}; give longer audio")
    return np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]


@dataclass(frozen=True)
class LogMel:
    """A front end: STFT, mel triangles, logarithm. `LogMel(...)(audio)` is (frames, bands) float64.

    window: samples, periodic Hann. hop: samples. power: 1 magnitude, 2 power. centred: reflect-pad by half an FFT on both sides.
    log: "offset" is ln(mel + floor), "decibel" is 10 log10(max(mel, floor)).
    """

    sample_rate_hz: int
    window: int
    hop: int
    n_fft: int
    bands: int
    low_hz: float
    high_hz: float
    scale: Literal["htk", "slaney"]
    power: int
    centred: bool
    log: Literal["offset", "decibel"]
    floor: float

    @cached_property
    def hann(self) -> Array:
        """(window,) periodic Hann."""
        return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.window) / self.window)

    @cached_property
    def matrix(self) -> Array:
        """(n_fft/2 + 1, bands)"""
        build = mel_matrix_htk if self.scale == "htk" else mel_matrix_slaney
        return build(self.bands, self.n_fft, self.sample_rate_hz, self.low_hz, self.high_hz)

    @property
    def min_samples(self) -> int:
        """The shortest audio that gives a frame."""
        return self.n_fft // 2 + 1 if self.centred else self.window

    def __call__(self, audio: npt.NDArray[Any]) -> Array:
        """(T,) in [-1, 1] at sample_rate_hz -> (frames, bands). Raises InputError for audio shorter than `min_samples`."""
        samples = np.asarray(audio, dtype=np.float64)
        if len(samples) < self.min_samples:
            raise InputError(f"{len(samples)} samples are shorter than the {self.min_samples} that one frame needs; give longer audio")
        if self.centred:
            samples = np.pad(samples, self.n_fft // 2, mode="reflect")
        magnitude = np.abs(np.fft.rfft(frames(samples, self.window, self.hop) * self.hann, self.n_fft, axis=1))
        mel = magnitude**self.power @ self.matrix
        return np.log(mel + self.floor) if self.log == "offset" else 10.0 * np.log10(np.maximum(mel, self.floor))


def patches(log_mel: Array, size: int = 96, hop: int = 96) -> Array:
    """(P, size, bands) examples of `size` frames, incomplete ones dropped (P may be 0): VGGish's 0.96 s patches."""
    if len(log_mel) < size:
        return np.empty((0, size, log_mel.shape[1]))
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(log_mel, size, axis=0)[::hop], 2, 1)


def windowed_patches(audio: npt.NDArray[Any], front_end: LogMel, window: int = 16_000, hop: int = 8_000, size: int = 96) -> Array:
    """(P, size, bands) as Google's FAD makes them: windows of 1 s every 0.5 s, log-mel of each window, its first `size` frames."""
    if len(audio) < window:
        return np.empty((0, size, front_end.bands))
    return np.stack([front_end(part)[:size] for part in frames(np.asarray(audio, dtype=np.float64), window, hop)])


# Hershey et al. 2017, vggish_params.py; one frame is 25 ms, a patch 0.96 s.
VGGISH = LogMel(16_000, 400, 160, 512, 64, 125.0, 7_500.0, "htk", 1, False, "offset", 0.01)
# Kong et al. 2020, Cnn14_16k and Cnn14.
PANNS_16K = LogMel(16_000, 512, 160, 512, 64, 50.0, 8_000.0, "slaney", 2, True, "decibel", 1e-10)
PANNS_32K = LogMel(32_000, 1_024, 320, 1_024, 64, 50.0, 14_000.0, "slaney", 2, True, "decibel", 1e-10)
# Wu et al. 2023 (LAION-CLAP), unfused: the network's own front end at 48 kHz.
CLAP_48K = LogMel(48_000, 1_024, 480, 1_024, 64, 50.0, 14_000.0, "slaney", 2, True, "decibel", 1e-10)
