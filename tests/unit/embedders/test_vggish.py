from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.unit.embedders.published import vggish_file
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.embedders.vggish import VggishEmbedder
from tta_bench.errors import InputError, WeightsError
from tta_bench.spectrum import VGGISH, patches, windowed_patches


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vggish_file(tmp_path_factory.mktemp("vggish") / "vggish-10086976.pth")


@pytest.fixture(scope="module")
def vggish(file: Path) -> VggishEmbedder:
    return VggishEmbedder(file)


def _network(weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """Written out layer by layer as Hershey et al. have it; rows are flattened in TensorFlow's order."""
    y = torch.tensor(x).float()[:, None]
    for number, pool in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        y = functional.relu(functional.conv2d(y, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1))
        y = functional.max_pool2d(y, 2, 2) if pool else y
    y = torch.from_numpy(np.moveaxis(y.numpy(), 1, 3).reshape(len(x), -1).copy())
    for number in (0, 2):
        y = functional.relu(functional.linear(y, weights[f"embeddings.{number}.weight"], weights[f"embeddings.{number}.bias"]))
    return functional.linear(y, weights["embeddings.4.weight"], weights["embeddings.4.bias"]).numpy()


@pytest.mark.parametrize("seconds", [0.975, 3.0, 10.0])
def test_equals_the_published_network_on_the_published_patches(vggish: VggishEmbedder, file: Path, rng: np.random.Generator, seconds: float) -> None:
    audio = 0.3 * rng.standard_normal(round(16_000 * seconds))
    rows = vggish.embed(*pad_batch([audio.astype(np.float32)])).embeddings[0]
    weights = torch.load(file, weights_only=True)
    expected = _network(weights, patches(VGGISH(audio.astype(np.float32))))
    np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max())
    assert (rows < 0).any(), "the last ReLU is dropped"


def test_googles_protocol_scales_by_the_signed_maximum_and_overlaps_windows(file: Path, rng: np.random.Generator) -> None:
    google = VggishEmbedder(file, protocol="fad_google")
    weights = torch.load(file, weights_only=True)
    loud = (0.02 * rng.standard_normal(160_000)).astype(np.float32)
    loud[5000], loud[9000] = 0.5, -0.9  # the largest sample counts, not the largest magnitude
    rows = google.embed(*pad_batch([loud])).embeddings[0]
    assert rows.shape == (19, 128)
    expected = _network(weights, windowed_patches(loud.astype(np.float64) / 0.5, VGGISH))
    np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max())
    quiet = (0.001 * rng.standard_normal(16_000)).astype(np.float32)
    expected = _network(weights, windowed_patches(quiet.astype(np.float64) / 0.1, VGGISH))
    np.testing.assert_allclose(google.embed(*pad_batch([quiet])).embeddings[0], expected, atol=1e-4 * np.abs(expected).max())
    assert (google.name, google.min_samples) == ("vggish-google", 16_000)


def test_neither_batch_nor_padding_matter(vggish: VggishEmbedder, rng: np.random.Generator) -> None:
    clips = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (16_000, 50_000, 15_600)]
    audio, lengths = pad_batch(clips)
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 0.7
    together = vggish.embed(audio, lengths).embeddings
    assert [len(rows) for rows in together] == [1, 3, 1]
    for clip, rows in zip(clips, together, strict=True):
        np.testing.assert_allclose(rows, vggish.embed(*pad_batch([clip])).embeddings[0], atol=1e-4)
    assert isinstance(vggish, Embedder)


def test_specs_and_checksums(file: Path) -> None:
    plain, google = load_embedder(f"vggish:{file}"), load_embedder(f"vggish-google:{file}")
    assert (plain.name, google.name) == ("vggish", "vggish-google")
    assert plain.checksum != google.checksum
    with pytest.raises(InputError, match="no text side"):
        plain.embed_text(["a dog"])
    with pytest.raises(InputError, match="unknown VGGish protocol"):
        VggishEmbedder(file, protocol="fad")  # type: ignore[arg-type]


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: tensor .* is missing"):
        VggishEmbedder(tmp_path / "other.pth")
