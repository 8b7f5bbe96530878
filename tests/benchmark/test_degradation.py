"""Do FAD and KAD rise with degradation on real recordings? ESC-10 with YAMNet, fold 2 as reference; `-s` prints the table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

import tta_bench
from tta_bench.audio import read_audio, write_audio
from tta_bench.records import Record
from tta_bench.rng import generator

Degrade = Callable[[np.ndarray, int, str], np.ndarray]
FAMILIES = (("clean", "noise 20 dB", "noise 10 dB", "noise 0 dB"), ("clean", "below 4 kHz", "below 2 kHz", "below 1 kHz"), ("clean", "silence"))


def _noise(snr_db: float) -> Degrade:
    def add(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr_db / 20)
        return samples + level * generator(0, "white noise", clip).standard_normal(len(samples))

    return add


def _below(hz: float) -> Degrade:
    return lambda samples, rate, clip: scipy.signal.sosfiltfilt(scipy.signal.butter(8, hz, fs=rate, output="sos"), samples)


DEGRADATIONS: dict[str, Degrade] = {
    "clean": lambda samples, rate, clip: samples,
    **{f"noise {db} dB": _noise(db) for db in (20, 10, 0)},
    **{f"below {khz} kHz": _below(1000 * khz) for khz in (4, 2, 1)},
    "silence": lambda samples, rate, clip: np.zeros_like(samples),
}


@pytest.mark.shared
def test_scores_rise_with_degradation(benchmark: Any, tmp_path: Path, shared: Path) -> None:
    with (shared / "data" / "esc10" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        audio = read_audio(shared / "data" / "esc10" / row["file"])
        for name, degrade in DEGRADATIONS.items():
            if row["fold"] == "1" or (row["fold"], name) == ("2", "clean"):
                folder = tmp_path / (name if row["fold"] == "1" else "reference")
                write_audio(
                    folder / f"{Path(row['file']).stem}.flac", degrade(audio.samples, audio.sample_rate_hz, row["file"]), audio.sample_rate_hz
                )
    yamnet = f"yamnet:{shared / 'weights' / 'yamnet' / 'yamnet.safetensors'}"

    metrics = ["fad", "fad_clip", "kad", "kad_patches"]

    def score(name: str) -> dict[str, Record]:
        run = tta_bench.evaluate(tmp_path / name, tmp_path / "reference", embedders=[yamnet], metrics=metrics, out=tmp_path / "run")
        return {record.metric: record for record in run.records}

    scores = benchmark.pedantic(lambda: {name: score(name) for name in DEGRADATIONS}, rounds=1)
    for name, found in scores.items():
        print(f"| {name:12} | " + " | ".join(f"{record.value:8.3f} ± {record.std_error or 0:6.3f}" for record in found.values()) + " |")
    for family in FAMILIES:
        for metric in ("fad", "kad", "kad_patches"):
            values = [scores[name][metric].value for name in family]
            assert values == sorted(values), (metric, family, values)
