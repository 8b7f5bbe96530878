"""Building blocks of the sounds: time axes, envelopes, noises, resonances, placement of repeated events.

scipy.signal takes a second to load, and who only draws scenes and captions needs none of it: functions load it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

SAMPLE_RATE_HZ = 16_000
Array = npt.NDArray[np.float64]


def seconds(samples: int) -> Array:
    """(samples,) time of each sample in s."""
    return np.arange(samples) / SAMPLE_RATE_HZ


def oscillator(frequency_hz: npt.ArrayLike, samples: int, phase: float = 0.0) -> Array:
    """(samples,) sine of a constant or varying (samples,) frequency."""
    steps = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64), (samples,)) / SAMPLE_RATE_HZ
    return np.sin(2.0 * np.pi * (np.cumsum(steps) - steps[:1]) + phase)


def decay(samples: int, seconds_to_60_db: float, attack_s: float = 0.001) -> Array:
    """(samples,) envelope that rises linearly over attack_s and falls by 60 dB in seconds_to_60_db."""
    t = seconds(samples)
    return np.minimum(t / attack_s, 1.0) * 10.0 ** (-3.0 * t / seconds_to_60_db)


def fades(samples: int, rise_s: float = 0.01, fall_s: float = 0.01) -> Array:
    """(samples,) raised-cosine fade in and out; both shrink to fit."""
    rise, fall = (max(1, min(int(s * SAMPLE_RATE_HZ), samples // 2)) for s in (rise_s, fall_s))
    envelope = np.ones(samples)
    envelope[:rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    envelope[-fall:] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(fall) + 1.0) / fall)
    return envelope


def filtered(x: Array, low_hz: float | None, high_hz: float | None, order: int = 2) -> Array:
    """(samples,) Butterworth band-, high- (high_hz None) or low-pass (low_hz None), causal."""
    from scipy import signal

    return np.asarray(signal.sosfilt(_butterworth(low_hz, high_hz, order), x))


@lru_cache(maxsize=512)
def _butterworth(low_hz: float | None, high_hz: float | None, order: int) -> Array:
    """Second-order sections; designing a filter takes as long as running it."""
    from scipy import signal

    edges = [min(edge, 0.49 * SAMPLE_RATE_HZ) for edge in (low_hz, high_hz) if edge is not None]
    kind: Literal["bandpass", "lowpass", "highpass"] = "bandpass" if len(edges) == 2 else "lowpass" if low_hz is None else "highpass"
    return np.asarray(signal.butter(order, edges if len(edges) == 2 else edges[0], kind, fs=SAMPLE_RATE_HZ, output="sos"))


def resonator(x: Array, frequency_hz: float, bandwidth_hz: float) -> Array:
    """(samples,) two-pole resonance with unit gain at its peak."""
    from scipy import signal

    r = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    theta = 2.0 * np.pi * min(frequency_hz, 0.49 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    gain = (1.0 - r) * np.sqrt(1.0 - 2.0 * r * np.cos(2.0 * theta) + r * r)
    return np.asarray(signal.lfilter([gain], [1.0, -2.0 * r * np.cos(theta), r * r], x))


def white(samples: int, rng: np.random.Generator) -> Array:
    """(samples,) Gaussian noise."""
    return rng.standard_normal(samples)


def coloured(samples: int, slope_db_per_octave: float, rng: np.random.Generator) -> Array:
    """(samples,) noise whose spectrum falls or rises by a slope; pink is -3, brown -6. Unit variance."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    x = np.fft.irfft(spectrum * bins ** (slope_db_per_octave / (20.0 * np.log10(2.0))), samples)
    return x / max(float(x.std()), 1e-12)


def slow_noise(samples: int, cutoff_hz: float, rng: np.random.Generator) -> Array:
    """(samples,) smooth random curve, about standard normal, that moves no faster than cutoff_hz."""
    knots = max(4, int(np.ceil(samples / SAMPLE_RATE_HZ * cutoff_hz * 2.0)) + 3)
    return np.interp(np.linspace(1.0, knots - 2.0, samples), np.arange(knots), rng.standard_normal(knots))


