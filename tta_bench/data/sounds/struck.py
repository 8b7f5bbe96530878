"""Sounds of things that are struck: bells, doors, keys, clocks, drums and floors."""

from __future__ import annotations

import numpy as np

from tta_bench.data.sounds import dsp
from tta_bench.data.sounds.dsp import SAMPLE_RATE_HZ, Array

# partials of a church bell relative to its prime (hum, prime, tierce, quint, nominal, ...), after Rossing 2000, chapter 11
_BELL = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.6, 3.0, 4.1, 5.3, 6.6])
_BELL_FALLS = np.array([4.4, 3.6, 3.0, 2.1, 2.4, 1.5, 1.3, 0.9, 0.7, 0.5])
# modes of a membrane relative to its lowest
_MEMBRANE = np.array([1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5])


def _contacts(count: int, samples: int, low_hz: float, high_hz: float, fall_s: float, rng: np.random.Generator, attack_s: float = 0.001) -> Array:
    """(count, samples) bursts of band-passed noise of unit peak: two surfaces that meet."""
    x = dsp.filtered(rng.standard_normal((count, samples)), low_hz, high_hz) * dsp.decay(samples, fall_s, attack_s)
    return np.asarray(x / np.abs(x).max(axis=1, keepdims=True))


def _body(count: int, samples: int, frequency_hz: float, partials: int, fall_s: float, rng: np.random.Generator) -> Array:
    """(count, samples) ringings of unit peak of a dull body with a few irregular modes; each blow meets it elsewhere."""
    ratios = 0.5 + np.cumsum(rng.uniform(0.3, 0.9, partials))
    blows = [
        dsp.modes(
            samples, frequency_hz * ratios * (1.0 + 0.04 * rng.standard_normal(partials)), rng.uniform(0.5, 1.0, partials), fall_s / np.sqrt(ratios)
        )
        for _ in range(count)
    ]
    x = np.stack(blows)
    return np.asarray(x / np.abs(x).max(axis=1, keepdims=True))


