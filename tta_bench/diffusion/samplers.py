"""Deterministic samplers of the probability-flow ODE, from noise to data, for a network that predicts v.

In the angle phi the ODE is dz/dphi = v. Every sampler takes the angles of its grid in float64, from noise down to data, and
`SAMPLERS[name](network, z, schedule, evaluations)` spends exactly `evaluations` network evaluations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tta_bench.diffusion.schedule import CosineSchedule, check_steps, log_snr_of_phi

Network = Callable[[Tensor, Tensor], Tensor]
"""(z (B, ...), log_snr (B,)) -> v (B, ...)"""


class Sampler(Protocol):
    """network, z (B, ...) at t = 1, schedule, evaluations >= 1 -> z (B, ...) at t = 0."""

    def __call__(self, network: Network, z: Tensor, schedule: CosineSchedule, evaluations: int) -> Tensor: ...


def ddim_step(z: Tensor, v: Tensor, delta: float | Tensor) -> Tensor:
    """z at the angle smaller by `delta` radians: cos(delta) z - sin(delta) v (DDIM, eta = 0; Song et al. 2021, in v-form)."""
    angle = torch.as_tensor(delta, dtype=torch.float64)
    return torch.cos(angle).to(z) * z - torch.sin(angle).to(z) * v


def evaluate_at(network: Network, z: Tensor, phi: Tensor) -> Tensor:
    """v of the network at the scalar angle phi, the noise level repeated for every item of the batch."""
    return network(z, log_snr_of_phi(phi).to(z).expand(len(z)))


def ddim_path(network: Network, z: Tensor, angles: Tensor) -> Tensor:
    """DDIM over any decreasing angles (N + 1,): one evaluation and one step per interval."""
    for phi, after in itertools.pairwise(angles):
        z = ddim_step(z, evaluate_at(network, z, phi), phi - after)
    return z


def ddim(network: Network, z: Tensor, schedule: CosineSchedule, evaluations: int) -> Tensor:
    """DDIM on the equally spaced grid: first order, one evaluation a step."""
    return ddim_path(network, z, schedule.angles(evaluations))


def heun(network: Network, z: Tensor, schedule: CosineSchedule, evaluations: int) -> Tensor:
    """Heun's second-order method on dz/dphi = v: two evaluations a step; an odd number ends in one DDIM step."""
    check_steps(evaluations)
    angles = schedule.angles((evaluations + 1) // 2)
    for step, (phi, after) in enumerate(itertools.pairwise(angles)):
        v = evaluate_at(network, z, phi)
        if 2 * step + 1 == evaluations:
            return ddim_step(z, v, phi - after)
        delta = (phi - after).to(z)
        v_after = evaluate_at(network, z - delta * v, after)
        z = z - 0.5 * delta * (v + v_after)
    return z


def dpmpp_2m(network: Network, z: Tensor, schedule: CosineSchedule, evaluations: int, lower_order_final: bool = True) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): multistep, second order, data prediction.

    The first step is DDIM, to which the method's first order is equal; so is the last one, which ends near sigma = 0,
    where the multistep formula extrapolates over an unbounded range of log snr.
    """
    angles = schedule.angles(evaluations)
    half_log_snr = [0.5 * float(log_snr_of_phi(phi)) for phi in angles]
    x_before: Tensor | None = None
    for i in range(evaluations):
        phi, after = float(angles[i]), float(angles[i + 1])
        v = evaluate_at(network, z, angles[i])
        x = math.cos(phi) * z - math.sin(phi) * v
        last = lower_order_final and i == evaluations - 1
        if x_before is None or last:
            z = ddim_step(z, v, phi - after)
        else:
            h = half_log_snr[i + 1] - half_log_snr[i]
            ratio = (half_log_snr[i] - half_log_snr[i - 1]) / h
            extrapolated = (1.0 + 0.5 / ratio) * x - (0.5 / ratio) * x_before
            z = math.sin(after) / math.sin(phi) * z - math.cos(after) * math.expm1(-h) * extrapolated
        x_before = x
    return z


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m}
