from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.embedders.yamnet import YamnetEmbedder, patch_counts

pytestmark = pytest.mark.shared
NAMES = ["zeros", "random", "sine440", "dog", "rain", "short"]


@pytest.fixture(scope="module")
def yamnet() -> YamnetEmbedder:
    return YamnetEmbedder(Path(__file__).resolve().parents[4] / "shared" / "weights" / "yamnet" / "yamnet.safetensors")


@pytest.fixture
def golden(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "weights" / "yamnet" / "golden.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_network_agrees_with_golden(yamnet: YamnetEmbedder, golden: dict[str, np.ndarray], name: str) -> None:
    log_mel = torch.from_numpy(golden[f"{name}.log_mel"])
    patches = torch.stack([log_mel[48 * i : 48 * i + 96] for i in range(len(golden[f"{name}.embeddings"]))])
    with torch.inference_mode():
        rows = yamnet.network(patches).numpy()
    np.testing.assert_allclose(rows, golden[f"{name}.embeddings"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(yamnet.scores(rows), golden[f"{name}.scores"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_from_waveform_agrees_with_golden(yamnet: YamnetEmbedder, golden: dict[str, np.ndarray], name: str) -> None:
    """To 1e-4, but for the full-scale sine: between its harmonics the golden log-mel holds a float32 FFT's rounding, not sound."""
    log_mel_tolerance, tolerance = (1e-2, 4e-3) if name == "sine440" else (1e-4, 1e-4)
    waveform = golden[f"{name}.waveform"]
    features = yamnet.embed(*pad_batch([waveform]))
    padded = np.zeros((1, 15_600 + 7_680 * (int(patch_counts(np.array([len(waveform)]))[0]) - 1)), np.float32)
    padded[0, : len(waveform)] = waveform
    log_mel = yamnet.log_mel(torch.from_numpy(padded))[0].numpy()
    stored = golden[f"{name}.log_mel"]
    np.testing.assert_allclose(log_mel[: len(stored)], stored, atol=log_mel_tolerance, rtol=0)
    np.testing.assert_allclose(features.embeddings[0], golden[f"{name}.embeddings"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(yamnet.scores(features.embeddings[0]), golden[f"{name}.scores"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_mean_probabilities(yamnet: YamnetEmbedder, golden: dict[str, np.ndarray], name: str) -> None:
    features = yamnet.embed(*pad_batch([golden[f"{name}.waveform"]]))
    assert features.logits is not None
    probabilities = 1.0 / (1.0 + np.exp(-features.logits[0].astype(np.float64)))
    np.testing.assert_allclose(probabilities, golden[f"{name}.scores"].mean(axis=0), atol=4e-3 if name == "sine440" else 1e-4)
    assert np.isfinite(features.logits).all()
    one = yamnet.embed(*pad_batch([golden[f"{name}.waveform"][:15_600]]))
    raw = one.embeddings[0] @ yamnet._weights["dense.weight"].numpy().T + yamnet._weights["dense.bias"].numpy()
    np.testing.assert_allclose(one.logits[0], raw[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("samples", "patches"), [(400, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3), (80_000, 10)])
def test_patch_counts(samples: int, patches: int) -> None:
    assert patch_counts(np.array([samples])).tolist() == [patches]


def test_batch_order_and_padding_do_not_matter(yamnet: YamnetEmbedder, rng: np.random.Generator) -> None:
    clips = [0.2 * rng.standard_normal(n).astype(np.float32) for n in (16_000, 80_000, 400, 40_000, 15_601)]
    alone = [yamnet.embed(*pad_batch([clip])) for clip in clips]
    order = [3, 0, 4, 1, 2]
    audio, lengths = pad_batch([clips[i] for i in order])
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 9.0
    together = yamnet.embed(audio, lengths)
    assert together.logits is not None
    for place, i in enumerate(order):
        np.testing.assert_allclose(together.embeddings[place], alone[i].embeddings[0], atol=1e-5, rtol=1e-5)
        assert alone[i].logits is not None
        np.testing.assert_allclose(together.logits[place], alone[i].logits[0], atol=1e-4, rtol=1e-5)
    assert isinstance(yamnet, Embedder)


def test_recognises_a_dog_and_rain(yamnet: YamnetEmbedder, golden: dict[str, np.ndarray], shared: Path) -> None:
    names = [line.rsplit(",", 1)[-1] for line in (shared / "weights" / "yamnet" / "class_map.csv").read_text().splitlines()[1:]]
    for clip, words in (("dog", {"Dog", "Bark", "Animal", "Bow-wow"}), ("rain", {"Rain", "Raindrop", "Rain on surface", "Water"})):
        logits = yamnet.embed(*pad_batch([golden[f"{clip}.waveform"]])).logits
        assert logits is not None
        assert words & {names[i] for i in np.argsort(logits[0])[-5:]}, clip
