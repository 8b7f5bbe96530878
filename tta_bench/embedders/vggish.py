"""VGGish (Hershey et al. 2017, arXiv 1609.09430), the embedding of the Frechet audio distance (Kilgour et al. 2019, arXiv 1812.08466).

Takes the weights of the PyTorch port that all PyTorch tools use (vggish-10086976.pth): 128-d embeddings of 0.96 s patches; the last ReLU
is dropped, and there is no PCA and no 8-bit post-processing, as in those tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tta_bench.checkpoints import fitted, read_checkpoint, tensors_digest
from tta_bench.embedders.front_end import TorchLogMel
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import InputError
from tta_bench.spectrum import VGGISH

Protocol = Literal["fad_vggish", "fad_google"]
_PATCH = 96  # frames
_CHANNELS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)  # 0: max-pooling
_PATCHES_AT_ONCE = 16
_GOOGLE_WINDOW, _GOOGLE_HOP = 16_000, 8_000
_QUIETEST_PEAK = 0.1


class Vggish(nn.Module):
    """(P, 96, 64) log-mel patches -> (P, 128); parameters are named as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels in _CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)] if channels else [nn.MaxPool2d(2)]
            before = channels or before
        self.features = nn.Sequential(*layers)
        linear = [nn.Linear(512 * 6 * 4, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 128)]
        self.embeddings = nn.Sequential(*linear)

    def forward(self, patches: Tensor) -> Tensor:
        """See the class. Rows are flattened with the channels last, as TensorFlow's are."""
        return torch.as_tensor(self.embeddings(self.features(patches[:, None]).permute(0, 2, 3, 1).flatten(1)))


class VggishEmbedder:
    """embeddings (P, 128) per clip, of all its patches. Two protocols:

    `fad_vggish`: the log-mel of the whole clip in patches of 96 frames without overlap, an incomplete one dropped (10 for 10 s).
    `fad_google`: samples divided by max(0.1, largest sample); windows of 1 s every 0.5 s, the log-mel of each, its first 96 frames (19 for 10 s).
    Raises WeightsError where the file is not VGGish.
    """

    provides = frozenset({"embeddings"})
    sample_rate_hz = VGGISH.sample_rate_hz

    def __init__(self, path: Path, device: str = "cpu", protocol: Protocol = "fad_vggish") -> None:
        if protocol not in get_args(Protocol):
            raise InputError(f"unknown VGGish protocol {protocol!r}; known: {', '.join(get_args(Protocol))}")
        self.name = "vggish" if protocol == "fad_vggish" else "vggish-google"
        self.min_samples = VGGISH.window + VGGISH.hop * (_PATCH - 1) if protocol == "fad_vggish" else _GOOGLE_WINDOW
        self.protocol, self.device = protocol, torch.device(device)
        with torch.device("meta"):
            self.network = Vggish()
        expected = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        weights = fitted(path, read_checkpoint(path), expected)
        self.network.load_state_dict(weights, assign=True)
        self.network.requires_grad_(False).eval().to(self.device)
        self.checksum = hashlib.sha256(f"{protocol} 1 {tensors_digest(weights)}".encode()).hexdigest()
        self._log_mel = TorchLogMel(VGGISH, self.device)

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`."""
        check_batch(audio, lengths, self.min_samples)
        cut = self._windows if self.protocol == "fad_google" else self._patches
        patches = [cut(torch.from_numpy(np.asarray(samples[:length], dtype=np.float64))) for samples, length in zip(audio, lengths, strict=True)]
        counts = [len(part) for part in patches]
        rows = torch.cat([self.network(part) for part in torch.split(torch.cat(patches), _PATCHES_AT_ONCE)]).cpu()
        return Features([part.numpy() for part in torch.split_with_sizes(rows, counts)])

    def _patches(self, samples: Tensor) -> Tensor:
        log_mel = self._log_mel(samples[None].to(self.device))[0]
        return log_mel.unfold(0, _PATCH, _PATCH).transpose(1, 2)

    def _windows(self, samples: Tensor) -> Tensor:
        louder = samples / max(_QUIETEST_PEAK, float(samples.max()))
        return self._log_mel(louder.to(self.device).unfold(0, _GOOGLE_WINDOW, _GOOGLE_HOP))[:, :_PATCH]

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """Raises InputError: there is no joint space."""
        raise InputError(f"embedder {self.name} has no text side; use one with a joint text-audio space")
