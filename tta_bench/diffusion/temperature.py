"""Temperature in the sense of DiTAR (arXiv 2502.03930): the time at which noise enters the reverse process.

1 starts from noise, as sampling does anywhere; 0 starts from the zero vector and draws nothing; in between the process starts from zero, is
followed to the grid point nearest the temperature, its estimate of the data there is noised again to that level, and sampling goes on.
This is the reading of the paper's abstract: its own algorithm was not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.diffusion.parameterization import noisy
from tta_bench.diffusion.samplers import SAMPLERS, Network, evaluate_at
from tta_bench.diffusion.schedule import Schedule, wide
from tta_bench.errors import ConfigError


@dataclass(frozen=True)
class _Part:
    """Some consecutive angles of a grid, as samplers ask for them."""

    values: Tensor

    def angles(self, steps: int) -> Tensor:
        """(steps + 1,) float64."""
        assert steps == len(self.values) - 1
        return self.values


def entry_step(temperature: float, intervals: int) -> int:
    """Number of intervals of a grid of that many, from t = 1 down, after which noise enters: the grid point nearest to t = temperature, of two
    equally near the lower.

    Raises ConfigError for a temperature outside [0, 1].
    """
    if not 0.0 <= temperature <= 1.0:
        raise ConfigError(f"temperature = {temperature:g} must lie between 0 (draws no noise) and 1 (ordinary sampling)")
    return int(round((1.0 - temperature) * intervals, 9) + 0.5)


def intervals_of(sampler: str, evaluations: int) -> int:
    """Intervals of the grid that a sampler walks in so many evaluations: Heun's method spends two on one."""
    return (evaluations + 1) // 2 if sampler == "heun" else evaluations


def points_near(sampler: str, evaluations: int, temperature: float) -> tuple[float, ...]:
    """The temperature alone where it is a point of the sampler's grid, else the two points around it, rising."""
    intervals = intervals_of(sampler, evaluations)
    place = round(temperature * intervals, 9)
    return (temperature,) if place == int(place) else (int(place) / intervals, (int(place) + 1) / intervals)


def evaluations_at(sampler: str, evaluations: int, temperature: float) -> int:
    """Network evaluations that `sample_at` really spends: one more where noise enters on the way, for the estimate of the data."""
    entry, intervals = entry_step(temperature, intervals_of(sampler, evaluations)), intervals_of(sampler, evaluations)
    return evaluations + (1 if 0 < entry < intervals else 0)


def sample_at(network: Network, noise: Tensor, fresh: Tensor, schedule: Schedule, sampler: str, evaluations: int, temperature: float) -> Tensor:
    """z at t = 0 (B, ...). noise: unit noise (B, ...) that a temperature of 1 starts from; fresh: alike, what enters at a lower one.

    sampler: a key of SAMPLERS, in whose grid of `evaluations` the temperature is rounded to a point; one step has those of 0 and 1 only.
    """
    intervals = intervals_of(sampler, evaluations)
    entry = entry_step(temperature, intervals)
    sample = SAMPLERS[sampler]
    if entry == 0:
        return sample(network, noise, schedule, evaluations)
    zeros = torch.zeros_like(noise)
    if entry == intervals:
        return sample(network, zeros, schedule, evaluations)
    angles = schedule.angles(intervals)
    before = 2 * entry if sampler == "heun" else entry
    z = sample(network, zeros, _Part(angles[: entry + 1]), before)
    phi = angles[entry]
    v = evaluate_at(network, z, phi)
    x = torch.cos(phi).to(wide(z)) * wide(z) - torch.sin(phi).to(wide(z)) * wide(v)
    again = noisy(x, wide(fresh), torch.cos(phi).to(x), torch.sin(phi).to(x)).to(z.dtype)
    return sample(network, again, _Part(angles[entry:]), evaluations - before)
