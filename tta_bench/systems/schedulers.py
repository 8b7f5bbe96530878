"""Samplers of diffusers' pipelines: the pipeline's own scheduler, or another with the same noise schedule."""

from __future__ import annotations

import copy
from typing import Any

from tta_bench.errors import ConfigError
from tta_bench.systems.hf import hf_part, one_line, quiet

PIPELINE_SAMPLERS = ("own", "ddim", "dpmpp_2m")
_NO_OTHER_SIGMAS = dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"), False)


def scheduler_of(own: Any, sampler: str, name: str) -> Any:
    """A new scheduler for `sampler`, made from the configuration of the pipeline's `own`. name: of the pipeline, for messages.

    "ddim": DDIM with eta = 0. "dpmpp_2m": DPM-Solver++ of order 2, multistep, deterministic. Both take the trailing grid, which starts at the
    noisiest timestep, as students do, and end where the pipeline's DDIM would end (`set_alpha_to_one`); the pipeline's own grid is that of "own".
    The last step of DPM-Solver++, many times the others in log SNR, is of first order: extrapolating over it costs what the second order gains.
    Raises ConfigError for a sampler that is unknown, or that the pipeline's noise schedule does not allow.
    """
    if sampler == "own":
        return copy.deepcopy(own)
    if sampler not in PIPELINE_SAMPLERS:
        raise ConfigError(f"{name}: unknown sampler {sampler!r}; known: {', '.join(PIPELINE_SAMPLERS)}")
    if "beta_schedule" not in own.config:
        raise ConfigError(f'{name}: sampler {sampler!r} does not fit the noise schedule of its {type(own).__name__}; use samplers = ["own"]')
    if sampler == "ddim":
        return trailing_ddim(own)
    ends = "zero" if own.config.get("set_alpha_to_one", True) else "sigma_min"
    multistep = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": ends, "euler_at_final": True}
    return hf_part("diffusers", "DPMSolverMultistepScheduler").from_config({**_on_trailing_grid(own), **multistep, **_NO_OTHER_SIGMAS})


def trailing_ddim(own: Any, **changes: Any) -> Any:
    """DDIM on the noise schedule of `own` over the trailing grid; changes: of its configuration."""
    return hf_part("diffusers", "DDIMScheduler").from_config({**_on_trailing_grid(own), **changes})


def _on_trailing_grid(own: Any) -> dict[str, Any]:
    """The configuration of `own`. Latents have no bounds: DDIM's default would clip them."""
    return {**plain_config(own), "timestep_spacing": "trailing", "clip_sample": False, "thresholding": False}


def plain_config(part: Any) -> dict[str, Any]:
    """Configuration of a network or scheduler of diffusers, without the notes in it, by which another class's defaults would win over values."""
    return {key: value for key, value in part.config.items() if not key.startswith("_")}


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
