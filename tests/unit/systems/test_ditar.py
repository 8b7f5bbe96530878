"""DiTAR as a system, on random weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.harness.worlds import CAPTIONS, CODEC, DENOISER, SCHEDULE, ditar, save_ditar, stirred, text_encoder
from tta_bench.diffusion.guidance import guided
from tta_bench.diffusion.samplers import SAMPLERS
from tta_bench.diffusion.temperature import sample_at
from tta_bench.errors import ConfigError, InputError, WeightsError
from tta_bench.harness.ditar_teacher import patch_v
from tta_bench.harness.generate import Setting, StagedSystem, timed_batch
from tta_bench.models.bundle import save_network
from tta_bench.models.codec import Codec
from tta_bench.models.ditar import PatchLM, histories, patches_of
from tta_bench.models.streaming import look_ahead
from tta_bench.rng import generator
from tta_bench.systems.ditar import DitarSystem, load_ditar
from tta_bench.systems.latent import LatentSystem
from tta_bench.systems.protocol import Clip

CLIPS = [Clip(f"clip{i}", caption) for i, caption in enumerate(CAPTIONS)]


def system(patch: int = 2, history: int = 2, **changes: Any) -> DitarSystem:
    lm, locdit = ditar(patch=patch, history=history)
    never_ends(lm)
    return dataclasses.replace(DitarSystem("toy", stirred(Codec(CODEC)), lm, locdit, SCHEDULE, None), **changes)


def never_ends(lm: PatchLM) -> None:
    lm.stop.weight.data.zero_()
    lm.stop.bias.data.fill_(-1.0)


def ends_at_times(lm: PatchLM) -> None:
    """Let the stop head decide by what it hears: clips end after different numbers of patches."""
    torch.manual_seed(0)
    lm.stop.weight.data.normal_(std=1.0)
    lm.stop.bias.data.zero_()


def generated(made: DitarSystem, clips: list[Clip] = CLIPS, steps: int = 4, scale: float = 2.0, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(made.generate(clips, steps=steps, guidance_scale=scale, seed=seed))


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_one_patch_as_long_as_the_clip_is_latent_diffusion(sampler: str) -> None:
    """No history, temperature 1, guidance off: what the `latent` system does with LocDiT as its denoiser."""

    class AsDenoiser(torch.nn.Module):
        """LocDiT under the captions' h, in the shape of the latent family's denoiser."""

        def __init__(self) -> None:
            super().__init__()
            self.locdit, self.shape = made.locdit, DENOISER

        def forward(self, z: torch.Tensor, log_snr: torch.Tensor, text: Any) -> torch.Tensor:
            none = z.new_zeros(len(z), 4, 0)
            return self.locdit(z, log_snr, h, none, torch.zeros(len(z), dtype=torch.int64))

    made = system(patch=8, history=0, sampler=sampler)
    with torch.inference_mode():
        _, h = made.lm.begin(made.lm.tokenise(CAPTIONS))
    latent = LatentSystem("toy", made.codec, text_encoder(), AsDenoiser(), SCHEDULE, None, sampler)  # type: ignore[arg-type]
    expected = latent.latents(CLIPS, steps=5, guidance_scale=1.0, seed=3)
    found = torch.stack(made.latents(CLIPS, steps=5, guidance_scale=1.0, seed=3))
    assert found.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_cache_changes_nothing(scale: float, temperature: float) -> None:
    """Every patch again from the whole of what came before it."""
    made = system(temperature=temperature)
    quick = torch.stack(made.latents(CLIPS, steps=4, guidance_scale=scale, seed=0))

    class Uncached(PatchLM):
        def begin(self, tokens: torch.Tensor) -> Any:
            return (tokens, []), self.state_after(tokens, [])

        def advance(self, state: Any, patch: torch.Tensor) -> Any:
            tokens, before = state
            h = self.state_after(tokens, [*before, patch]) if len(before) + 1 < self.shape.patches else None
            return (tokens, [*before, patch]), h, torch.full((len(patch),), -1.0)

        def state_after(self, tokens: torch.Tensor, patches: list[torch.Tensor]) -> torch.Tensor:
            blank = torch.zeros(len(tokens), 4, 2)
            return self(tokens, torch.stack([*patches, blank], dim=1))[0][:, -1]

    slow = Uncached(made.lm.vocabulary, made.lm.shape)
    slow.load_state_dict(made.lm.state_dict())
    whole = torch.stack(dataclasses.replace(made, lm=slow.eval()).latents(CLIPS, steps=4, guidance_scale=scale, seed=0))
    torch.testing.assert_close(quick, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("ending", [False, True])
def test_batched_equals_one_by_one(sampler: str, ending: bool) -> None:
    made = system(sampler=sampler)
    if ending:
        ends_at_times(made.lm)
    together = generated(made)
    assert list(together) == [clip.clip_id for clip in CLIPS]
    assert (len({len(samples) for samples in together.values()}) > 1) == ending
    alone = generated(dataclasses.replace(made, batch_size=1), CLIPS[::-1])
    for clip_id, samples in together.items():
        assert samples.shape == alone[clip_id].shape
        np.testing.assert_allclose(samples, alone[clip_id], atol=1e-5)
    assert np.abs(together["clip0"] - generated(made, [Clip("clip0", "rain")])["clip0"][: len(together["clip0"])]).max() > 1e-4


def test_a_clip_ends_where_the_language_model_says() -> None:
    made = system()
    ends_at_times(made.lm)
    whole = dataclasses.replace(made, stop=False).latents(CLIPS, steps=3, guidance_scale=1.0, seed=0)
    cut = made.latents(CLIPS, steps=3, guidance_scale=1.0, seed=0)
    assert {part.shape[1] for part in whole} == {8}
    for clip, all_of_it, part in zip(CLIPS, whole, cut, strict=True):
        with torch.inference_mode():
            _, ends = made.lm(made.lm.tokenise([clip.caption]), patches_of(all_of_it[None], 2))
        first = next((i for i in range(4) if ends[0, i] > 0), 3)
        assert part.shape[1] == 2 * (first + 1)
        torch.testing.assert_close(part, all_of_it[:, : part.shape[1]], rtol=0, atol=1e-5)
    made.lm.stop.bias.data.fill_(100.0)
    assert {part.shape[1] for part in made.latents(CLIPS, steps=3, guidance_scale=1.0, seed=0)} == {2}


@pytest.mark.parametrize(("scale", "scales"), [(1.0, None), (3.0, None), (3.0, (1.0, 6.0))])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_patches_are_made_from_what_networks_are_trained_on(temperature: float, scale: float, scales: tuple[float, float] | None) -> None:
    """States and histories of the finished clip under teacher forcing, all patches sampled at once: the same latents."""
    made = system(temperature=temperature, guidance_scales=scales)
    with torch.inference_mode():
        x = torch.stack(made.latents(CLIPS, steps=4, guidance_scale=scale, seed=0))
        h, _ = made.lm(made.lm.tokenise([clip.caption for clip in CLIPS]), patches_of(x, 2))
        history, _ = histories(x, 2, made.locdit.shape.history)
        given = None if scales is None else torch.full((len(CLIPS),), scale)

        def network(z: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
            v = patch_v(made.locdit, z, log_snr, h, history, given)
            return v if scales or scale == 1.0 else guided(v, patch_v(made.locdit, z, log_snr, 0 * h, history, None), scale)

        noise = torch.from_numpy(np.stack([made.noise(clip.clip_id, 0) for clip in CLIPS]))
        fresh = torch.from_numpy(np.stack([generator(0, "temperature", clip.clip_id).standard_normal((4, 8), dtype=np.float32) for clip in CLIPS]))
        expected = sample_at(network, noise, fresh, SCHEDULE, "ddim", 4, temperature)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0.0)


def test_temperature_zero_draws_nothing() -> None:
    cold = system(temperature=0.0)
    assert all(np.array_equal(samples, generated(cold, seed=1)[clip_id]) for clip_id, samples in generated(cold).items())
    for temperature in (0.5, 1.0):
        warm = system(temperature=temperature)
        assert all(np.abs(samples - generated(warm, seed=1)[clip_id]).max() > 1e-3 for clip_id, samples in generated(warm).items())


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("name", "scale"), [("teacher", 1.0), ("teacher", 3.0), ("guided", 3.0)])
def test_evaluations_are_counted_as_they_are_spent(tmp_path: Path, name: str, scale: float, temperature: float) -> None:
    save_ditar(tmp_path)
    made = load_ditar(name, tmp_path, temperature=temperature, stop=False)
    calls, states = [], []
    made.locdit.register_forward_hook(lambda *_: calls.append(1))
    made.lm.norm.register_forward_hook(lambda *_: states.append(1))
    assert isinstance(made, StagedSystem)
    batch = timed_batch(made, CLIPS, Setting(6, scale, 0))
    assert not batch.failed
    assert {len(samples) for samples in batch.audio.values()} == {made.samples}
    assert len(calls) == made.evaluations(6, scale)
    assert len(states) == made.lm.shape.patches  # once a patch, whatever guidance costs


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("ending", [False, True])
def test_streamed_is_generated(causal: bool, ending: bool) -> None:
    """Sample for sample, alone and in a batch whose clips end at different times; by a causal decoder from the first patch on."""
    codec = Codec(dataclasses.replace(CODEC, causal=causal))
    made = system(codec=stirred(codec))
    if ending:
        ends_at_times(made.lm)
    calls: list[int] = []
    made.locdit.register_forward_hook(lambda *_: calls.append(1))
    expected = generated(made)
    assert (len({len(samples) for samples in expected.values()}) > 1) == ending
    for clip in CLIPS:
        calls.clear()
        parts, spent = [], []
        for part in made.stream(clip.caption, steps=4, guidance_scale=2.0, clip_id=clip.clip_id):
            parts.append(part)
            spent.append(len(calls))
        np.testing.assert_allclose(np.concatenate(parts), expected[clip.clip_id], atol=1e-6)
        if causal:
            assert spent[0] == 2 * 4  # evaluations, those of one patch
            assert len(parts[0]) == 2 * codec.shape.samples_per_latent - look_ahead(codec.shape) > 0
    together: dict[str, list[np.ndarray]] = {clip.clip_id: [] for clip in CLIPS}
    calls.clear()
    finished: dict[str, int] = {}  # evaluations until a clip has all of its audio
    for named in made.stream_together(CLIPS, steps=4, guidance_scale=2.0, seed=0):
        for clip_id, part in named.items():
            together[clip_id].append(part)
            finished[clip_id] = len(calls)
    lasted = {clip_id: len(samples) // (2 * codec.shape.samples_per_latent) for clip_id, samples in expected.items()}  # patches
    assert {clip_id: math.ceil(count / 8) for clip_id, count in finished.items()} == lasted  # none waits for the others' next patch
    for clip_id, pieces in together.items():
        np.testing.assert_allclose(np.concatenate(pieces), expected[clip_id], atol=1e-5)
    with pytest.raises(ConfigError, match="at least 1 step"):
        next(made.stream("rain", steps=0))
    with pytest.raises(InputError, match="clip0"):
        next(made.stream_together([CLIPS[0], CLIPS[0]], steps=1, guidance_scale=1.0, seed=0))


def test_audio_of_several_lengths_is_timed_together() -> None:
    made = system()
    ends_at_times(made.lm)
    batch = timed_batch(made, CLIPS, Setting(3, 1.0, 0))
    expected = generated(made, steps=3, scale=1.0)
    assert all(np.allclose(batch.audio[clip_id], samples, atol=1e-6) for clip_id, samples in expected.items())


def test_what_cannot_be(tmp_path: Path) -> None:
    save_ditar(tmp_path)
    with pytest.raises(ConfigError, match=r"temperature = 1\.5 must lie between"):
        load_ditar("teacher", tmp_path, temperature=1.5)
    with pytest.raises(ConfigError, match="unknown sampler 'euler'"):
        load_ditar("teacher", tmp_path, "euler")
    with pytest.raises(ConfigError, match="distilled for guidance scales 1 to 6, not 7"):
        generated(load_ditar("guided", tmp_path), scale=7.0)
    with pytest.raises(InputError, match="has no words"):
        generated(load_ditar("teacher", tmp_path), [Clip("a", "...")])
    save_network(tmp_path, "lm", ditar(5)[0], {})
    with pytest.raises(WeightsError, match="was trained with another lm than"):
        load_ditar("teacher", tmp_path)