def bell(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Church bell: inharmonic partials, the lower ones in beating pairs, among stone walls."""
    prime = 720.0 * pitch * 2.0 ** (0.8 * rng.standard_normal() / 12.0)
    ratios = _BELL * (1.0 + 0.008 * rng.standard_normal(10))
    gains = ratios**0.58 * rng.uniform(0.6, 1.4, 10)
    gains[0] *= 0.6
    pairs = np.concatenate([ratios, ratios[:6] * (1.0 + rng.uniform(0.0005, 0.002, 6))])
    length = min(samples, 2 * SAMPLE_RATE_HZ)
    ring = dsp.modes(length, prime * pairs, np.append(gains, 0.6 * gains[:6]), np.append(_BELL_FALLS, _BELL_FALLS[:6]))
    ring *= dsp.fades(length, 0.0, 0.3) / np.abs(ring).max()
    ring[:640] += rng.uniform(0.1, 0.2) * _contacts(1, 640, 930.0, 7_000.0, 0.025, rng)[0]
    x = dsp.place(samples, dsp.regular_onsets(samples, 2.1 * rate, 0.025, rng), lambda _: ring * rng.uniform(0.75, 1.0))
    return dsp.room(x, rng.uniform(0.9, 1.2), rng.uniform(1.2, 1.7), rng, rng.uniform(-46.0, -39.0))


def knock(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Knuckles on a wooden door that rattles a little in its frame."""
    tune = rng.uniform(0.85, 1.2)
    length = 1_600
    blows = _contacts(4, length, 130.0 * tune, 620.0 * tune, 0.024, rng) + rng.uniform(0.1, 0.25) * _body(4, length, 350.0 * tune, 5, 0.031, rng)
    gap = int(rng.uniform(0.014, 0.02) * SAMPLE_RATE_HZ)

    def blow(i: int) -> Array:
        x = np.append(blows[i % 3], np.zeros(gap))
        x[gap:] += 0.4 * blows[3]
        return x * rng.uniform(0.65, 1.0)

    x = dsp.place(samples, dsp.regular_onsets(samples, 4.6 * rate, 0.03, rng), blow)
    return dsp.room(x, rng.uniform(0.12, 0.22), rng.uniform(0.2, 0.3), rng, rng.uniform(-50.0, -44.0))


def click(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Keys of a keyboard: each clicks as it goes down and, more softly, as it comes up."""
    tune = rng.uniform(0.9, 1.15)
    length = 1_600
    keys = _contacts(4, length, 2_300.0 * tune, min(7_400.0, 7_000.0 * tune), 0.013, rng) + 0.08 * _body(4, length, 640.0 * tune, 6, 0.1, rng)

    def key(i: int) -> Array:
        gap = int(rng.uniform(0.025, 0.045) * SAMPLE_RATE_HZ)
        x = np.append(keys[rng.integers(3)], np.zeros(gap))
        x[gap:] += rng.uniform(0.3, 0.5) * keys[3]
        return x * rng.uniform(0.65, 1.0)

    x = dsp.place(samples, dsp.regular_onsets(samples, 5.5 * rate, 0.05, rng), key)
    return dsp.room(x, rng.uniform(0.05, 0.1), 0.24, rng, rng.uniform(-31.0, -26.0))


def clock(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Wall clock: tick and tock of an escapement, each a drop and a recoil, heard in a quiet room."""
    tune = rng.uniform(0.9, 1.1)
    length = 1_000
    beats = []
    for height in (1.06, 0.94):
        low = 1_770.0 * tune * height
        drop = (
            _contacts(1, length, low, 2.7 * low, rng.uniform(0.018, 0.028), rng)[0] + 0.1 * _body(1, length, 1_450.0 * tune * height, 5, 0.03, rng)[0]
        )
        gap = int(0.05 * rng.uniform(0.9, 1.1) * SAMPLE_RATE_HZ)
        beat = np.append(drop, np.zeros(gap))
        beat[gap:] += rng.uniform(0.35, 0.5) * drop
        beats.append(beat)
    x = dsp.place(samples, dsp.regular_onsets(samples, 4.5 * rate, 0.01, rng), lambda i: beats[i % 2] * rng.uniform(0.85, 1.0))
    return dsp.room(x, rng.uniform(0.25, 0.35), rng.uniform(0.4, 0.55), rng, rng.uniform(-30.0, -26.0))


def _membrane(base_hz: float, strength: float, slap: Array, samples: int, rng: np.random.Generator) -> Array:
    """(samples,) blow on a drum: modes that start sharp and settle, brighter the harder it is struck, after the slap of a hand."""
    x = np.zeros(samples)
    glide = 1.0 + rng.uniform(0.05, 0.2) * np.exp(-dsp.seconds(samples) / 0.03)
    for k, ratio in enumerate(_MEMBRANE):
        n = int(samples / (1.0 + 0.5 * k))
        gain = rng.uniform(0.5, 1.0) / (1.0 + k * (1.6 - strength))
        x[:n] += gain * dsp.oscillator(base_hz * ratio * glide[:n], n) * dsp.decay(n, n / SAMPLE_RATE_HZ, 0.0015)
    x[: len(slap)] += 0.5 * strength * slap
    return np.asarray(strength * x)


def drum(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Hand drum: modes of a membrane that glide down, and the slap of a hand; a pattern of accents."""
    base = 130.0 * pitch * 2.0 ** (rng.standard_normal() / 12.0)
    slaps = _contacts(3, 800, 400.0, 4_000.0, 0.03, rng)
    blows = [_membrane(base, strength, slap, 8_000, rng) for strength, slap in zip((1.0, *rng.permutation([0.5, 0.65, 0.8])[:2]), slaps, strict=True)]
    beats = [0, *rng.integers(1, 3, 3)]
    x = dsp.place(samples, dsp.regular_onsets(samples, 4.0 * rate, 0.012, rng), lambda i: blows[beats[i % 4]] * rng.uniform(0.85, 1.0))
    return dsp.room(x, rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.6), rng, -50.0)


def footsteps(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Shoes on a hard floor: heel, then sole, outdoors or in a large room with some noise around."""
    tune = rng.uniform(0.9, 1.1)
    length = 1_600
    feet = _contacts(4, length, 240.0 * tune, 560.0 * tune, 0.023, rng) + rng.uniform(0.25, 0.45) * _body(4, length, 270.0 * tune, 5, 0.048, rng)

    def step(i: int) -> Array:
        roll = int(rng.uniform(0.06, 0.075) / rate**0.5 * SAMPLE_RATE_HZ)
        x = np.append(feet[i % 2], np.zeros(roll))
        x[roll:] += rng.uniform(0.4, 0.65) * feet[2 + i % 2]
        return x * rng.uniform(0.55, 1.0)

    x = dsp.place(samples, dsp.regular_onsets(samples, 2.7 * rate, 0.05, rng), step)
    return dsp.room(x, rng.uniform(0.06, 0.12), 0.25, rng, rng.uniform(-31.0, -27.0), -2.0)
