from __future__ import annotations

import numpy as np
import pytest

from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.mel import MelEmbedder
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.errors import InputError
from tta_bench.spectrum import VGGISH


def _clips(rng: np.random.Generator) -> list[np.ndarray]:
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in (400, 8_000, 16_001, 30_000, 5_000)]


def test_is_mean_and_deviation_of_the_log_mel(rng: np.random.Generator) -> None:
    clips = _clips(rng)
    features = MelEmbedder().embed(*pad_batch(clips))
    for clip, rows in zip(clips, features.embeddings, strict=True):
        log_mel = VGGISH(clip)
        np.testing.assert_allclose(rows, [np.r_[log_mel.mean(axis=0), log_mel.std(axis=0)]], rtol=1e-6, atol=1e-6)
    assert isinstance(MelEmbedder(), Embedder)


def test_neither_batch_nor_padding_matters(rng: np.random.Generator) -> None:
    clips = _clips(rng)
    together = MelEmbedder().embed(*pad_batch(clips)).embeddings
    audio, lengths = pad_batch(clips)
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 9.0  # what lies beyond the length is not the clip
    for a, b, clip in zip(together, MelEmbedder().embed(audio, lengths).embeddings, clips, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, MelEmbedder().embed(*pad_batch([clip])).embeddings[0])


def test_bad_batches_are_errors(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=r"400..399 samples, got 399..399"):
        MelEmbedder().embed(*pad_batch([np.zeros(399)]))
    with pytest.raises(InputError, match=r"got \(400,\)"):
        MelEmbedder().embed(np.zeros(400), np.array([400]))
    with pytest.raises(InputError, match="no text side"):
        MelEmbedder().embed_text(["rain"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vgish", "unknown embedder 'vgish'; known: mel, log_mel"),
        ("yamnet", "tta-bench weights pull yamnet"),
        ("yamnet:", "nothing follows the colon; write yamnet:PATH"),
        ("mel:x", "mel takes no file"),
        ("yamnet:nowhere.safetensors", "does not exist"),
    ],
)
def test_bad_names(spec: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        load_embedder(spec)
