"""Targets and loss of progressive distillation (Salimans & Ho 2022, algorithm 2) in closed v-form.

One student step replaces k teacher steps; the student's target is the v for which ONE DDIM step lands where the teacher's k steps do.
All targets are computed in at least float32, from angles in float64, whatever the networks' precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.diffusion.samplers import Network, ddim_step
from tta_bench.diffusion.schedule import CosineSchedule, log_snr_of_phi, steps_ratio, wide


def v_target(v1: Tensor, v2: Tensor, z: Tensor, d1: float, d2: float) -> Tensor:
    """Target for two teacher steps: v1 at z, then v2 at z_mid = ddim_step(z, v1, d1), angles d1 and d2 in radians (k = 2).

    (sin d1 cos d2 v1 + sin d2 v2 - sin d1 sin d2 z) / sin(d1 + d2): the two rotations written out and solved for v (derived here).
    Free of cancellation, so float16 network outputs keep their accuracy; no special case at the last step. float32 or wider out.
    """
    v1, v2, z = wide(v1), wide(v2), wide(z)
    sin1, sin2 = math.sin(d1), math.sin(d2)
    total = math.sin(d1 + d2)
    return sin1 * math.cos(d2) / total * v1 + sin2 / total * v2 - sin1 * sin2 / total * z


def v_target_from_landing(z: Tensor, z_s: Tensor, d: float) -> Tensor:
    """Target for any number of teacher steps that lead from z to z_s over the angle d: (cos d z - z_s) / sin d.

    A difference of near-equal numbers: pass float64.
    """
    return (math.cos(d) * z.double() - z_s.double()) / math.sin(d)


@dataclass(frozen=True)
class Stage:
    """One stage of progressive distillation: a student of `student_steps` learns a teacher of `teacher_steps` on one schedule.

    Student step i in 0..N-1 starts at t = (i + 1)/N and ends at i/N. Raises ConfigError where the grids do not divide.
    """

    schedule: CosineSchedule
    teacher_steps: int
    student_steps: int

    def __post_init__(self) -> None:
        steps_ratio(self.teacher_steps, self.student_steps)

    @property
    def ratio(self) -> int:
        """k: teacher steps per student step."""
        return self.teacher_steps // self.student_steps

    @property
    def log_snrs(self) -> Tensor:
        """(N,) float64: the noise level at which student step i starts; the grid that weights are normalised over."""
        return self.schedule.log_snr((torch.arange(self.student_steps) + 1.0).double() / self.student_steps)

    @torch.no_grad()
    def target(self, teacher: Network, z: Tensor, step: Tensor) -> Tensor:
        """v-target (B, ...), float32 or wider, for student steps `step` (B,) int64 in 0..N-1 from z (B, ...) at t = (step + 1)/N.

        Teacher and student see the same noise level at z: log_snr((step + 1)/N).
        """
        delta = self.schedule.span / self.teacher_steps  # equal angles, in float64: never recovered from alpha and sigma
        if self.ratio == 1:
            return wide(teacher(z, self._log_snr(step, 0).to(wide(z))))
        if self.ratio == 2:
            v1 = teacher(z, self._log_snr(step, 0).to(wide(z)))
            z_mid = ddim_step(wide(z), wide(v1), delta)
            v2 = teacher(z_mid.to(z), self._log_snr(step, 1).to(wide(z)))
            return v_target(v1, v2, z, delta, delta)
        landing = z.double()
        for j in range(self.ratio):
            v = teacher(landing.to(z), self._log_snr(step, j).to(wide(z)))
            landing = ddim_step(landing, v.double(), delta)
        return v_target_from_landing(z, landing, delta * self.ratio).to(wide(z).dtype)

    def _log_snr(self, step: Tensor, teacher_step: int) -> Tensor:
        """(B,) float64 noise level after `teacher_step` teacher steps from the start of each student step."""
        t = ((step.double() + 1.0) * self.ratio - teacher_step) / self.teacher_steps
        return log_snr_of_phi(self.schedule.phi(t))


def weighted_v_loss(v: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(B,) weight_i x mean over dimensions of (v - target)^2; v, target (B, ...), weight (B,) in v-space, outside the square.

    Raises ValueError where the shapes differ: they would broadcast to something else.
    """
    if v.shape != target.shape or weight.shape != v.shape[:1]:
        raise ValueError(f"v {tuple(v.shape)} and target {tuple(target.shape)} must be alike, weight {tuple(weight.shape)} one per item")
    error = (wide(v) - wide(target)).flatten(1).square().mean(dim=1)
    return weight.to(error) * error
