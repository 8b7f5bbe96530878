from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from tta_bench.diffusion.samplers import SAMPLERS, Network, Sampler, ddim_step, dpmpp_2m
from tta_bench.diffusion.schedule import CosineSchedule, alpha_sigma
from tta_bench.errors import ConfigError

VARIANCE = 0.25


def ideal(z: Tensor, log_snr: Tensor) -> Tensor:
    """v of the ideal denoiser for data from N(0, 0.5^2)."""
    alpha, sigma = (part[:, None] for part in alpha_sigma(log_snr))
    x = alpha * VARIANCE * z / (alpha**2 * VARIANCE + sigma**2)
    return (alpha * z - x) / sigma


def exact(z: Tensor, schedule: CosineSchedule) -> Tensor:
    """Where the ODE's path from z at t = 1 ends at t = 0."""
    (a1, s1), (a0, s0) = alpha_sigma(schedule.log_snr(1.0)), alpha_sigma(schedule.log_snr(0.0))
    return z * torch.sqrt((a0**2 * VARIANCE + s0**2) / (a1**2 * VARIANCE + s1**2))


def noise(n: int = 8) -> Tensor:
    return torch.randn(n, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


class Counting:
    """A network that counts its evaluations."""

    def __init__(self, network: Network) -> None:
        self.network, self.calls = network, 0

    def __call__(self, z: Tensor, log_snr: Tensor) -> Tensor:
        assert log_snr.shape == (len(z),)
        self.calls += 1
        return self.network(z, log_snr)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(SAMPLERS["ddim"], 1.0), (SAMPLERS["heun"], 2.0), (partial(dpmpp_2m, lower_order_final=False), 2.0)],
    ids=["ddim", "heun", "dpmpp_2m"],
)
def test_order(sampler: Sampler, order: float) -> None:
    schedule, z = CosineSchedule(-6, 6), noise()
    coarse, fine = ((sampler(ideal, z, schedule, n) - exact(z, schedule)).abs().max().item() for n in (160, 640))
    assert math.log(coarse / fine) / math.log(4) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("evaluations", [1, 2, 5, 24, 25])
def test_evaluations_are_exactly_those_asked_for(name: str, evaluations: int) -> None:
    network = Counting(ideal)
    SAMPLERS[name](network, noise(), CosineSchedule(), evaluations)
    assert network.calls == evaluations


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_evaluation_is_one_ddim_step(name: str) -> None:
    schedule, z = CosineSchedule(), noise()
    v = ideal(z, schedule.log_snr(torch.ones(len(z))))
    torch.testing.assert_close(SAMPLERS[name](ideal, z, schedule, 1), ddim_step(z, v, schedule.span), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_straight_path_needs_one_step(name: str) -> None:
    """Data at a single point: v is exact on the whole path, so any DDIM-exact sampler lands on it at once; Heun nearly."""
    schedule, target = CosineSchedule(), torch.full((4, 16), 0.7, dtype=torch.float64)

    def network(z: Tensor, log_snr: Tensor) -> Tensor:
        alpha, sigma = (part[:, None] for part in alpha_sigma(log_snr))
        return (alpha * z - target) / sigma

    for evaluations in (1, 2, 9):
        result = SAMPLERS[name](network, noise(4), schedule, evaluations)
        tolerance = 1e-3 if name != "heun" or evaluations == 1 else 4.0 / evaluations**2
        torch.testing.assert_close(result, target, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", SAMPLERS)
def test_items_of_a_batch_do_not_touch(name: str) -> None:
    z = noise(8)
    whole = SAMPLERS[name](ideal, z, CosineSchedule(), 7)
    parts = torch.cat([SAMPLERS[name](ideal, part, CosineSchedule(), 7) for part in (z[:3], z[3:])])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-13)


def test_lower_order_at_the_end_keeps_2m_stable_on_the_full_range() -> None:
    schedule, z = CosineSchedule(), noise()
    error = lambda sample: ((sample - exact(z, schedule)).norm() / exact(z, schedule).norm()).item()  # noqa: E731
    assert error(dpmpp_2m(ideal, z, schedule, 25)) < 0.03
    assert error(dpmpp_2m(ideal, z, schedule, 25, lower_order_final=False)) > 5 * error(dpmpp_2m(ideal, z, schedule, 25))


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_steps_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        SAMPLERS[name](ideal, noise(), CosineSchedule(), 0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [25, 400])
def test_half_precision_networks_keep_a_precise_state(name: str, steps: int) -> None:
    schedule, z = CosineSchedule(), noise()

    def network(z: Tensor, log_snr: Tensor) -> Tensor:
        assert (z.dtype, log_snr.dtype) == (torch.bfloat16, torch.float32)
        return ideal(z.double(), log_snr.double()).to(torch.bfloat16)

    rounded = SAMPLERS[name](network, z.to(torch.bfloat16), schedule, steps)
    assert rounded.dtype == torch.bfloat16
    exact_path = SAMPLERS[name](ideal, z.to(torch.bfloat16).double(), schedule, steps)
    assert (rounded - exact_path).norm() < 0.01 * exact_path.norm()


def test_angles_per_item_are_not_applied_along_another_axis() -> None:
    z, v, delta = torch.randn(3, 2, 3), torch.randn(3, 2, 3), torch.tensor([0.1, 0.2, 0.3])
    together = ddim_step(z, v, delta)
    for i in range(3):
        torch.testing.assert_close(together[i], ddim_step(z[i], v[i], float(delta[i])))
