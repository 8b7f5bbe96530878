"""Targets and loss of progressive distillation (Salimans & Ho 2022, algorithm 2) in closed v-form.

One student step replaces k teacher steps; the student's target is the v for which ONE DDIM step lands where the teacher's k steps do.
All targets are computed in at least float32, from angles in float64, whatever the networks' precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.diffusion.samplers import Network, ddim_step
from tta_bench.diffusion.schedule import Schedule, log_snr_of_phi, steps_ratio, wide

Angle = float | Tensor


def v_target(v1: Tensor, v2: Tensor, z: Tensor, d1: Angle, d2: Angle) -> Tensor:
    """Target for two teacher steps: v1 at z, then v2 at z_mid = ddim_step(z, v1, d1), angles d1 and d2 in radians (k = 2); one, or (B,).

    (sin d1 cos d2 v1 + sin d2 v2 - sin d1 sin d2 z) / sin(d1 + d2): the two rotations written out and solved for v (derived here).
    Free of cancellation, so float16 network outputs keep their accuracy; no special case at the last step. float32 or wider out.
    """
    v1, v2, z = wide(v1), wide(v2), wide(z)
    d1, d2 = _angle(d1, z), _angle(d2, z)
    sin1, sin2, total = torch.sin(d1), torch.sin(d2), torch.sin(d1 + d2)
    return (sin1 * torch.cos(d2) / total).to(z) * v1 + (sin2 / total).to(z) * v2 - (sin1 * sin2 / total).to(z) * z


def _angle(delta: Angle, z: Tensor) -> Tensor:
    """float64; one for each item of z (B, ...), or one for all."""
    angle = torch.as_tensor(delta, dtype=torch.float64, device=z.device)
    return angle.view(-1, *[1] * (z.dim() - 1)) if angle.dim() else angle


def v_target_from_landing(z: Tensor, z_s: Tensor, d: Angle) -> Tensor:
    """Target for any number of teacher steps that lead from z to z_s over the angle d: (cos d z - z_s) / sin d.

    A difference of near-equal numbers: pass float64.
    """
    angle = _angle(d, z)
    return (torch.cos(angle) * z.double() - z_s.double()) / torch.sin(angle)


@dataclass(frozen=True)
class Stage:
    """One stage of progressive distillation: a student of `student_steps` learns a teacher of `teacher_steps` on one schedule.

    Student step i in 0..N-1 starts at the N - i-th angle of the schedule's grid and ends at the next lower one: from t = (i + 1)/N to i/N.
    Raises ConfigError where the grids do not divide.
    """

    schedule: Schedule
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
        return log_snr_of_phi(self.schedule.angles(self.student_steps)[:-1].flip(0))

    @torch.no_grad()
    def target(self, teacher: Network, z: Tensor, step: Tensor) -> Tensor:
        """v-target (B, ...), float32 or wider, for student steps `step` (B,) int64 in 0..N-1 from z (B, ...) at the step's noise level.

        Teacher and student see the same noise level at z.
        """
        angles = self.schedule.angles(self.teacher_steps).to(step.device)  # differences in float64: never recovered from alpha and sigma
        first = self.teacher_steps - (step + 1) * self.ratio
        path = [angles[first + j] for j in range(self.ratio + 1)]  # (B,) each

        def evaluate(at: Tensor, j: int) -> Tensor:
            return teacher(at.to(z), log_snr_of_phi(path[j]).to(wide(z)))

        if self.ratio == 1:
            return wide(evaluate(z, 0))
        if self.ratio == 2:
            v1 = evaluate(z, 0)
            v2 = evaluate(ddim_step(wide(z), wide(v1), path[0] - path[1]), 1)
            return v_target(v1, v2, z, path[0] - path[1], path[1] - path[2])
        landing = z.double()
        for j in range(self.ratio):
            landing = ddim_step(landing, evaluate(landing, j).double(), path[j] - path[j + 1])
        return v_target_from_landing(z, landing, path[0] - path[-1]).to(wide(z).dtype)


def weighted_v_loss(v: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(B,) weight_i x mean over dimensions of (v - target)^2; v, target (B, ...), weight (B,) in v-space, outside the square.

    Raises ValueError where the shapes differ: they would broadcast to something else.
    """
    if v.shape != target.shape or weight.shape != v.shape[:1]:
        raise ValueError(f"v {tuple(v.shape)} and target {tuple(target.shape)} must be alike, weight {tuple(weight.shape)} one per item")
    error = (wide(v) - wide(target)).flatten(1).square().mean(dim=1)
    return weight.to(error) * error
