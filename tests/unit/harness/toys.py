"""Small audio and embedders for the harness' tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tta_bench.audio import write_audio
from tta_bench.embedders.protocol import Features


class ToyEmbedder:
    """Five numbers of the waveform per patch of .1 s, logits and a joint space: everything a real one gives, in no time."""

    name = "toy"
    sample_rate_hz = 8_000
    min_samples = 800
    provides = frozenset({"embeddings", "logits", "joint"})

    def __init__(self, checksum: str = "toy-1") -> None:
        self.checksum = checksum
        self.batches: list[int] = []

    def embed(self, audio: np.ndarray, lengths: np.ndarray) -> Features:
        self.batches.append(len(audio))
        rows = [self._rows(samples[:length]) for samples, length in zip(audio, lengths, strict=True)]
        means = np.stack([row.mean(axis=0) for row in rows])
        return Features(rows, 5 * means, means[:, :3] + 1)

    def _rows(self, samples: np.ndarray) -> np.ndarray:
        patches = samples[: len(samples) // 800 * 800].reshape(-1, 800)
        spectrum = np.log(np.abs(np.fft.rfft(patches, axis=1))[:, 1:321].reshape(len(patches), 5, -1).mean(axis=2) + 1e-3)
        return spectrum.astype(np.float32)

    def embed_text(self, captions: Sequence[str]) -> np.ndarray:
        return np.array([[len(caption), 1.0, 2.0] for caption in captions], dtype=np.float32)


def make_folder(folder: Path, n: int = 12, seed: int = 0, prefix: str = "clip", **changes: Any) -> Path:
    """n clips of .5 s or so; clip i of another seed is another sound."""
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        tone = np.sin(2 * np.pi * rng.uniform(200, 3000) * np.arange(4_000 + 400 * i) / 8_000)
        write_audio(folder / f"{prefix}{i:02d}.flac", 0.2 * tone + 0.02 * rng.standard_normal(len(tone)), 8_000)
    return folder
