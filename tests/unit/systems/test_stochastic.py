"""Which schedulers draw noise of their own, for every one of diffusers that can be stepped as pipelines do it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tta_bench.systems.hf import quiet
from tta_bench.systems.schedulers import scheduler_of
from tta_bench.systems.stochastic import OwnNoise, draws_noise, own_noise

diffusers = pytest.importorskip("diffusers")

DRAWS = (
    "CMStochasticIterativeScheduler", "DDPMScheduler", "DDPMParallelScheduler", "EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler", "SASolverScheduler", "TCDScheduler", "UnCLIPScheduler",
)  # fmt: skip
DRAWS_BY_TREE = ("CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler")  # need torchsde
NONE = (
    "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler", "CogVideoXDDIMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler", "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "HeunDiscreteScheduler",
    "IPNDMScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip


def made(name: str, **options: Any) -> Any:
    """Some schedulers warn of numpy while they are made."""
    with quiet():
        return getattr(diffusers, name)(**options)


@pytest.mark.parametrize("name", DRAWS)
def test_those_that_draw(name: str) -> None:
    assert draws_noise(made(name))


@pytest.mark.parametrize("name", DRAWS_BY_TREE)
def test_those_that_draw_from_a_brownian_tree(name: str) -> None:
    pytest.importorskip("torchsde")
    assert draws_noise(made(name))


@pytest.mark.parametrize("name", NONE)
def test_those_that_do_not(name: str) -> None:
    assert not draws_noise(made(name))


@pytest.mark.parametrize(
    ("name", "options", "draws"),
    [
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, True),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}, True),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 3}, False),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, False),
        ("DDPMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "variance_type": "fixed_large"}, True),
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}, True),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, True),
    ],
)
def test_options_decide_too(name: str, options: dict[str, Any], draws: bool) -> None:
    assert draws_noise(made(name, **options)) is draws


@pytest.mark.parametrize("own", ["DDIMScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler"])
def test_what_a_run_may_choose_instead(own: str) -> None:
    scheduler = made(own)
    for sampler in ("ddim", "dpmpp_2m"):
        assert not draws_noise(scheduler_of(scheduler, sampler, "x"))


def test_it_says_whether_ddim_fits() -> None:
    assert own_noise(made("DDPMScheduler")) == OwnNoise("DDPMScheduler", has_ddim=True)
    assert own_noise(made("DDIMScheduler")) is None
    pytest.importorskip("torchsde")
    assert own_noise(made("CosineDPMSolverMultistepScheduler")) == OwnNoise("CosineDPMSolverMultistepScheduler", has_ddim=False)


def test_neither_the_scheduler_nor_the_worlds_noise_is_touched() -> None:
    scheduler = made("DDPMScheduler")
    before, state = copy.deepcopy(vars(scheduler)), torch.random.get_rng_state()
    assert draws_noise(scheduler)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) if isinstance(value, torch.Tensor) else value == before[key] for key, value in vars(scheduler).items())


def test_one_that_cannot_be_stepped_is_left_to_the_pipeline() -> None:
    assert not draws_noise(made("RePaintScheduler"))
