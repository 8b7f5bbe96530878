"""Loss weightings over noise levels, each defined once as w(snr) in x-space.

||eps - eps^||^2 = snr ||x - x^||^2 and ||v - v^||^2 = (snr + 1) ||x - x^||^2, so the same weighting of a loss in another space
is w / snr or w / (snr + 1). Every weight is finite for every finite snr >= 0. snr is that of latents with standard deviation 1;
for others, w takes snr * sigma_data^2 (and the conversion to another space does not).

`bsa` is a reconstruction: the abstract of Liu, Cao & Zhou 2023 (arXiv 2312.15628) says that earlier weightings are unbalanced at
high and at low noise and that theirs balances both; truncated SNR lifts the low-SNR end, Min-SNR caps the other, this does both.
`bsa_shift` and `bsa_soft` are the alternative readings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from tta_bench.errors import ConfigError

GAMMA = 5.0

Weighting = Callable[..., Tensor]


def constant(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """1: the x-MSE."""
    return torch.ones_like(snr)


def snr_weight(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """snr: the eps-MSE (Ho et al. 2020)."""
    return snr.clone()


def truncated_snr(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """max(snr, 1) (Salimans & Ho 2022, section 4)."""
    return snr.clamp(min=1.0)


def snr_plus_one(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """snr + 1: the v-MSE (Salimans & Ho 2022, section 4)."""
    return snr + 1.0


def min_snr(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """min(snr, gamma) (Hang et al. 2023, arXiv 2303.09556)."""
    return snr.clamp(max=gamma)


def soft_min_snr(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """snr gamma / (snr + gamma) (Crowson, k-diffusion)."""
    return snr * gamma / (snr + gamma)


def p2(snr: Tensor, gamma: float = 1.0, k: float = 1.0) -> Tensor:
    """snr / (k + snr)^gamma (Choi et al. 2022, arXiv 2204.00227); its gamma is an exponent, not a cap."""
    return snr / (k + snr) ** gamma


def debiased(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """sqrt(snr) (Yu et al. 2023, arXiv 2310.08442)."""
    return torch.sqrt(snr)


def tango_min_snr(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """(snr + 1) min(1, gamma / snr): what Tango's training code computes."""
    return (snr + 1.0) * gamma / snr.clamp(min=gamma)


def bsa(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """min(max(snr, 1), gamma): balanced SNR-aware weighting, reconstruction (Liu, Cao & Zhou 2023, arXiv 2312.15628)."""
    return snr.clamp(min=1.0, max=gamma)


def bsa_shift(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """min(snr, gamma) + 1: alternative reading of BSA."""
    return snr.clamp(max=gamma) + 1.0


def bsa_soft(snr: Tensor, gamma: float = GAMMA) -> Tensor:
    """1 + gamma snr / (snr + gamma): alternative reading of BSA."""
    return 1.0 + gamma * snr / (snr + gamma)


def default_gamma(name: str) -> float:
    """What weighting `name` takes as gamma where none is given; for those without one it changes nothing. Raises ConfigError for an unknown name."""
    if name not in WEIGHTINGS:
        raise ConfigError(f"unknown weighting {name!r}; known: {', '.join(WEIGHTINGS)}")
    return float(inspect.signature(WEIGHTINGS[name]).parameters["gamma"].default)


def in_eps_space(weight: Tensor, snr: Tensor) -> Tensor:
    """w / snr: the same weighting for an eps-loss. Raises ConfigError at snr = 0, where an eps-loss says nothing about x."""
    if bool((snr <= 0).any()):
        raise ConfigError("an eps-loss has no weight at snr = 0; predict v or x there")
    return weight / snr


def in_v_space(weight: Tensor, snr: Tensor) -> Tensor:
    """w / (snr + 1): the same weighting for a v-loss."""
    return weight / (snr + 1.0)


def v_weights(name: str, log_snr: Tensor, gamma: float | None = None, sigma_data: float = 1.0) -> Tensor:
    """v-space weights of weighting `name` over a grid of noise levels, divided by their mean over that grid.

    log_snr: the noise levels that a training stage draws from, uniformly (the student's grid, or a fine grid of t in (0, 1)).
    Unit mean in the space of the network's own output takes the scale of the loss out of the comparison of weightings;
    gradient clipping would otherwise see it. gamma: None takes the weighting's own default. sigma_data: standard deviation of the
    latents. Where the only noise level weighs nothing (snr = 0, N = 1) the weight is 1, as for all weightings.
    Raises ConfigError for an unknown name.
    """
    gamma = default_gamma(name) if gamma is None else gamma
    snr = torch.exp(log_snr.double())
    weight = WEIGHTINGS[name](snr * sigma_data**2, gamma=gamma)
    weight = in_v_space(weight, snr)
    mean = weight.mean()
    return weight / mean if mean > 0 else torch.ones_like(weight)


WEIGHTINGS: dict[str, Weighting] = {
    "constant": constant,
    "snr": snr_weight,
    "truncated_snr": truncated_snr,
    "snr_plus_one": snr_plus_one,
    "min_snr": min_snr,
    "soft_min_snr": soft_min_snr,
    "p2": p2,
    "debiased": debiased,
    "tango_min_snr": tango_min_snr,
    "bsa": bsa,
    "bsa_shift": bsa_shift,
    "bsa_soft": bsa_soft,
}
