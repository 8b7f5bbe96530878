"""Samplers of diffusers' pipelines: the pipeline's own scheduler, or another with the same noise schedule."""

from __future__ import annotations

import copy
from typing import Any

from tta_bench.errors import ConfigError
from tta_bench.systems.hf import hf_part, one_line, quiet

PIPELINE_SAMPLERS = ("own", "ddim", "dpmpp_2m")


def scheduler_of(own: Any, sampler: str, name: str) -> Any:
    """A new scheduler for `sampler`, made from the configuration of the pipeline's `own`. name: of the pipeline, for messages.

    "ddim": DDIM with eta = 0. "dpmpp_2m": DPM-Solver++ of order 2, multistep, deterministic. Both keep the pipeline's timestep spacing.
    Raises ConfigError for a sampler that is unknown, or that the pipeline's noise schedule does not allow.
    """
    if sampler == "own":
        return copy.deepcopy(own)
    if sampler not in PIPELINE_SAMPLERS:
        raise ConfigError(f"{name}: unknown sampler {sampler!r}; known: {', '.join(PIPELINE_SAMPLERS)}")
    if "beta_schedule" not in own.config:
        raise ConfigError(f'{name}: sampler {sampler!r} does not fit the noise schedule of its {type(own).__name__}; use samplers = ["own"]')
    config = {"clip_sample": False, "thresholding": False, **own.config}  # latents have no bounds; DDIM's default would clip them
    if sampler == "ddim":
        return hf_part("diffusers", "DDIMScheduler").from_config(config)
    multistep = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "use_karras_sigmas": False}
    return hf_part("diffusers", "DPMSolverMultistepScheduler").from_config({**config, **multistep})


def denoiser_calls(scheduler: Any, steps: int, name: str) -> int:
    """How often a pipeline calls its denoiser at `steps`: a scheduler of second order may have more timesteps than steps.

    Raises ConfigError for a number of steps that the scheduler refuses.
    """
    asked = copy.deepcopy(scheduler)
    try:
        with quiet():
            asked.set_timesteps(steps)
    except (ValueError, ZeroDivisionError, IndexError) as error:
        raise ConfigError(f"{name}: steps = {steps}: {one_line(error)}") from error
    return len(asked.timesteps)
