"""Weather, water, fire and animals. See the package for what a renderer takes and gives."""

from __future__ import annotations

import numpy as np

from tta_bench.data.sounds.dsp import (
    SAMPLE_RATE_HZ,
    Array,
    coloured,
    fades,
    filtered,
    gliding_noise,
    oscillator,
    place,
    random_onsets,
    regular_onsets,
    resonator,
    room,
    seconds,
    slow_noise,
    white,
)


def _impulses(samples: int, per_second: float, tail: float, rng: np.random.Generator) -> Array:
    """(samples,) Poisson impulses of random sign, sizes a Pareto law with exponent `tail` (small: a few are much louder)."""
    at = random_onsets(samples, per_second, rng)
    sizes = np.minimum(1.0 + rng.pareto(tail, len(at)), 12.0) * rng.choice([-1.0, 1.0], len(at))
    return np.bincount(at, sizes, minlength=samples).astype(np.float64)


def rain(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Hiss of far drops and thousands of near ones; rate: how dense it falls."""
    near = _impulses(samples, 60.0 * rate**2.5, 4.0, rng)
    middle = _impulses(samples, 1_500.0 * rate**2.5, 4.0, rng)
    out = 1.0 * resonator(near, rng.uniform(1_800, 2_800), 1_500.0) + 0.35 * filtered(middle, 1_200.0, 6_800.0, 1)
    hiss = filtered(white(samples, rng), 600.0, 7_500.0, 1) * (1.0 + 0.06 * slow_noise(samples, 6.0, rng))
    return (out + 0.17 * rate**2 * hiss) * fades(samples, 0.02, 0.03)


def wind(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Gusts: low noise and a howl whose centre follows the strength of the wind."""
    gust = slow_noise(samples, 1.3, rng)
    strength = np.exp(0.45 * gust + 0.1 * slow_noise(samples, 8.0, rng))
    centre = rng.uniform(0.85, 1.15) * 420.0 * pitch * np.exp(0.22 * gust)
    howl = gliding_noise(centre, 150.0 * pitch, rng)
    air = white(samples, rng)
    low = resonator(air, 0.0, 700.0 * pitch)
    return (1.0 * howl + 5.0 * low + 0.04 * air) * strength * fades(samples, 0.05, 0.05)


def waves(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Surf: noise that swells and breaks about every two seconds, and foam that hisses after it."""
    t = seconds(samples)
    period, start = rng.uniform(1.7, 2.6), rng.uniform(0.0, 1.0)
    phase = (t / period + start) % 1.0
    swell = np.where(phase < 0.4, 0.5 - 0.5 * np.cos(np.pi * phase / 0.4), 0.5 + 0.5 * np.cos(np.pi * (phase - 0.4) / 0.6))
    roar = filtered(coloured(samples, -3.0, rng), 80.0, 3_000.0, 1)
    foam = filtered(white(samples, rng), 1_500.0, 7_000.0, 1) * (1.0 + 0.2 * slow_noise(samples, 20.0, rng))
    delayed = np.interp(t, t + 0.25, swell)
    return (roar * (0.35 + swell) + 0.25 * foam * (0.2 + delayed**1.5)) * fades(samples, 0.05, 0.05)


def _note(kind: int, centre_hz: float, rng: np.random.Generator) -> Array:
    """One note of a songbird: a down-sweep, an arch, a trill or a two-part whistle."""
    samples = int(rng.uniform(0.07, 0.15) * SAMPLE_RATE_HZ)
    u = np.linspace(0.0, 1.0, samples)
    depth = rng.uniform(0.18, 0.35)
    if kind == 0:
        track = 1.0 + depth * (1.0 - 2.0 * u**0.6)
    elif kind == 1:
        track = 1.0 + depth * (1.5 * np.sin(np.pi * u) - 1.0)
    elif kind == 2:
        track = 1.0 + 0.5 * depth * np.sin(2.0 * np.pi * np.round(rng.uniform(3.0, 6.0)) * u)
    else:
        track = np.where(u < 0.45, 1.0 + 0.6 * depth * u, 1.0 - 0.6 * depth + 0.3 * depth * u)
    track = centre_hz * track
    phase = rng.uniform(0.0, 2.0 * np.pi)
    tone = oscillator(track, samples, phase) + 0.06 * oscillator(np.minimum(2.0 * track, 7_800.0), samples)
    return tone * np.sin(np.pi * u) ** 0.7 * (1.0 + 0.15 * slow_noise(samples, 60.0, rng))


def bird(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """A songbird that repeats a motif of one or two kinds of whistled notes, in faint open air."""
    onsets = regular_onsets(samples, 4.4 * rate, 0.08, rng)
    kinds = rng.integers(0, 4, 2)
    centre = 3_700.0 * pitch * rng.uniform(0.92, 1.08)
    steps = rng.uniform(0.88, 1.12, 2)
    song = place(samples, onsets, lambda i: rng.uniform(0.6, 1.0) * _note(int(kinds[i % 2]), centre * steps[i % 2] * rng.uniform(0.97, 1.03), rng))
    return song + 0.01 * coloured(samples, -3.0, rng)


def cricket(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Chirps of three or four pulses of a 4.5 kHz carrier."""
    carrier = rng.uniform(4_300.0, 4_800.0)
    pulses, period_s = int(rng.integers(3, 5)), rng.uniform(0.022, 0.028)
    length = int(0.8 * period_s * SAMPLE_RATE_HZ)
    shape = np.sin(np.pi * np.linspace(0.0, 1.0, length)) ** 0.8
    onsets = regular_onsets(samples, 4.2 * rate, 0.02, rng)

    def chirp(_: int) -> Array:
        at = (np.arange(pulses) * period_s * SAMPLE_RATE_HZ).astype(np.int64)
        sizes = np.linspace(0.55, 1.0, pulses)
        track = carrier * np.linspace(1.02, 0.98, length) * rng.uniform(0.995, 1.005)
        return place(int(at[-1]) + length, at, lambda i: sizes[i] * shape * oscillator(track, length, rng.uniform(0.0, 6.28)))

    return place(samples, onsets, chirp) + 0.008 * coloured(samples, -3.0, rng) * fades(samples)


def _bark(pitch: float, rate: float, rng: np.random.Generator) -> Array:
    """One bark: a rough voiced source whose pitch jumps up and falls, with breath, through the formants of a muzzle."""
    samples = int(rng.uniform(0.19, 0.25) / max(rate, 1.0) ** 0.15 * SAMPLE_RATE_HZ)
    u = np.linspace(0.0, 1.0, samples)
    f0 = pitch * rng.uniform(0.94, 1.06) * 750.0 * (0.65 + 0.35 * np.sin(np.pi * u**0.78)) * (1.0 + 0.08 * slow_noise(samples, 300.0, rng))
    cycle = np.cumsum(f0) / SAMPLE_RATE_HZ
    voice = 2.0 * (cycle % 1.0) - 1.0 + 0.28 * np.sin(np.pi * cycle)  # a saw and its subharmonic
    source = resonator(voice, 0.0, 3_900.0 * pitch) + 0.05 * white(samples, rng) * (0.3 + np.exp(-u / 0.1))
    source *= 1.0 + 0.42 * oscillator(rng.uniform(27.0, 33.0), samples, rng.uniform(0.0, 6.28))
    formants = ((1_100.0, 205.0, 1.0), (1_160.0, 265.0, 0.3), (2_000.0, 460.0, 0.1), (3_800.0, 820.0, 0.21))
    out = sum((g * resonator(source, f * pitch, b) for f, b, g in formants), np.zeros(samples))
    return out * np.minimum(u / 0.19, 1.0) * np.minimum((1.0 - u) / 0.53, 1.0)


def dog(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """A dog that barks about three times a second, not quite regularly, in a small yard."""
    onsets = regular_onsets(samples, 3.0 * rate, 0.07, rng)
    dry = place(samples, onsets, lambda _: rng.uniform(0.7, 1.0) * _bark(pitch, rate, rng))
    return room(dry, 0.2, 0.5, rng)


def _drop(pitch: float, rng: np.random.Generator) -> Array:
    """One drop: the tick of its impact, then a bubble that rings and rises as it shrinks (Minnaert 1933; van den Doel 2005)."""
    samples = int(0.1 * SAMPLE_RATE_HZ)
    t = seconds(samples)
    base = 720.0 * pitch * np.exp(0.35 * np.clip(rng.standard_normal(), -2.0, 2.0))
    damping = rng.uniform(65.0, 135.0)
    late = int(rng.uniform(0.004, 0.02) * SAMPLE_RATE_HZ)
    bubble = oscillator(base * (1.0 + rng.uniform(6.0, 20.0) * t), samples) * np.exp(-damping * t) * np.minimum(t / 0.0015, 1.0)
    out = resonator(white(samples, rng) * np.exp(-t / 0.0011), 2_400.0 * pitch, 2_400.0 * pitch)
    out[late:] += bubble[:-late]
    return out


def drops(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Water that drips into a basin, about five drops a second, with the basin's short echo and a faint trickle."""
    onsets = regular_onsets(samples, 5.0 * rate, 0.15, rng)
    dry = place(samples, onsets, lambda _: rng.uniform(0.4, 1.0) * _drop(pitch, rng))
    trickle = resonator(_impulses(samples, 400.0, 1.6, rng), 1_300.0 * pitch, 160.0)
    return room(dry + 0.003 * trickle, 0.1, 0.3, rng, -50.0)


def crackle(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """A fire: snaps whose sizes follow a power law, over the rumble and hiss of the flames; rate: snaps per second."""
    fine = filtered(_impulses(samples, 45.0 * rate**1.5, 1.2, rng), 1_800.0, 7_000.0, 1)
    envelope = np.convolve(np.abs(_impulses(samples, 9.0 * rate**1.5, 1.3, rng)), np.exp(-np.arange(160) / 35.0))[:samples]
    snaps = filtered(envelope * white(samples, rng), 900.0, 6_000.0, 1)
    flames = filtered(coloured(samples, -5.0, rng), 50.0, 500.0, 1) * (1.0 + 0.4 * slow_noise(samples, 9.0, rng))
    hiss = filtered(white(samples, rng), 1_500.0, 6_500.0, 1)
    return 0.6 * fine + 0.35 * snaps + (0.05 * flames + 0.05 * hiss) * fades(samples, 0.02, 0.02)
