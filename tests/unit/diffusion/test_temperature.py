from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tta_bench.diffusion.samplers import SAMPLERS
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.diffusion.temperature import entry_step, evaluations_at, points_near, sample_at
from tta_bench.errors import ConfigError

SCHEDULE = CosineSchedule()
NAMES = list(SAMPLERS)


class Counted:
    """The exact network of Gaussian data with mean 0.3 and standard deviation 0.5; counts its evaluations and notes what it saw."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Tensor]] = []

    def __call__(self, z: Tensor, log_snr: Tensor) -> Tensor:
        self.calls.append((float(log_snr[0]), z.clone()))
        alpha, sigma = torch.sigmoid(log_snr[0]).sqrt(), torch.sigmoid(-log_snr[0]).sqrt()
        x = 0.3 + alpha * 0.25 * (z - alpha * 0.3) / (0.25 * alpha**2 + sigma**2)
        return alpha * (z - alpha * x) / sigma - sigma * x


def noises(count: int = 2) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 5, generator=rng, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize("evaluations", [1, 2, 5, 10])
def test_at_one_it_is_the_sampler_itself(sampler: str, evaluations: int) -> None:
    noise, fresh = noises()
    made = sample_at(Counted(), noise, fresh, SCHEDULE, sampler, evaluations, 1.0)
    assert torch.equal(made, SAMPLERS[sampler](Counted(), noise, SCHEDULE, evaluations))


@pytest.mark.parametrize("sampler", NAMES)
def test_at_zero_nothing_is_drawn(sampler: str) -> None:
    first, second, third, fourth = noises(4)
    made = [sample_at(Counted(), a, b, SCHEDULE, sampler, 10, 0.0) for a, b in ((first, second), (third, fourth))]
    assert torch.equal(*made)
    assert torch.allclose(made[0], torch.full_like(made[0], 0.3), atol=0.1)


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize("temperature", [0.25, 0.5, 0.75])
def test_in_between_noise_enters_once_at_the_grid_point(sampler: str, temperature: float) -> None:
    noise, fresh = noises()
    network = Counted()
    made = sample_at(network, noise, fresh, SCHEDULE, sampler, 8, temperature)
    assert len(network.calls) == evaluations_at(sampler, 8, temperature) == 9
    levels = [level for level, _ in network.calls]
    intervals = 4 if sampler == "heun" else 8
    entry = entry_step(temperature, intervals)
    angles = SCHEDULE.angles(intervals)
    level = float(-2 * torch.log(torch.tan(angles[entry])))
    at = [i for i, seen in enumerate(levels) if seen == pytest.approx(level, abs=1e-6)]
    before, after = at[-2:]  # the estimate of the data, then the noised one
    assert after == before + 1
    z, again = network.calls[before][1], network.calls[after][1]
    alpha, sigma = torch.cos(angles[entry]), torch.sin(angles[entry])
    v = Counted()(z, torch.full((3,), level, dtype=torch.float64))
    assert torch.allclose(again, alpha * (alpha * z - sigma * v) + sigma * fresh, atol=1e-9)
    assert torch.equal(made, sample_at(Counted(), noises(4)[2], fresh, SCHEDULE, sampler, 8, temperature))
    assert not torch.allclose(made, sample_at(Counted(), noise, noise, SCHEDULE, sampler, 8, temperature))


def test_variance_grows_with_temperature() -> None:
    rng = torch.Generator().manual_seed(1)
    noise, fresh = (torch.randn(4000, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    spread = [float(sample_at(Counted(), noise, fresh, SCHEDULE, "ddim", 16, t / 4).std()) for t in range(5)]
    assert spread == sorted(spread)
    assert spread[0] == pytest.approx(0.0, abs=1e-12)
    assert spread[4] == pytest.approx(0.5, rel=0.2)


def test_it_snaps_to_the_grid() -> None:
    assert [entry_step(t, 1) for t in (0.0, 0.4, 0.6, 1.0)] == [1, 1, 0, 0]
    assert [entry_step(t, 10) for t in (1.0, 0.96, 0.94, 0.5, 0.04, 0.0)] == [0, 0, 1, 5, 10, 10]
    assert [entry_step(t, 10) for t in (0.95, 0.75, 0.65, 0.55, 0.45, 0.25, 0.05)] == [1, 3, 4, 5, 6, 8, 10]  # of two as near the lower
    for temperature in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="must lie between 0"):
            entry_step(temperature, 4)


def test_points_around_a_temperature() -> None:
    assert points_near("ddim", 10, 0.3) == (0.3,)
    assert points_near("ddim", 10, 0.25) == (0.2, 0.3)
    assert points_near("ddim", 1, 0.5) == (0.0, 1.0)
    assert points_near("heun", 10, 0.5) == (0.4, 0.6)
    assert points_near("heun", 10, 0.6) == (0.6,)
    for evaluations in range(1, 40):
        for i in range(evaluations + 1):
            assert len(points_near("ddim", evaluations, i / evaluations)) == 1
