"""Our embedders against the networks of the reference packages, on the same checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import frechet_audio_distance
import laion_clap
import numpy as np
import pytest
import torch

from tests.reference.world import CLAP_FILES, PANNS_FILES, tokeniser_folder
from tta_bench.audio import resample
from tta_bench.embedders.clap import ClapEmbedder
from tta_bench.embedders.panns import FRONT_ENDS, PannsEmbedder
from tta_bench.embedders.protocol import Features, Floats, pad_batch
from tta_bench.embedders.vggish import VggishEmbedder

Clips = dict[str, np.ndarray]
CAPTIONS = ["a dog barks", "Rain falls on a tin roof, then a high siren wails", "", "wind"]


def _at(clips: Clips, rate: int) -> list[Floats]:
    return [resample(samples, 48_000, rate) for samples in clips.values()]


@pytest.fixture(scope="session")
def panns_network() -> type[Any]:
    """panns_inference's Cnn14. At import the package would fetch a list of labels, unless there is one."""
    config = ModuleType("panns_inference.config")
    vars(config).update(labels=[""] * 527, ids=[""] * 527, classes_num=527, sample_rate=32_000)
    sys.modules["panns_inference.config"] = config
    from panns_inference.models import Cnn14

    return Cnn14


def _close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """To 1e-4 of the size of the values."""
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-3, "an output that does not vary compares nothing"
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))


def test_vggish(hub: Path, clips: Clips) -> None:
    """Through frechet_audio_distance, with what it takes from torch.hub."""
    theirs = frechet_audio_distance.FrechetAudioDistance(ckpt_dir=str(hub), model_name="vggish")
    ours = VggishEmbedder(hub / "checkpoints" / "vggish-10086976.pth")
    audio = _at(clips, 16_000)
    rows = ours.embed(*pad_batch(audio)).embeddings
    for samples, row in zip(audio, rows, strict=True):
        _close(row, theirs.get_embeddings([samples], sr=16_000))


@pytest.mark.parametrize("name", PANNS_FILES)
def test_panns(hub: Path, clips: Clips, panns_network: type[Any], name: str) -> None:
    front = FRONT_ENDS[name]
    settings = {"panns-cnn14-16k": (50, 8000), "panns-cnn14-32k": (50, 14_000)}[name]
    network = panns_network(front.sample_rate_hz, front.window, front.hop, 64, *settings, 527).eval()
    built = {part: value.clone() for part, value in network.state_dict().items() if part.startswith(("spectrogram", "logmel"))}
    state = torch.load(hub / PANNS_FILES[name], weights_only=True, mmap=True)["model"]
    for part, value in built.items():  # the front end that the package builds is the one in the file
        np.testing.assert_allclose(state[part].numpy(), value.numpy(), atol=1e-5)
    network.load_state_dict(state)
    logits: list[torch.Tensor] = []
    network.fc_audioset.register_forward_hook(lambda _, __, out: logits.append(out))
    audio = [samples for samples in _at(clips, front.sample_rate_hz) if len(samples) >= 2 * front.sample_rate_hz]
    ours = PannsEmbedder(hub / PANNS_FILES[name], name=name).embed(*pad_batch(audio))
    assert ours.logits is not None
    for samples, row, classes in zip(audio, ours.embeddings, ours.logits, strict=True):
        with torch.no_grad():
            out = network(torch.from_numpy(samples)[None])
        _close(row, out["embedding"].numpy())
        _close(classes, logits.pop()[0].numpy())
        np.testing.assert_allclose(1 / (1 + np.exp(-classes.astype(np.float64))), out["clipwise_output"][0].numpy(), atol=1e-4)


@pytest.mark.parametrize("audio_model", CLAP_FILES)
def test_clap(world: Path, clips: Clips, audio_model: str) -> None:
    """Clips of at most 10 s: of longer ones laion_clap takes a random part."""
    path = world / "hub" / CLAP_FILES[audio_model]
    theirs = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel=audio_model)
    theirs.load_ckpt(str(path), verbose=False)
    ours = ClapEmbedder(path, tokeniser_folder(world), checkpoint=path.stem)
    audio = [samples for samples in clips.values() if len(samples) <= 480_000]
    features: Features = ours.embed(*pad_batch(audio))
    assert features.joint is not None
    with torch.no_grad():
        expected = np.concatenate([theirs.get_audio_embedding_from_data(samples[None]) for samples in audio])
    _differ(expected)
    np.testing.assert_allclose(features.joint, expected, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(features.embeddings), expected, atol=1e-4)
    texts = ours.embed_text(CAPTIONS)
    _differ(texts)
    np.testing.assert_allclose(texts, theirs.get_text_embedding(CAPTIONS), atol=1e-4)


def _differ(rows: np.ndarray) -> None:
    """A network that hears all clips alike would agree with any other such."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    assert distances[~np.eye(len(rows), dtype=bool)].min() > 1e-2
