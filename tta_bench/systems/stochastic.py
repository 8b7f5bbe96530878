"""Schedulers that draw noise of their own while they sample: the initial noise alone then does not determine the audio."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch

from tta_bench.systems.hf import quiet

_STEPS = 4  # of one or two, some are the last one, at which no scheduler draws any
_SHAPE = (1, 4, 8, 8)


@dataclass(frozen=True)
class OwnNoise:
    """scheduler: class of one that draws noise. has_ddim: whether "ddim" fits its noise schedule (see `tta_bench.systems.schedulers`)."""

    scheduler: str
    has_ddim: bool


def own_noise(scheduler: Any) -> OwnNoise | None:
    """What is to be known of a scheduler that draws noise of its own; None for one that does not."""
    return OwnNoise(type(scheduler).__name__, "beta_schedule" in scheduler.config) if draws_noise(scheduler) else None


def draws_noise(scheduler: Any) -> bool:
    """Whether a scheduler of diffusers, at its defaults, samples other latents from the same initial noise where its generators differ.

    It is tried out, on a tiny tensor and a copy, so that options which make a class stochastic (`algorithm_type`, `tau`) count, and classes to come.
    False for one that cannot be stepped as pipelines step it: sampling with it fails too, and says why.
    """
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return not torch.equal(_sampled(scheduler, 1), _sampled(scheduler, 2))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False


def _sampled(scheduler: Any, seed: int) -> torch.Tensor:
    """Latents after a few steps with a denoiser that is a fixed function; `seed` is that of all noise but the initial one."""
    stepped = copy.deepcopy(scheduler)
    stepped.set_timesteps(_STEPS)
    torch.manual_seed(seed)  # for those that take no generator
    drawn = {"generator": torch.Generator().manual_seed(seed)} if "generator" in inspect.signature(stepped.step).parameters else {}
    noise = torch.randn(_SHAPE, generator=torch.Generator().manual_seed(0))
    z: torch.Tensor = noise * float(getattr(stepped, "init_noise_sigma", 1.0))  # of flow matching, none
    for timestep in stepped.timesteps:
        known = stepped.scale_model_input(z, timestep) if hasattr(stepped, "scale_model_input") else z
        z = stepped.step(0.3 * torch.tanh(known), timestep, z, **drawn).prev_sample
    return z
