"""What an embedder is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """Features of a batch of B clips, float32.

    embeddings: B arrays (P, D), a row per patch (P = 1 where the embedder gives one row per clip). logits: (B, K) before softmax or
    sigmoid, or None. joint: (B, E) in a space shared with captions, or None.
    """

    embeddings: list[Floats]
    logits: Floats | None = None
    joint: Floats | None = None


@runtime_checkable
class Embedder(Protocol):
    """name: the embedder's. sample_rate_hz: of the audio that it takes. checksum: SHA-256 of everything that determines its output.
    min_samples: the shortest clip that it takes. provides: which of "embeddings", "logits" and "joint" it gives; with "joint",
    `embed_text` works; so it does for `events`, whose rows it gives for captions.
    """

    @property
    def name(self) -> str: ...
    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def checksum(self) -> str: ...
    @property
    def min_samples(self) -> int: ...
    @property
    def provides(self) -> frozenset[str]: ...

    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """audio (B, T) mono in [-1, 1], lengths (B,) in samples; what lies beyond a clip's length never matters, nor does the batch."""
        ...

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """(B, E) in the joint space."""
        ...


def pad_batch(clips: Sequence[npt.NDArray[Any]]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(B, T) float32 zero-padded at the end, and lengths (B,)."""
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    audio = np.zeros((len(clips), int(lengths.max(initial=0))), dtype=np.float32)
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = clip
    return audio, lengths


def check_batch(audio: npt.NDArray[Any], lengths: npt.NDArray[Any], min_samples: int) -> None:
    """Raises InputError where a batch is not (B, T) with B lengths in min_samples..T."""
    if audio.ndim != 2 or lengths.shape != (len(audio),):
        raise InputError(f"an embedder takes audio (B, T) and lengths (B,), got {audio.shape} and {lengths.shape}")
    if len(lengths) and (lengths.max() > audio.shape[1] or lengths.min() < min_samples):
        raise InputError(f"clip lengths must lie in {min_samples}..{audio.shape[1]} samples, got {lengths.min()}..{lengths.max()}")
