"""Sounds with a pitch: tones, sweeps, sirens, telephones, alarms, blasters, horns and guitars."""

from __future__ import annotations

import numpy as np

from tta_bench.data.sounds import dsp
from tta_bench.data.sounds.dsp import SAMPLE_RATE_HZ, Array


def _detuned(frequency_hz: float, semitones: float, rng: np.random.Generator) -> float:
    """The frequency, off by a normal number of semitones with this standard deviation."""
    return float(frequency_hz * 2.0 ** (semitones * rng.standard_normal() / 12.0))


def tone(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Steady electronic tone, nearly a sine."""
    frequency = _detuned(660.0 * pitch, 1.0, rng)
    x = dsp.oscillator(frequency, samples, rng.uniform(0.0, 6.0))
    for k in (2, 3):
        x += 10.0 ** (rng.uniform(-50.0, -32.0) / 20.0) * dsp.oscillator(k * frequency, samples, rng.uniform(0.0, 6.0))
    return x * (1.0 + 0.02 * dsp.slow_noise(samples, 3.0, rng)) * dsp.fades(samples, 0.01, 0.01)


def chirp(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Whistles that glide up and swell, one after the other."""
    low = _detuned(560.0 * pitch, 1.0, rng)
    octaves, curve, swell = rng.uniform(1.9, 2.2), rng.uniform(1.2, 1.5), rng.uniform(0.5, 0.75)
    per_second = 2.8 * rate
    length = int(SAMPLE_RATE_HZ / per_second * rng.uniform(0.72, 0.8))
    way = np.linspace(0.0, 1.0, length) ** curve
    overtones = rng.uniform(0.06, 0.13), rng.uniform(0.02, 0.05)

    def glide(i: int) -> Array:
        frequency = low * 2.0 ** (octaves * way + 0.01 * rng.standard_normal()) * (1.0 + 0.004 * dsp.oscillator(6.0, length))
        x = dsp.oscillator(frequency, length)
        for k, gain in enumerate(overtones, 2):
            x += gain * dsp.oscillator(k * frequency, length) * (k * frequency < 7_600.0)
        return x * dsp.fades(length, 0.024, 0.04) * (1.0 - swell * (1.0 - way))

    onsets = dsp.regular_onsets(samples, per_second, 0.01, rng)
    return dsp.room(dsp.place(samples, onsets, glide), rng.uniform(0.04, 0.09), 0.6, rng, -62.0)


def siren(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Electronic wail through a horn loudspeaker, in a street."""
    t = dsp.seconds(samples)
    turn = (1.1 * rate * (1.0 + 0.05 * rng.standard_normal()) * t + rng.uniform(0.0, 1.0)) % 1.0
    rise = rng.uniform(0.4, 0.6)
    height = np.where(turn < rise, turn / rise, (1.0 - turn) / (1.0 - rise))
    height = 0.5 - 0.5 * np.cos(np.pi * height)
    low = _detuned(620.0 * pitch, 0.7, rng)
    frequency = low * rng.uniform(2.0, 2.4) ** height
    x = np.tanh(rng.uniform(1.5, 3.0) * (dsp.oscillator(frequency, samples) + rng.uniform(0.1, 0.3)))
    x = dsp.filtered(x, 450.0, 3_800.0)
    x *= 1.0 + 0.12 * dsp.slow_noise(samples, 4.0, rng)
    return dsp.room(x, rng.uniform(0.5, 0.8), rng.uniform(0.8, 1.3), rng, -38.0) * dsp.fades(samples, 0.02, 0.02)


def phone(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Ringer of an old telephone: a hammer between two gongs at 20 blows per second, two bursts per ring."""
    blows = rng.uniform(18.0, 24.0)
    base = _detuned(1_250.0 * pitch, 0.8, rng)
    ratios = np.array([1.0, 1.6, 2.25, 2.9, 3.7, 4.6])
    gains = np.array([1.0, 0.5, 0.8, 0.4, 0.35, 0.25]) * rng.uniform(0.6, 1.4, 6)
    falls = rng.uniform(0.35, 0.6) / np.sqrt(ratios)
    length = int(0.5 * SAMPLE_RATE_HZ)
    gongs = [
        dsp.modes(length, base * interval * ratios * (1.0 + 0.01 * rng.standard_normal(6)), gains, falls)
        for interval in (1.0, rng.uniform(1.12, 1.3))
    ]
    onsets = dsp.regular_onsets(samples, blows, 0.02, rng)
    cycle = rng.uniform(1.2, 1.6)
    onsets = onsets[(onsets / SAMPLE_RATE_HZ) % cycle < cycle * 0.72]
    x = dsp.place(samples, onsets, lambda i: gongs[i % 2] * rng.uniform(0.7, 1.0))
    click = dsp.white(60, rng) * dsp.decay(60, 0.003, 0.0001)
    x += dsp.place(samples, onsets, lambda _: 0.5 * click)
    return dsp.room(x, rng.uniform(0.2, 0.4), 0.4, rng, -48.0)


def alarm(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Piezo sounder that beeps."""
    frequency = _detuned(2_300.0 * pitch, 0.6, rng)
    onsets = dsp.regular_onsets(samples, 4.0 * rate, 0.0, rng)
    length = int(SAMPLE_RATE_HZ / (4.0 * rate) * rng.uniform(0.5, 0.6))
    beep = dsp.oscillator(frequency, length) + rng.uniform(0.1, 0.3) * dsp.oscillator(2.0 * frequency, length)
    if 3.0 * frequency < 7_800.0:
        beep += rng.uniform(0.1, 0.3) * dsp.oscillator(3.0 * frequency, length)
    beep *= dsp.fades(length, 0.004, 0.006)
    return dsp.room(dsp.place(samples, onsets, lambda _: beep), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6), rng, -48.0)


def laser(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Shots of a film blaster: a tone that falls steeply, and an echo."""
    top = _detuned(2_950.0 * pitch, 0.8, rng)
    length = int(0.34 * SAMPLE_RATE_HZ)
    t = dsp.seconds(length)
    bottom = top / rng.uniform(10.0, 15.0)
    fall = bottom + (top - bottom) * np.exp(-rng.uniform(14.0, 20.0) * t)
    envelope = dsp.decay(length, rng.uniform(0.7, 1.0), 0.002) * dsp.fades(length, 0.001, 0.03)
    drive, overtone = rng.uniform(1.2, 1.9), rng.uniform(0.04, 0.12)

    def shot(i: int) -> Array:
        bend = 1.0 + 0.02 * rng.standard_normal()
        x = np.tanh(drive * dsp.oscillator(fall * bend, length)) + overtone * dsp.oscillator(1.5 * bend * fall, length)
        return np.asarray((x + 0.04 * dsp.white(length, rng) * np.exp(-t / 0.02)) * envelope * rng.uniform(0.9, 1.0))

    x = dsp.place(samples, dsp.regular_onsets(samples, 3.0 * rate, 0.015, rng), shot)
    echo = int(rng.uniform(0.05, 0.08) * SAMPLE_RATE_HZ)
    x[echo:] += 0.2 * x[:-echo]
    return dsp.room(x, rng.uniform(0.05, 0.1), 0.24, rng, rng.uniform(-50.0, -45.0), -1.0)


def horn(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Two-tone car horn: two discs that hit their stops, hence rich in harmonics; one long honk or several short ones."""
    from scipy import signal

    base = _detuned(395.0 * pitch, 0.5, rng)
    drive, bias = rng.uniform(7.0, 12.0), rng.uniform(0.1, 0.35)
    x = np.zeros(samples)
    for interval in (1.0, rng.uniform(1.23, 1.29)):
        frequency = base * interval * (1.0 + 0.0008 * dsp.slow_noise(samples, 15.0, rng))
        x += np.tanh(drive * (dsp.oscillator(frequency, samples, rng.uniform(0.0, 6.0)) + bias))
    low = rng.uniform(700.0, 900.0) * pitch
    x = dsp.filtered(x, low, min(7_200.0, 8.4 * low))
    x += rng.uniform(0.6, 1.2) * dsp.resonator(x, rng.uniform(1_900.0, 2_700.0) * pitch, 700.0)
    x *= 1.0 + 0.027 * dsp.white(samples, rng)
    honks = 1 if samples < SAMPLE_RATE_HZ else int(rng.integers(1, 4))
    if honks > 1:
        turn = np.arange(samples) * honks / samples % 1.0
        shape = np.hanning(500)
        x *= signal.oaconvolve((turn < rng.uniform(0.72, 0.8)).astype(np.float64), shape / shape.sum(), "same")
    return dsp.room(x * dsp.fades(samples, 0.02, 0.05), rng.uniform(0.13, 0.25), rng.uniform(0.4, 0.8), rng, rng.uniform(-42.0, -36.0))


def _string(frequency_hz: float, samples: int, damping: float, pick: float, rng: np.random.Generator) -> Array:
    """(samples,) Karplus and Strong's string (1983), period by period: each repeats the one before, low-passed. pick: position, 0 to 1."""
    period = round(SAMPLE_RATE_HZ / frequency_hz)
    first = np.fft.rfft(rng.uniform(-1.0, 1.0, period))
    k = np.arange(len(first))
    first *= np.sin(np.pi * pick * k) / np.maximum(k, 1.0)
    loss = (1.0 - damping) * (0.5 + 0.5 * np.cos(np.pi * np.minimum(1.0, 0.35 * k / len(first))))
    rows = -(-samples // period)
    return np.asarray(np.fft.irfft(first * loss ** np.arange(rows)[:, None], period, axis=1).ravel()[:samples])


def guitar(pitch: float, rate: float, samples: int, rng: np.random.Generator) -> Array:
    """Acoustic guitar: strummed chords or single plucked notes, strings as Karplus and Strong's, with the resonances of a body."""
    root = _detuned(165.0 * pitch, 1.0, rng)
    strummed = rng.uniform() < 0.5
    chord = 2.0 ** (np.array([0, 7, 12, 16, 19] if rng.uniform() < 0.6 else [0, 7, 12, 15, 19]) / 12.0)
    onsets = dsp.regular_onsets(samples, 2.5 * rate, 0.015, rng)
    ends = np.append(onsets[1:], samples)
    x = np.zeros(samples)
    for start, end in zip(onsets, ends, strict=True):
        for order, ratio in enumerate(chord if strummed else chord[rng.integers(0, 5, 1)]):
            at = start + int(order * rng.uniform(0.006, 0.012) * SAMPLE_RATE_HZ)
            n = min(end + 200, samples) - at
            if n > 400:
                x[at : at + n] += _string(root * ratio, n, rng.uniform(0.004, 0.008), rng.uniform(0.12, 0.3), rng) * dsp.fades(n, 0.001, 0.012)
    body = x + 1.5 * dsp.resonator(x, 105.0, 30.0) + 1.5 * dsp.resonator(x, 210.0, 40.0) + 0.8 * dsp.resonator(x, 430.0, 90.0)
    return dsp.room(body, rng.uniform(0.15, 0.3), 0.4, rng, -55.0)
