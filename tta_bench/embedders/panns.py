"""PANNs' Cnn14 (Kong et al. 2020, arXiv 1912.10211): 527 AudioSet classes and 2048-d embeddings, at 16 kHz or 32 kHz.

Takes the published checkpoints (Cnn14_16k_mAP=0.438.pth, Cnn14_mAP=0.431.pth). The network is written here and not taken from
panns_inference, which downloads at import and builds its filterbank with librosa, 16 s each time; tests hold it equal to that package's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tta_bench.checkpoints import fitted, read_checkpoint, tensors_digest
from tta_bench.embedders.front_end import TorchLogMel
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import InputError, WeightsError
from tta_bench.spectrum import PANNS_16K, PANNS_32K

FRONT_ENDS = {"panns-cnn14-16k": PANNS_16K, "panns-cnn14-32k": PANNS_32K}
CLASSES = 527
_CHANNELS = (64, 128, 256, 512, 1024, 2048)
_SHORTEST_S = 2.0  # to which a clip is padded with silence, as audioldm_eval does
_SECONDS_AT_ONCE = 60.0  # bounds the memory of activations
_FILTERBANK = "logmel_extractor.melW"
_FRONT_END = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight", _FILTERBANK)


class _Block(nn.Module):
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu_(self.bn1(self.conv1(x)))
        return functional.relu_(self.bn2(self.conv2(x)))


class Cnn14(nn.Module):
    """(B, frames, 64) log-mel in dB -> embeddings (B, 2048), logits (B, 527) before the sigmoid; parameters are named as published."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(64)
        for number, (before, channels) in enumerate(zip((1, *_CHANNELS), _CHANNELS, strict=False), 1):
            setattr(self, f"conv_block{number}", _Block(before, channels))
        self.fc1 = nn.Linear(2048, 2048)
        self.fc_audioset = nn.Linear(2048, CLASSES)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        x = self.bn0(log_mel[:, None].transpose(1, 3)).transpose(1, 3)
        for number in range(1, len(_CHANNELS) + 1):
            x = getattr(self, f"conv_block{number}")(x)
            if number < len(_CHANNELS):
                x = functional.avg_pool2d(x, 2)
        x = x.mean(dim=3)
        embeddings = functional.relu_(self.fc1(x.amax(dim=2) + x.mean(dim=2)))
        return embeddings, self.fc_audioset(embeddings)


class PannsEmbedder:
    """embeddings (1, 2048) per clip, after the ReLU; logits (B, 527) before the sigmoid. Clips under 2 s are padded with silence.

    name: `panns-cnn14-16k` or `panns-cnn14-32k`. Raises WeightsError where the file is not that network.
    """

    provides = frozenset({"embeddings", "logits"})
    min_samples = 400

    def __init__(self, path: Path, device: str = "cpu", name: str = "panns-cnn14-16k") -> None:
        front_end = FRONT_ENDS[name]
        self.name, self.sample_rate_hz, self.device = name, front_end.sample_rate_hz, torch.device(device)
        with torch.device("meta"):
            self.network = Cnn14()
        tensors = read_checkpoint(path)
        _check_front_end(path, tensors, name)
        expected = {key: tuple(value.shape) for key, value in self.network.state_dict().items() if value.is_floating_point()}
        weights = fitted(path, {key: value for key, value in tensors.items() if key not in _FRONT_END and not key.endswith("_tracked")}, expected)
        self.network.load_state_dict(weights, strict=False, assign=True)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = None  # counts updates, changes no output
        self.network.requires_grad_(False).eval().to(self.device)
        self.checksum = hashlib.sha256(f"{name} 1 {tensors_digest(weights)}".encode()).hexdigest()
        self._log_mel = TorchLogMel(front_end, self.device)

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`. Clips of one length run together: padding would change what the network sees."""
        check_batch(audio, lengths, self.min_samples)
        embeddings = np.empty((len(audio), 2048), np.float32)
        logits = np.empty((len(audio), CLASSES), np.float32)
        for where, samples in _equally_long(audio, lengths, round(_SHORTEST_S * self.sample_rate_hz), round(_SECONDS_AT_ONCE * self.sample_rate_hz)):
            rows, classes = self.network(self._log_mel(torch.from_numpy(samples).to(self.device)))
            embeddings[where], logits[where] = rows.cpu().numpy(), classes.cpu().numpy()
        return Features(list(embeddings[:, None]), logits)

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """Raises InputError: there is no joint space."""
        raise InputError(f"embedder {self.name} has no text side; use one with a joint text-audio space")


def _check_front_end(path: Path, tensors: dict[str, Tensor], name: str) -> None:
    """The checkpoint brings its filterbank: another one means a network for another sample rate."""
    stored = tensors.get(_FILTERBANK)
    ours = torch.from_numpy(FRONT_ENDS[name].matrix)
    if stored is None or stored.shape != ours.shape or not torch.allclose(stored.double(), ours, atol=1e-5):
        other = next(known for known in FRONT_ENDS if known != name)
        raise WeightsError(f"{path}: its mel filterbank ({_FILTERBANK}) is not that of {name}; is it the file of {other}?")


def _equally_long(
    audio: npt.NDArray[Any], lengths: npt.NDArray[Any], shortest: int, samples_at_once: int
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Where in the batch, and (N, T) samples, of clips of one length, at least `shortest` long."""
    for length in np.unique(np.maximum(lengths, shortest)):
        where = np.flatnonzero(np.maximum(lengths, shortest) == length)
        for part in np.array_split(where, -(-len(where) * int(length) // samples_at_once)):
            samples = np.zeros((len(part), int(length)), np.float32)
            for row, i in zip(samples, part, strict=True):
                row[: lengths[i]] = audio[i][: lengths[i]]
            yield part, samples
