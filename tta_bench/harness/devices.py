"""The one place that knows accelerate: device, mixed precision, several processes, trackers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tta_bench.errors import ConfigError, ExtraMissing
from tta_bench.harness.recipe import Runtime


def accelerator_of(runtime: Runtime, folder: Path) -> Any:
    """accelerate's Accelerator for `runtime`; trackers write below `folder`.

    Raises ExtraMissing without accelerate, ConfigError where one process asks for two precisions or for a tracker that is not there.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration
    except (ImportError, OSError, RuntimeError) as error:
        raise ExtraMissing("accelerate", "train", str(error).splitlines()[0]) from error
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`log_with")  # an absent tracker is an error below
            accelerator = Accelerator(
                cpu=runtime.device == "cpu",
                mixed_precision=runtime.precision,
                log_with=runtime.tracker,
                kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # a teacher's scale embedding, a student's null text
                project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "tracker")),
            )
    except ValueError as error:
        raise ConfigError(f"runtime: {error}") from error
    if runtime.tracker:
        if not accelerator.log_with:
            raise ConfigError(f"runtime.tracker = {runtime.tracker!r} is not installed; install its package, or leave the key out")
        accelerator.init_trackers("tta_bench")
    return accelerator
