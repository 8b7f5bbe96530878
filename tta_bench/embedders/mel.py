"""The embedder without weights: log-mel statistics. Always there; coarse, but blind to nothing that changes the spectrum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench import spectrum
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import InputError


class MelEmbedder:
    """(1, 128) per clip: mean, then standard deviation, over time of 64 log-mel bands (VGGish's front end, 25 ms frames every 10 ms)."""

    name = "mel"
    provides = frozenset({"embeddings"})
    front_end = spectrum.VGGISH
    sample_rate_hz = spectrum.VGGISH.sample_rate_hz
    min_samples = spectrum.VGGISH.min_samples
    checksum = hashlib.sha256(f"mel 1: mean, std over time of {spectrum.VGGISH}".encode()).hexdigest()

    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`."""
        check_batch(audio, lengths, self.min_samples)
        rows: list[Floats] = []
        for samples, length in zip(audio, lengths, strict=True):
            log_mel = self.front_end(samples[:length])
            rows.append(np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0)])[None].astype(np.float32))
        return Features(rows)

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """Raises InputError: there is no joint space."""
        raise InputError("embedder mel has no text side; use one with a joint text-audio space")
