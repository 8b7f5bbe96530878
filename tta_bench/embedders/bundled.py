"""The embedder that ships: tags and captions of SynthCaps. Gives embeddings, logits and a joint space, with no download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.models.bundle import Embedder as Network
from tta_bench.models.bundle import assets, load_network

WINDOW_SAMPLES = 40_960  # 2.56 s, what it was trained on


class BundledEmbedder:
    """embeddings (P, 128) per clip, one row per window of 2.56 s without overlap (an incomplete last window is zero-padded and counts
    where it is at least half full, or alone); logits (B, K) and joint (B, 128): means over windows. Logits are before the sigmoid.
    """

    name = "bundled"
    provides = frozenset({"embeddings", "logits", "joint"})
    sample_rate_hz = 16_000
    min_samples = 1_600

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        self.network, card = load_network(folder or assets(), "embedder", Network)
        self.classes = self.network.classes
        self.checksum = hashlib.sha256(f"{card['sha256']} windows 1".encode()).hexdigest()
        self.device = torch.device(device)
        self.network.to(self.device)

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`."""
        check_batch(audio, lengths, self.min_samples)
        parts = [windows(samples[:length]) for samples, length in zip(audio, lengths, strict=True)]
        counts = [len(part) for part in parts]
        rows = torch.from_numpy(np.concatenate(parts)).to(self.device)
        outputs = [self.network.audio(part) for part in torch.split(rows, 64)]
        embeddings, logits, joint = (torch.split_with_sizes(torch.cat(output).float().cpu(), counts) for output in zip(*outputs, strict=True))
        pooled = [torch.nn.functional.normalize(part, dim=1).mean(dim=0) for part in joint]
        return Features(
            [part.numpy() for part in embeddings], torch.stack([part.mean(dim=0) for part in logits]).numpy(), torch.stack(pooled).numpy()
        )

    @torch.inference_mode()
    def embed_text(self, captions: Sequence[str]) -> Floats:
        """(B, 128) in the joint space."""
        tokens = self.network.text.encoder.tokenise(captions).to(self.device)
        return np.asarray(torch.nn.functional.normalize(self.network.text(tokens).float(), dim=1).cpu().numpy())


def windows(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(T,) -> (P, 40960), P >= 1: without overlap; an incomplete last one is zero-padded, and left out where it is less than half full."""
    count = max(1, int(len(samples) / WINDOW_SAMPLES + 0.5))
    padded = np.zeros(count * WINDOW_SAMPLES, dtype=np.float32)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    return padded.reshape(count, WINDOW_SAMPLES)
