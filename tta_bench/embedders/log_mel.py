"""The log-mel itself as an embedding, one row a frame, without weights: what `fidelity_mel` compares."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench import spectrum
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import InputError


class LogMelEmbedder:
    """(1 + T // 160, 64) per clip: 10 log10(max(mel power, 1e-10)) in dB, a row every 10 ms, 50 to 8000 Hz (PANNs' front end at 16 kHz).

    Digital silence is -100 dB everywhere. Made for `fidelity_mel`. Other metrics run, on request, but mean little: `fad` is the Frechet
    distance of single frames, which knows the long-term spectrum and how its bands vary together, but no order in time, and counts as rows
    frames that are almost copies of their neighbours; metrics over clip means compare mean spectra only; `fad_infinity` and `kad_patches`
    take long over a hundred rows a second. None is comparable with a published number.
    """

    name = "log_mel"
    provides = frozenset({"embeddings"})
    front_end = spectrum.PANNS_16K
    sample_rate_hz = spectrum.PANNS_16K.sample_rate_hz
    min_samples = spectrum.PANNS_16K.min_samples
    checksum = hashlib.sha256(f"log_mel 1: frames of {spectrum.PANNS_16K}".encode()).hexdigest()

    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`."""
        check_batch(audio, lengths, self.min_samples)
        return Features([self.front_end(samples[:length]).astype(np.float32) for samples, length in zip(audio, lengths, strict=True)])

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """Raises InputError: there is no joint space."""
        raise InputError("embedder log_mel has no text side; use one with a joint text-audio space")
