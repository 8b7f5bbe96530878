"""What the harness adds to the networks' own work, and the speed of generation: `pytest tests/benchmark/test_sweep.py -s --benchmark-json=FILE`."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch

from tta_bench.harness.generate import Setting, timed_batch
from tta_bench.models.denoiser import TextCondition
from tta_bench.systems.latent import LatentSystem, load_latent
from tta_bench.systems.protocol import Clip

BATCH, REPEATS = 32, 9
CLIPS = [Clip(f"clip-{i:02d}", "A dog barks loudly, then a high siren wails") for i in range(BATCH)]


@pytest.fixture(scope="module")
def system() -> LatentSystem:
    return load_latent("guided")


def bare(system: LatentSystem, steps: int) -> float:
    """Seconds of as many calls of the network alone, on one z."""
    with torch.inference_mode():
        text = TextCondition(*system.text(system.text.tokenise([clip.caption for clip in CLIPS])))
        z = torch.from_numpy(np.stack([system.noise(clip.clip_id, 0) for clip in CLIPS]))
        scale, levels = torch.full((BATCH,), 3.0), torch.linspace(-10.0, 10.0, steps)
        start = perf_counter()
        for level in levels:
            system.denoiser(z, level.expand(BATCH), text, scale)
        return perf_counter() - start


@pytest.mark.parametrize("steps", [25, 200])
def test_sampling_in_the_harness_costs_at_most_3_percent_more(system: LatentSystem, steps: int) -> None:
    """A B A B, so that a noisy machine slows both; the median of the ratios."""
    timed_batch(system, CLIPS, Setting(1, 3.0, 0))
    ratios = [timed_batch(system, CLIPS, Setting(steps, 3.0, 0)).sampling_s / bare(system, steps) for _ in range(REPEATS)]
    print(f"\n{steps} steps: {np.median(ratios):.3f} x the bare loop (quartiles {np.percentile(ratios, 25):.3f} to {np.percentile(ratios, 75):.3f})")
    assert np.median(ratios) <= 1.03


@pytest.mark.parametrize("batch", [1, BATCH])
def test_generate(benchmark: Any, system: LatentSystem, batch: int) -> None:
    made = benchmark(lambda: timed_batch(system, CLIPS[:batch], Setting(25, 3.0, 0)))
    assert len(made.audio) == batch


def test_decode(benchmark: Any, system: LatentSystem) -> None:
    latents = system.latents(CLIPS, steps=1, guidance_scale=3.0, seed=0)
    assert benchmark(lambda: system.decode(latents)).shape == (BATCH, system.samples)
