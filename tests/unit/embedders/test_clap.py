from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.embedders.published import clap_file, clap_network, roberta_files
from tta_bench.embedders.clap import ClapEmbedder, prepared
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.errors import WeightsError

pytest.importorskip("transformers")
CAPTIONS = ["A dog barks in the distance", "Rain falls on a tin roof, then thunder", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clap")


@pytest.fixture(scope="module")
def words(folder: Path) -> int:
    return roberta_files(folder / "roberta-base")


@pytest.fixture(scope="module", params=["tiny", "base"])
def pair(request: pytest.FixtureRequest, folder: Path, words: int) -> tuple[Any, ClapEmbedder]:
    sizes: dict[str, Any] = {"tiny": {}, "base": {"width": 128, "depths": (2, 2, 12, 2)}}[request.param]
    network = clap_network(words, **sizes)
    return network, ClapEmbedder(clap_file(folder / f"{request.param}.pt", network), folder / "roberta-base")


def test_audio_equals_transformers_own_path(pair: tuple[Any, ClapEmbedder], rng: np.random.Generator) -> None:
    from transformers import ClapFeatureExtractor

    network, clap = pair
    extract = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad", frequency_min=50, frequency_max=14_000)
    clips = [(0.2 * rng.standard_normal(n)).astype(np.float32) for n in (480_000, 100_000, 48_000)]
    joint = clap.embed(*pad_batch(clips)).joint
    assert joint is not None
    for clip, row in zip(clips, joint, strict=True):
        rounded = (clip.clip(-1, 1) * 32767).astype(np.int16) / np.float32(32767)
        inputs = extract(rounded, sampling_rate=48_000, return_tensors="pt")
        with torch.inference_mode():
            theirs = network.get_audio_features(input_features=inputs["input_features"]).pooler_output
        np.testing.assert_allclose(row, torch.nn.functional.normalize(theirs, dim=-1)[0].numpy(), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(joint, axis=1), 1.0, atol=1e-5)


def test_text_equals_transformers_own_path(pair: tuple[Any, ClapEmbedder], folder: Path) -> None:
    from transformers import RobertaTokenizer

    network, clap = pair
    tokens = RobertaTokenizer.from_pretrained(folder / "roberta-base")(
        CAPTIONS, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = network.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    rows = clap.embed_text(CAPTIONS)
    np.testing.assert_allclose(rows, torch.nn.functional.normalize(theirs, dim=-1).numpy(), atol=2e-5)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3, "captions differ"
    np.testing.assert_allclose(clap.embed_text(CAPTIONS[1:2]), rows[1:2], atol=1e-6)


def test_neither_batch_nor_padding_matter_and_ten_seconds_are_heard(pair: tuple[Any, ClapEmbedder], rng: np.random.Generator) -> None:
    clap = pair[1]
    clips = [(0.2 * rng.standard_normal(n)).astype(np.float32) for n in (48_000, 520_000, 30_000)]
    audio, lengths = pad_batch(clips)
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 0.7
    together = clap.embed(audio, lengths)
    for i, clip in enumerate(clips):
        np.testing.assert_allclose(together.embeddings[i], clap.embed(*pad_batch([clip[:480_000]])).embeddings[0], atol=1e-5)
    assert isinstance(clap, Embedder)
    assert clap.name == "clap-laion-630k-audioset-best"


def test_short_clips_are_repeated_whole_then_padded() -> None:
    made = prepared(np.full(200_000, 0.5, np.float32))
    assert made.shape == (480_000,)
    assert np.all(made[:400_000] == np.float32(16383) / np.float32(32767))  # 16 bits, truncated
    assert np.all(made[400_000:] == 0)
    assert np.all(prepared(np.array([3.0, -3.0], np.float32))[:2] == [1.0, -1.0])


def test_a_tokeniser_that_does_not_fit_is_refused(folder: Path, words: int, tmp_path: Path) -> None:
    file = clap_file(tmp_path / "clap.pt", clap_network(words + 4, depths=(1, 1, 1, 1)))
    with pytest.raises(WeightsError, match=rf"its vocabulary has {words} entries, the text branch of CLAP {words + 4}"):
        ClapEmbedder(file, folder / "roberta-base")
    with pytest.raises(WeightsError, match=r"vocab\.json: does not exist; .*weights pull roberta-base"):
        ClapEmbedder(clap_file(tmp_path / "clap.pt", clap_network(words, depths=(1, 1, 1, 1))), tmp_path)


def test_other_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    for tensors, message in (
        ({"fc1.weight": torch.zeros(2)}, "holds no audio branch of CLAP"),
        ({"audio_branch.patch_embed.fusion_model.local_att.0.weight": torch.zeros(2)}, "fusion checkpoint"),
        ({"audio_branch.patch_embed.proj.weight": torch.zeros(96, 1, 4, 4)}, "no checkpoint of LAION-CLAP"),
    ):
        torch.save({"state_dict": {f"module.{name}": value for name, value in tensors.items()}}, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=message):
            ClapEmbedder(tmp_path / "x.pt", folder / "roberta-base")
