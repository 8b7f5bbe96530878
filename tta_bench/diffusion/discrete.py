"""Discrete-time schedules, as published latent diffusion teachers bring them: alpha^2 for each integer timestep that they were trained on."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.diffusion.schedule import log_snr_of_phi, phi_of_log_snr, trailing_timesteps
from tta_bench.errors import ConfigError

_ROUNDING = 1e-4  # of a time that is meant to be a whole number of timesteps, in float32


@dataclass(frozen=True)
class DiscreteSchedule:
    """alphas_cumprod: alpha^2 of timesteps 0, 1, ..., T - 1, falling. final_alpha_cumprod: of the end of sampling, below timestep 0 (a
    scheduler's set_alpha_to_one makes it 1, and else it is that of timestep 0).

    Sampling and distillation use the trailing grid (Lin et al. 2024, arXiv 2305.08891), which starts at the noisiest timestep, and whose
    coarser grids are among its finer ones; a student starts from the noise level that the sampler really starts from. alpha is never
    computed again for another number of steps. Raises ConfigError for values that are no such schedule.
    """

    alphas_cumprod: tuple[float, ...]
    final_alpha_cumprod: float

    def __post_init__(self) -> None:
        alphas = self.alphas_cumprod
        falling = all(after < before for before, after in itertools.pairwise(alphas))
        if not alphas or not falling or not alphas[-1] > 0.0 or not alphas[0] < 1.0:
            raise ConfigError("a discrete schedule needs alpha^2 that fall strictly from below 1 and stay above 0")
        if not alphas[0] <= self.final_alpha_cumprod <= 1.0:
            raise ConfigError(f"final_alpha_cumprod = {self.final_alpha_cumprod} must lie between that of timestep 0, {alphas[0]}, and 1")

    @property
    def train_steps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    def _phi(self) -> Tensor:
        """(T + 1,) float64 angles of the end of sampling, then of every timestep."""
        alphas = torch.tensor([self.final_alpha_cumprod, *self.alphas_cumprod], dtype=torch.float64)
        return torch.atan2(torch.sqrt(1.0 - alphas), torch.sqrt(alphas))

    def log_snr(self, t: Tensor | float) -> Tensor:
        """float64, of times t in [0, 1]: that of timestep ceil(t T) - 1, the first one at t = 0."""
        times = torch.as_tensor(t, dtype=torch.float64)
        index = torch.ceil(times * self.train_steps - _ROUNDING).long().clamp(1, self.train_steps)
        return log_snr_of_phi(self._phi().to(times.device)[index])

    def timesteps(self, log_snr: Tensor) -> Tensor:
        """int64 timestep, of any shape, whose noise level is nearest in the angle: what a discrete-time network is told."""
        angles = self._phi()[1:].to(log_snr.device)
        return torch.bucketize(phi_of_log_snr(log_snr.double()), (angles[1:] + angles[:-1]) / 2)

    def angles(self, steps: int) -> Tensor:
        """(steps + 1,) float64: of the trailing timesteps, then of the end of sampling. Raises ConfigError where steps does not divide T."""
        timesteps = trailing_timesteps(self.train_steps, steps)
        return torch.cat([self._phi()[timesteps + 1], self._phi()[:1]])

    def facts(self) -> dict[str, float | str]:
        """Number of timesteps, SHA-256 of alphas_cumprod as float64, and what both ends are."""
        values = torch.tensor(self.alphas_cumprod, dtype=torch.float64).numpy().tobytes()
        ends = {"terminal_snr": self.terminal_snr, "final_alpha_cumprod": self.final_alpha_cumprod}
        return {"train_steps": self.train_steps, "alphas_cumprod_sha256": hashlib.sha256(values).hexdigest(), **ends}

    @property
    def terminal_snr(self) -> float:
        """Of the noisiest timestep: how much of the data is left where sampling starts (AudioLDM 1.4e-4, Tango 4.7e-3)."""
        return math.exp(float(self.log_snr(1.0)))
