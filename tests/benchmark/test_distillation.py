"""What one distillation update costs beyond the network evaluations that it cannot do without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.harness.distillation import StageTask
from tta_bench.harness.recipe import Optimisation, Runtime
from tta_bench.harness.teachers import BundleTeacher
from tta_bench.harness.train_teacher import LatentCorpus
from tta_bench.harness.training import _Loop
from tta_bench.models.denoiser import Denoiser, TextCondition
from tta_bench.models.text import TextEncoder, Vocabulary

BATCH, ROUNDS = 32, 15
CAPTION = "first a loud high-pitched siren and slow footsteps at the same time, and then a rapid small bird"


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("steps", [(200, 100), (25, 5)])
def test_cost_of_an_update(benchmark: Any, tmp_path: Path, steps: tuple[int, int]) -> None:
    """Interleaved: an update of the trainer, then k teacher evaluations and a student's forward and backward pass alone."""
    torch.set_num_threads(1)
    words = Vocabulary.of([CAPTION])
    of = BundleTeacher(Denoiser(), TextEncoder(words), "random", CosineSchedule(), steps[0])
    latents = np.random.default_rng(0).standard_normal((256, 16, 32)).astype(np.float32)
    recipe = Optimisation(updates=10_000, batch=BATCH, learning_rate=3e-4, decay="linear", autocast=False)
    task = StageTask(recipe, Stage(CosineSchedule(), *steps), "bsa", 5.0, (1.0, 6.0), LatentCorpus("x", latents, [(CAPTION,)] * 256), of, 0)
    loop = _Loop(task, recipe, tmp_path, Runtime(device="cpu", save_every_s=1e9), {"name": "x"})
    batch = task.batch(0, np.arange(BATCH), torch.device("cpu"))
    text = TextCondition(batch["text"]["states"], batch["text"]["mask"])
    student = task.objective.denoiser

    def evaluations() -> None:
        with torch.inference_mode():
            for _ in range(steps[0] // steps[1]):
                of.denoiser(batch["z"], batch["log_snr"], text, batch["guidance_scale"])

    def forward_and_backward() -> None:
        student(batch["z"], batch["log_snr"], text, batch["guidance_scale"]).square().mean().backward()
        student.zero_grad(set_to_none=True)

    ratios = []
    for round_ in range(ROUNDS):
        whole, alone = seconds(loop.update), seconds(evaluations) + seconds(forward_and_backward)
        if round_ >= 3:
            ratios.append(whole / alone)
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print(
        f"{steps[0]} -> {steps[1]}: an update costs {statistics.median(ratios):.3f} x the evaluations alone ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    benchmark.pedantic(loop.update, rounds=5)
