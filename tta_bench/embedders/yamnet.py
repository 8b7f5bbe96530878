"""YAMNet (Google, Apache-2.0): a MobileNet trained on AudioSet, 521 classes, 1024-d embeddings of 0.96 s patches every 0.48 s.

Architecture after the model's public description (Hershey et al. 2017; Howard et al. 2017), batch norm folded into the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tta_bench.checkpoints import tensors_digest
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import InputError
from tta_bench.files import digest
from tta_bench.weights import load_weights

CLASSES = 521
WIDTH = 1024
_WINDOW, _HOP, _FFT, _BANDS = 400, 160, 512, 64
_PATCH_FRAMES, _PATCH_HOP = 96, 48
_FIRST_PATCH, _NEXT_PATCH = 15_600, 7_680  # samples
_LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))  # channels, stride
_VERSION = 2  # of what is made of the weights: 2 has logits of mean probabilities
H5_SUFFIXES = (".h5", ".hdf5")
_PATCHES_AT_ONCE = 32  # activations of more leave the cache: fastest, and bounds memory


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that make a YAMNet, batch norm folded, with its front end."""
    shapes: dict[str, tuple[int, ...]] = {"layer1.conv.weight": (32, 1, 3, 3), "layer1.conv.bias": (32,)}
    before = 32
    for i, (channels, _) in enumerate(_LAYERS, 2):
        shapes |= {f"layer{i}.depthwise.weight": (before, 1, 3, 3), f"layer{i}.depthwise.bias": (before,)}
        shapes |= {f"layer{i}.pointwise.weight": (channels, before, 1, 1), f"layer{i}.pointwise.bias": (channels,)}
        before = channels
    shapes |= {"dense.weight": (CLASSES, WIDTH), "dense.bias": (CLASSES,)}
    return shapes | {"frontend.window": (_WINDOW,), "frontend.mel": (_FFT // 2 + 1, _BANDS)}


class YamnetEmbedder:
    """embeddings (P, 1024) per clip, P = 1 + ceil((T - 15600) / 7680) but at least 1; logits (B, 521) of the class
    probabilities' mean over patches, which is what Google's own tool reports of a clip (a mean of logits would follow the quietest patch).

    path: safetensors with batch norm folded, or Google's own yamnet.h5. Raises WeightsError where the file is not YAMNet's weights,
    ExtraMissing for an .h5 file without h5py.
    """

    name = "yamnet"
    provides = frozenset({"embeddings", "logits"})
    sample_rate_hz = 16_000
    min_samples = _WINDOW

    def __init__(self, path: Path, device: str = "cpu") -> None:
        weights = _read(path)
        self.checksum = digest([_VERSION, tensors_digest(weights)])  # Google's file and what was converted from it have the same
        self.device = torch.device(device)
        self._weights = {name: _prepared(name, values).to(self.device) for name, values in weights.items()}

    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`. A clip is zero-padded to a whole number of patches, as YAMNet's own front end does."""
        check_batch(audio, lengths, self.min_samples)
        with torch.inference_mode():
            return self._embed(audio, lengths)

    def _embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        counts = patch_counts(lengths)
        padded = np.zeros((len(audio), _FIRST_PATCH + _NEXT_PATCH * (int(counts.max(initial=1)) - 1)), dtype=np.float32)
        for row, samples, length in zip(padded, audio, lengths, strict=True):
            row[:length] = samples[:length]
        log_mel = self.log_mel(torch.from_numpy(padded).to(self.device))
        cut = log_mel.unfold(1, _PATCH_FRAMES, _PATCH_HOP).transpose(2, 3)  # (B, P, 96, 64)
        patches = torch.cat([clip[:count] for clip, count in zip(cut, counts.tolist(), strict=True)])
        rows = torch.cat([self.network(part) for part in torch.split_with_sizes(patches, _even(len(patches)))])
        logits = functional.linear(rows, self._weights["dense.weight"], self._weights["dense.bias"])
        per_clip = counts.tolist()
        pooled = torch.stack([_of_mean_probability(part) for part in torch.split_with_sizes(logits.cpu(), per_clip)])
        return Features([part.numpy() for part in torch.split_with_sizes(rows.cpu(), per_clip)], pooled.numpy())

    def log_mel(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, frames, 64): magnitude STFT without centring, ln(mel + 0.001); in float64, because beside a pure tone
        float32's rounding is above the 0.001.
        """
        frames = audio.unfold(1, _WINDOW, _HOP) * self._weights["frontend.window"]
        return torch.log(torch.fft.rfft(frames, _FFT).abs() @ self._weights["frontend.mel"] + 0.001).float()

    def network(self, patches: Tensor) -> Tensor:
        """(P, 96, 64) log-mel patches -> (P, 1024) embeddings."""
        w = self._weights
        x = patches[:, None].contiguous(memory_format=torch.channels_last)
        x = functional.relu_(functional.conv2d(_same(x), w["layer1.conv.weight"], w["layer1.conv.bias"], stride=2))
        for i, (_, stride) in enumerate(_LAYERS, 2):
            depthwise, bias = w[f"layer{i}.depthwise.weight"], w[f"layer{i}.depthwise.bias"]
            padded, padding = (x, 1) if stride == 1 else (_same(x), 0)
            x = functional.relu_(functional.conv2d(padded, depthwise, bias, stride, padding, groups=len(depthwise)))
            x = functional.relu_(functional.conv2d(x, w[f"layer{i}.pointwise.weight"], w[f"layer{i}.pointwise.bias"]))
        return x.mean(dim=(2, 3))

    def scores(self, rows: Floats) -> Floats:
        """(P, 1024) embeddings -> (P, 521) class probabilities. Google's own tool takes their mean over a clip's patches."""
        weights, bias = (self._weights[f"dense.{part}"] for part in ("weight", "bias"))
        return functional.linear(torch.from_numpy(rows).to(self.device), weights, bias).sigmoid().cpu().numpy()

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """Raises InputError: there is no joint space."""
        raise InputError("embedder yamnet has no text side; use one with a joint text-audio space")


def _of_mean_probability(logits: Tensor) -> Tensor:
    """(P, K) -> (K,): log(p / (1 - p)) of the mean p of sigmoids, as a difference of logarithms, so that no probability rounds to 0 or 1."""
    wide = logits.double()
    log_p, log_not = (functional.logsigmoid(sign * wide).logsumexp(dim=0) for sign in (1, -1))
    return (log_p - log_not).float()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in H5_SUFFIXES:
        from tta_bench.embedders.yamnet_h5 import read_yamnet_h5

        return read_yamnet_h5(path)
    return {name: torch.from_numpy(values) for name, values in load_weights(path, tensor_shapes()).items()}


def patch_counts(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(B,) patches of clips of (B,) samples: the end is padded up to a whole patch."""
    beyond = np.maximum(np.asarray(lengths, dtype=np.int64) - _FIRST_PATCH, 0)
    return 1 + -(-beyond // _NEXT_PATCH)


def _even(patches: int) -> list[int]:
    """Sizes of parts of at most _PATCHES_AT_ONCE, as equal as can be."""
    parts = -(-patches // _PATCHES_AT_ONCE)
    return [(i + 1) * patches // parts - i * patches // parts for i in range(parts)]


def _same(x: Tensor) -> Tensor:
    """TensorFlow's SAME padding of even sizes for a 3x3 kernel with stride 2: only right and bottom."""
    return functional.pad(x, (0, 1, 0, 1))


def _prepared(name: str, weight: Tensor) -> Tensor:
    if name.startswith("frontend"):
        return weight.double()
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight
