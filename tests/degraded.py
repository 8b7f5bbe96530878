"""Fold 1 of ESC-10, clean and worse and worse, against fold 2: what a metric of audio quality must notice.

Many of these clips end in digital silence. "noise" is added to all of a clip, and so is heard most where nothing else is: embedders jump at
20 dB already. "live noise" is added only where there is sound, and grows evenly.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.signal

from tta_bench.audio import read_audio, write_audio
from tta_bench.rng import generator

Degrade = Callable[[np.ndarray, int, str], np.ndarray]
FAMILIES = (
    ("clean", "noise 20 dB", "noise 10 dB", "noise 0 dB"),
    ("clean", "live noise 20 dB", "live noise 10 dB", "live noise 0 dB"),
    ("clean", "below 4 kHz", "below 2 kHz", "below 1 kHz"),
    ("clean", "silence"),
)
_QUIET_S = 0.02  # a longer run of zeros is digital silence


def _noise(snr_db: float) -> Degrade:
    def add(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr_db / 20)
        return samples + level * generator(0, "white noise", clip).standard_normal(len(samples))

    return add


def _live_noise(snr_db: float) -> Degrade:
    def add(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        size = 2 * int(_QUIET_S * rate / 2) + 1
        live = np.convolve(samples != 0.0, np.ones(size), mode="same") > 0.5
        level = np.sqrt(np.mean(samples[live] ** 2)) * 10 ** (-snr_db / 20) if live.any() else 0.0
        return samples + live * level * generator(0, "white noise", clip).standard_normal(len(samples))

    return add


def _below(hz: float) -> Degrade:
    return lambda samples, rate, clip: scipy.signal.sosfiltfilt(scipy.signal.butter(8, hz, fs=rate, output="sos"), samples)


DEGRADATIONS: dict[str, Degrade] = {
    "clean": lambda samples, rate, clip: samples,
    **{f"noise {db} dB": _noise(db) for db in (20, 10, 0)},
    **{f"live noise {db} dB": _live_noise(db) for db in (20, 10, 0)},
    **{f"below {khz} kHz": _below(1000 * khz) for khz in (4, 2, 1)},
    "silence": lambda samples, rate, clip: np.zeros_like(samples),
}


def write_folders(esc10: Path, folder: Path) -> None:
    """folder/NAME for each degradation of fold 1, and folder/reference."""
    with (esc10 / "metadata.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] in "12"]
    for row in rows:
        audio = read_audio(esc10 / row["file"])
        made = DEGRADATIONS if row["fold"] == "1" else {"reference": DEGRADATIONS["clean"]}
        for name, degrade in made.items():
            samples = degrade(audio.samples, audio.sample_rate_hz, row["file"])
            write_audio(folder / name / f"{Path(row['file']).stem}.flac", samples, audio.sample_rate_hz)
