"""Seconds an update, and memory, of distilling an AudioLDM-sized pipeline on a GPU: guided stage, halving stage.

`pytest tests/benchmark/test_distill_pipeline.py -s --benchmark-json=FILE`; weights are random, shapes those of cvssp/audioldm-s-full-v2.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from tests.benchmark.test_pipelines import AUDIO_S, folder
from tests.unit.systems.pipelines import CAPTIONS
from tta_bench.diffusion.distill import Stage
from tta_bench.harness.distillation import GuidedTask, StageTask
from tta_bench.harness.pipeline_teacher import PipelineTeacher, schedule_of
from tta_bench.harness.recipe import GuidedRecipe, Optimisation, Runtime
from tta_bench.harness.train_teacher import LatentCorpus
from tta_bench.harness.training import train
from tta_bench.systems.pipelines import load_pipeline

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")]
BATCH, UPDATES = 16, 8

__all__ = ["folder"]


def made_teacher(place: Path, checkpointing: bool) -> PipelineTeacher:
    pipeline = load_pipeline(str(place))
    return PipelineTeacher(pipeline, AUDIO_S, "random", schedule_of(pipeline), 200, checkpointing=checkpointing)


def corpus(teacher: PipelineTeacher) -> LatentCorpus:
    latents = np.random.default_rng(0).standard_normal((32, *teacher.latent_shape)).astype(np.float32)
    return LatentCorpus("random", latents, [(CAPTIONS[i % len(CAPTIONS)],) for i in range(32)])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("stage", ["guided", "halving"])
def test_seconds_per_update(benchmark: Any, folder: Path, tmp_path: Path, stage: str, precision: Any, checkpointing: bool) -> None:
    teacher = made_teacher(folder, checkpointing)
    common: dict[str, Any] = {"updates": UPDATES, "batch": BATCH, "warm_up": 0, "decay": "linear", "autocast": precision != "no"}
    recipe: Optimisation = GuidedRecipe(**common) if stage == "guided" else Optimisation(**common)
    if stage == "guided":
        task: Any = GuidedTask(recipe, corpus(teacher), teacher, 0)  # type: ignore[arg-type]
    else:
        teacher = dataclasses.replace(teacher, guided=teacher.student())
        task = StageTask(recipe, Stage(teacher.schedule, 200, 100), "bsa", None, (1.0, 4.0), corpus(teacher), teacher, 0)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision otherwise
    runtime = Runtime(precision=precision, log_every=2, save_every_s=1e6)
    torch.cuda.reset_peak_memory_stats()
    finished = benchmark.pedantic(lambda: train(task, recipe, tmp_path, 0, runtime), rounds=1, iterations=1)
    rates = [line["updates_per_s"] for line in finished.losses[1:]]
    assert all(np.isfinite(line["loss"]) for line in finished.losses)
    benchmark.extra_info |= {
        "card": torch.cuda.get_device_name(), "batch": BATCH, "s_per_update": 1.0 / float(np.median(rates)),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }  # fmt: skip
    print("\n", stage, precision, "checkpointed" if checkpointing else "kept", benchmark.extra_info)
