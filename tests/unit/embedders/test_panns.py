from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.embedders.published import panns_file, panns_tensors
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.panns import PannsEmbedder
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.errors import WeightsError

NAMES = ["panns-cnn14-16k", "panns-cnn14-32k"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("panns")
    return {name: panns_file(folder / f"{name}.pth", name) for name in NAMES}


@pytest.fixture(scope="module", params=NAMES)
def panns(request: pytest.FixtureRequest, files: dict[str, Path]) -> PannsEmbedder:
    return PannsEmbedder(files[request.param], name=request.param)


def _direct(panns: PannsEmbedder, tensors: dict[str, torch.Tensor], samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's network written out in functional form, with the checkpoint's own STFT and filterbank."""
    front_end = panns._log_mel.front_end
    functional = torch.nn.functional
    x = functional.pad(torch.from_numpy(samples).float()[None, None], (front_end.n_fft // 2,) * 2, mode="reflect")
    real, imaginary = (
        functional.conv1d(x, tensors[f"spectrogram_extractor.stft.conv_{part}.weight"], stride=front_end.hop) for part in ("real", "imag")
    )
    mel = (real**2 + imaginary**2).transpose(1, 2) @ tensors["logmel_extractor.melW"]
    y = 10 * torch.log10(mel.clamp(min=1e-10))[:, None]

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(values, *parts, eps=1e-5)

    y = norm("bn0", y.transpose(1, 3)).transpose(1, 3)
    for number in range(1, 7):
        for part in (1, 2):
            y = functional.relu(
                norm(f"conv_block{number}.bn{part}", functional.conv2d(y, tensors[f"conv_block{number}.conv{part}.weight"], padding=1))
            )
        y = functional.avg_pool2d(y, 2) if number < 6 else y
    y = y.mean(dim=3)
    rows = functional.relu(functional.linear(y.max(dim=2).values + y.mean(dim=2), tensors["fc1.weight"], tensors["fc1.bias"]))
    return rows.numpy(), functional.linear(rows, tensors["fc_audioset.weight"], tensors["fc_audioset.bias"]).numpy()


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_equals_the_published_network(panns: PannsEmbedder, rng: np.random.Generator, seconds: float) -> None:
    samples = (0.1 * rng.standard_normal(round(panns.sample_rate_hz * seconds))).astype(np.float32)
    features = panns.embed(*pad_batch([samples]))
    padded = np.pad(samples, (0, max(0, 2 * panns.sample_rate_hz - len(samples))))
    rows, logits = _direct(panns, panns_tensors(panns.name), padded)
    assert features.logits is not None
    np.testing.assert_allclose(features.embeddings[0], rows, atol=1e-4 * rows.max())
    np.testing.assert_allclose(features.logits, logits, atol=1e-4 * np.abs(logits).max())
    assert (rows > 0).any()


def test_neither_batch_nor_padding_matter(panns: PannsEmbedder, rng: np.random.Generator) -> None:
    rate = panns.sample_rate_hz
    clips = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (3 * rate, rate // 2, 3 * rate, 2 * rate)]
    audio, lengths = pad_batch(clips)
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 0.7
    together = panns.embed(audio, lengths)
    assert together.logits is not None
    for i, clip in enumerate(clips):
        alone = panns.embed(*pad_batch([clip]))
        assert alone.logits is not None
        np.testing.assert_allclose(together.embeddings[i], alone.embeddings[0], atol=1e-4)
        np.testing.assert_allclose(together.logits[i], alone.logits[0], atol=1e-4)
    assert isinstance(panns, Embedder)


def test_the_file_of_the_other_rate_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"not that of panns-cnn14-32k; is it the file of panns-cnn14-16k\?"):
        load_embedder(f"panns-cnn14-32k:{files['panns-cnn14-16k']}")
