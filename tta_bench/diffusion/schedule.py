"""Noise schedules: the cosine schedule in the angle, and the step grids that sampler and distillation share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from tta_bench.errors import ConfigError


class Grid(Protocol):
    """Where samplers stand."""

    def angles(self, steps: int) -> Tensor:
        """(steps + 1,) float64 angles from noise down to data: where a sampler of that many steps stands. Those of fewer steps are among them."""
        ...


class Schedule(Grid, Protocol):
    """A variance-preserving noise schedule, and the grids on it that sampler and distillation share."""

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log(alpha^2 / sigma^2), float64, of times t in [0, 1], 1 being noise."""
        ...

    def facts(self) -> dict[str, float | str]:
        """What it is, for cards and fingerprints: equal facts, equal schedules."""
        ...


@dataclass(frozen=True)
class CosineSchedule:
    """log_snr(t) = -2 log tan(A t + B), t in [0, 1] (Salimans & Ho 2022, arXiv 2202.00512, section 4): the angle phi = A t + B is linear.

    log_snr_min is met at t = 1, log_snr_max at t = 0.
    """

    log_snr_min: float = -20.0
    log_snr_max: float = 20.0

    def __post_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise ConfigError(f"log_snr_min ({self.log_snr_min}) must be below log_snr_max ({self.log_snr_max})")

    @property
    def offset(self) -> float:
        """B, radians: the angle at t = 0."""
        return math.atan(math.exp(-0.5 * self.log_snr_max))

    @property
    def span(self) -> float:
        """A, radians: the angle from t = 0 to t = 1."""
        return math.atan(math.exp(-0.5 * self.log_snr_min)) - self.offset

    def phi(self, t: Tensor | float) -> Tensor:
        """Angle in radians, float64, of times t of any shape."""
        return torch.as_tensor(t, dtype=torch.float64) * self.span + self.offset

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log(alpha^2 / sigma^2), float64, of times t of any shape."""
        return log_snr_of_phi(self.phi(t))

    def angles(self, steps: int) -> Tensor:
        """(steps + 1,) float64 angles from t = 1 down to t = 0, equally spaced."""
        check_steps(steps)
        return self.phi(torch.arange(steps, -1, -1, dtype=torch.float64) / steps)

    def facts(self) -> dict[str, float | str]:
        """Its fields."""
        return dict(asdict(self))


def log_snr_of_phi(phi: Tensor) -> Tensor:
    """-2 log tan phi."""
    return -2.0 * torch.log(torch.tan(phi))


def phi_of_log_snr(log_snr: Tensor) -> Tensor:
    """atan(exp(-log_snr / 2)), in (0, pi/2)."""
    return torch.atan(torch.exp(-0.5 * log_snr))


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) with alpha^2 + sigma^2 = 1; float32 or wider, because both ends vanish in float16."""
    log_snr = wide(log_snr)
    return torch.sqrt(torch.sigmoid(log_snr)), torch.sqrt(torch.sigmoid(-log_snr))


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is if it is float64: what states, angles and targets are kept in, whatever a network takes."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def scaled_linear_log_snr(beta_start: float, beta_end: float, train_steps: int = 1000) -> Tensor:
    """(train_steps,) float64 log_snr of betas linear in their square root, as latent diffusion trains (Rombach et al. 2022).

    AudioLDM: .0015 to .0195; Tango: .00085 to .012. Entry i belongs to integer timestep i; the last one is not pure noise.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, train_steps, dtype=torch.float64) ** 2
    alpha_squared = torch.cumprod(1.0 - betas, dim=0)
    return torch.log(alpha_squared) - torch.log1p(-alpha_squared)


def trailing_timesteps(train_steps: int, steps: int) -> Tensor:
    """(steps,) int64, from train_steps - 1 down, equally spaced: starts at the top (Lin et al. 2024), as distilled grids must.

    Raises ConfigError where steps does not divide train_steps.
    """
    return torch.arange(train_steps - 1, -1, -steps_ratio(train_steps, steps))


def check_steps(steps: int) -> None:
    """Raises ConfigError for fewer than one step."""
    if steps < 1:
        raise ConfigError(f"a sampler needs at least 1 step, got {steps}")


def steps_ratio(teacher_steps: int, student_steps: int) -> int:
    """k, the teacher steps that one student step replaces. Raises ConfigError unless the student's grid lies on the teacher's."""
    check_steps(student_steps)
    if teacher_steps % student_steps:
        raise ConfigError(
            f"{student_steps} steps do not divide {teacher_steps}: every student step must end on a teacher step; "
            f"choose a divisor, e.g. {max(d for d in range(1, student_steps + 1) if teacher_steps % d == 0)}"
        )
    return teacher_steps // student_steps
