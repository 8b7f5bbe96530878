"""Conversions between x-, eps- and v-prediction (Salimans & Ho 2022, appendix D). All tensors broadcast; any float dtype.

z = alpha x + sigma eps and v = alpha eps - sigma x are a rotation of (x, eps) by phi, so four of the six need no division.
The other two divide by alpha or sigma: compute them in float32 or better (near AudioLDM's noisy end 1/alpha is 84).
"""

from __future__ import annotations

from torch import Tensor


def noisy(x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """z = alpha x + sigma eps."""
    return alpha * x + sigma * eps


def v_from_x_eps(x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha eps - sigma x."""
    return alpha * eps - sigma * x


def x_from_v(z: Tensor, v: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x = alpha z - sigma v."""
    return alpha * z - sigma * v


def eps_from_v(z: Tensor, v: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps = sigma z + alpha v."""
    return sigma * z + alpha * v


def v_from_x(z: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = (alpha z - x) / sigma; sigma > 0."""
    return (alpha * z - x) / sigma


def v_from_eps(z: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = (eps - sigma z) / alpha; alpha > 0."""
    return (eps - sigma * z) / alpha
