from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.harness.worlds import CAPTIONS, save_bundle
from tta_bench.errors import ConfigError, WeightsError
from tta_bench.models.bundle import load_network, save_network
from tta_bench.models.codec import Codec
from tta_bench.systems.latent import LatentSystem, load_latent
from tta_bench.systems.protocol import Clip, System

CLIPS = [Clip(f"clip{i}", caption) for i, caption in enumerate(CAPTIONS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(tmp_path)
    return tmp_path


def generated(system: LatentSystem, clips: list[Clip] = CLIPS, steps: int = 4, scale: float = 3.0, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(system.generate(clips, steps=steps, guidance_scale=scale, seed=seed))


@pytest.mark.parametrize("name", ["teacher", "guided"])
@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m"])
def test_audio_depends_on_clip_and_seed_not_on_the_batch(folder: Path, name: str, sampler: str) -> None:
    system = load_latent(name, folder, sampler)
    assert isinstance(system, System)
    audio = generated(system)
    assert list(audio) == [clip.clip_id for clip in CLIPS]
    assert {samples.shape for samples in audio.values()} == {(system.samples,)}
    one_by_one = generated(dataclasses.replace(system, batch_size=1), CLIPS[::-1])
    for clip_id, samples in audio.items():
        assert np.allclose(samples, one_by_one[clip_id], atol=1e-5)
    assert not np.allclose(audio["clip0"], generated(system, seed=1)["clip0"], atol=1e-3)
    assert not np.allclose(audio["clip0"], generated(system, [Clip("clip0", "rain")])["clip0"], atol=1e-6)


def test_systems_share_the_noise_of_a_clip(folder: Path) -> None:
    teacher, guided = load_latent("teacher", folder), load_latent("guided", folder)
    assert np.array_equal(teacher.noise("a", 0), guided.noise("a", 0))
    assert not np.array_equal(teacher.noise("a", 0), teacher.noise("b", 0))
    assert not np.array_equal(teacher.noise("a", 0), teacher.noise("a", 1))


def test_evaluations_are_counted_as_they_are_spent(folder: Path) -> None:
    for name in ("teacher", "guided"):
        for scale in (1.0, 3.0):
            system = load_latent(name, folder)
            calls = []
            system.denoiser.register_forward_hook(lambda *_: calls.append(1))  # noqa: B023
            generated(system, steps=5, scale=scale)
            assert len(calls) == system.evaluations(5, scale)
    assert load_latent("teacher", folder).evaluations(5, 3.0) == 10


def test_guidance_changes_what_a_teacher_makes_and_one_is_none(folder: Path) -> None:
    teacher = load_latent("teacher", folder)
    plain, strong = generated(teacher, scale=1.0), generated(teacher, scale=4.0)
    assert not np.allclose(plain["clip0"], strong["clip0"], atol=1e-4)


def test_errors(folder: Path) -> None:
    guided = load_latent("guided", folder)
    with pytest.raises(ConfigError, match="guidance scales 1 to 6, not 9"):
        generated(guided, scale=9.0)
    with pytest.raises(ConfigError, match="at least 1 step"):
        generated(guided, steps=0)
    with pytest.raises(ConfigError, match="unknown sampler 'euler'; known: ddim"):
        load_latent("teacher", folder, "euler")
    with pytest.raises(WeightsError, match=r"student-x\.json: is not there .*networks in this folder: codec, guided, teacher, text"):
        load_latent("student-x", folder)


def test_parts_of_another_bundle_are_refused(folder: Path) -> None:
    codec, _ = load_network(folder, "codec", Codec)
    with torch.no_grad():
        codec.latent_mean.fill_(1.0)
    save_network(folder, "codec", codec, {})
    with pytest.raises(WeightsError, match=r"teacher\.json: was trained with another codec"):
        load_latent("teacher", folder)
