"""Every renderer: its contract, and that pitch and rate do to the sound what captions say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal

from tta_bench.data.events import EVENT_CLASSES, EventClass
from tta_bench.rng import generator

SAMPLE_RATE_HZ, CLIP, DRAWS = 16_000, 40_960, 6
NAMES = sorted(EVENT_CLASSES)
PITCHED = [name for name in NAMES if EVENT_CLASSES[name].pitched]
PACED = [name for name in NAMES if EVENT_CLASSES[name].paced]


def _draw(event: EventClass, pitch: float = 1.0, rate: float = 1.0, samples: int = CLIP, i: int = 0) -> np.ndarray:
    return event.sound(pitch, rate, samples, generator(5, "sounds", event.name, i))


def _centroid_hz(x: np.ndarray) -> float:
    """Power-weighted mean frequency above 40 Hz."""
    frequencies, power = signal.welch(x, SAMPLE_RATE_HZ, nperseg=1024)
    keep = frequencies > 40.0
    return float((frequencies * power)[keep].sum() / power[keep].sum())


def _levels_db(x: np.ndarray) -> np.ndarray:
    """Level of 5 ms frames, smoothed over 55 ms, at most 40 dB below the highest."""
    energy = np.convolve((x[: len(x) // 80 * 80].reshape(-1, 80) ** 2).mean(axis=1), np.hanning(13)[1:-1], mode="same")
    return np.maximum(10.0 * np.log10(energy / energy.max() + 1e-12), -40.0)


def _onsets(x: np.ndarray) -> float:
    """Rises of the treble's level by 4 dB or more, 50 ms apart."""
    return float(len(signal.find_peaks(np.concatenate([[-40.0], _levels_db(np.diff(x)), [-40.0]]), prominence=4.0, distance=10)[0]))


def _density(x: np.ndarray) -> float:
    """3 over the kurtosis: the more grains add up, the closer to 1 (a Gaussian's)."""
    return float(3.0 * np.mean(x**2) ** 2 / np.mean(x**4))


def _sweep_speed(x: np.ndarray) -> float:
    """Mean speed of the strongest frequency, in octaves per 64 ms."""
    frequencies, _, power = signal.spectrogram(x, SAMPLE_RATE_HZ, nperseg=512, noverlap=256)
    track = np.log2(frequencies[1:][power[1:].argmax(axis=0)])
    return float(np.abs(track[4:] - track[:-4]).mean())


MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    **dict.fromkeys(("rain", "applause", "crackle"), _density),
    **dict.fromkeys(("siren", "chirp"), _sweep_speed),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [9_600, 20_000, 40_960])
def test_contract(name: str, samples: int) -> None:
    event = EVENT_CLASSES[name]
    for i, (pitch, rate) in enumerate([(1.0, 1.0), (0.55, 0.5), (1.8, 2.0)]):
        x = _draw(event, pitch, rate, samples, i)
        assert x.shape == (samples,)
        assert x.dtype == np.float64
        assert np.isfinite(x).all()
        assert np.sqrt(np.mean(x[:4_800] ** 2)) > 0.01 * np.sqrt(np.mean(x**2)), "silent at its start"


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_varied(name: str) -> None:
    event = EVENT_CLASSES[name]
    x, same, other = _draw(event), _draw(event), _draw(event, i=1)
    np.testing.assert_array_equal(x, same)
    assert np.abs(np.dot(x, other)) < 0.9 * np.linalg.norm(x) * np.linalg.norm(other)


@pytest.mark.parametrize("name", PITCHED)
def test_pitch_moves_the_spectrum(name: str) -> None:
    low, high = ([_centroid_hz(_draw(EVENT_CLASSES[name], pitch, i=i)) for i in range(DRAWS)] for pitch in (0.62, 1.6))
    assert np.mean(np.log(high)) - np.mean(np.log(low)) > np.log(1.5)


@pytest.mark.parametrize("name", PACED)
@pytest.mark.parametrize("samples", [16_000, CLIP])
def test_rate_moves_the_pace(name: str, samples: int) -> None:
    measure = MEASURES.get(name, _onsets)
    slow, fast = (np.mean([measure(_draw(EVENT_CLASSES[name], 1.0, rate, samples, i)) for i in range(DRAWS)]) for rate in (0.6, 1.7))
    assert fast > 1.3 * slow
