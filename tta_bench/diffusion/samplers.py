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

from tta_bench.diffusion.schedule import Grid, check_steps, log_snr_of_phi, wide

Network = Callable[[Tensor, Tensor], Tensor]
"""(z (B, ...), log_snr (B,)) -> v (B, ...); log_snr is float32 or wider, whatever z is"""


class Sampler(Protocol):
    """network, z (B, ...) at t = 1, schedule, evaluations >= 1 -> z (B, ...) at t = 0."""

    def __call__(self, network: Network, z: Tensor, schedule: Grid, evaluations: int) -> Tensor: ...


def ddim_step(z: Tensor, v: Tensor, delta: float | Tensor) -> Tensor:
    """z at the angle smaller by `delta` radians: cos(delta) z - sin(delta) v (DDIM, eta = 0; Song et al. 2021, in v-form).

    delta: one angle, or (B,), one for each item of z (B, ...).
    """
    angle = torch.as_tensor(delta, dtype=torch.float64)
    if angle.dim() == 1:
        angle = angle.view(-1, *[1] * (z.dim() - 1))
    return torch.cos(angle).to(z) * z - torch.sin(angle).to(z) * v


def evaluate_at(network: Network, z: Tensor, phi: Tensor) -> Tensor:
    """v of the network at the scalar angle phi, in z's dtype; the noise level is repeated for every item of the batch."""
    return network(z, log_snr_of_phi(phi).to(z).expand(len(z))).to(z)


def _in_dtype(network: Network, dtype: torch.dtype) -> Network:
    """The same network fed with `dtype`, while the state is kept wide: in bfloat16, 400 steps smaller than its digits lose 80 %."""
    return lambda z, log_snr: network(z.to(dtype), log_snr)


def ddim_path(network: Network, z: Tensor, angles: Tensor) -> Tensor:
    """DDIM over any decreasing angles (N + 1,): one evaluation and one step per interval."""
    for phi, after in itertools.pairwise(angles):
        z = ddim_step(z, evaluate_at(network, z, phi), phi - after)
    return z


def ddim(network: Network, z: Tensor, schedule: Grid, evaluations: int) -> Tensor:
    """DDIM on the equally spaced grid: first order, one evaluation a step."""
    return ddim_path(_in_dtype(network, z.dtype), wide(z), schedule.angles(evaluations)).to(z.dtype)


def heun(network: Network, z: Tensor, schedule: Grid, evaluations: int) -> Tensor:
    """Heun's second-order method on dz/dphi = v: two evaluations a step; an odd number ends in one DDIM step.

    The predictor is the DDIM step, not Euler's: it stays on the path where data are a point, and the second evaluation at t = 0 then is sane.
    """
    check_steps(evaluations)
    dtype, network, z = z.dtype, _in_dtype(network, z.dtype), wide(z)
    angles = schedule.angles((evaluations + 1) // 2)
    for step, (phi, after) in enumerate(itertools.pairwise(angles)):
        v = evaluate_at(network, z, phi)
        if 2 * step + 1 == evaluations:
            return ddim_step(z, v, phi - after).to(dtype)
        delta = (phi - after).to(z)
        v_after = evaluate_at(network, ddim_step(z, v, phi - after), after)
        z = z - 0.5 * delta * (v + v_after)
    return z.to(dtype)


def dpmpp_2m(network: Network, z: Tensor, schedule: Grid, evaluations: int, lower_order_final: bool = True) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): multistep, second order, data prediction.

    The first step is DDIM, to which the method's first order is equal; so is the last one, which ends near sigma = 0,
    where the multistep formula extrapolates over an unbounded range of log snr.
    """
    dtype, network, z = z.dtype, _in_dtype(network, z.dtype), wide(z)
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
    return z.to(dtype)


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m}