def regular_onsets(samples: int, per_second: float, jitter: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Sample positions of events at a steady pace; jitter: standard deviation as a share of the period. The first one is near the start."""
    period = SAMPLE_RATE_HZ / per_second
    at = np.arange(rng.uniform(0.0, 0.15) * period, samples, period)
    return np.clip(at + jitter * period * rng.standard_normal(len(at)), 0, samples - 1).astype(np.int64)


def random_onsets(samples: int, per_second: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Sorted sample positions of a Poisson process, at least one."""
    count = max(1, int(rng.poisson(per_second * samples / SAMPLE_RATE_HZ)))
    return np.sort(rng.integers(0, samples, count))


def place(samples: int, onsets: npt.NDArray[np.int64], event: Callable[[int], Array]) -> Array:
    """(samples,) sum of event(i) placed at onsets[i], cut at the end."""
    out = np.zeros(samples)
    for i, at in enumerate(onsets):
        piece = event(i)[: samples - at]
        out[at : at + len(piece)] += piece
    return out


def modes(samples: int, frequencies_hz: npt.ArrayLike, gains: npt.ArrayLike, seconds_to_60_db: npt.ArrayLike) -> Array:
    """(samples,) impulse response of a struck body: the sum of its modes, sines that decay each at its own pace. Modes above 7.6 kHz are left out."""
    from scipy import signal

    out = np.zeros(samples)
    impulse = np.zeros(samples)
    impulse[0] = 1.0
    for frequency, gain, fall in np.broadcast(frequencies_hz, gains, seconds_to_60_db):
        n = min(samples, int(1.3 * fall * SAMPLE_RATE_HZ))
        if frequency < 7_600.0 and n > 1:
            r = 10.0 ** (-3.0 / (fall * SAMPLE_RATE_HZ))
            theta = 2.0 * np.pi * frequency / SAMPLE_RATE_HZ
            out[:n] += gain * signal.lfilter([0.0, r * np.sin(theta)], [1.0, -2.0 * r * np.cos(theta), r * r], impulse[:n])
    return out


def room(x: Array, wet: float, seconds_to_60_db: float, rng: np.random.Generator, floor_db: float = -55.0, slope: float = -3.0) -> Array:
    """(samples,) x in a room: six early reflections, a tail of decaying darkened noise, and a floor of noise at floor_db re the loudest 50 ms.

    wet: amplitude of the reverberation relative to the direct sound. slope: of the floor's spectrum in dB per octave, pink by default.
    """
    from scipy import signal

    length = max(int(seconds_to_60_db * SAMPLE_RATE_HZ), 400)
    tail = signal.lfilter([0.6], [1.0, -0.4], white(length, rng)) * 10.0 ** (-3.0 * np.arange(length) / length)
    tail[:80] = 0.0
    tail[rng.integers(40, 400, 6)] += 4.0 * rng.choice([-1.0, 1.0], 6) * rng.uniform(0.4, 1.0, 6)
    response = wet * tail / np.sqrt(np.sum(tail**2))
    response[0] = 1.0
    energy = np.cumsum(x**2)
    loudest = np.sqrt((1.0 + wet**2) * np.max(energy[800:] - energy[:-800], initial=0.0) / 800.0)
    n = fft.next_fast_len(len(x) + length, real=True)
    shape = np.maximum(np.arange(n // 2 + 1), 1) ** (slope / (20.0 * np.log10(2.0)))
    shape *= loudest * 10.0 ** (floor_db / 20.0) * n / np.sqrt(4.0 * np.sum(shape**2))
    noise = rng.standard_normal((n // 2 + 1, 2)).view(np.complex128)[:, 0]
    spectrum = fft.rfft(x, n) * fft.rfft(response, n) + shape * noise
    return np.asarray(fft.irfft(spectrum, n)[: len(x)])


def gliding_noise(frequency_hz: Array, bandwidth_hz: float, rng: np.random.Generator) -> Array:
    """(samples,) band of noise, unit variance, whose centre follows frequency_hz (samples,): complex low-pass noise on a moving carrier."""
    from scipy import signal

    r = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    in_phase, quadrature = signal.lfilter([1.0], [1.0, -2.0 * r, r * r], rng.standard_normal((2, len(frequency_hz))))
    phase = 2.0 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ
    x = in_phase * np.cos(phase) - quadrature * np.sin(phase)
    return np.asarray(x / max(float(x.std()), 1e-12))
