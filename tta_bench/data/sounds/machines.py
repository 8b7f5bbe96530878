"""Engines, tools, rushing air and clapping hands. See the package for what a renderer takes and gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tta_bench.data.sounds.dsp import (
    SAMPLE_RATE_HZ,
    Array,
    fades,
    filtered,
    gliding_noise,
    place,
    regular_onsets,
    resonator,
    room,
    slow_noise,
    white,
)


def engine(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Four cylinders fire in turn, each a little different, through exhaust resonances, over the rattle of the valves."""
    from scipy import signal

    firing_hz = 52.0 * pitch * rng.uniform(0.93, 1.07) * (1.0 + 0.02 * slow_noise(samples, 2.0, rng))
    cycle = np.cumsum(firing_hz) / SAMPLE_RATE_HZ
    at = np.flatnonzero(np.diff(np.floor(cycle), prepend=0.0))
    cylinders = rng.uniform(0.8, 1.0, 4)
    sizes = cylinders[np.arange(len(at)) % 4] * (1.0 + 0.08 * rng.standard_normal(len(at)))
    at = np.clip(at + rng.normal(0.0, 0.0003 * SAMPLE_RATE_HZ / pitch, len(at)).astype(np.int64), 0, samples - 1)
    pulses = np.bincount(at, sizes, minlength=samples)
    puff = np.exp(-np.arange(int(0.02 / pitch * SAMPLE_RATE_HZ)) / (0.0035 / pitch * SAMPLE_RATE_HZ))
    bursts = signal.fftconvolve(pulses, puff)[:samples]
    source = 5.0 * pulses + 0.5 * bursts * white(samples, rng)
    shift = rng.uniform(0.92, 1.08)
    modes = ((95.0, 50.0, 2.2), (190.0, 80.0, 1.4), (420.0, 150.0, 0.8), (900.0, 350.0, 0.5), (1_900.0, 800.0, 0.3))
    exhaust = sum((g * resonator(source, f * pitch * shift, b * pitch) for f, b, g in modes), np.zeros(samples))
    rattle = filtered(white(samples, rng), 500.0 * pitch, 3_000.0 * pitch, 1) * (0.8 + bursts)
    return np.asarray((exhaust + 0.08 * pitch**0.5 * rattle) * fades(samples, 0.03, 0.03))


def drill(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """A universal motor: commutator whine rich in harmonics, modulated by gear and bit, brush noise around it."""
    load = slow_noise(samples, 3.0, rng)
    whine_hz = 620.0 * pitch * rng.uniform(0.93, 1.07) * (1.0 + 0.015 * load)
    phase = 2.0 * np.pi * np.cumsum(whine_hz) / SAMPLE_RATE_HZ
    gear = phase / rng.integers(3, 6)
    orders = np.arange(1, 1 + int(min(10, 7_600.0 / (1.1 * 620.0 * pitch))))
    sizes = orders**-0.4 * rng.uniform(0.4, 1.0, len(orders))
    one_turn = sizes @ np.sin(np.outer(orders, 2.0 * np.pi * np.arange(8192) / 8192) + rng.uniform(0.0, 6.28, (len(orders), 1)))
    whine = one_turn[(phase * (8192 / (2.0 * np.pi))).astype(np.int64) % 8192]
    whine = whine * (1.0 + 0.35 * np.sin(gear) + 0.2 * np.sin(2.0 * gear + 1.0) + 0.1 * load)
    brushes = filtered(white(samples, rng), 1_200.0 * pitch, 4_200.0 * pitch) * (1.0 + 0.5 * np.sin(gear))
    return (whine + 1.5 * brushes) * fades(samples, 0.05, 0.05)


def _swish(rate: float, rng: np.random.Generator) -> Array:
    """One rush of air: a band of noise whose centre and level rise and fall together."""
    samples = int(0.55 / rate * SAMPLE_RATE_HZ)
    u = np.linspace(0.0, 1.0, samples)
    peak = rng.uniform(0.4, 0.55)
    level = np.exp(-0.5 * ((u - peak) / np.where(u < peak, 0.16, 0.19)) ** 2)
    centre = rng.uniform(0.85, 1.15) * (350.0 + 1_300.0 * level)
    return gliding_noise(centre, 2_100.0, rng) * level


def whoosh(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Something swung through the air, a little more than once a second."""
    onsets = regular_onsets(samples, 1.2 * rate, 0.04, rng)
    return place(samples, onsets, lambda _: rng.uniform(0.75, 1.0) * _swish(rate, rng)) + 0.003 * white(samples, rng)


def _claps(people: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Positions in samples, sizes and person of every clap of people who each keep a pace of their own."""
    period = SAMPLE_RATE_HZ / rng.uniform(3.2, 5.2, (people, 1))
    count = int(5.2 * samples / SAMPLE_RATE_HZ) + 2
    at = period * (np.arange(count) - rng.uniform(0.0, 1.0, (people, 1)) + 0.05 * rng.standard_normal((people, count)))
    inside = (at >= 0.0) & (at < samples)
    sizes = np.broadcast_to(rng.lognormal(0.0, 0.2, (people, 1)), at.shape)
    person = np.broadcast_to(np.arange(people)[:, None], at.shape)
    return at[inside], sizes[inside], person[inside]


def applause(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """A hall of people who clap, in five groups of hands that each have a resonance of their own; rate: how many clap."""
    from scipy import signal

    at, sizes, person = _claps(int(92.0 * rate**2), samples, rng)
    out, noise = np.zeros(samples), white(samples, rng)
    for group in range(5):
        mine = person % 5 == group
        claps = np.bincount(at[mine].astype(np.int64), sizes[mine], minlength=samples)
        burst = signal.lfilter([1.0], [1.0, -np.exp(-1.0 / (rng.uniform(0.002, 0.0055) * SAMPLE_RATE_HZ))], claps) * noise
        out += resonator(burst, rng.uniform(1_400.0, 2_100.0), 650.0) + 0.08 * burst
    return room(filtered(out, 650.0, None), 0.6, 0.85, rng)
